//! The table of approved algorithms only goes forward, whoever puts an older one back and wherever.

use std::sync::Arc;

use cm_api::Refusal;
use cm_api::restore::Restore;
use cm_api::rpc::Reason;
use cm_core::backup::target;
use cm_core::policy::PolicyError;
use cm_core::{MIGRATIONS, Module, Policy, StartError};
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Level};
use jose::SigningKey;
use store_kit::{StoreError, sql, transaction};

use crate::backup::{backup_of, ledger, restore_on, root};
use crate::destroy::attack;
use crate::kit::{NOW, P256, SAM, Setup, Story, digest, generate, sign};

/// A table of P-256 alone.
fn table(version: u64, sign_until: &str) -> String {
    format!(
        r#"{{"version":{version},"approved":[{{"key":"p-256","basis":"a list","algs":["ecdsa-sha256"],"sign_until":"{sign_until}","verify_until":"2040-12-31"}}]}}"#
    )
}

struct Officers(Vec<SigningKey>);

impl Officers {
    fn new() -> Self {
        Self((0..2).map(|_| SigningKey::generate().unwrap().0).collect())
    }

    /// A module with this table, signed by the first `n` of them.
    fn setup(&self, n: usize, text: &str) -> Setup {
        let officers: Vec<_> = self.0.iter().map(|o| o.public().clone()).collect();
        let signed = self
            .0
            .iter()
            .take(n)
            .map(|o| Policy::sign(text, o).unwrap());
        let lines = signed.collect::<Vec<_>>().join("\n");
        Setup {
            policy: Policy::signed(&lines, &officers).unwrap(),
            officers,
            ..Setup::default()
        }
    }
}

fn refused(started: Result<Module, StartError>) -> PolicyError {
    match started {
        Err(StartError::Policy(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

// shows: III-3-2-approved-algorithms, III-A1.4-approved-algorithms, T-INS-OPERATOR
#[tokio::test]
async fn an_older_table_put_back_is_refused_at_start() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let key = story.key(KeyAlg::P256).await;
        let officers = Officers::new();
        let long = officers.setup(1, &table(8, "2030-12-31"));
        story.module = story.again_with(&long).await;
        story.module.scrub().await.unwrap();
        // P-256 is broken: a security officer ends it at once.
        let ended = officers.setup(1, &table(9, "2020-12-31"));
        story.module = story.again_with(&ended).await;
        story.module.scrub().await.unwrap();
        let algorithm = Refusal::NotAllowed(Reason::Algorithm);
        let order = sign(&key, P256, &[digest(P256, "a")]);
        assert_eq!(story.refused(order).await, algorithm);
        assert_eq!(
            story.refused(generate(KeyAlg::P256, Level::One)).await,
            algorithm
        );

        let older = PolicyError::Older { given: 8, held: 9 };
        assert_eq!(refused(story.try_again_with(&long).await), older);
        let both = officers.setup(2, &table(8, "2030-12-31"));
        assert_eq!(refused(story.try_again_with(&both).await), older);
        let other = officers.setup(2, &table(9, "2030-12-31"));
        let told = refused(story.try_again_with(&other).await);
        assert_eq!(told, PolicyError::Other(9));
        // Also what comes with the program is older.
        let program = Setup {
            policy: Policy::built_in().unwrap(),
            ..officers.setup(1, &table(9, "2020-12-31"))
        };
        let told = story.try_again_with(&program).await;
        assert!(matches!(told, Err(StartError::Policy(_))));
        assert_eq!(story.audited("cm-algorithms-refused").await, 4);
        // Back by a new version only, and by two.
        let one = officers.setup(1, &table(10, "2030-12-31"));
        let told = refused(story.try_again_with(&one).await);
        assert_eq!(told, PolicyError::Loosens);
        let two = officers.setup(2, &table(10, "2030-12-31"));
        story.module = story.again_with(&two).await;
        story.module.scrub().await.unwrap();
        let order = sign(&key, P256, &[digest(P256, "a")]);
        story.module.execute(&story.order(order)).await.unwrap();
        assert_eq!(story.audited("cm.algorithms-in-force").await, 4);
    }
}

async fn mark(story: &Story) -> (i64, Vec<u8>) {
    let mut tx = story.test.store.read("look").await.unwrap();
    let query = sql("SELECT version, sealed FROM cm_mark WHERE id = 'algorithms'");
    let row = tx.fetch_one(query).await.unwrap();
    (row.int("version").unwrap(), row.blob("sealed").unwrap())
}

async fn put(story: &Story, (version, sealed): (i64, Vec<u8>)) {
    let done: Result<u64, StoreError> = transaction!(story.test.store, "attack", |tx| {
        let query = "INSERT INTO cm_mark (id, version, sealed) VALUES ('algorithms', $1, $2)";
        tx.execute(sql(query).bind(version).bind(sealed.clone()))
            .await
    });
    assert_eq!(done.unwrap(), 1);
}

// shows: III-3-2-approved-algorithms, T-KEY-ATTR-ALTER, T-INS-OPERATOR
#[tokio::test]
async fn whoever_can_write_the_database_brings_no_older_table_back() {
    for set_back in [false, true] {
        for test in store_kit::testing::both(MIGRATIONS).await {
            let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
            let officers = Officers::new();
            let long = officers.setup(1, &table(8, "2030-12-31"));
            story.module = story.again_with(&long).await;
            let before = mark(&story).await;
            let ended = officers.setup(1, &table(9, "2020-12-31"));
            story.module = story.again_with(&ended).await;
            attack(&story, "DELETE FROM cm_mark WHERE id = 'algorithms'").await;
            if set_back {
                put(&story, before).await;
            }
            // A process that has seen nothing, before it serves.
            story.module = story.again_with(&long).await;
            let found = story.module.scrub().await;
            assert_eq!(found, Err(Refusal::NotOperational), "{set_back}");
            assert_eq!(story.audited("cm-algorithms-older").await, 1);
            let order = generate(KeyAlg::P256, Level::One);
            assert_eq!(story.refused(order).await, Refusal::NotOperational);
        }
    }
}

// shows: III-3-2-approved-algorithms, III-3-10-backup, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_restore_brings_no_older_table_back() {
    for (test, to) in store_kit::testing::both(MIGRATIONS)
        .await
        .into_iter()
        .zip(store_kit::testing::both(MIGRATIONS).await)
    {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let officers = Officers::new();
        let long = officers.setup(1, &table(8, "2030-12-31"));
        story.module = story.again_with(&long).await;
        let (file, made) = backup_of(&story).await;
        let ended = officers.setup(1, &table(9, "2020-12-31"));
        story.module = story.again_with(&ended).await;
        let ledger = ledger(&story).await;
        let wanted = Restore {
            sam: SAM.into(),
            root: story.module.root().kid(),
            backup: made.id,
            target: target(&to.store).await.unwrap(),
            reason: "the disk failed".into(),
            exp: NOW.plus(60),
        };
        let approvals: Vec<_> = (0..2)
            .map(|i| wanted.approve(&officers.0[i]).unwrap())
            .collect();
        let done = restore_on(&SoftBackend, &to, &file, &root(7), (&ledger, &approvals)).await;
        done.unwrap();
        story.test = to;
        story.module = story.again_with(&long).await;
        assert!(story.module.scrub().await.is_err(), "the log knows better");
        story.module = story.again_with(&ended).await;
        story.module.scrub().await.unwrap();
        let told = refused(story.try_again_with(&long).await);
        assert_eq!(told, PolicyError::Older { given: 8, held: 9 });
    }
}
