//! Wrapped keys: the wrapping key changes while they are used, and old copies of a key end with the old one.

use std::sync::Arc;

use cm_api::rpc::Reason;
use cm_api::{KeyCreated, Refusal};
use cm_core::ahead::Ahead;
use core_types::KeyAlg;

use crate::destroy::KeyRow;
use crate::kit::{P256, digest, everywhere, refusal, sign};

// shows: III-A1.6-backup-keys, III-3-17-retention-L1, T-KEY-DISCLOSE
#[tokio::test]
async fn the_wrapping_key_changes_online_and_older_copies_are_of_no_use() {
    everywhere(
        the_wrapping_key_changes_online_and_older_copies_are_of_no_use::ON_TOKENS,
        async |story| {
            if story.backend.name() != "pkcs11-wrapped" {
                let refused = story.module.change_wrapping().await.unwrap_err();
                assert_eq!(refused, Refusal::NotAllowed(Reason::Purpose));
                return;
            }
            let rsa = KeyAlg::Rsa2048.csr_alg();
            let keys = [
                (story.key(KeyAlg::P256).await, P256),
                (story.key(KeyAlg::P384).await, KeyAlg::P384.csr_alg()),
                (story.key(KeyAlg::Rsa2048).await, rsa),
            ];
            let before = KeyRow::of(&story, &keys[0].0).await;
            let use_of = async |key: &KeyCreated, alg| {
                let order = story.order(sign(key, alg, &[digest(alg, "a")]));
                story.module.execute(&order).await
            };
            // Used meanwhile: nobody waits for the change.
            let using = async {
                for _ in 0..10 {
                    for (key, alg) in &keys {
                        use_of(key, *alg).await.unwrap();
                    }
                }
            };
            let change = story.module.change_wrapping();
            let (done, ()) = futures_util::future::join(change, using).await;
            let done = done.unwrap();
            assert!(done.keys >= 3 && done.retired == 1, "{done:?}");
            for (key, alg) in &keys {
                use_of(key, *alg).await.unwrap();
            }
            let again = story.module.change_wrapping().await.unwrap();
            assert_eq!((again.keys, again.retired), (3, 1));
            assert_eq!(story.audited("cm.wrapping-retired").await, 2);
            // A copy of the database from before, in a process that has seen nothing.
            before.replace(&story).await;
            let fresh = story.again(7).await.unwrap();
            let order = story.order(sign(&keys[0].0, P256, &[digest(P256, "a")]));
            let missing = Refusal::NotAllowed(Reason::NoWrappingKey);
            assert_eq!(refusal(fresh.execute(&order).await), missing);
            assert_eq!(story.audited("cm-wrapping-key-missing").await, 1);
            for (key, alg) in &keys[1..] {
                let order = story.order(sign(key, *alg, &[digest(*alg, "a")]));
                fresh.execute(&order).await.unwrap();
            }
        },
    )
    .await;
}

// shows: III-A1.6-backup-keys, T-KEY-MALFUNCTION
#[tokio::test]
async fn keys_made_ahead_sign_also_after_the_wrapping_key_changed() {
    everywhere(
        keys_made_ahead_sign_also_after_the_wrapping_key_changed::ON_TOKENS,
        async |mut story| {
            if story.backend.name() != "pkcs11-wrapped" {
                return;
            }
            let token = story.backend.clone();
            let ahead = Ahead::new(token.clone(), vec![(KeyAlg::P256, 3)]).unwrap();
            story.backend = Arc::new(ahead);
            story.module = story.again(7).await.unwrap();
            story.module.change_wrapping().await.unwrap();
            for elsewhere in [false, true] {
                if elsewhere {
                    // Another process changes it, of which the stock hears nothing.
                    token.renew_wrapping().unwrap();
                    token.retire_wrapping().unwrap();
                }
                for _ in 0..5 {
                    let key = story.key(KeyAlg::P256).await;
                    let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
                    story.module.execute(&order).await.unwrap();
                }
            }
        },
    )
    .await;
}

// shows: III-3-14-audit-records, T-KEY-MALFUNCTION
#[tokio::test]
async fn without_its_wrapping_key_a_key_signs_nothing_and_the_log_says_why() {
    everywhere(
        without_its_wrapping_key_a_key_signs_nothing_and_the_log_says_why::ON_TOKENS,
        async |story| {
            if story.backend.name() != "pkcs11-wrapped" {
                // Elsewhere the root secret is what opens keys; see `another_root_secret_opens_nothing`.
                return;
            }
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            story.module.execute(&story.order(kind())).await.unwrap();
            // Somebody removes it from the device, though there is another by now.
            story.backend.renew_wrapping().unwrap();
            assert_eq!(story.backend.retire_wrapping().unwrap(), 1);
            let missing = Refusal::NotAllowed(Reason::NoWrappingKey);
            assert_eq!(story.refused(kind()).await, missing, "ready for use before");
            assert_eq!(story.refused(kind()).await, missing);
            assert_eq!(story.audited("cm-wrapping-key-missing").await, 2);
            assert_eq!(story.audited("cm-key-missing").await, 0);
            let health = story.module.self_test().await.unwrap();
            assert!(health.operational, "others aren't concerned");
            let other = story.key(KeyAlg::P256).await;
            let order = story.order(sign(&other, P256, &[digest(P256, "a")]));
            story.module.execute(&order).await.unwrap();
        },
    )
    .await;
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_row_that_was_set_back_is_not_wrapped_anew_and_made_the_newest() {
    everywhere(
        a_row_that_was_set_back_is_not_wrapped_anew_and_made_the_newest::ON_TOKENS,
        async |story| {
            if story.backend.name() != "pkcs11-wrapped" {
                return;
            }
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let old = KeyRow::of(&story, &key).await;
            story.module.execute(&story.order(kind())).await.unwrap();
            let newest = KeyRow::of(&story, &key).await;
            old.replace(&story).await;
            let refused = story.module.change_wrapping().await.unwrap_err();
            assert_eq!(refused, Refusal::NoSuchKey);
            assert_eq!(KeyRow::of(&story, &key).await, old, "as it was put back");
            assert_eq!(story.refused(kind()).await, Refusal::NoSuchKey);
            newest.replace(&story).await;
            assert_eq!(story.module.change_wrapping().await.unwrap().keys, 1);
            story.module.execute(&story.order(kind())).await.unwrap();
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    keys_made_ahead_sign_also_after_the_wrapping_key_changed,
    the_wrapping_key_changes_online_and_older_copies_are_of_no_use,
    a_row_that_was_set_back_is_not_wrapped_anew_and_made_the_newest,
    without_its_wrapping_key_a_key_signs_nothing_and_the_log_says_why,
);
