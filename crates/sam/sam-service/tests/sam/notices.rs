//! Notices to signers: by mail from the SAM's side, to an address of a registration authority's, committed with what happened and
//! tried until they are delivered (`sap.md` §9, §14: 40).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use audit_log::{LogKey, Sequencer};
use core_types::{Clock as _, KeyAlg, Level, SecretBytes};
use futures_util::future::join_all;
use sam_api::Refusal;
use sam_api::delivery::{DeliverRequest, TellRequest};
use sam_api::ssa::*;
use sam_service::{Courier, Delivering, SamConfig, Undelivered};
use sap::enrol::{Invite, NoticeAddress, NoticeLanguage};
use sap::office::Role;
use sap::office::calls::{MailInfo, SessionRequest, State};
use sap::proof::Method;
use store_kit::sql;

use crate::kit::*;
use crate::tenants::{acme, brand};

const DAY: i64 = 24 * 3600;

/// Keeps what it was given, except when it is told to fail.
#[derive(Default)]
pub struct Post {
    kept: Mutex<Vec<TellRequest>>,
    fails: Mutex<Option<Undelivered>>,
    calls: AtomicUsize,
}

impl Courier for Post {
    fn deliver<'a>(&'a self, _: &'a DeliverRequest) -> Delivering<'a> {
        Box::pin(async { Err(Undelivered::Later) })
    }

    fn tell<'a>(&'a self, request: &'a TellRequest) -> Delivering<'a> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if let Some(why) = *self.fails.lock().unwrap() {
                return Err(why);
            }
            self.kept.lock().unwrap().push(request.clone());
            Ok(())
        })
    }
}

impl Post {
    pub fn of(world: &World) -> Arc<Self> {
        let post = Arc::new(Self::default());
        world.sam.send_codes_by(post.clone());
        post
    }

    fn fails(&self, why: Option<Undelivered>) {
        *self.fails.lock().unwrap() = why;
    }

    /// What arrived since the last time: where, and what.
    pub fn news(&self) -> Vec<(String, Vec<Happened>)> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        let what = |entries: Vec<HistoryEntry>| entries.iter().map(|e| e.what).collect();
        kept.into_iter()
            .map(|request| (request.to.mail, what(request.entries)))
            .collect()
    }
}

fn address(mail: &str) -> Option<NoticeAddress> {
    Some(NoticeAddress {
        mail: mail.into(),
        lang: Some(NoticeLanguage::Ja),
    })
}

fn told(mail: &str, what: &[Happened]) -> (String, Vec<Happened>) {
    (mail.to_owned(), what.to_vec())
}

pub async fn enrol(world: &World, name: &str, with_pin: bool, mail: &str) -> Signer {
    let mut invitation = world.invitation(name, &[KeyAlg::P256]);
    invitation.notices = address(mail);
    if with_pin {
        invitation.ceiling = Level::One;
    }
    world.enrol_by(invitation, with_pin).await
}

/// Notices that aren't delivered; not those about the end of certificates, whose time hasn't come.
async fn waiting(world: &World) -> i64 {
    let soon = world.clock.now().plus(DAY).0;
    let mut tx = world.store.read("notices").await.unwrap();
    let count = "SELECT count(*) AS n FROM notice WHERE stamp < $1";
    let row = tx.fetch_optional(sql(count).bind(soon));
    row.await.unwrap().unwrap().int("n").unwrap()
}

// shows: T-TERM-NOT-OWNER, T-INS-OPERATOR, II-3.4-termination-requester-confirmed
#[tokio::test(flavor = "multi_thread")]
async fn the_signer_is_told_of_stops_and_factors_by_mail_and_in_the_portal() {
    for world in worlds().await {
        let post = Post::of(&world);
        let mut signer = enrol(&world, "p", false, "hanako@example.jp").await;
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            post.news(),
            [told("hanako@example.jp", &[Happened::Enrolled])]
        );
        // A stop by somebody who is logged in, which the SSA alone can do.
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap();
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            post.news(),
            [told("hanako@example.jp", &[Happened::Suspended])]
        );
        let resume = Wish::Resume {
            key: signer.keys[0].key.clone(),
        };
        world.changed(resume, &mut signer).await.unwrap();
        // A new factor, then the end of everything in one act: one notice for each act.
        let add = Wish::AddFactor {
            registration: signer.keys[0].registration.clone(),
            method: Method::Passkey,
        };
        let act = world.change(&signer, add).await;
        let mut second = passkey();
        let registration = second.register(act).unwrap();
        let proof = signer.passkey.prove(act).unwrap();
        let new = Some(sap::NewFactor::Passkey { registration });
        world.approve_with(proof, new).await.unwrap();
        let leave = Wish::Leave {
            registration: signer.keys[0].registration.clone(),
        };
        world.changed(leave, &mut signer).await.unwrap();
        world.sam.send_notices().await.unwrap();
        let news = post.news();
        assert_eq!(
            news[..2],
            [
                told("hanako@example.jp", &[Happened::Resumed]),
                told("hanako@example.jp", &[Happened::FactorAdded]),
            ]
        );
        assert!(news[2].1.contains(&Happened::Destroyed) && news[2].1.contains(&Happened::Left));
        assert_eq!((news.len(), waiting(&world).await), (3, 0));
        // The portal shows the same, and that it was mailed.
        let request = HistoryRequest {
            person: signer.person.clone(),
        };
        let shown = world.sam.history(request).await.unwrap();
        assert!(shown.mailed);
        for (_, entries) in &news {
            for what in entries {
                assert!(shown.entries.iter().any(|e| e.what == *what), "{what:?}");
            }
        }
        assert_eq!(world.audited("signer.told", "").await, 5);
        // No address in the log.
        let text = world.audit_text().await.join("\n");
        assert!(!text.contains("hanako@"));
    }
}

// shows: T-INS-OPERATOR, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_stands_whatever_becomes_of_its_notice() {
    for world in worlds().await {
        let post = Post::of(&world);
        let signer = enrol(&world, "p", false, "p@example.jp").await;
        world.sam.send_notices().await.unwrap();
        post.news();
        post.fails(Some(Undelivered::Later));
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
        // Committed with the stop: another node finds it after this one is gone.
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            world.audited("signer.not-told", "not-now").await,
            1,
            "a failure is an entry"
        );
        // Too soon to try again.
        world.sam.send_notices().await.unwrap();
        assert_eq!(world.audited("signer.not-told", "").await, 1);
        let other = world.node("sam-2").await;
        let second = Arc::new(Post::default());
        other.send_codes_by(second.clone());
        world.clock.advance(11);
        other.send_notices().await.unwrap();
        assert_eq!(
            second.news(),
            [told("p@example.jp", &[Happened::Suspended])]
        );
        assert_eq!((waiting(&world).await, post.news().len()), (0, 0));

        // An address that takes nothing, a courier that never comes back, and none at all: named, and given up.
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap_err();
        for (why, word) in [
            (Undelivered::Never, "refused"),
            (Undelivered::Later, "given-up"),
        ] {
            post.fails(Some(why));
            let name = if word == "refused" { "q" } else { "r" };
            enrol(&world, name, false, "q@example.jp").await;
            for _ in 0..12 {
                world.sam.send_notices().await.unwrap();
                world.clock.advance(DAY);
            }
            assert_eq!(world.audited("signer.not-told", word).await, 1, "{word}");
        }
        let bare = world.node("sam-3").await;
        enrol(&world, "s", false, "s@example.jp").await;
        bare.send_notices().await.unwrap();
        assert_eq!(world.audited("signer.not-told", "no-courier").await, 1);
    }
}

// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_sent_by_one_node_and_one_that_was_edited_by_none() {
    for world in worlds().await {
        let post = Post::of(&world);
        let other = world.node("sam-2").await;
        other.send_codes_by(post.clone());
        enrol(&world, "p", false, "p@example.jp").await;
        let both = [&world.sam, &other].map(|sam| {
            let sam = sam.clone();
            tokio::spawn(async move { sam.send_notices().await })
        });
        for done in join_all(both).await {
            done.unwrap().unwrap();
        }
        assert_eq!(
            (post.news().len(), post.calls.load(Ordering::SeqCst)),
            (1, 1)
        );
        enrol(&world, "q", false, "q@example.jp").await;
        let spoil: Result<(), store_kit::StoreError> =
            store_kit::transaction!(world.store.store, "spoil", |tx| {
                let rows = tx.fetch_all(sql("SELECT id, sealed FROM notice")).await?;
                for row in rows {
                    let mut sealed = row.blob("sealed")?;
                    let last = sealed.len() - 1;
                    sealed[last] ^= 1;
                    let update = sql("UPDATE notice SET sealed = $1 WHERE id = $2");
                    tx.execute(update.bind(sealed).bind(row.text("id")?))
                        .await?;
                }
                Ok(())
            });
        spoil.unwrap();
        world.sam.send_notices().await.unwrap();
        world.sam.send_notices().await.unwrap();
        assert!(post.news().is_empty());
        assert_eq!(world.audited("alarm", "sealed-row-tampered").await, 1);
    }
}

// shows: I-A4.1-expiry-notice
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_told_of_in_time_and_once() {
    for mut world in worlds().await {
        let post = Post::of(&world);
        let signer = enrol(&world, "p", false, "p@example.jp").await;
        let gone = enrol(&world, "q", false, "q@example.jp").await;
        world.sam.send_notices().await.unwrap();
        assert_eq!(post.news().len(), 2);
        let until = world.key(&signer).await.until.unwrap();
        // Who has no key any more isn't told of its end.
        let mut gone = gone;
        let destroy = Wish::Destroy {
            key: gone.keys[0].key.clone(),
        };
        world.changed(destroy, &mut gone).await.unwrap();
        world.sam.send_notices().await.unwrap();
        post.news();
        world
            .clock
            .advance(until.0 - 30 * DAY - 1 - world.clock.now().0);
        world.sam.send_notices().await.unwrap();
        assert!(post.news().is_empty(), "not yet");
        world.clock.advance(1);
        for _ in 0..3 {
            world.sam.send_notices().await.unwrap();
            world.clock.advance(1);
        }
        assert_eq!(
            post.news(),
            [told("p@example.jp", &[Happened::CertificateEnding])]
        );
        assert_eq!(world.audited("certificate.ending", "").await, 1);
        assert_eq!(
            world.history(&signer).await[0].what,
            Happened::CertificateEnding
        );
        // At the end the key is gone, and that is news of its own.
        world.clock.advance(30 * DAY);
        world.sam.maintain().await.unwrap();
        world.sam.send_notices().await.unwrap();
        assert_eq!(post.news(), [told("p@example.jp", &[Happened::Destroyed])]);

        // A provider that leaves it to the CA says nothing before the end.
        let silent = SamConfig {
            node: "sam-2".into(),
            notice_before_end: 0,
            ..world.config.clone()
        };
        world.sam = world.node_with(silent).await;
        world.sam.send_codes_by(post.clone());
        let signer = enrol(&world, "r", false, "r@example.jp").await;
        world.sam.send_notices().await.unwrap();
        assert_eq!(post.news(), [told("r@example.jp", &[Happened::Enrolled])]);
        let until = world.key(&signer).await.until.unwrap();
        world.clock.advance(until.0 - 1 - world.clock.now().0);
        world.sam.send_notices().await.unwrap();
        assert!(post.news().is_empty());
        assert_eq!(
            world.audited("certificate.ending", "").await,
            1,
            "as before"
        );
    }
}

/// A reminder that can't be made, because the row of its person or key is refused or gone, is out of the way at once, and in the end one
/// alarm.
// shows: I-A4.1-expiry-notice, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_that_cannot_be_made_waits_for_nobody_elses_and_is_given_up() {
    for world in worlds().await {
        let post = Post::of(&world);
        let signer = enrol(&world, "p", false, "p@example.jp").await;
        for name in ["gone", "spoiled", "keyless"] {
            enrol(&world, name, false, "q@example.jp").await;
        }
        world.sam.send_notices().await.unwrap();
        post.news();
        for attack in [
            "DELETE FROM person WHERE id = 'gone'",
            "UPDATE person SET sealed = (SELECT p.sealed FROM person p WHERE p.id = 'p') WHERE id = 'spoiled'",
            "UPDATE signing_key SET sealed = (SELECT k.sealed FROM signing_key k WHERE k.owner = 'p') WHERE owner = 'keyless'",
        ] {
            crate::stores::run(&world, attack).await;
        }
        let until = world.key(&signer).await.until.unwrap();
        world
            .clock
            .advance(until.0 - 30 * DAY - world.clock.now().0);
        let alarms = world.audited("alarm", "").await;
        for _ in 0..2 {
            world.sam.send_notices().await.unwrap();
        }
        assert_eq!(
            post.news(),
            [told("p@example.jp", &[Happened::CertificateEnding])]
        );
        let due = "SELECT count(*) AS n FROM notice WHERE stamp <= $1";
        let mut tx = world.store.read("due").await.unwrap();
        let now = world.clock.now().0;
        let row = tx.fetch_one(sql(due).bind(now)).await.unwrap();
        assert_eq!(row.int("n").unwrap(), 0, "nothing stands in the way");
        drop(tx);
        assert_eq!(world.audited("alarm", "").await, alarms);
        for _ in 0..10 {
            world.clock.advance(DAY);
            world.sam.send_notices().await.unwrap();
        }
        assert_eq!(world.audited("alarm", "notice-given-up").await, 3);
        assert_eq!(world.audited("signer.not-told", "given-up").await, 3);
        assert_eq!(world.audited("alarm", "").await, alarms + 3);
        assert!(post.news().is_empty());
    }
}

// shows: T-INS-OPERATOR, T-REG-IMPERSONATE, I-7.1.2.5-authentication-failure-lockout
#[tokio::test(flavor = "multi_thread")]
async fn only_an_authority_names_the_address_and_a_changed_one_is_told_to_both() {
    for world in worlds().await {
        let post = Post::of(&world);
        for mail in [
            "a@example.jp\r\nBcc: b@example.jp",
            "a@example.jp, b@example.jp",
            "Hanako <a@example.jp>",
            "a",
            "",
        ] {
            let mut invitation = world.invitation("p", &[KeyAlg::P256]);
            invitation.notices = address(mail);
            let (invite, _, _) = world.ra.invite(invitation).unwrap();
            let request = VoucherRequest::Ra {
                invite,
                return_uri: RETURN.into(),
            };
            let refused = world.sam.voucher(SSA, request).await.unwrap_err();
            let member = "notices".to_owned();
            assert_eq!(refused, Refusal::Invalid { member }, "{mail:?}");
        }
        let invite = Invite {
            voucher: core_types::VoucherId::parse("v-evil").unwrap(),
            tenant: world.config.tenant.clone(),
            person: core_types::PersonId::parse("p").unwrap(),
            subject: subject("p"),
            assurance: "mail-only".into(),
            ceiling: Level::One,
            keys: vec![KeyAlg::P256],
            exp: world.clock.now().plus(3600),
            secret: core_types::sha256(&[&[5; 16]]),
            replaces: None,
            collected: false,
            codes: None,
            notices: address("ssa@example.jp"),
            exportable: false,
            one_time: false,
        };
        let request = VoucherRequest::Ssa {
            invite: Box::new(invite),
            return_uri: RETURN.into(),
        };
        let refused = world.sam.voucher(SSA, request).await.unwrap_err();
        let member = "notices".to_owned();
        assert_eq!(refused, Refusal::Invalid { member });

        let signer = enrol(&world, "p", true, "old@example.jp").await;
        // PINs that somebody guesses lock the factor, and its owner hears of it.
        for n in 0..5 {
            let act = world.open(world.prepare(&signer, &[hash(n)]).await).await;
            let otp = world.otp(signer.seed.as_ref().unwrap(), 0);
            let proof = world.pin_proof(act, "wrong-pin-9", otp).await;
            world.approve(proof).await.unwrap_err();
        }
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            post.news(),
            [
                told("old@example.jp", &[Happened::Enrolled]),
                told("old@example.jp", &[Happened::FactorLocked]),
            ]
        );
        enrol(&world, "p", true, "new@example.jp").await;
        world.sam.send_notices().await.unwrap();
        let mut both = post.news();
        both.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            both,
            [
                told("new@example.jp", &[Happened::Enrolled]),
                told("old@example.jp", &[Happened::Enrolled]),
            ]
        );
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap();
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            post.news(),
            [told("new@example.jp", &[Happened::Suspended])]
        );
    }
}

// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn the_signer_of_a_tenant_is_told_in_its_name_and_of_nobody_elses_keys() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let post = Post::of(&world);
        enrol(&world, "taro", false, "here@example.jp").await;
        world.turn(&mut side);
        let there = enrol(&world, "taro", false, "there@example.jp").await;
        world.turn(&mut side);
        world.sam.send_notices().await.unwrap();
        let kept = std::mem::take(&mut *post.kept.lock().unwrap());
        let brand_of = |mail: &str| {
            let found = kept.iter().find(|request| request.to.mail == mail);
            found.unwrap().brand.clone()
        };
        assert_eq!(kept.len(), 2);
        assert_eq!(brand_of("here@example.jp"), None);
        assert_eq!(brand_of("there@example.jp"), Some(brand()));
        world.turn(&mut side);
        let seen = world.key(&there).await.changes;
        world.stop(&there, seen).await.unwrap();
        world.turn(&mut side);
        world.sam.send_notices().await.unwrap();
        assert_eq!(
            post.news(),
            [told("there@example.jp", &[Happened::Suspended])]
        );
    }
}

/// What waits, what is tried again and what was given up is on the officers' page, and the last is an alarm, once for each.
// shows: I-7.1.4.7-alert-other-anomalies, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn mail_that_waits_or_was_given_up_is_on_the_officers_page() {
    for world in worlds().await {
        let mut operator = world.appoint("o", Role::SystemOperator).await;
        let key = LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![5; 32])).unwrap();
        let opened = Sequencer::open(world.sam.audit().clone(), key, None, &world.store);
        let sequencer = opened.await.unwrap();
        let mut mail = async || {
            sequencer
                .sequence(&world.store, world.clock.now())
                .await
                .unwrap();
            let session = world.log_in(&mut operator).await.unwrap().session;
            let state = world.office::<State>(&SessionRequest { session }).await;
            state.unwrap().mail
        };
        assert_eq!(mail().await, MailInfo::default(), "nobody brings mail yet");
        let post = Post::of(&world);
        let quiet = MailInfo {
            courier: true,
            ..MailInfo::default()
        };
        // Of a key whose certificate ends in a year nothing waits yet.
        enrol(&world, "p", false, "p@example.jp").await;
        let since = world.clock.now();
        let waits = MailInfo {
            waiting: 1,
            oldest: Some(since),
            ..quiet.clone()
        };
        assert_eq!(mail().await, waits);
        world.sam.send_notices().await.unwrap();
        assert_eq!((mail().await, post.news().len()), (quiet.clone(), 1));

        // The mail server is away: tried again, and given up in the end.
        post.fails(Some(Undelivered::Later));
        enrol(&world, "q", false, "q@example.jp").await;
        world.sam.send_notices().await.unwrap();
        let failed = MailInfo { failed: 1, ..waits };
        assert_eq!(mail().await, failed);
        let alarms = async || world.audited("alarm", "notice-given-up").await;
        assert_eq!(alarms().await, 0);
        for _ in 0..8 {
            world.clock.advance(DAY);
            world.sam.send_notices().await.unwrap();
        }
        let lost = MailInfo {
            given_up: 1,
            ..quiet.clone()
        };
        assert_eq!((mail().await, alarms().await), (lost, 1));
        // An address that takes nothing is given up at once.
        post.fails(Some(Undelivered::Never));
        enrol(&world, "r", false, "r@example.jp").await;
        world.sam.send_notices().await.unwrap();
        assert_eq!((mail().await.given_up, alarms().await), (2, 2));
        world.clock.advance(8 * DAY);
        assert_eq!(mail().await, quiet, "after a week that is history");
    }
}
