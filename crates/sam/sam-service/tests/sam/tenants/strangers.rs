//! Whatever a service names of another tenant, in whatever call: it gets nothing.

use std::sync::Arc;

use core_types::rpc::Method;
use core_types::{B64, Digest32, KeyAlg, Level, PersonId, SecretBytes, VoucherId, sha256};
use jose::SealKey;
use sam_api::ssa::{self, *};
use sam_service::ssa_router;
use sap::RevocationNotice;
use sap::manage::NoticeEffect;
use serde_json::Value;

use super::{ACME_RETURN, ACME_SSA, acme, call, sequence};
use crate::kit::*;

/// What a tenant has, for a stranger to name.
struct Owned {
    signer: Signer,
    /// A key that was handed over, and by which act.
    gone: (PersonId, Digest32),
    voucher: VoucherId,
    invite: String,
    rid: Digest32,
    act: Digest32,
    token: String,
    /// SHA-256 of a value that was made.
    value: Digest32,
    notice: String,
}

async fn own(world: &World, name: &str) -> Owned {
    let mut signer = world.enrol(name, false, &[KeyAlg::P256]).await;
    let mut invitation = world.invitation(&format!("{name}-leaves"), &[KeyAlg::P256]);
    (invitation.ceiling, invitation.exportable) = (Level::One, true);
    let mut leaver = world.enrol_by(invitation, false).await;
    let (_, receiver) = receiver();
    let wish = Wish::HandOver {
        key: leaver.keys[0].key.clone(),
        receiver,
    };
    let left = world.change(&leaver, wish).await;
    let proof = leaver.passkey.prove(left).unwrap();
    world.approve(proof).await.unwrap();
    world.sam.maintain().await.unwrap();

    let invited = world.invitation(&format!("{name}-invited"), &[KeyAlg::P256]);
    let (invite, voucher, _) = world.ra.invite(invited).unwrap();
    let request = VoucherRequest::Ra {
        invite: invite.clone(),
        return_uri: world.back.into(),
    };
    world.sam.voucher(world.service, request).await.unwrap();

    let mut request = world.prepare_request(&signer, hash_items(&[hash(1), hash(2)]));
    request.renew = 600;
    let rid = world.sam.prepare(world.service, request).await.unwrap().rid;
    let act = world.open(rid).await;
    let proof = signer.passkey.prove(act).unwrap();
    world.approve(proof).await.unwrap();
    let token = random_token();
    world.bind(rid, &token).await.unwrap();
    let signed = world.sign(&signer, &token, &[hash(1)]).await.unwrap();
    let notice = RevocationNotice {
        sam: world.config.sam.clone(),
        tenant: world.config.tenant.clone(),
        key: signer.keys[0].key.clone(),
        cert: sha256(&[&signer.keys[0].chain[0].0]),
        effect: NoticeEffect::Hold,
        iat: START,
    };
    Owned {
        notice: world.ra.notice(&notice).unwrap(),
        gone: (leaver.person, left),
        signer,
        voucher,
        invite,
        rid,
        act,
        token,
        value: sha256(&[&signed.signatures[0].0]),
    }
}

fn receiver() -> (SealKey, jose::Jwk) {
    let (key, _) = SealKey::generate().unwrap();
    let public = key.public().clone();
    (key, public)
}

/// A call of this method that names what `of` has, as its owner's service would make it. The order is that of the table in
/// `sam-api`; a method without a case fails the test.
fn naming(path: &str, of: &Owned, back: &str) -> Value {
    let (person, key) = (of.signer.person.clone(), of.signer.keys[0].key.clone());
    let json = |request: Result<Value, serde_json::Error>| request.unwrap();
    let items = hash_items(&[hash(3)]);
    let secret = || SecretBytes::from("12345678".to_owned());
    match path {
        About::PATH => serde_json::json!({}),
        Prepare::PATH => json(serde_json::to_value(PrepareRequest {
            person,
            key,
            client: client(),
            client_name: "claimed".into(),
            client_jws: None,
            items,
            open: None,
            renew: 0,
            return_uri: back.into(),
            ttl: 600,
        })),
        Status::PATH => json(serde_json::to_value(StatusRequest { rid: of.rid })),
        Bind::PATH => json(serde_json::to_value(BindRequest {
            rid: of.rid,
            grant: sha256(&[of.token.as_bytes()]),
        })),
        Explicit::PATH => json(serde_json::to_value(ExplicitRequest {
            person,
            key,
            client: client(),
            client_name: "claimed".into(),
            items,
            renew: 0,
            pin: secret(),
            otp: secret(),
            grant: Digest32([1; 32]),
        })),
        SendCode::PATH => json(serde_json::to_value(SendCodeRequest {
            person,
            key,
            client: client(),
        })),
        Sign::PATH => json(serde_json::to_value(SignRequest {
            token: SecretBytes::from(of.token.clone()),
            client: client(),
            key,
            alg: alg(&of.signer.keys[0]),
            hashes: vec![hash(2)],
            idempotency_key: None,
        })),
        Renew::PATH => json(serde_json::to_value(RenewRequest {
            token: SecretBytes::from(of.token.clone()),
            client: client(),
            key,
            hashes: vec![],
            grant: Digest32([2; 32]),
        })),
        Voucher::PATH => json(serde_json::to_value(VoucherRequest::Ra {
            invite: of.invite.clone(),
            return_uri: back.into(),
        })),
        Enrolment::PATH => json(serde_json::to_value(EnrolmentRequest {
            voucher: of.voucher.clone(),
        })),
        Certificate::PATH => json(serde_json::to_value(CertificateRequest {
            key,
            certify: "a.b.c".into(),
            chain: vec![B64(vec![1])],
        })),
        Keys::PATH => json(serde_json::to_value(KeysRequest { person })),
        Ask::PATH => json(serde_json::to_value(AskRequest {
            person,
            wish: Wish::Suspend { key },
            return_uri: back.into(),
            ttl: 600,
        })),
        // Last of those about the key: from here on it is stopped.
        Stop::PATH => json(serde_json::to_value(StopRequest {
            person,
            changes: of.signer.keys[0].changes,
            key,
        })),
        Notice::PATH => json(serde_json::to_value(NoticeRequest {
            notice: of.notice.clone(),
        })),
        Watched::PATH => json(serde_json::to_value(WatchedRequest { after: None })),
        Revocation::PATH => json(serde_json::to_value(RevocationRequest {
            key,
            published: Published::Crl(B64(vec![1])),
        })),
        Factors::PATH => json(serde_json::to_value(FactorsRequest { person })),
        Signatures::PATH => json(serde_json::to_value(SignaturesRequest { person })),
        Receipt::PATH => json(serde_json::to_value(ReceiptRequest {
            person,
            act: of.act,
        })),
        ReceiptOf::PATH => json(serde_json::to_value(ReceiptOfRequest {
            client: client(),
            person: None,
            key,
            value: of.value,
        })),
        HandedOver::PATH => json(serde_json::to_value(HandedOverRequest {
            person: of.gone.0.clone(),
            act: of.gone.1,
        })),
        History::PATH => json(serde_json::to_value(HistoryRequest { person })),
        other => {
            panic!("{other} has no case here: say what happens when another tenant's is named")
        }
    }
}

/// A refusal, or an answer that tells of nothing.
fn is_nothing(answer: &Result<Value, Value>) -> bool {
    let Ok(Value::Object(members)) = answer else {
        return answer.is_err();
    };
    // That something was done is no *nothing*.
    let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty) || *v == Value::Bool(false);
    !members.is_empty() && members.values().all(empty)
}

struct NoCourier;

impl sam_service::Courier for NoCourier {
    fn deliver<'a>(
        &'a self,
        _: &'a sam_api::delivery::DeliverRequest,
    ) -> sam_service::Delivering<'a> {
        Box::pin(async { Err(sam_service::Undelivered::Later) })
    }

    fn tell<'a>(&'a self, _: &'a sam_api::delivery::TellRequest) -> sam_service::Delivering<'a> {
        Box::pin(async { Err(sam_service::Undelivered::Later) })
    }
}

async fn the_stranger_gets_nothing(
    world: &World,
    of: &Owned,
    owner: (&str, &str),
    stranger: (&str, &str),
) {
    for path in ssa::PATHS {
        let router = || ssa_router(world.sam.inside());
        // Each with its own addresses: what is wrong is the tenant alone.
        let theirs = call(router(), stranger.0, path, &naming(path, of, stranger.1)).await;
        let ours = call(router(), owner.0, path, &naming(path, of, owner.1)).await;
        if *path == About::PATH {
            assert!(theirs.unwrap() != ours.unwrap(), "each has its own policy");
            continue;
        }
        if *path == Watched::PATH {
            // Each its own.
            let key = of.signer.keys[0].key.as_str();
            assert!(!theirs.unwrap().to_string().contains(key), "{path}");
            assert!(ours.unwrap().to_string().contains(key), "{path}");
            continue;
        }
        assert!(
            is_nothing(&theirs),
            "{path} tells {} of {}: {theirs:?}",
            stranger.0,
            owner.0
        );
        assert_ne!(
            theirs, ours,
            "{path} can't be told from a refusal of {}'s",
            owner.0
        );
    }
}

// shows: T-USE-SAP-BYPASS, T-INS-OPERATOR, T-USE-CRED-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_names_what_is_another_tenants_gets_nothing_whatever_it_asks() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        world.sam.send_codes_by(Arc::new(NoCourier));
        let here = own(&world, "taro").await;
        world.turn(&mut side);
        let there = own(&world, "hanako").await;
        world.turn(&mut side);
        sequence(&world).await;
        let (house, acme) = ((SSA, RETURN), (ACME_SSA, ACME_RETURN));
        the_stranger_gets_nothing(&world, &there, acme, house).await;
        the_stranger_gets_nothing(&world, &here, house, acme).await;
        // Nothing of it was done: the rows are as the log says, and nobody is alarmed.
        assert_eq!(world.sam.scrub().await.unwrap().strange, vec![]);
        assert_eq!(world.audited("alarm", "").await, 0);
    }
}
