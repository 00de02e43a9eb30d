//! Rows that somebody altered, and another root secret.

use cm_api::{KeyCreated, Refusal};
use core_types::KeyAlg;
use store_kit::{sql, transaction};

use crate::kit::{P256, digest, everywhere, refusal, sign};

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity, III-A1.3-attributes-bound
#[tokio::test]
async fn a_row_that_was_changed_swapped_or_set_back_is_not_used() {
    everywhere(a_row_that_was_changed_swapped_or_set_back_is_not_used::ON_TOKENS, async |story| {
        let (a, b) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
        let store = &story.test.store;
        let use_of = async |key: &KeyCreated| {
            let request = story.order(sign(key, P256, &[digest(P256, "x")]));
            story.module.execute(&request).await.map(|_| ())
        };
        let row = async |key: &KeyCreated| {
            let mut tx = store.read("look").await.unwrap();
            let query = sql("SELECT version, attributes, sealed FROM cm_key WHERE id = $1")
                .bind(key.key.as_str());
            let row = tx.fetch_one(query).await.unwrap();
            (
                row.int("version").unwrap(),
                row.text("attributes").unwrap(),
                row.blob("sealed").unwrap(),
            )
        };
        let put = async |key: &KeyCreated,
                         (version, attributes, sealed): (i64, String, Vec<u8>)| {
            let done: Result<u64, store_kit::StoreError> = transaction!(store, "attack", |tx| {
                let text =
                    "UPDATE cm_key SET version = $1, attributes = $2, sealed = $3 WHERE id = $4";
                let query = sql(text)
                    .bind(version)
                    .bind(&attributes)
                    .bind(&sealed)
                    .bind(key.key.as_str());
                tx.execute(query).await
            });
            assert_eq!(done.unwrap(), 1);
        };
        let (before_a, before_b) = (row(&a).await, row(&b).await);
        use_of(&a).await.unwrap();
        let after_a = row(&a).await;
        for (attack, (version, attributes, sealed)) in [
            (
                "owner",
                (
                    after_a.0,
                    after_a.1.replace("hanako", "mallory"),
                    after_a.2.clone(),
                ),
            ),
            (
                "limit",
                (
                    after_a.0,
                    after_a.1.replace("\"max_uses\":1000", "\"max_uses\":9000"),
                    after_a.2.clone(),
                ),
            ),
            (
                "version",
                (after_a.0 + 1, after_a.1.clone(), after_a.2.clone()),
            ),
            ("another key's row", before_b.clone()),
            (
                "old blob under the new version",
                (after_a.0, after_a.1.clone(), before_a.2.clone()),
            ),
        ] {
            put(&a, (version, attributes, sealed)).await;
            assert_eq!(refusal(use_of(&a).await), Refusal::NoSuchKey, "{attack}");
        }
        put(&a, after_a).await;
        use_of(&a).await.unwrap();
    })
    .await;
}

// shows: III-3-1-no-plaintext-private-key, T-KEY-DISCLOSE
#[tokio::test]
async fn another_root_secret_opens_nothing() {
    everywhere(
        another_root_secret_opens_nothing::ON_TOKENS,
        async |story| {
            let error = story.again(8).await.err();
            assert!(
                matches!(error, Some(cm_core::StartError::WrongRoot)),
                "{error:?}"
            );
            let again = story.again(7).await.unwrap();
            assert_eq!(
                again.root().kid(),
                story.module.root().kid(),
                "the root key survives a restart"
            );
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    a_row_that_was_changed_swapped_or_set_back_is_not_used,
    another_root_secret_opens_nothing,
);
