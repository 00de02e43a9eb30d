//! Which keys orders come from: the certificate of the SAM's connection alone brings none.

use std::sync::Arc;

use audit_log::Event;
use cm_api::ceremony::{Held, Wanted};
use cm_api::rpc::StatementRequest;
use cm_api::{Refusal, StatementAnswer};
use cm_core::{Ledger, MIGRATIONS, Module, ModuleConfig};
use cm_soft::SoftBackend;
use core_types::Clock as _;
use core_types::random::SystemRandom;
use jose::{SealKey, SigningKey};
use store_kit::testing::TestStore;
use store_kit::{StoreError, sql, transaction};

use crate::backup::{backup_of, ledger, restore, root};
use crate::ceremony::held;
use crate::destroy::attack;
use crate::kit::{EPOCH, SAM, Story, refusal};
use crate::switch::Officers;

/// A set of keys of a SAM.
struct Keys {
    act: SigningKey,
    seal: SealKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            act: SigningKey::generate().unwrap().0,
            seal: SealKey::generate().unwrap().0,
        }
    }

    /// A request for a statement now, with the word of these.
    fn asked(&self, story: &Story, by: &[&SigningKey]) -> StatementRequest {
        let now = story.clock.now();
        let mut request = StatementRequest {
            sam: SAM.into(),
            epoch: EPOCH,
            act: self.act.public().clone(),
            seal: self.seal.public().clone(),
            nbf: now,
            exp: now.plus(3600),
            endorsements: Vec::new(),
        };
        for earlier in by {
            request.endorse(earlier).unwrap();
        }
        request
    }

    async fn ask(
        &self,
        story: &Story,
        module: &Module,
        by: &[&SigningKey],
    ) -> Result<StatementAnswer, Refusal> {
        module.statement(self.asked(story, by)).await
    }
}

async fn begin(test: TestStore, officers: &Officers) -> Story {
    let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
    story.module = story.again_with(&officers.setup()).await;
    story
}

// shows: II-1-sam-role, III-3-4-authenticate-application, III-A1.4-authentication-to-use, T-USE-SAP-BYPASS, T-KEY-ABUSE, T-INS-OPERATOR
#[tokio::test]
async fn whoever_copies_the_sams_certificate_has_no_key_that_orders_anything() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let story = begin(test, &Officers::new()).await;
        let (thief, next) = (Keys::new(), Keys::new());
        let stranger = SigningKey::generate().unwrap().0;
        let foreign = Err(Refusal::NotAuthentic);
        let ask = async |keys: &Keys, by: &[&SigningKey]| {
            keys.ask(&story, &story.module, by).await.map(drop)
        };
        for by in [&[][..], &[&thief.act], &[&stranger]] {
            assert_eq!(ask(&thief, by).await, foreign);
        }
        // What a known key has signed for other keys, times or sealing keys.
        let good = next.asked(&story, &[&story.act]);
        for change in [
            (|r, of| r.act = of.act.public().clone()) as fn(&mut StatementRequest, &Keys),
            |r, of| r.seal = of.seal.public().clone(),
            |r, _| r.exp = r.exp.plus(1),
            |r, _| r.epoch = core_types::Digest32([1; 32]),
        ] {
            let mut other = good.clone();
            change(&mut other, &thief);
            let refused = story.module.statement(other).await;
            assert_eq!(refused.map(drop), foreign);
        }
        // The known act key with a sealing key of the thief's: secrets would be sealed to it.
        let mixed = StatementRequest {
            seal: thief.seal.public().clone(),
            ..thief.asked(&story, &[])
        };
        let mixed = StatementRequest {
            act: story.act.public().clone(),
            ..mixed
        };
        assert_eq!(story.module.statement(mixed).await.map(drop), foreign);
        assert_eq!(story.audited("cm-sam-key-refused").await, 1, "told once");
        assert_eq!(story.audited("cm.sam-key-taken").await, 1);

        // The SAM itself: its next keys, the same again after an answer that was lost, and those after them.
        ask(&next, &[&stranger, &story.act]).await.unwrap();
        ask(&next, &[]).await.unwrap();
        let later = Keys::new();
        ask(&later, &[&next.act]).await.unwrap();
        assert_eq!(ask(&next, &[]).await, foreign, "not the last ones any more");
        assert_eq!(story.audited("cm.sam-key-taken").await, 3);
        // A store of the SAM that is some days old goes on.
        ask(&Keys::new(), &[&story.act]).await.unwrap();
    }
}

// shows: III-A1.4.2-dual-control, III-3-4-authenticate-application, T-INS-OPERATOR
#[tokio::test]
async fn a_sam_that_lost_its_keys_follows_when_officers_let_it() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let officers = Officers::new();
        let mut story = begin(test, &officers).await;
        let (new, foreign) = (Keys::new(), Err(Refusal::NotAuthentic));
        let ask = async |story: &Story, keys: &Keys, by: &[&SigningKey]| {
            keys.ask(story, &story.module, by).await.map(drop)
        };
        assert_eq!(ask(&story, &new, &[]).await, foreign);
        let alone = story.module.open_for_sam_alone().await;
        assert_eq!(alone, Err(Refusal::NotAuthentic), "there are officers");
        let wanted = held(&story, Wanted::NewSam {});
        let one = officers.approved(&[0], &wanted);
        let refused = refusal(story.module.ceremony(&one).await);
        assert_eq!(refused, Refusal::NotAuthentic);
        let two = officers.approved(&[0, 1], &wanted);
        let opened = story.module.ceremony(&two).await.unwrap();
        assert!(matches!(opened, Held::Open(until) if until == story.clock.now().plus(3600)));
        ask(&story, &new, &[]).await.unwrap();
        // Once, and the keys before are nobody's any more.
        assert_eq!(ask(&story, &Keys::new(), &[]).await, foreign);
        let by = [&story.act];
        assert_eq!(ask(&story, &Keys::new(), &by).await, foreign);
        let last = Keys::new();
        ask(&story, &last, &[&new.act]).await.unwrap();
        // A SAM that wasn't lost after all takes it too: nobody else comes in behind it.
        let opened = async |story: &Story, reason: &str| {
            let again = cm_api::ceremony::Ceremony {
                reason: reason.into(),
                ..wanted.clone()
            };
            let again = officers.approved(&[0, 1], &again);
            story.module.ceremony(&again).await.unwrap();
        };
        opened(&story, "once more").await;
        ask(&story, &Keys::new(), &[&last.act]).await.unwrap();
        assert_eq!(ask(&story, &Keys::new(), &[]).await, foreign);
        // Nor for longer than an hour.
        opened(&story, "and again").await;
        story.clock.advance(3600);
        assert_eq!(ask(&story, &Keys::new(), &[]).await, foreign);
        // Whoever takes the module's memory of them away has no other one follow either.
        attack(&story, "DELETE FROM cm_mark WHERE id = 'sam'").await;
        story.module = story.again_with(&officers.setup()).await;
        assert_eq!(ask(&story, &Keys::new(), &[]).await, foreign);
    }
    let test = store_kit::testing::sqlite(MIGRATIONS).await;
    let story = Story::begin(test, Arc::new(SoftBackend)).await;
    let new = Keys::new();
    story.module.open_for_sam_alone().await.unwrap();
    new.ask(&story, &story.module, &[]).await.unwrap();
}

// shows: III-3-10-backup, I-7.1.7.2-restore-state, III-3-4-authenticate-application
#[tokio::test]
async fn a_restored_module_knows_the_keys_that_followed_after_its_backup() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let empty = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(empty) {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let (file, _) = backup_of(&story).await;
        let (next, later) = (Keys::new(), Keys::new());
        let by = [&story.act];
        next.ask(&story, &story.module, &by).await.unwrap();
        let known = ledger(&story).await;
        restore(&to, &file, &root(7), &known).await.unwrap();
        story.test = to;
        story.module = story.again(7).await.unwrap();
        let thief = Keys::new();
        let refused = thief.ask(&story, &story.module, &[&thief.act]).await;
        assert_eq!(refused.map(drop), Err(Refusal::NotAuthentic));
        later
            .ask(&story, &story.module, &[&next.act])
            .await
            .unwrap();
        story.module.scrub().await.unwrap();
    }
}

/// The row of the mark.
async fn mark(test: &TestStore) -> (i64, Vec<u8>) {
    let mut tx = test.store.read("look").await.unwrap();
    let query = sql("SELECT version, sealed FROM cm_mark WHERE id = $1").bind("sam");
    let row = tx.fetch_one(query).await.unwrap();
    (row.int("version").unwrap(), row.blob("sealed").unwrap())
}

/// Puts it back as it was.
async fn set_back(test: &TestStore, (version, sealed): &(i64, Vec<u8>)) {
    let done: Result<u64, StoreError> = transaction!(test.store, "attack", |tx| {
        let query = sql("UPDATE cm_mark SET version = $1, sealed = $2 WHERE id = $3");
        let query = query.bind(*version).bind(sealed.as_slice());
        tx.execute(query.bind("sam")).await
    });
    assert_eq!(done.unwrap(), 1);
}

// shows: III-3-4-authenticate-application, III-A1.4.1-protect-change-loss, T-KEY-ABUSE, T-INS-OPERATOR
#[tokio::test]
async fn a_mark_of_the_sams_keys_that_is_set_back_lets_no_earlier_key_in() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let officers = Officers::new();
        let mut story = begin(test, &officers).await;
        let before = mark(&story.test).await;
        story.clock.advance(60);
        // The first key became known to somebody, and officers let another SAM follow.
        let wanted = held(&story, Wanted::NewSam {});
        let two = officers.approved(&[0, 1], &wanted);
        story.module.ceremony(&two).await.unwrap();
        let (new, thief) = (Keys::new(), Keys::new());
        new.ask(&story, &story.module, &[]).await.unwrap();
        story.module.scrub().await.unwrap();
        set_back(&story.test, &before).await;
        // The process that has met the later one refuses it at once, before any comparison.
        let by = [&story.act];
        let refused = thief.ask(&story, &story.module, &by).await;
        assert_eq!(refused.map(drop), Err(Refusal::NotAuthentic));
        // One that starts finds it by the log, before it serves, and knows the right ones again.
        for found in [true, false] {
            story.module = story.again_with(&officers.setup()).await;
            assert_eq!(story.module.scrub().await.is_err(), found);
        }
        assert_eq!(story.audited("cm-sam-keys-altered").await, 1);
        let refused = thief.ask(&story, &story.module, &by).await;
        assert_eq!(refused.map(drop), Err(Refusal::NotAuthentic));
        let next = Keys::new();
        next.ask(&story, &story.module, &[&new.act]).await.unwrap();
        story.module.scrub().await.unwrap();
        attack(&story, "DELETE FROM cm_mark WHERE id = 'sam'").await;
        story.module.scrub().await.unwrap_err();
        assert_eq!(story.audited("cm-sam-keys-altered").await, 2);
    }
}

// shows: III-3-4-authenticate-application, T-USE-SAP-BYPASS, T-KEY-ABUSE
#[tokio::test]
async fn an_update_believes_the_keys_that_an_earlier_build_signed_for_and_nobody_else() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let others = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(others) {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let config = ModuleConfig::new(SAM, "cm-1", 1000);
        let (backend, clock) = (story.backend.clone(), story.clock.clone());
        let (store, random) = (to.store.clone(), Arc::new(SystemRandom));
        let secret = root(7);
        let started = Module::start(config, backend, store, &secret, clock, random);
        let module = started.await.unwrap();
        // All that the earlier build left.
        let (log, now) = (module.audit(), story.clock.now());
        let act_key = story.act.public().thumbprint();
        let signed: Result<(), StoreError> = transaction!(to.store, "earlier", |tx| {
            let event = Event::StatementSigned { act_key };
            log.append(tx, event, now).await?;
            Ok::<_, StoreError>(())
        });
        signed.unwrap();
        let (next, thief) = (Keys::new(), Keys::new());
        let foreign = Err(Refusal::NotAuthentic);
        // Neither before the log was read nor after it.
        for _ in 0..2 {
            let refused = thief.ask(&story, &module, &[&thief.act]).await;
            assert_eq!(refused.map(drop), foreign);
            module.scrub().await.unwrap();
        }
        next.ask(&story, &module, &[&story.act]).await.unwrap();
        module.scrub().await.unwrap();
    }
}

// shows: III-3-10-backup, III-3-4-authenticate-application
#[tokio::test]
async fn a_backup_of_an_earlier_build_comes_back_with_the_keys_that_its_log_signed_for() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let empty = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(empty) {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        attack(&story, "DELETE FROM cm_mark WHERE id = 'sam'").await;
        let (file, _) = backup_of(&story).await;
        let mut earlier = Ledger::default();
        let mut tx = story.test.store.read("look").await.unwrap();
        let query = "SELECT body FROM audit_entry WHERE kind <> 'cm.sam-key-taken'";
        for row in tx.fetch_all(sql(query)).await.unwrap() {
            earlier.read(&row.text("body").unwrap()).unwrap();
        }
        drop(tx);
        restore(&to, &file, &root(7), &earlier).await.unwrap();
        story.test = to;
        story.module = story.again(7).await.unwrap();
        let (next, thief) = (Keys::new(), Keys::new());
        let refused = thief.ask(&story, &story.module, &[&thief.act]).await;
        assert_eq!(refused.map(drop), Err(Refusal::NotAuthentic));
        next.ask(&story, &story.module, &[&story.act])
            .await
            .unwrap();
    }
}
