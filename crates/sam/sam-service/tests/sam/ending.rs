//! All keys end at the provider's side: at once for whoever would sign, in the end for the module, with a report (`I-A4.4-provider-end`).

mod beside;

use std::sync::{Arc, Mutex};

use core_types::{DestroyCause, Digest32, KeyAlg, Level, TenantId};
use jose::SealKey;
use sam_api::Refusal;
use sam_api::delivery::{DeliverRequest, TellRequest};
use sam_api::refusal::PROVIDER_END;
use sam_api::ssa::*;
use sam_keys::Destruction;
use sam_service::{Courier, Delivering, Undelivered};
use sap::act_digest;
use sap::enrol::NoticeAddress;
use sap::messages::{EnrolOpenRequest, EnrolRegisterRequest, OpenRequest};
use sap::office::calls::*;
use sap::office::ending::{Certificates, CertificatesRequest, Part, Progress};
use sap::office::{Document, EndCause, Measure, Role};

use crate::cm::Fault;
use crate::kit::*;
use crate::office_kit::*;
use crate::tenants::acme;

fn end(tenant: Option<&str>, cause: EndCause) -> Measure {
    Measure::EndKeys {
        tenant: tenant.map(|name| TenantId::parse(name).unwrap()),
        cause,
    }
}

fn ended() -> Refusal {
    Refusal::Level {
        requirement: PROVIDER_END.to_owned(),
    }
}

/// Keeps whom it told of how much.
#[derive(Default)]
struct Post(Mutex<Vec<(String, usize)>>);

impl Courier for Post {
    fn deliver<'a>(&'a self, _: &'a DeliverRequest) -> Delivering<'a> {
        Box::pin(async { Err(Undelivered::Later) })
    }

    fn tell<'a>(&'a self, request: &'a TellRequest) -> Delivering<'a> {
        Box::pin(async move {
            let gone = |e: &&HistoryEntry| {
                e.what == Happened::Destroyed && e.cause == Some(StopCause::Provider)
            };
            let gone = request.entries.iter().filter(gone).count();
            if gone > 0 {
                self.0.lock().unwrap().push((request.to.mail.clone(), gone));
            }
            Ok(())
        })
    }
}

impl World {
    async fn progress(&self, proposal: Digest32) -> Result<Progress, OfficeRefusal> {
        let mut founders = self.officers().await;
        let session = self.log_in(&mut founders.devices[0]).await?.session;
        let request = ProposalRequest { session, proposal };
        self.office::<ProposalProgress>(&request).await
    }

    async fn certificates(
        &self,
        device: &mut Device,
        proposal: Digest32,
    ) -> Result<Certificates, OfficeRefusal> {
        let request = CertificatesRequest {
            session: self.log_in(device).await?.session,
            proposal,
            after: None,
        };
        self.office::<ProposalCertificates>(&request).await
    }

    async fn enrol_told(&self, name: &str, keys: &[KeyAlg]) -> Signer {
        let mut invitation = self.invitation(name, keys);
        invitation.notices = Some(NoticeAddress {
            mail: format!("{name}@example.jp"),
            lang: None,
        });
        self.enrol_by(invitation, false).await
    }

    /// Enrols somebody whose keys aren't made yet.
    async fn enrol_half(&self, name: &str) -> EnrolmentRequest {
        let (voucher, secret) = self.invite(self.invitation(name, &[KeyAlg::P256])).await;
        let request = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let act = act_digest(&self.sam.enrol_open(request).await.unwrap().act);
        let request = EnrolRegisterRequest {
            act,
            sealed: self.seal(act, &self.secrets(act, &secret)).await,
            passkey: Some(passkey().register(act).unwrap()),
            id_token: None,
        };
        self.sam.enrol_register(request).await.unwrap();
        EnrolmentRequest { voucher }
    }
}

/// The one part of a report.
fn part(progress: &Progress) -> &Part {
    let [part] = progress.parts.as_slice() else {
        panic!("{progress:?}")
    };
    part
}

// shows: I-A4.4-provider-end, III-A1.6-destroy-at-end
#[tokio::test(flavor = "multi_thread")]
async fn all_keys_of_a_tenant_end_at_once_on_every_node_and_none_of_another() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let tenant = TenantId::parse("acme").unwrap();
        let mut ours = world.enrol("p", false, &[KeyAlg::P256]).await;
        let our_token = world.approved(&mut ours, &[hash(1)]).await;
        world.turn(&mut side);
        // Of the same name.
        let keys = [KeyAlg::P256, KeyAlg::P256];
        let mut theirs = world.enrol("p", false, &keys).await;
        let token = world.approved(&mut theirs, &[hash(1)]).await;
        world.sign(&theirs, &token, &[hash(1)]).await.unwrap();
        let token = world.approved(&mut theirs, &[hash(2)]).await;
        let request = world.sign_request(&theirs, &token, &[hash(2)]);
        let (service, on_this) = (world.service, world.sam.clone());
        world.turn(&mut side);
        let node = world.node("sam-2").await;

        let measure = end(Some("acme"), EndCause::Incident);
        let done = world.decide(measure).await.unwrap();
        assert_eq!((done.state, done.approvals.len()), (ProposalState::Done, 2));
        let document: Document = serde_json::from_str(&done.document).unwrap();
        assert_eq!(document.facts.keys, Some(2));
        // Nothing was marked or destroyed yet, and nothing signs any more.
        let before = part(&world.progress(done.proposal).await.unwrap()).clone();
        assert_eq!((before.keys, before.ended, before.told), (2, 0, 0));
        for sam in [&on_this, &node.of(&tenant).unwrap()] {
            let refused = sam.sign(service, request.clone()).await.err();
            assert_eq!(refused, Some(ended()));
        }
        assert!(world.sign(&ours, &our_token, &[hash(1)]).await.is_ok());

        node.finish_ending().await.unwrap();
        let told = world.progress(done.proposal).await.unwrap();
        assert_eq!((told.cause, told.complete), (EndCause::Incident, true));
        let whole = Part {
            ended: 2,
            destroyed: 2,
            told: 1,
            all_seen: true,
            ..before
        };
        assert_eq!((part(&told), &whole.tenant), (&whole, &tenant));
        assert_eq!(world.key(&ours).await.state, KeyState::Active);
        world.turn(&mut side);
        let person = theirs.person.clone();
        let keys = world.sam.keys(KeysRequest { person }).await.unwrap().keys;
        let roots = [world.sam.root().clone()];
        for key in &keys {
            let stop = key.stop.clone().unwrap();
            assert_eq!(
                (key.state, stop.cause),
                (KeyState::Destroyed, StopCause::Provider)
            );
            let said = Destruction::verify(&stop.certificate.unwrap(), &roots).unwrap();
            assert_eq!(
                (said.act, said.cause),
                (done.proposal, DestroyCause::Officers)
            );
        }
        let history = world.history(&theirs).await;
        let by_this = history
            .iter()
            .filter(|e| e.proposal == Some(done.proposal) && e.act.is_none());
        assert_eq!(by_this.count(), 2);
        world.turn(&mut side);
        // The same certificates stand in the report, for whoever has to do with keys.
        let mut founders = world.officers().await;
        let all = world.certificates(&mut founders.devices[0], done.proposal);
        let all = all.await.unwrap();
        let mut named: Vec<_> = all.keys.iter().map(|one| one.key.clone()).collect();
        let mut there: Vec<_> = keys.iter().map(|key| key.key.clone()).collect();
        named.sort();
        there.sort();
        assert_eq!((named, all.next), (there, None));
        drop(founders);
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let refused = world.certificates(&mut auditor, done.proposal).await;
        assert_eq!(rule(refused.unwrap_err()), "role");
        assert_eq!(world.audited("key.all-ended", "\"acme\"").await, 1);
        assert_eq!(world.audited("key.all-ended", "").await, 1);
        let proposal = done.proposal.to_string();
        assert_eq!(world.audited("key.ended", &proposal).await, 2);
        assert_eq!(world.audited("key.destroyed", &proposal).await, 2);
    }
}

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_no_key_is_made_brought_or_certified_and_the_refusal_names_why() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let first = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.open(first).await;
        let rid = world.prepare(&signer, &[hash(2)]).await;
        let (invited, _) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        let unmade = world.enrol_half("r").await;
        let made = world.enrol_half("s").await;
        let EnrolmentAnswer::Enrolled {
            statement, keys, ..
        } = world.enrolment(&made.voucher).await
        else {
            panic!("not enrolled")
        };
        let certify = sap::enrol::CertifyRequest {
            statement,
            enrolment: keys[0].enrolment.clone(),
            csr: keys[0].csr.clone(),
        };
        let certify = world.ra.certify(&certify).unwrap();

        let done = world.decide(end(None, EndCause::EndOfService)).await;
        let done = done.unwrap();
        let node = world.node("sam-2").await;
        for sam in [&world.sam, &node] {
            let request = world.prepare_request(&signer, hash_items(&[hash(3)]));
            assert_eq!(sam.prepare(SSA, request).await.err(), Some(ended()));
            let refused = sam.open(OpenRequest { rid }).await.unwrap_err();
            assert_eq!(refused.requirement.as_deref(), Some(PROVIDER_END));
            let request = EnrolOpenRequest {
                voucher: invited.clone(),
            };
            let refused = sam.enrol_open(request).await.unwrap_err();
            assert_eq!(refused.requirement.as_deref(), Some(PROVIDER_END));
            let (invite, ..) = world
                .ra
                .invite(world.invitation("x", &[KeyAlg::P256]))
                .unwrap();
            let request = VoucherRequest::Ra {
                invite,
                return_uri: RETURN.into(),
            };
            assert_eq!(sam.voucher(SSA, request).await.err(), Some(ended()));
            let refused = sam.enrolment(SSA, unmade.clone()).await.err();
            assert_eq!(refused, Some(ended()));
            let request = CertificateRequest {
                key: keys[0].key.clone(),
                certify: certify.certify.clone(),
                chain: certify.chain.clone(),
            };
            assert_eq!(sam.certificate(SSA, request).await.err(), Some(ended()));
        }
        let wish = Wish::Import {
            registration: signer.keys[0].registration.clone(),
            spki: signer.keys[0].spki.clone(),
            case: core_types::OriginCase::Signer,
            level: Level::One,
        };
        assert_eq!(world.ask(&signer, wish).await.err(), Some(ended()));
        // What was opened before may be approved, and is good for nothing.
        let proof = signer.passkey.prove(opened).unwrap();
        world.approve(proof).await.unwrap();
        let token = random_token();
        world.bind(first, &token).await.unwrap();
        let refused = world.sign(&signer, &token, &[hash(1)]).await.err();
        assert_eq!(refused, Some(ended()));
        // Officers still come and go, and a signer may still leave.
        world.appoint("d", Role::SystemOperator).await;
        let leave = Wish::Leave {
            registration: signer.keys[0].registration.clone(),
        };
        world.changed(leave, &mut signer).await.unwrap();
        node.finish_ending().await.unwrap();
        let told = world.progress(done.proposal).await.unwrap();
        // The key that had no certificate yet; the other one ended by its owner's act.
        let found = part(&told);
        assert_eq!((found.keys, found.ended, found.destroyed), (2, 1, 1));
        assert!(told.complete);
    }
}

// shows: I-A4.4-provider-end, T-INS-OPERATOR, II-3.4-replay
#[tokio::test(flavor = "multi_thread")]
async fn nobody_ends_all_keys_alone_and_an_approval_does_it_once() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let node = world.node("sam-2").await;
        let mut auditor = world.appoint("u", Role::SystemAuditor).await;
        let measure = end(None, EndCause::Incident);
        let refused = world.propose(&mut auditor, measure.clone()).await;
        assert_eq!(rule(refused.unwrap_err()), "role");
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let unknown = world.propose(a, end(Some("nobody"), EndCause::Incident));
        assert_eq!(rule(unknown.await.unwrap_err()), "tenant");
        let proposal = world.propose(a, measure.clone()).await.unwrap().proposal;
        let own = world.approval_act(a, proposal).await.err().unwrap();
        assert_eq!(rule(own), "requester-approves");
        let once = world.approve_proposal(b, proposal).await.unwrap();
        assert_eq!(once.state, ProposalState::Open);
        let twice = world.approval_act(b, proposal).await.err().unwrap();
        assert_eq!(rule(twice), "approved-before");
        world.sam.finish_ending().await.unwrap();
        assert!(world.sign(&signer, &token, &[hash(1)]).await.is_ok());

        let shown = world.approval_act(c, proposal).await.unwrap();
        // How many, of what and why, in the words that both were shown.
        let act = sam_core::act::read_act(&shown.act).unwrap();
        let sap::Act::Officer(act) = act else {
            panic!("another kind")
        };
        let words = "destroy all keys of the whole service, 1 now, because of an incident; none is made again";
        assert_eq!(act.text, words);
        let proof = c.passkey.prove(act_digest(&shown.act)).unwrap();
        let request = ProofRequest {
            proof,
            switch: None,
        };
        let done = world.office::<ProposalApprove>(&request).await.unwrap();
        assert_eq!(done.state, ProposalState::Done);
        world.sam.finish_ending().await.unwrap();
        for sam in [&world.sam, &node] {
            let again = sam
                .office::<ProposalApprove>(OFFICE_GATEWAY, &request)
                .await;
            assert!(again.is_err());
        }
        let refused = world.propose(a, measure).await.unwrap_err();
        assert_eq!(rule(refused), "service-ended");
        assert_eq!(world.audited("key.all-ended", "").await, 1);
        assert_eq!(world.audited("key.ended", "").await, 1);
    }
}

// shows: I-A4.4-provider-end, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_the_midst_is_carried_on_by_others_and_each_signer_is_told_once() {
    for world in worlds().await {
        world.enrol_told("a", &[KeyAlg::P256, KeyAlg::P256]).await;
        world.enrol_told("b", &[KeyAlg::P256]).await;
        world.enrol_told("c", &[KeyAlg::P256]).await;
        let done = world.decide(end(None, EndCause::Incident)).await.unwrap();
        let counts = async || {
            let told = world.progress(done.proposal).await.unwrap();
            let part = part(&told).clone();
            assert_eq!(part.keys, 4);
            let numbers = (part.ended, part.destroyed, part.waiting, part.told);
            (numbers, part.all_seen, told.complete)
        };
        assert_eq!(counts().await, ((0, 0, 0, 0), false, false));
        // The second node gets through a part of the signers only, and the module is away; then it dies.
        run(
            &world,
            "UPDATE signing_key SET version = version + 1 WHERE owner = 'b'",
        )
        .await;
        world.cm.next(Fault::Away);
        let second = world.node("sam-2").await;
        second.finish_ending().await.unwrap();
        drop(second);
        assert_eq!(counts().await, ((3, 0, 3, 2), false, false));
        run(
            &world,
            "UPDATE signing_key SET version = version - 1 WHERE owner = 'b'",
        )
        .await;
        let third = world.node("sam-3").await;
        third.finish_ending().await.unwrap();
        assert_eq!(counts().await, ((4, 0, 4, 3), true, false));
        world.cm.calm();
        // Two at once do what is left once.
        let fourth = world.node("sam-4").await;
        let both = tokio::join!(third.finish_ending(), fourth.finish_ending());
        both.0.unwrap();
        both.1.unwrap();
        fourth.finish_ending().await.unwrap();
        assert_eq!(counts().await, ((4, 4, 0, 3), true, true));
        let proposal = done.proposal.to_string();
        assert_eq!(world.audited("key.ended", &proposal).await, 4);
        assert_eq!(world.audited("key.destroyed", &proposal).await, 4);

        let post = Arc::new(Post::default());
        fourth.send_codes_by(post.clone());
        fourth.send_notices().await.unwrap();
        let mut told = post.0.lock().unwrap().clone();
        told.sort();
        let mail = |name: &str, n| (format!("{name}@example.jp"), n);
        assert_eq!(told, [mail("a", 2), mail("b", 1), mail("c", 1)]);
    }
}

// shows: I-A4.4-provider-end, T-USE-CRED-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_or_puts_back_the_row_of_it_gets_no_signature() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        run(&world, "CREATE TABLE kept AS SELECT * FROM standing").await;
        run(&world, "DELETE FROM standing").await;
        let gone = world.node("sam-2").await;
        for sam in [&world.sam, &gone] {
            let refused = sam.sign(SSA, request.clone()).await.err();
            assert_eq!(refused, Some(Refusal::NotNow));
        }
        assert_eq!(world.audited("alarm", "sealed-row-missing").await, 1);
        // Looked for every few seconds, and told of once.
        let before = world.audited("alarm", "").await;
        for _ in 0..3 {
            world.sam.finish_ending().await.unwrap();
        }
        assert_eq!(world.audited("alarm", "").await, before + 1);
        run(&world, "INSERT INTO standing SELECT * FROM kept").await;
        world.decide(end(None, EndCause::Incident)).await.unwrap();
        run(&world, "DELETE FROM standing").await;
        run(&world, "INSERT INTO standing SELECT * FROM kept").await;
        let back = world.node("sam-3").await;
        for sam in [&world.sam, &back] {
            let refused = sam.sign(SSA, request.clone()).await.err();
            assert_eq!(refused, Some(Refusal::NotNow));
        }
    }
}

// shows: I-A4.4-provider-end, III-3-9-attributed-keys
#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_its_way_to_its_owner_goes_there_first_unless_there_is_an_incident() {
    for cause in [EndCause::EndOfService, EndCause::Incident] {
        for world in worlds().await {
            let exportable = async |name: &str| {
                let mut invitation = world.invitation(name, &[KeyAlg::P256]);
                (invitation.ceiling, invitation.exportable) = (Level::One, true);
                world.enrol_by(invitation, false).await
            };
            let (mut leaver, late) = (exportable("p").await, exportable("q").await);
            let (key, _) = SealKey::generate().unwrap();
            let wish = |signer: &Signer| Wish::HandOver {
                key: signer.keys[0].key.clone(),
                receiver: key.public().clone(),
            };
            world.cm.next(Fault::Away);
            let act = world.change(&leaver, wish(&leaver)).await;
            let proof = leaver.passkey.prove(act).unwrap();
            world.approve(proof).await.unwrap();
            let done = world.decide(end(None, cause)).await.unwrap();
            // Nobody takes a key away after the end.
            assert_eq!(world.ask(&late, wish(&late)).await.err(), Some(ended()));
            world.sam.finish_ending().await.unwrap();
            let waits = cause == EndCause::EndOfService;
            let told = world.progress(done.proposal).await.unwrap();
            assert_eq!(part(&told).all_seen, !waits);
            world.cm.calm();
            world.sam.maintain().await.unwrap();
            world.sam.finish_ending().await.unwrap();
            let request = HandedOverRequest {
                person: leaver.person.clone(),
                act,
            };
            let handed = world.sam.handed_over(request).await;
            assert_eq!(handed.is_ok(), waits);
            let told = world.progress(done.proposal).await.unwrap();
            let found = part(&told);
            let left = 1 + u64::from(!waits);
            assert_eq!((found.keys, found.ended, found.destroyed), (2, left, left));
            assert!(told.complete);
            let key = world.key(&leaver).await;
            let by = match waits {
                true => StopCause::HandedOver,
                false => StopCause::Provider,
            };
            assert_eq!(
                (key.state, key.stop.unwrap().cause),
                (KeyState::Destroyed, by)
            );
        }
    }
}

// shows: I-A4.4-provider-end
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_whole_service_is_every_tenants_also_of_those_that_come_later() {
    for mut world in worlds().await {
        world.enrol("p", false, &[KeyAlg::P256]).await;
        let lone = world.config.clone();
        let mut side = acme(&mut world).await;
        world.turn(&mut side);
        world.enrol("q", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        // Keys of a tenant that isn't served can't be ended: it is put back first.
        let alone = world.node_with(lone).await;
        let served = std::mem::replace(&mut world.sam, alone);
        let mut founders = world.officers().await;
        let refused = world
            .propose(&mut founders.devices[0], end(None, EndCause::EndOfService))
            .await;
        assert_eq!(rule(refused.unwrap_err()), "tenant-not-served");
        drop(founders);
        world.sam = served;
        // One tenant's first, then all.
        let one = world
            .decide(end(Some("acme"), EndCause::Incident))
            .await
            .unwrap();
        let all = world.decide(end(None, EndCause::EndOfService)).await;
        let all = all.unwrap();
        world.sam.finish_ending().await.unwrap();
        for done in [&one, &all] {
            let told = world.progress(done.proposal).await.unwrap();
            let found = part(&told);
            assert_eq!((found.keys, found.destroyed), (1, 1));
            assert!(told.complete);
        }
        let mut config = world.config.clone();
        config.tenants[0].id = TenantId::parse("newcomer").unwrap();
        let late = TenantId::parse("newcomer").unwrap();
        let node = world.node_with(config).await.of(&late).unwrap();
        world.turn(&mut side);
        let mut invitation = world.invitation("r", &[KeyAlg::P256]);
        invitation.tenant = late;
        let (invite, ..) = world.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: world.back.into(),
        };
        let refused = node.voucher(world.service, request).await.err();
        assert_eq!(refused, Some(ended()));
    }
}
