//! What approved measures do: new factors for a signer, the module's switch.

use cm_api::switch::Switch;
use core_types::{Clock as _, Digest32, KeyAlg, VoucherId, sha256};
use jose::SigningKey;
use sam_api::ssa::Happened;
use sap::act_digest;
use sap::messages::{EnrolOpenRequest, EnrolRegisterRequest, SapRefusal, SapRefusalCode};
use sap::office::Measure;
use sap::office::calls::*;

use crate::kit::*;
use crate::notices::{self, Post};
use crate::office_kit::*;

const WAIT: i64 = 72 * 3600;
const MAIL: &str = "hanako@example.jp";

async fn registration(world: &World, signer: &Signer) -> VoucherId {
    world.factors(signer).await[0].registration.clone()
}

/// The measure for a signer's lost factors, and its secret.
async fn lost(world: &World, signer: &Signer) -> (Measure, core_types::SecretBytes) {
    let secret = secret();
    let measure = Measure::Factors {
        person: signer.person.clone(),
        registration: registration(world, signer).await,
        secret: sha256(&[secret.expose()]),
    };
    (measure, secret)
}

async fn enrol_again(
    world: &World,
    voucher: &VoucherId,
    secret: &core_types::SecretBytes,
) -> Result<soft_passkey::SoftPasskey, SapRefusal> {
    let request = EnrolOpenRequest {
        voucher: voucher.clone(),
    };
    let act = act_digest(&world.sam.enrol_open(request).await?.act);
    let mut fresh = passkey();
    let request = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &world.secrets(act, secret)).await,
        passkey: Some(fresh.register(act).unwrap()),
        id_token: None,
    };
    world.sam.enrol_register(request).await?;
    Ok(fresh)
}

fn voucher(proposal: Digest32) -> VoucherId {
    VoucherId::parse(proposal.to_string()).unwrap()
}

// shows: T-INS-ACTIVATION, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn two_officers_give_a_signer_new_factors_after_three_days_and_not_before() {
    for world in worlds().await {
        let post = Post::of(&world);
        let mut signer = notices::enrol(&world, "p", false, MAIL).await;
        world.sam.send_notices().await.unwrap();
        post.news();
        let (measure, secret) = lost(&world, &signer).await;
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let asked = world.propose(a, measure).await.unwrap();
        world.approve_proposal(b, asked.proposal).await.unwrap();
        // By one officer: nothing, however long one waits.
        world.clock.advance(600);
        world.sam.maintain().await.unwrap();
        let voucher = voucher(asked.proposal);
        assert!(enrol_again(&world, &voucher, &secret).await.is_err());
        let done = world.approve_proposal(c, asked.proposal).await.unwrap();
        let due = world.clock.now().plus(WAIT);
        assert_eq!((done.state, done.due), (ProposalState::Waiting, Some(due)));
        // The signer is told at once, and nothing else has happened.
        assert_eq!(
            world.history(&signer).await[0].what,
            Happened::FactorsOrdered
        );
        world.sam.send_notices().await.unwrap();
        let told = (MAIL.to_owned(), vec![Happened::FactorsOrdered]);
        assert_eq!(post.news(), [told]);
        assert_eq!(world.factors(&signer).await.len(), 1);
        world.clock.advance(WAIT - 1);
        world.sam.maintain().await.unwrap();
        let early = enrol_again(&world, &voucher, &secret).await.err().unwrap();
        assert_eq!(early.code, SapRefusalCode::NotFound);
        world.clock.advance(1);
        world.sam.maintain().await.unwrap();
        // Not by whoever doesn't know the secret.
        let other = crate::office_kit::secret();
        assert!(enrol_again(&world, &voucher, &other).await.is_err());
        let mut fresh = enrol_again(&world, &voucher, &secret).await.unwrap();
        assert!(
            enrol_again(&world, &voucher, &secret).await.is_err(),
            "once"
        );
        // The key stays, the old passkey proves nothing, the new one does.
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        let old = signer.passkey.prove(act).unwrap();
        assert_eq!(
            world.approve(old).await.unwrap_err().code,
            SapRefusalCode::Refused
        );
        let new = fresh.prove(act).unwrap();
        world.approve(new).await.unwrap();
        assert_eq!(world.factors(&signer).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_has_a_factor_ends_it_by_using_it_and_so_does_any_change() {
    for world in worlds().await {
        let _post = Post::of(&world);
        for by_proof in [true, false] {
            let name = if by_proof { "p" } else { "q" };
            let mut signer = notices::enrol(&world, name, false, MAIL).await;
            let (measure, secret) = lost(&world, &signer).await;
            let done = world.decide(measure).await.unwrap();
            world.clock.advance(60);
            if by_proof {
                world.approved(&mut signer, &[hash(1)]).await;
            } else {
                let changes = world.key(&signer).await.changes;
                world.stop(&signer, changes).await.unwrap();
                let wish = sam_api::ssa::Wish::Destroy {
                    key: signer.keys[0].key.clone(),
                };
                world.changed(wish, &mut signer).await.unwrap();
            }
            world.clock.advance(WAIT);
            world.sam.maintain().await.unwrap();
            let voucher = voucher(done.proposal);
            assert!(enrol_again(&world, &voucher, &secret).await.is_err());
        }
        // Also between the end of the waiting and the enrolment.
        let mut signer = notices::enrol(&world, "r", false, MAIL).await;
        let (measure, secret) = lost(&world, &signer).await;
        let done = world.decide(measure).await.unwrap();
        world.clock.advance(WAIT);
        world.sam.maintain().await.unwrap();
        world.approved(&mut signer, &[hash(1)]).await;
        let late = enrol_again(&world, &voucher(done.proposal), &secret).await;
        assert!(late.is_err());
        assert_eq!(world.audited("proposal.ended", "factor-not-lost").await, 1);
    }
}

/// Whoever holds the SSA shows the signer what it likes: officers alone would give away what the key signs.
// shows: T-INS-ACTIVATION, T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn new_factors_are_for_signers_who_are_told_past_the_ssa() {
    for world in worlds().await {
        let reached = notices::enrol(&world, "p", false, MAIL).await;
        let (measure, secret) = lost(&world, &reached).await;
        let refused = world.decide(measure.clone()).await.unwrap_err();
        assert_eq!(rule(refused), "no-courier");
        let post = Post::of(&world);
        let unknown = world.enrol("q", false, &[KeyAlg::P256]).await;
        let refused = world.decide(lost(&world, &unknown).await.0).await;
        assert_eq!(rule(refused.unwrap_err()), "no-notice-address");
        let done = world.decide(measure).await.unwrap();
        assert_eq!(done.state, ProposalState::Waiting);
        world.sam.send_notices().await.unwrap();
        let mut news = post.news().into_iter();
        assert!(news.any(|(to, what)| to == MAIL && what == [Happened::FactorsOrdered]));
        // A node without a courier, as an administrator could start it, ends the waiting neither with an invitation nor for good.
        world.clock.advance(WAIT);
        let without = world.node("sam-2").await;
        let voucher = voucher(done.proposal);
        for _ in 0..2 {
            without.maintain().await.unwrap();
            assert!(enrol_again(&world, &voucher, &secret).await.is_err());
        }
        assert_eq!(world.audited("proposal.ended", "no-courier").await, 0);
        assert_eq!(world.audited("alarm", "no-courier").await, 1);
        world.sam.maintain().await.unwrap();
        enrol_again(&world, &voucher, &secret).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modules_switch_takes_what_its_officers_sign_themselves() {
    for world in worlds().await {
        let mut founders = world.officers().await;
        let [a, b, c] = founders.devices.as_mut_slice() else {
            panic!("three")
        };
        let measure = Measure::Module { enabled: false };
        let asked = world.propose(a, measure).await.unwrap();
        let document: sap::office::Document = serde_json::from_str(&asked.document).unwrap();
        let text = document.facts.switch.unwrap();
        let switch: Switch = serde_json::from_str(&text).unwrap();
        assert!(!switch.enabled && switch.serial == 1);
        assert_eq!(switch.reason, document.reason, "what they signed for");
        let approve = async |device: &mut Device, switch: Option<String>| {
            let act = world.approval_act(device, asked.proposal).await.unwrap();
            let proof = device.passkey.prove(act_digest(&act.act)).unwrap();
            let request = ProofRequest { proof, switch };
            world.office::<ProposalApprove>(&request).await
        };
        // Without the own signature, and with one over other bytes.
        assert!(approve(b, None).await.is_err());
        let (key, _) = SigningKey::generate().unwrap();
        let other = Switch {
            recover: false,
            serial: 2,
            ..switch.clone()
        };
        let wrong = other.approve(&key).unwrap();
        assert!(approve(b, Some(wrong)).await.is_err());
        let sign = || Some(switch.approve(&key).unwrap());
        let once = approve(b, sign()).await.unwrap();
        assert_eq!(once.approvals.len(), 1);
        // This module knows no officers: it heeds nobody, whatever the SAM brings, and somebody is told.
        let refused = approve(c, sign()).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::NotNow);
        assert_eq!(world.audited("alarm", "module-not-switched").await, 1);
        assert_eq!(world.audited("proposal.admitted", "module").await, 1);
    }
}
