//! The end of a key: unusable at once, erased in the device, certified, and not to be brought back.

use cm_api::{Executed, KeyCreated, KeyDestroyed, OrderKind, Refusal};
use core_types::{DestroyCause, Digest32, KeyAlg, sha256};
use sam_keys::Destruction;
use store_kit::{StoreError, sql, transaction};

use crate::backup::use_of;
use crate::faulty::Faulty;
use crate::kit::{NOW, P256, Story, digest, everywhere, sign};

const DAY: i64 = 86_400;

pub fn destroy(key: &KeyCreated) -> OrderKind {
    OrderKind::Destroy {
        key: key.key.clone(),
        version: key.version,
        spki: sha256(&[&key.spki.0]),
        act: Digest32([4; 32]),
        cause: DestroyCause::Owner,
    }
}

pub async fn destroyed(story: &Story, key: &KeyCreated) -> (KeyDestroyed, Destruction) {
    let done = story.module.execute(&story.order(destroy(key))).await;
    let Executed::Destroyed(done) = done.unwrap() else {
        panic!("a destruction was ordered")
    };
    let roots = [story.module.root().clone()];
    let told = Destruction::verify(&done.certificate, &roots).unwrap();
    (done, told)
}

// shows: III-A1.6-destroy-at-end, III-A1.6-backup-keys, III-A1.7-log-key-destruction, T-KEY-ABUSE,
// I-A4-secure-erasure
#[tokio::test]
async fn a_destroyed_key_stays_destroyed_and_its_owner_has_it_in_writing() {
    everywhere(
        a_destroyed_key_stays_destroyed_and_its_owner_has_it_in_writing::ON_TOKENS,
        async |story| {
            let (key, other) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
            story
                .module
                .execute(&story.order(use_of(&key)))
                .await
                .unwrap();
            let row = KeyRow::of(&story, &key).await;

            let wrong = KeyCreated {
                spki: other.spki.clone(),
                ..key.clone()
            };
            assert_eq!(story.refused(destroy(&wrong)).await, Refusal::NoSuchKey);
            let (done, told) = destroyed(&story, &key).await;
            assert_eq!(done.unusable_since, NOW);
            assert_eq!(done.unrecoverable_after, Some(NOW.plus(90 * DAY)));
            assert_eq!(told.unrecoverable_after, done.unrecoverable_after);
            assert_eq!(told.erased.is_some(), story.backend.name() == "pkcs11");
            assert_eq!((&told.key, told.signatures), (&key.key, 1));
            assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
            assert_eq!(story.audited("key.destroyed").await, 1);

            story.clock.advance(5);
            let (again, _) = destroyed(&story, &key).await;
            assert_eq!(again.certificate, done.certificate, "the end comes once");
            assert_eq!(story.audited("key.destroyed").await, 1);
            assert_eq!(story.refused(destroy(&wrong)).await, Refusal::NoSuchKey);
            story
                .module
                .execute(&story.order(use_of(&other)))
                .await
                .unwrap();

            // Whoever can write to the database puts the row back; with the tombstone, and without.
            row.put(&story).await;
            assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
            let again = story.again(7).await.unwrap();
            let order = story.order(use_of(&key));
            assert!(again.execute(&order).await.is_err(), "after a restart too");
            exhume(&story, &key).await;
            assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
        },
    )
    .await;
}

// shows: III-A1.6-destroy-at-end, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_device_that_is_away_erases_later_and_the_second_date_waits_for_it() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let away = cm_core::backend::Fault::Unavailable("away");
    faulty.plan(|plan| (plan.device, plan.erase) = (true, Some(away)));
    let (done, told) = destroyed(&story, &key).await;
    assert_eq!((done.unrecoverable_after, told.erased), (None, None));
    let use_of = sign(&key, P256, &[digest(P256, "a")]);
    assert_eq!(story.refused(use_of).await, Refusal::NoSuchKey);
    story.module.finish_destructions().await.unwrap();
    faulty.plan(|plan| {
        assert!(plan.erased.is_empty());
        plan.erase = None;
    });
    story.clock.advance(3 * DAY);
    story.renew().await;
    story.module.finish_destructions().await.unwrap();
    story.module.finish_destructions().await.unwrap();
    faulty.plan(|plan| assert_eq!(plan.erased.len(), 1));
    let (done, told) = destroyed(&story, &key).await;
    assert_eq!(told.erased, Some(NOW.plus(3 * DAY)));
    assert_eq!(done.unusable_since, NOW);
    assert_eq!(done.unrecoverable_after, Some(NOW.plus(93 * DAY)));
    assert_eq!(story.audited("key.erased").await, 1);
    assert_eq!(story.audited("key.destroyed").await, 1);
}

/// Rolling back a row as a whole: seal, version and attributes all fit.
// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_whole_row_that_was_set_back_is_not_used() {
    everywhere(
        a_whole_row_that_was_set_back_is_not_used::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let row = KeyRow::of(&story, &key).await;
            story.module.execute(&story.order(kind())).await.unwrap();
            row.replace(&story).await;
            assert_eq!(story.refused(kind()).await, Refusal::NoSuchKey);
        },
    )
    .await;
}

/// A process that has started since, and has seen the newer row only when it compared all rows with the log.
// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_row_that_was_set_back_after_the_comparison_of_a_start_is_not_used() {
    everywhere(
        a_row_that_was_set_back_after_the_comparison_of_a_start_is_not_used::ON_TOKENS,
        async |mut story| {
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let old = KeyRow::of(&story, &key).await;
            story.module.execute(&story.order(kind())).await.unwrap();
            let new = KeyRow::of(&story, &key).await;
            story.module = story.again(7).await.unwrap();
            let found = story.module.scrub().await.unwrap();
            assert!(found.agrees(), "{found:?}");
            old.replace(&story).await;
            assert_eq!(story.refused(kind()).await, Refusal::NoSuchKey);
            new.replace(&story).await;
            story.module.execute(&story.order(kind())).await.unwrap();
        },
    )
    .await;
}

/// A row as whoever can read the database sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyRow {
    id: String,
    pub version: i64,
    pub attributes: String,
    sealed: Vec<u8>,
}

impl KeyRow {
    pub async fn of(story: &Story, key: &KeyCreated) -> Self {
        let mut tx = story.test.store.read("look").await.unwrap();
        let query = sql("SELECT version, attributes, sealed FROM cm_key WHERE id = $1");
        let row = tx.fetch_one(query.bind(key.key.as_str())).await.unwrap();
        Self {
            id: key.key.as_str().to_owned(),
            version: row.int("version").unwrap(),
            attributes: row.text("attributes").unwrap(),
            sealed: row.blob("sealed").unwrap(),
        }
    }

    pub async fn put(&self, story: &Story) {
        let store = &story.test.store;
        let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
            let text =
                "INSERT INTO cm_key (id, version, attributes, sealed) VALUES ($1, $2, $3, $4)";
            let query = sql(text).bind(&self.id).bind(self.version);
            tx.execute(query.bind(&self.attributes).bind(&self.sealed))
                .await
        });
        assert_eq!(done.unwrap(), 1);
    }

    pub async fn delete(&self, story: &Story) {
        let store = &story.test.store;
        let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
            tx.execute(sql("DELETE FROM cm_key WHERE id = $1").bind(&self.id))
                .await
        });
        assert_eq!(done.unwrap(), 1);
    }

    pub async fn replace(&self, story: &Story) {
        self.delete(story).await;
        self.put(story).await;
    }

    /// The other row's content under this row's name.
    pub async fn replace_by(self, story: &Story, other: &Self) {
        self.delete(story).await;
        let mixed = Self {
            id: self.id,
            version: other.version,
            attributes: other.attributes.clone(),
            sealed: other.sealed.clone(),
        };
        mixed.put(story).await;
    }
}

/// Keys whose rows are set back, revived and deleted behind the module's back, beside one that is left alone.
pub struct Altered {
    back: KeyCreated,
    ended: KeyCreated,
    gone: KeyCreated,
    pub good: KeyCreated,
    /// Rows of the first two, as they were at first.
    old: [KeyRow; 2],
}

impl Altered {
    /// Makes the keys, and gives the log something to tell of them.
    pub async fn begin(story: &Story) -> Self {
        let [back, ended, gone, good] = [
            story.key(KeyAlg::P256).await,
            story.key(KeyAlg::P256).await,
            story.key(KeyAlg::P256).await,
            story.key(KeyAlg::P256).await,
        ];
        assert_eq!(story.module.scrub().await.unwrap().keys, 4);
        let old = [
            KeyRow::of(story, &back).await,
            KeyRow::of(story, &ended).await,
        ];
        for kind in [use_of(&back), use_of(&good), destroy(&ended)] {
            let order = story.order(kind);
            story.module.execute(&order).await.unwrap();
        }
        Self {
            back,
            ended,
            gone,
            good,
            old,
        }
    }

    /// Alters the rows; a process that has seen nothing finds each of them.
    pub async fn are_found(&self, story: &mut Story) {
        let [back, ended] = &self.old;
        back.replace(story).await;
        ended.put(story).await;
        exhume(story, &self.ended).await;
        KeyRow::of(story, &self.gone).await.delete(story).await;
        story.module = story.again(7).await.unwrap();
        let found = story.module.scrub().await.unwrap();
        assert_eq!(found.set_back, std::slice::from_ref(&self.back.key));
        assert_eq!(found.revived, std::slice::from_ref(&self.ended.key));
        assert_eq!(found.missing, [self.gone.key.as_str()]);
        for key in [&self.back, &self.ended, &self.gone] {
            assert_eq!(story.refused(use_of(key)).await, Refusal::NoSuchKey);
        }
    }
}

pub async fn exhume(story: &Story, key: &KeyCreated) {
    let store = &story.test.store;
    let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
        tx.execute(sql("DELETE FROM cm_tombstone WHERE id = $1").bind(key.key.as_str()))
            .await
    });
    assert_eq!(done.unwrap(), 1);
}

/// A statement of somebody who can write to the database.
pub async fn attack(story: &Story, statement: &'static str) {
    let done: Result<u64, StoreError> = transaction!(story.test.store, "attack", |tx| {
        tx.execute(sql(statement)).await
    });
    assert!(done.unwrap() > 0, "{statement}");
}

pkcs11_faults::on_tokens!(
    a_destroyed_key_stays_destroyed_and_its_owner_has_it_in_writing,
    a_row_that_was_set_back_after_the_comparison_of_a_start_is_not_used,
    a_whole_row_that_was_set_back_is_not_used,
);
