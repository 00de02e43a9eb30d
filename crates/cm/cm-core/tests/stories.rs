//! Stories of the module through its public door, on every back end and on both stores.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::Arc;

use cm_api::rpc::{Reason, StatementRequest};
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, Order, OrderBody, OrderKind, Refusal, SignItem,
};
use cm_core::backend::Backend;
use cm_core::{MIGRATIONS, Module, ModuleConfig, RootSecret};
use cm_soft::SoftBackend;
use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::{
    B64, Clock as _, Digest32, HashAlg, KeyAlg, Level, PersonId, Random as _, SecretBytes, SigAlg,
    TenantId, UnixTime, sha256,
};
use jose::SigningKey;
use store_kit::testing::TestStore;
use store_kit::{sql, transaction};

const NOW: UnixTime = UnixTime(1_780_000_000);
const SAM: &str = "sam.test";

/// A module and the SAM that talks to it.
struct Story {
    module: Module,
    test: TestStore,
    clock: Arc<ManualClock>,
    act: SigningKey,
    statement: String,
}

impl Story {
    async fn begin(test: TestStore) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let module = start(&test, clock.clone(), 7).await.unwrap();
        let (act, _) = SigningKey::generate().unwrap();
        let statement = statement(&module, &act, NOW).await.unwrap();
        Self {
            module,
            test,
            clock,
            act,
            statement,
        }
    }

    fn order(&self, kind: OrderKind) -> ExecuteRequest {
        self.order_named(SystemRandom.digest32(), kind)
    }

    fn order_named(&self, order: Digest32, kind: OrderKind) -> ExecuteRequest {
        let body = OrderBody {
            sam: SAM.into(),
            order,
            epoch: EPOCH,
            exp: self.clock.now().plus(30),
            kind,
        };
        ExecuteRequest {
            statement: self.statement.clone(),
            order: Order::seal(&body, &self.act).unwrap(),
        }
    }

    async fn key(&self, alg: KeyAlg) -> KeyCreated {
        let request = self.order(generate(alg, Level::One));
        match self.module.execute(&request).await.unwrap() {
            Executed::Created(key) => key,
            Executed::Signed(_) => panic!("a key was ordered"),
        }
    }
}

const EPOCH: Digest32 = Digest32([9; 32]);

async fn start(
    test: &TestStore,
    clock: Arc<ManualClock>,
    root: u8,
) -> Result<Module, cm_core::StartError> {
    let config = ModuleConfig {
        sam: SAM.into(),
        node: "cm-1".into(),
        max_uses: 1000,
    };
    let root = RootSecret::new(SecretBytes::new(vec![root; 32])).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(SoftBackend);
    Module::start(
        config,
        backend,
        test.store.clone(),
        &root,
        clock,
        Arc::new(SystemRandom),
    )
    .await
}

async fn statement(module: &Module, act: &SigningKey, now: UnixTime) -> Result<String, Refusal> {
    let (seal, _) = jose::SealKey::generate().unwrap();
    let request = StatementRequest {
        sam: SAM.into(),
        epoch: EPOCH,
        act: act.public().clone(),
        seal: seal.public().clone(),
        nbf: now,
        exp: now.plus(48 * 3600),
    };
    module
        .statement(request)
        .await
        .map(|answer| answer.statement)
}

fn generate(alg: KeyAlg, level: Level) -> OrderKind {
    OrderKind::Generate {
        tenant: TenantId::parse("t").unwrap(),
        owner: PersonId::parse("hanako").unwrap(),
        alg,
        level,
        act: Digest32([1; 32]),
    }
}

fn sign(key: &KeyCreated, alg: SigAlg, digests: &[Vec<u8>]) -> OrderKind {
    let items = (0..)
        .zip(digests)
        .map(|(i, d)| SignItem {
            i,
            d: B64(d.clone()),
        })
        .collect();
    OrderKind::Sign {
        key: key.key.clone(),
        version: key.version,
        spki: sha256(&[&key.spki.0]),
        alg,
        items,
        act: Digest32([2; 32]),
        proof: Digest32([3; 32]),
    }
}

fn digest(alg: SigAlg, text: &str) -> Vec<u8> {
    alg.hash().digest(text.as_bytes())
}

async fn on_both<F: AsyncFn(Story)>(story: F) {
    for test in store_kit::testing::both(MIGRATIONS).await {
        story(Story::begin(test).await).await;
    }
}

const P256: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

// shows: III-3-2-approved-algorithms
#[tokio::test]
async fn keys_are_made_and_sign_what_is_ordered() {
    on_both(async |story| {
        for alg in [KeyAlg::P256, KeyAlg::P384, KeyAlg::Rsa3072] {
            let key = story.key(alg).await;
            for sig in alg.sig_algs() {
                let digests: Vec<_> = (0..5)
                    .map(|i| digest(sig, &format!("document {i}")))
                    .collect();
                let done = story
                    .module
                    .execute(&story.order(sign(&key, sig, &digests)))
                    .await
                    .unwrap();
                let Executed::Signed(values) = done else {
                    panic!("signatures were ordered")
                };
                assert_eq!(values.len(), digests.len());
                for (value, digest) in values.iter().zip(&digests) {
                    pki::verify_signature(&key.spki.0, sig, pki::Signed::Digest(digest), &value.0)
                        .unwrap();
                }
            }
        }
    })
    .await;
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn an_order_is_executed_once_also_when_asked_at_once_and_after_a_restart() {
    on_both(async |story| {
        let key = story.key(KeyAlg::P256).await;
        let request = story.order(sign(&key, P256, &[digest(P256, "a")]));
        let tries = (0..20).map(|_| story.module.execute(&request));
        let done = futures_util::future::join_all(tries).await;
        assert_eq!(done.iter().filter(|r| r.is_ok()).count(), 1);
        assert!(
            done.iter()
                .all(|r| matches!(r, Ok(_) | Err(Refusal::Duplicate))),
            "{done:?}"
        );
        let again = start(&story.test, story.clock.clone(), 7).await.unwrap();
        assert_eq!(
            again.execute(&request).await.unwrap_err(),
            Refusal::Duplicate
        );
    })
    .await;
}

// shows: III-3-4-authenticate-application, T-USE-SAP-BYPASS
#[tokio::test]
async fn only_the_sams_own_timely_orders_are_admitted() {
    on_both(async |story| {
        let key = story.key(KeyAlg::P256).await;
        let kind = || sign(&key, P256, &[digest(P256, "a")]);
        let refused =
            async |request: ExecuteRequest| story.module.execute(&request).await.unwrap_err();

        let (stranger, _) = SigningKey::generate().unwrap();
        let body = |exp| OrderBody {
            sam: SAM.into(),
            order: Digest32([5; 32]),
            epoch: EPOCH,
            exp,
            kind: kind(),
        };
        let forged = Order::seal(&body(NOW.plus(30)), &stranger).unwrap();
        let request = ExecuteRequest {
            statement: story.statement.clone(),
            order: forged,
        };
        assert_eq!(refused(request).await, Refusal::NotAuthentic);

        let forged = stranger.sign(sam_keys::TYP_KEYS, b"{}").unwrap();
        let order = Order::seal(&body(NOW.plus(30)), &stranger).unwrap();
        assert_eq!(
            refused(ExecuteRequest {
                statement: forged,
                order
            })
            .await,
            Refusal::NotAuthentic
        );

        for exp in [NOW, NOW.plus(31)] {
            let order = Order::seal(&body(exp), &story.act).unwrap();
            assert_eq!(
                refused(ExecuteRequest {
                    statement: story.statement.clone(),
                    order
                })
                .await,
                Refusal::NotNow
            );
        }
        let other_epoch = OrderBody {
            epoch: Digest32([8; 32]),
            ..body(NOW.plus(30))
        };
        let order = Order::seal(&other_epoch, &story.act).unwrap();
        assert_eq!(
            refused(ExecuteRequest {
                statement: story.statement.clone(),
                order
            })
            .await,
            Refusal::NotAuthentic
        );

        story.clock.advance(48 * 3600);
        assert_eq!(
            refused(story.order(kind())).await,
            Refusal::NotNow,
            "the statement ran out"
        );
    })
    .await;
}

// shows: III-3-5-key-purpose-defined, T-KEY-MISUSE, T-KEY-ABUSE
#[tokio::test]
async fn attributes_limit_the_use_of_a_key() {
    on_both(async |story| {
        let refused = async |kind| story.module.execute(&story.order(kind)).await.unwrap_err();
        let key = story.key(KeyAlg::P256).await;
        let rsa = SigAlg::RsaPkcs1(HashAlg::Sha256);
        assert_eq!(
            refused(sign(&key, rsa, &[digest(rsa, "a")])).await,
            Refusal::NotAllowed(Reason::Algorithm)
        );
        assert_eq!(
            refused(sign(&key, P256, &[vec![0; 20]])).await,
            Refusal::Malformed
        );
        assert_eq!(refused(sign(&key, P256, &[])).await, Refusal::Malformed);
        let many = vec![digest(P256, "a"); 1001];
        assert_eq!(
            refused(sign(&key, P256, &many)).await,
            Refusal::NotAllowed(Reason::Uses)
        );
        assert_eq!(
            refused(generate(KeyAlg::P256, Level::Two)).await,
            Refusal::NotAllowed(Reason::Level)
        );

        let other = story.key(KeyAlg::P256).await;
        let mixed = KeyCreated {
            spki: other.spki.clone(),
            ..key.clone()
        };
        assert_eq!(
            refused(sign(&mixed, P256, &[digest(P256, "a")])).await,
            Refusal::NoSuchKey
        );
        let csr = |key: &KeyCreated, info: &[u8]| OrderKind::SignCsr {
            key: key.key.clone(),
            version: 1,
            spki: sha256(&[&key.spki.0]),
            info: B64(info.to_vec()),
        };
        let info = csr_info(&key.spki.0);
        assert_eq!(
            refused(csr(&other, &info)).await,
            Refusal::Malformed,
            "a request for another key"
        );
        assert_eq!(
            refused(csr(&key, b"not a request")).await,
            Refusal::Malformed
        );
        story
            .module
            .execute(&story.order(csr(&key, &info)))
            .await
            .unwrap();
        assert_eq!(
            refused(csr(&key, &info)).await,
            Refusal::NotAllowed(Reason::Purpose),
            "only once"
        );
    })
    .await;
}

/// CertificationRequestInfo for this key with an empty subject and no attributes (RFC 2986 §4.1).
fn csr_info(spki: &[u8]) -> Vec<u8> {
    let mut body = vec![2, 1, 0, 0x30, 0];
    body.extend_from_slice(spki);
    body.extend_from_slice(&[0xa0, 0]);
    let mut out = vec![0x30, u8::try_from(body.len()).unwrap()];
    out.extend(body);
    out
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_row_that_was_changed_swapped_or_set_back_is_not_used() {
    on_both(async |story| {
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
            assert_eq!(use_of(&a).await, Err(Refusal::NoSuchKey), "{attack}");
        }
        put(&a, after_a).await;
        use_of(&a).await.unwrap();
    })
    .await;
}

// shows: III-3-1-no-plaintext-private-key, T-KEY-DISCLOSE
#[tokio::test]
async fn another_root_secret_opens_nothing() {
    on_both(async |story| {
        let error = start(&story.test, story.clock.clone(), 8).await.err();
        assert!(
            matches!(error, Some(cm_core::StartError::WrongRoot)),
            "{error:?}"
        );
        let again = start(&story.test, story.clock.clone(), 7).await.unwrap();
        assert_eq!(
            again.root().kid(),
            story.module.root().kid(),
            "the root key survives a restart"
        );
    })
    .await;
}
