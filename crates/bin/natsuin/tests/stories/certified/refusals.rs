//! What doesn't count at these levels: what somebody asks for who has the SSA's certificate alone, and ways that are good for less.

use core_types::bytes::b64u;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, Level, Random as _, SecretBytes};
use dev_ca::ra::Invitation;
use jose::{JweContext, SealKey};
use natsuin::stack::{Device, NewFactors, Refused};
use sam_api::Refusal;
use sam_api::ssa::{
    Prepare, PrepareItem, PrepareRequest, RequestState, Voucher as Vouch, VoucherRequest,
};
use sap::enrol::SealedEnrolment;
use sap::messages::{
    Approve, Empty, EnrolOpen, EnrolOpenRequest, EnrolSeed, EnrolSeedRequest, Keys, Open,
    OpenRequest, SapRefusal, SapRefusalCode,
};
use sap::{Proof, SamKeys, TYP_SEALED, act_digest};
use service_kit::CallError;
use sic_core::{Trust, Voucher};
use soft_passkey::{Behaviour, SoftPasskey};

use crate::daemons::{Middle, Service};
use crate::hostile_ssa::forged;
use crate::levels::{SsaCalls, at_gateway};
use crate::site::{asked, handed_over};
use crate::two_sams::confirmed;

/// Whoever has the SSA's certificate, and nothing else of it, at the SAM's door for it and at the page's, which is everybody's: no
/// order of its own, no proof of the signer's again, and no other key gives it a value that wasn't approved.
pub async fn a_certificate_alone(
    middle: &Middle<'_>,
    ssa: &SsaCalls,
    other: &SsaCalls,
    signer: &Device,
) {
    let (http, page) = (&middle.http, middle.page.as_str());
    let (wanted, harmless) = (SystemRandom.digest32().0, SystemRandom.digest32().0);
    let early = |bound| matches!(bound, Err(CallError::Refused(Refusal::NotApproved)));
    let own_rid = ssa.prepare(&wanted).await;
    assert!(early(ssa.bind(own_rid, "a token").await));
    assert!(ssa.sign("a token", &wanted).await.is_err());
    let behaviour = Behaviour::honest(page, "sic.localhost");
    let mut own = SoftPasskey::new(behaviour, &SystemRandom).unwrap();
    forged((http, page), own_rid, &mut own, false).await;
    assert_eq!(ssa.state(own_rid).await, RequestState::Open);

    // The signer approves something else.
    let rid = ssa.prepare(&harmless).await;
    let opened = at_gateway::<Open>(http, page, &OpenRequest { rid })
        .await
        .unwrap();
    let keys = at_gateway::<Keys>(http, page, &Empty {}).await.unwrap();
    let trust = Trust::new(vec![middle.root.clone()], page).unwrap();
    let act = confirmed(&trust, opened, &keys);
    let proof = act.passkey(&mut signer.clone(), SystemClock.now()).unwrap();
    at_gateway::<Approve>(http, page, &proof).await.unwrap();
    // That proof again, and for the act of its own request.
    let opened = OpenRequest { rid: own_rid };
    let opened = at_gateway::<Open>(http, page, &opened).await.unwrap();
    let mut moved = proof.clone();
    if let Proof::Passkey { act, .. } = &mut moved.proof {
        *act = act_digest(&opened.act);
    }
    for (again, code) in [
        (proof, SapRefusalCode::Used),
        (moved, SapRefusalCode::Refused),
    ] {
        let told = at_gateway::<Approve>(http, page, &again).await;
        assert_eq!(told.unwrap_err().code, code);
    }
    assert!(early(ssa.bind(own_rid, "a token").await));

    // What was approved, with its key, and once.
    ssa.bind(rid, "a token").await.unwrap();
    assert!(matches!(
        ssa.sign("a token", &wanted).await,
        Err(CallError::Refused(Refusal::HashNotApproved))
    ));
    assert!(matches!(
        other.sign("a token", &harmless).await,
        Err(CallError::Refused(Refusal::Mismatch))
    ));
    assert_eq!(ssa.sign("a token", &harmless).await.unwrap().len(), 1);
    assert!(ssa.sign("a token", &harmless).await.is_err());
    assert_eq!(ssa.state(own_rid).await, RequestState::Open);
}

/// What a page hears that asks for one-time codes with the right secret of an invitation.
async fn asks_for_codes(
    middle: &Middle<'_>,
    ssa: &SsaCalls,
    service: &Service,
    invitation: Invitation,
) -> SapRefusal {
    let (http, page) = (&middle.http, middle.page.as_str());
    let (invite, voucher, given) = service.ra.invite(invitation).unwrap();
    let brought = VoucherRequest::Ra {
        invite,
        return_uri: ssa.return_uri.clone(),
    };
    ssa.sam.call::<Vouch>(&brought).await.unwrap();
    let opened = at_gateway::<EnrolOpen>(http, page, &EnrolOpenRequest { voucher }).await;
    let act = act_digest(&opened.unwrap().act);
    let keys = at_gateway::<Keys>(http, page, &Empty {}).await.unwrap();
    let roots = [middle.root.clone()];
    let sam = SamKeys::verify(&keys.statement, &roots, SystemClock.now()).unwrap();
    let plain = SealedEnrolment {
        act,
        secret: SecretBytes::from(b64u(given.expose())),
        pin: None,
        otp: None,
    };
    let plain = SecretBytes::new(serde_json::to_vec(&plain).unwrap());
    let context = JweContext {
        typ: TYP_SEALED,
        apu: act,
    };
    let sealed = jose::seal(&plain, &sam.seal, context, &SystemRandom).unwrap();
    let (own, _) = SealKey::generate().unwrap();
    let key = own.public().clone();
    let request = EnrolSeedRequest { act, sealed, key };
    at_gateway::<EnrolSeed>(http, page, &request)
        .await
        .unwrap_err()
}

/// Ways that are good for less, each refused by the requirement that it doesn't meet.
pub async fn less_is_refused_by_name(
    middle: &Middle<'_>,
    service: &Service,
    ssa: &SsaCalls,
    level: Level,
) {
    let authorization = format!("I-3.5.1-keyauth-L{}", u8::from(level));
    let invited = |person: &str| Invitation {
        ceiling: level,
        ..asked(&service.tenant, person)
    };
    // Secrets that an application collects (pattern 2).
    let collected = Invitation {
        collected: true,
        ..invited("p-jiro")
    };
    let brought = VoucherRequest::Ra {
        invite: handed_over(&service.ra, collected).0,
        return_uri: ssa.return_uri.clone(),
    };
    let named = |requirement: &str| Refusal::Level {
        requirement: requirement.to_owned(),
    };
    let told = ssa.sam.call::<Vouch>(&brought).await;
    assert!(matches!(told, Err(CallError::Refused(r)) if r == named(&authorization)));
    // PIN and one-time codes.
    let told = asks_for_codes(middle, ssa, service, invited("p-saburo")).await;
    assert_eq!(told.requirement, Some(authorization.clone()));
    // A passkey for which nobody vouches is enough below level 3.
    let (invite, ticket) = handed_over(&service.ra, invited("p-shiro"));
    let brought = VoucherRequest::Ra {
        invite,
        return_uri: ssa.return_uri.clone(),
    };
    ssa.sam.call::<Vouch>(&brought).await.unwrap();
    let (http, page) = (middle.http.clone(), &middle.page);
    let side = middle.site.sic(&middle.root, page, page, http);
    let mut device = Device::new(page, &SystemRandom).unwrap();
    let voucher = Voucher::parse(&ticket).unwrap();
    let enrolled = side.enrol(voucher, NewFactors::Passkey(&mut device)).await;
    match (level, enrolled) {
        (Level::Three, Err(told)) => {
            let told = told.downcast_ref::<Refused>().unwrap();
            assert_eq!(told.0.requirement, Some(authorization));
        }
        (_, enrolled) => assert!(enrolled.is_ok() && level < Level::Three),
    }
    // Signatures over what nobody is shown, and at level 3 over what the SAM can't see through.
    let open = PrepareRequest {
        open: Some(1),
        ..ssa.request(Vec::new())
    };
    let told = ssa.sam.call::<Prepare>(&open).await;
    assert!(matches!(told, Err(CallError::Refused(r)) if r == named("II-3.3.1-sad-verified")));
    let bare = PrepareItem {
        doc: None,
        ..ssa.item(&SystemRandom.digest32().0)
    };
    match (level, ssa.prepare_item(bare).await) {
        (Level::Three, Err(CallError::Refused(r))) => {
            assert_eq!(r, named("II-3.3.1-dtbsr-integrity"));
        }
        (_, prepared) => assert!(prepared.is_ok() && level < Level::Three),
    }
}
