//! Who the module's officers are: remembered since the first start, and changed by two of them.

use std::sync::Arc;

use cm_api::Refusal;
use cm_api::officers::OfficerList;
use cm_api::restore::Restore;
use cm_core::backup::{self, BackupError, target};
use cm_core::{MIGRATIONS, Module, OfficersError, StartError};
use cm_soft::SoftBackend;
use core_types::Level;
use jose::SigningKey;
use store_kit::{StoreError, sql, transaction};

use crate::backup::{backup_of, ledger, restore_on, root};
use crate::destroy::attack;
use crate::faulty::Faulty;
use crate::kit::{NOW, SAM, Setup, Story};
use crate::switch::to;

/// Keys of officers, by their places in the list of all there are.
struct People(Vec<SigningKey>);

impl People {
    fn new() -> Self {
        Self((0..5).map(|_| SigningKey::generate().unwrap().0).collect())
    }

    fn public(&self, who: &[usize]) -> Vec<jose::Jwk> {
        who.iter().map(|i| self.0[*i].public().clone()).collect()
    }

    /// A module with these officers, whose changes so far are these lines.
    fn setup(&self, who: &[usize], lines: &[String]) -> Setup {
        Setup {
            officers: self.public(who),
            officer_changes: lines.to_vec(),
            ..Setup::default()
        }
    }

    /// The list under this number, as it is signed by some.
    fn list(&self, story: &Story, version: u64, who: &[usize], by: &[usize]) -> Vec<String> {
        let list = OfficerList {
            sam: SAM.into(),
            root: story.module.root().kid(),
            version,
            reason: "人事異動".into(),
            officers: self.public(who),
        };
        by.iter()
            .map(|i| list.approve(&self.0[*i]).unwrap())
            .collect()
    }
}

fn refused(started: Result<Module, StartError>) -> OfficersError {
    match started {
        Err(StartError::Officers(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

// shows: III-A1.4.2-dual-control, III-A1.4.2-separate-control, T-INS-OPERATOR
#[tokio::test]
async fn an_administrator_makes_nobody_an_officer_by_the_configuration() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let people = People::new();
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        story.module.scrub().await.unwrap();
        // Keys of their own, as many signatures by these as they like, one officer with them, or none at all.
        let changed = OfficersError::Changed { held: 2 };
        let not = OfficersError::NotApproved;
        let own = people.list(&story, 3, &[2, 3], &[2, 3]);
        let with_one = people.list(&story, 3, &[0, 2], &[0, 2]);
        for (who, lines, why) in [
            (vec![2, 3], vec![], changed),
            (vec![0, 1, 2], vec![], changed),
            (vec![0], vec![], changed),
            (vec![2, 3], own, not),
            (vec![0, 2], with_one, not),
        ] {
            let setup = people.setup(&who, &lines);
            assert_eq!(refused(story.try_again_with(&setup).await), why, "{who:?}");
        }
        // The module as it was: nothing of that has an effect.
        assert_eq!(story.audited("cm-officers-refused").await, 5);
        let none = story.again(7).await;
        assert_eq!(refused(none), changed);
        story.module = story.again_with(&people.setup(&[1, 0], &[])).await;
        story.module.scrub().await.unwrap();

        // Two officers of before, and those of before are none from then on.
        let two = people.list(&story, 3, &[0, 2], &[0, 1]);
        let next = people.setup(&[0, 2], &two);
        story.module = story.again_with(&next).await;
        story.module.scrub().await.unwrap();
        assert_eq!(story.audited("cm.officers-in-force").await, 3);
        let off = to(&story, false, 1);
        let sign = |who: [usize; 2]| cm_api::rpc::SwitchRequest {
            approvals: who
                .iter()
                .map(|i| off.approve(&people.0[*i]).unwrap())
                .collect(),
        };
        let gone = story.module.switch(&sign([0, 1])).await;
        assert_eq!(gone.unwrap_err(), Refusal::NotAuthentic);
        story.module.switch(&sign([0, 2])).await.unwrap();
        // Neither the list before nor its signatures bring those back.
        let before = OfficersError::Changed { held: 3 };
        let back = people.setup(&[0, 1], &two);
        assert_eq!(refused(story.try_again_with(&back).await), before);
        let again = people.list(&story, 4, &[0, 1], &[0, 1]);
        let back = people.setup(&[0, 1], &[two, again].concat());
        assert_eq!(refused(story.try_again_with(&back).await), not);
        story.again_with(&next).await.scrub().await.unwrap();
    }
}

// shows: III-A1.4.2-dual-control, T-INS-OPERATOR
#[tokio::test]
async fn above_level_1_a_module_has_two_officers_or_does_not_start() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let device = Faulty::default();
        let mut story = Story::begin(test, Arc::new(device.clone())).await;
        let people = People::new();
        let one = people.setup(&[0], &[]);
        story.module = story.again_with(&one).await;
        device.plan(|plan| plan.level = Some(Level::Two));
        assert_eq!(
            refused(story.try_again_with(&one).await),
            OfficersError::TooFew
        );
        let doubled = people.setup(&[0, 0], &[]);
        assert_eq!(
            refused(story.try_again_with(&doubled).await),
            OfficersError::TooFew
        );
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        story.module.scrub().await.unwrap();
        // Also two can't do without two.
        let lines = people.list(&story, 4, &[2], &[0, 1]);
        let alone = people.setup(&[2], &lines);
        assert_eq!(
            refused(story.try_again_with(&alone).await),
            OfficersError::TooFew
        );
    }
    // A store that was refused so at its first start isn't begun.
    for test in store_kit::testing::both(MIGRATIONS).await {
        let device = Faulty::default();
        let other = store_kit::testing::sqlite(MIGRATIONS).await;
        let mut story = Story::begin(other, Arc::new(device.clone())).await;
        device.plan(|plan| plan.level = Some(Level::Three));
        story.test = test;
        let people = People::new();
        let one = people.setup(&[0], &[]);
        assert_eq!(
            refused(story.try_again_with(&one).await),
            OfficersError::TooFew
        );
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        story.module.scrub().await.unwrap();
    }
}

async fn mark(story: &Story) -> (i64, Vec<u8>) {
    let mut tx = story.test.store.read("look").await.unwrap();
    let query = sql("SELECT version, sealed FROM cm_mark WHERE id = 'officers'");
    let row = tx.fetch_one(query).await.unwrap();
    (row.int("version").unwrap(), row.blob("sealed").unwrap())
}

async fn put(story: &Story, (version, sealed): &(i64, Vec<u8>)) {
    let done: Result<u64, StoreError> = transaction!(story.test.store, "attack", |tx| {
        let query = "INSERT INTO cm_mark (id, version, sealed) VALUES ('officers', $1, $2)";
        let query = sql(query).bind(*version);
        tx.execute(query.bind(sealed.clone())).await
    });
    assert_eq!(done.unwrap(), 1);
}

const GONE: &str = "DELETE FROM cm_mark WHERE id = 'officers'";

// shows: III-A1.4.2-dual-control, T-KEY-ATTR-ALTER, T-INS-OPERATOR
#[tokio::test]
async fn who_writes_the_database_too_makes_nobody_an_officer() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let people = People::new();
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        let before = mark(&story).await;
        let lines = people.list(&story, 3, &[1, 2], &[0, 1]);
        let now = people.setup(&[1, 2], &lines);
        story.module = story.again_with(&now).await;
        let good = mark(&story).await;
        // Taken away: nothing starts, and nothing is written in its place.
        attack(&story, GONE).await;
        for setup in [&now, &people.setup(&[3, 4], &[])] {
            let told = refused(story.try_again_with(setup).await);
            assert_eq!(told, OfficersError::Gone);
        }
        put(&story, &good).await;
        story.module = story.again_with(&now).await;
        story.module.scrub().await.unwrap();
        // Set back: those who left, and whom they name now. A process that has seen nothing finds it before it serves.
        attack(&story, GONE).await;
        put(&story, &before).await;
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        assert_eq!(story.module.scrub().await, Err(Refusal::NotOperational));
        assert_eq!(story.audited("cm-officers-altered").await, 1);
        let theirs = people.list(&story, 3, &[3, 4], &[0, 1]);
        let more = people.list(&story, 4, &[3, 2], &[3, 4]);
        let steps = [theirs, more].concat();
        story.module = story.again_with(&people.setup(&[3, 2], &steps)).await;
        assert_eq!(
            story.module.scrub().await,
            Err(Refusal::NotOperational),
            "also over a list that is newer than the last true one"
        );
    }
}

// shows: III-A1.4.2-dual-control, III-3-10-backup, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_restore_brings_no_officer_back() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let empty = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(empty) {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let people = People::new();
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        let (file, made) = backup_of(&story).await;
        assert_eq!(made.officers, 2);
        let lines = people.list(&story, 3, &[1, 2], &[0, 1]);
        let now = people.setup(&[1, 2], &lines);
        story.module = story.again_with(&now).await;
        let ledger = ledger(&story).await;
        let wanted = Restore {
            sam: SAM.into(),
            root: story.module.root().kid(),
            backup: made.id,
            target: target(&to.store).await.unwrap(),
            reason: "the disk failed".into(),
            exp: NOW.plus(60),
        };
        let approvals = [0, 1].map(|i: usize| wanted.approve(&people.0[i]).unwrap());
        let done = restore_on(&SoftBackend, &to, &file, &root(7), (&ledger, &approvals)).await;
        done.unwrap();
        story.test = to;
        // With those of the backup the log knows better; with their successors it goes on.
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        assert!(story.module.scrub().await.is_err());
        story.module = story.again_with(&now).await;
        story.module.scrub().await.unwrap();
    }
}

// shows: III-3-10-backup, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_backup_from_before_there_were_officers_starts_with_those_of_the_log() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let empty = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(empty) {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let people = People::new();
        let (file, _) = backup_of(&story).await;
        story.module = story.again_with(&people.setup(&[0, 1], &[])).await;
        let lines = people.list(&story, 3, &[1, 2], &[0, 1]);
        let now = people.setup(&[1, 2], &lines);
        story.module = story.again_with(&now).await;
        let ledger = ledger(&story).await;
        let done = restore_on(&SoftBackend, &to, &file, &root(7), (&ledger, &[])).await;
        done.unwrap();
        story.test = to;
        story.module = story.again_with(&now).await;
        story.module.scrub().await.unwrap();
        story.module = story.again_with(&now).await;
        story.module.scrub().await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_says_that_nobody_approves_its_restore_and_above_level_1_there_is_none() {
    let device = Faulty::default();
    let story = device.story().await;
    let (file, made) = backup_of(&story).await;
    assert_eq!(made.officers, 0);
    let checked = backup::check(&mut file.as_slice(), &root(7)).unwrap();
    assert_eq!(checked.officers, 0);
    let known = ledger(&story).await;
    device.plan(|plan| plan.level = Some(Level::Two));
    let to = store_kit::testing::sqlite(MIGRATIONS).await;
    let refused = restore_on(&device, &to, &file, &root(7), (&known, &[])).await;
    assert!(
        matches!(refused, Err(BackupError::NoOfficers)),
        "{refused:?}"
    );
    device.plan(|plan| plan.level = None);
    let done = restore_on(&device, &to, &file, &root(7), (&known, &[])).await;
    done.unwrap();
}
