//! Two tenants on one SAM: whatever a service names, it reaches its own tenant's and nobody else's.

mod strangers;

use std::mem::swap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use core_types::random::SystemRandom;
use core_types::rpc::Method;
use core_types::{Clock as _, Digest32, KeyAlg, Level, PersonId, SecretBytes, TenantId, sha256};
use dev_ca::{DevCa, Ra, Urls};
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::ssa::*;
use sam_core::Policy;
use sam_core::provider::Providers;
use sam_service::{SamConfig, StartError, TenantConfig, gateway_router, ssa_router};
use sap::act::Brand;
use sap::act_digest;
use sap::enrol::Invite;
use sap::messages::{
    Approve, ApproveRequest, EnrolOpen, EnrolOpenRequest, Open, OpenRequest, SapRefusalCode,
};
use sap::office::{KeyAction, Measure};
use serde_json::Value;
use service_kit::Peer;
use tower::ServiceExt as _;

use crate::cm::Fault;
use crate::kit::*;
use crate::stores::run;

const ACME_SSA: &str = "ssa.acme.test";
const ACME_RETURN: &str = "http://acme.localhost:1/return";

/// What is another tenant's; [`World::turn`] puts it in the place of the world's.
pub struct Side {
    sam: Node,
    ra: Ra,
    ca: Arc<DevCa>,
    tenant: TenantId,
    service: &'static str,
    back: &'static str,
    _dir: tempfile::TempDir,
}

impl World {
    /// The world is the other tenant's from here on, and that one's is at `side`.
    pub fn turn(&mut self, side: &mut Side) {
        swap(&mut self.sam, &mut side.sam);
        swap(&mut self.ra, &mut side.ra);
        swap(&mut self.ca, &mut side.ca);
        swap(&mut self.config.tenant, &mut side.tenant);
        swap(&mut self.service, &mut side.service);
        swap(&mut self.back, &mut side.back);
    }
}

pub fn brand() -> Brand {
    Brand {
        ja: "アクメ".into(),
        en: "Acme".into(),
        colour: Some("#0a5c8a".into()),
    }
}

/// A tenant of the world's SAM, with a CA and an RA of its own.
pub async fn acme(world: &mut World) -> Side {
    let dir = tempfile::tempdir().unwrap();
    let urls = Urls::under("http://ca.acme.localhost:1");
    let random = Arc::new(SystemRandom);
    let ca = Arc::new(DevCa::open(dir.path(), urls, world.clock.clone(), random).unwrap());
    let ra = Ra::new(ca.clone(), "sam.test", vec![world.sam.root().clone()]).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let config = SamConfig {
        tenants: vec![TenantConfig {
            id: tenant.clone(),
            brand: brand(),
            services: vec![ACME_SSA.into()],
            return_prefixes: vec![ACME_RETURN.into()],
            registration_authorities: vec![ra.public_key().clone()],
            issuers: vec![ca.root().der().to_vec()],
            policy: Policy {
                version: 9,
                max_items: 2,
                ..Policy::default()
            },
            providers: Providers::default(),
            clients: [].into(),
        }],
        ..world.config.clone()
    };
    world.go_on_with(config).await;
    Side {
        sam: world.sam.for_tenant(&tenant, ACME_SSA),
        ra,
        ca,
        tenant,
        service: ACME_SSA,
        back: ACME_RETURN,
        _dir: dir,
    }
}

/// Calls a listener as `peer`: the answer, or the refusal.
async fn call(router: axum::Router, peer: &str, path: &str, body: &Value) -> Result<Value, Value> {
    let mut request = Request::post(path)
        .body(Body::from(body.to_string()))
        .unwrap();
    request.extensions_mut().insert(Peer {
        name: peer.into(),
        addr: ([127, 0, 0, 1], 1).into(),
    });
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    match status {
        200 => Ok(body),
        422 => Err(body),
        other => panic!("{path} answers {other}: {body}"),
    }
}

/// Gives entries their places, so that there are receipts.
async fn sequence(world: &World) {
    let key = audit_log::LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![9; 32])).unwrap();
    let log = world.sam.audit().clone();
    let opened = audit_log::Sequencer::open(log, key, None, &world.store.store).await;
    let now = world.clock.now();
    opened
        .unwrap()
        .sequence(&world.store.store, now)
        .await
        .unwrap();
}

// shows: T-USE-CRED-FORGE, T-USE-SAP-REPLAY, T-USE-SAD-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_in_two_tenants_is_two_persons() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let mut here = world.enrol("taro", true, &[KeyAlg::P256]).await;
        let rid = world.prepare(&here, &[hash(1)]).await;
        world.turn(&mut side);
        let mut there = world.enrol("taro", true, &[KeyAlg::P256]).await;
        assert_ne!(here.keys[0].key, there.keys[0].key);
        assert_eq!(world.key(&there).await.key, there.keys[0].key);
        let theirs = world.prepare(&there, &[hash(1)]).await;
        world.turn(&mut side);
        assert_eq!(world.key(&here).await.key, here.keys[0].key);
        assert_eq!(world.factors(&here).await.len(), 2);

        // By the gateway, which serves both: each opens as its tenant's, with that tenant's name.
        let gate = |path, body: Value| {
            let router = gateway_router(world.sam.inside());
            async move { call(router, GATEWAY, path, &body).await }
        };
        let opened = async |rid| {
            let body = serde_json::to_value(OpenRequest { rid }).unwrap();
            let answer = gate(Open::PATH, body).await.unwrap();
            let jws = answer["act"].as_str().unwrap().to_owned();
            let payload = core_types::bytes::from_b64u(jws.split('.').nth(1).unwrap()).unwrap();
            let act: sap::Act = serde_json::from_slice(&payload).unwrap();
            (act_digest(&jws), act)
        };
        let (ours, shown) = opened(rid).await;
        assert_eq!(
            (shown.head().tenant.as_str(), shown.head().brand),
            ("demo", None)
        );
        let (acme, shown) = opened(theirs).await;
        let head = shown.head();
        assert_eq!((head.tenant.as_str(), head.policy), ("acme", 9));
        assert_eq!(head.brand, Some(&brand()));

        // One's passkey, PIN and code are nobody's for the other's act, and the reverse.
        let approve = async |proof| {
            let body = serde_json::to_value(ApproveRequest { proof, new: None }).unwrap();
            gate(Approve::PATH, body).await
        };
        assert!(approve(there.passkey.prove(ours).unwrap()).await.is_err());
        assert!(approve(here.passkey.prove(acme).unwrap()).await.is_err());
        let otp = world.otp(there.seed.as_ref().unwrap(), 1);
        let proof = world.pin_proof(ours, PIN, otp).await;
        assert!(approve(proof).await.is_err());
        approve(here.passkey.prove(ours).unwrap()).await.unwrap();
        approve(there.passkey.prove(acme).unwrap()).await.unwrap();

        // What was approved for one is bound and used by that one only.
        let token = random_token();
        assert_eq!(
            world.bind(theirs, &token).await.unwrap_err(),
            Refusal::NotFound
        );
        world.bind(rid, &token).await.unwrap();
        world.turn(&mut side);
        assert_eq!(
            world.bind(rid, &token).await.unwrap_err(),
            Refusal::NotFound
        );
        for signer in [&here, &there] {
            let refused = world.sign(signer, &token, &[hash(1)]).await;
            assert_eq!(refused.unwrap_err(), Refusal::NotFound);
        }
        world.turn(&mut side);
        world.sign(&here, &token, &[hash(1)]).await.unwrap();

        // In the log they are two, under one name each.
        let of = async |person: &str| {
            let query = audit_log::Query {
                kinds: vec!["person.enrolled".into()],
                ..audit_log::Query::default()
            };
            let found = audit_log::search(&world.store.store, &query).await.unwrap();
            let named = found
                .entries
                .iter()
                .filter(|e| e.person.as_deref() == Some(person));
            named.count()
        };
        sequence(&world).await;
        assert_eq!((of("taro").await, of("acme/taro").await), (1, 1));
        assert!(world.audited("signature.made", "\"tenant\":\"acme\"").await == 0);
        assert!(
            world
                .audited("person.enrolled", "\"tenant\":\"acme\"")
                .await
                > 0
        );
        assert!(world.sam.scrub().await.unwrap().strange.is_empty());
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_invites_into_its_own_tenant_only() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let ask = |invite: String, back: &str| VoucherRequest::Ra {
            invite,
            return_uri: back.into(),
        };
        // By acme's authority, for the provider's own tenant, whatever it says of the tenant.
        for tenant in ["demo", "acme"] {
            let mut invitation = world.invitation("taro", &[KeyAlg::P256]);
            invitation.tenant = TenantId::parse(tenant).unwrap();
            let (invite, ..) = side.ra.invite(invitation).unwrap();
            let refused = world.sam.voucher(SSA, ask(invite, RETURN)).await;
            assert_eq!(
                refused.unwrap_err(),
                Refusal::RegistrationRefused,
                "{tenant}"
            );
        }
        // By the right authority, brought by the other tenant's service, or naming the other tenant.
        let (invite, voucher, secret) = world
            .ra
            .invite(world.invitation("taro", &[KeyAlg::P256]))
            .unwrap();
        let refused = side
            .sam
            .voucher(ACME_SSA, ask(invite.clone(), ACME_RETURN))
            .await;
        assert_eq!(refused.unwrap_err(), Refusal::RegistrationRefused);
        let mut other = world.invitation("taro", &[KeyAlg::P256]);
        other.tenant = side.tenant.clone();
        let (other, ..) = world.ra.invite(other).unwrap();
        let member = world
            .sam
            .voucher(SSA, ask(other, RETURN))
            .await
            .unwrap_err();
        assert_eq!(
            member,
            Refusal::Invalid {
                member: "tenant".into()
            }
        );
        // A page of one tenant's never goes on to the other's.
        let back = world
            .sam
            .voucher(SSA, ask(invite.clone(), ACME_RETURN))
            .await
            .unwrap_err();
        assert_eq!(
            back,
            Refusal::Invalid {
                member: "return".into()
            }
        );
        world
            .sam
            .voucher(SSA, ask(invite.clone(), RETURN))
            .await
            .unwrap();

        // The gateway finds whose voucher it is; the other tenant's hands don't hold it.
        let request = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let body = serde_json::to_value(&request).unwrap();
        let router = gateway_router(world.sam.inside());
        call(router, GATEWAY, EnrolOpen::PATH, &body).await.unwrap();
        let unknown = side.sam.inside().enrol_open(request).await.unwrap_err();
        assert_eq!(unknown.code, SapRefusalCode::NotFound);
        // A name of a voucher that is taken is taken for all, and nothing is told of whose it is.
        let taken = Invite {
            voucher: voucher.clone(),
            tenant: side.tenant.clone(),
            person: PersonId::parse("taro").unwrap(),
            subject: subject("taro"),
            assurance: "password".into(),
            ceiling: Level::One,
            keys: vec![KeyAlg::P256],
            exp: world.clock.now().plus(600),
            secret: sha256(&[secret.expose()]),
            replaces: None,
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        };
        let request = VoucherRequest::Ssa {
            invite: Box::new(taken),
            return_uri: ACME_RETURN.into(),
        };
        let refused = side.sam.voucher(ACME_SSA, request).await.unwrap_err();
        assert_eq!(refused, Refusal::Used);
        world.turn(&mut side);
    }
}

// shows: I-7.1.4.7-alert-starts-countermeasure
#[tokio::test(flavor = "multi_thread")]
async fn officers_and_guards_are_there_for_all_tenants() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let here = world.enrol("taro", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let there = world.enrol("taro", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let key = there.keys[0].key.clone();
        let stop = GuardRequest::Key { key: key.clone() };
        world.sam.guard_stop(GUARD, stop).await.unwrap();
        let measure = Measure::Key {
            key,
            action: KeyAction::Resume,
        };
        let asked = world.decide(measure).await.unwrap();
        // Approvers are told whose it is.
        assert!(
            asked
                .document
                .contains("\"tenant\":\"acme\",\"person\":\"taro\""),
            "{}",
            asked.document
        );
        world.turn(&mut side);
        let states: Vec<_> = world.history(&there).await.iter().map(|e| e.what).collect();
        assert_eq!(states[..2], [Happened::Resumed, Happened::Suspended]);
        assert_eq!(world.key(&there).await.state, KeyState::Active);
        world.turn(&mut side);
        assert_eq!(world.key(&here).await.state, KeyState::Active);
        assert!(
            !world
                .history(&here)
                .await
                .iter()
                .any(|e| e.what == Happened::Suspended)
        );
        assert_eq!(world.audited("key.resumed", "\"tenant\":\"acme\"").await, 1);
        assert!(world.sam.scrub().await.unwrap().strange.is_empty());
        // What ends by itself ends in every tenant.
        let end = there.keys[0].until.unwrap();
        world.clock.advance(end.0 - world.clock.now().0 + 1);
        world.sam.maintain().await.unwrap();
        world.turn(&mut side);
        assert_eq!(world.key(&there).await.state, KeyState::Destroyed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_in_one_tenant_is_known_in_the_other() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        let here = world.enrol("taro", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let there = world.enrol("taro", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let destroy = Measure::Key {
            key: there.keys[0].key.clone(),
            action: KeyAction::Destroy,
        };
        world.decide(destroy).await.unwrap();
        world.sam.maintain().await.unwrap();
        let (by, later) = (Digest32([9; 32]), world.clock.now().plus(1));
        // By the provider's own tenant it is the other one, whose key lives.
        assert!(
            world
                .sam
                .forget_person(&here.person, by, later)
                .await
                .is_err()
        );
        assert!(
            side.sam
                .forget_person(&there.person, by, later)
                .await
                .unwrap()
        );
        // A service learns whose it is, so that it forgets its own tenant's persons only.
        let whose = async |sam: &Node| sam.about().await.unwrap().tenant;
        assert!(whose(&world.sam).await.own);
        let acme = whose(&side.sam).await;
        assert_eq!((acme.name.as_str(), acme.own), ("acme", false));
        let known = async |name| {
            let opening = audit_log::opening(&world.store.store, name).await;
            opening.unwrap().is_some()
        };
        assert_eq!(
            (known("taro").await, known("acme/taro").await),
            (true, false)
        );
        assert_eq!(world.key(&here).await.state, KeyState::Active);
        assert!(!world.history(&here).await.is_empty());
        world.turn(&mut side);
        assert!(world.history(&there).await.is_empty());
        world.turn(&mut side);
        assert!(world.sam.scrub().await.unwrap().strange.is_empty());
    }
}

/// More rows than are read in one go, each of them first of its kind: of a tenant that isn't served any more, and an act that
/// doesn't open.
const IN_THE_WAY: [&str; 5] = [
    "INSERT INTO signing_key WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
     SELECT 'zz-a-' || i, version, sealed, owner, link, 'active', 0 FROM signing_key, n WHERE owner = 'acme/taro'",
    "INSERT INTO signing_key WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
     SELECT 'zz-b-' || i, version, sealed, owner, link, 'spent', 0 FROM signing_key, n WHERE id = 'zz-a-1'",
    "INSERT INTO signing_key WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
     SELECT 'zz-c-' || i, version, sealed, owner, link, 'doomed', 0 FROM signing_key, n WHERE id = 'zz-a-1'",
    "INSERT INTO signing_key WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
     SELECT 'zz-d-' || i, version, sealed, owner, link, 'leaving', 0 FROM signing_key, n WHERE id = 'zz-a-1'",
    "INSERT INTO act WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
     SELECT 'zz-' || i, version, sealed, owner, '', 'taken', 0 FROM act, n WHERE state = 'taken'",
];

// shows: T-INS-OPERATOR, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_dealt_with_hold_up_nobody_elses() {
    for mut world in worlds().await {
        let mut side = acme(&mut world).await;
        world.turn(&mut side);
        world.enrol("taro", false, &[KeyAlg::P256]).await;
        world.turn(&mut side);
        let alone = SamConfig {
            tenants: Vec::new(),
            ..world.config.clone()
        };
        world.sam = world.node_with(alone).await;
        let mut invitation = world.invitation("once", &[KeyAlg::P256]);
        invitation.one_time = true;
        let mut once = world.enrol_by(invitation, false).await;
        let mut ended = world.enrol("ended", false, &[KeyAlg::P256]).await;
        let over = world.enrol("over", false, &[KeyAlg::P256]).await;
        // Its only act has begun, and the node that waited for the module is gone.
        let token = world.approved(&mut once, &[hash(1)]).await;
        world.cm.next(Fault::NeverArrives);
        let (sam, request) = (
            world.sam.inside(),
            world.sign_request(&once, &token, &[hash(1)]),
        );
        let task = tokio::spawn(async move { sam.sign(SSA, request).await });
        world.cm.hanging.notified().await;
        task.abort();
        for copies in IN_THE_WAY {
            assert_eq!(run(&world, copies).await, 250, "{copies}");
        }

        // What a service watches are its own keys, and where its page ends tells of no other's.
        let watched = world.sam.watched(SSA, WatchedRequest { after: None });
        let watched = watched.await.unwrap();
        let keys: Vec<_> = watched.certificates.into_iter().map(|w| w.key).collect();
        let mut own = [&ended, &over].map(|signer| signer.keys[0].key.clone());
        own.sort();
        assert_eq!((keys, watched.next), (own.to_vec(), None));

        let destroy = Wish::Destroy {
            key: ended.keys[0].key.clone(),
        };
        world.changed(destroy, &mut ended).await.unwrap();
        world.clock.advance(31);
        world.sam.maintain().await.unwrap();
        assert_eq!(world.audited("sad.ended", "lost").await, 1);
        assert_eq!(
            world.audited("alarm", "sealed-row-tampered").await,
            1,
            "one for all of them"
        );
        let of = async |signer: &Signer| {
            let key = world.key(signer).await;
            (key.state, key.stop.map(|stop| stop.cause))
        };
        let gone = |cause| (KeyState::Destroyed, Some(cause));
        assert_eq!(of(&once).await, gone(StopCause::Used));
        assert_eq!(world.audited("key.destroyed", "\"used\"").await, 1);
        let stop = world.key(&ended).await.stop.unwrap();
        assert!(stop.certificate.is_some(), "the module said so");
        let until = world.key(&over).await.until.unwrap();
        world.clock.advance(until.0 + 1 - world.clock.now().0);
        world.sam.maintain().await.unwrap();
        assert_eq!(of(&over).await, gone(StopCause::Expired));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_in_which_a_call_could_have_two_tenants_starts_nothing() {
    let [mut world, _] = worlds().await;
    let _side = acme(&mut world).await;
    let good = world.config.clone();
    let with = |set: &dyn Fn(&mut TenantConfig)| {
        let mut config = good.clone();
        set(&mut config.tenants[0]);
        config
    };
    let twice = || {
        let mut config = good.clone();
        let mut second = config.tenants[0].clone();
        second.services = vec!["third.test".into()];
        config.tenants.push(second);
        config
    };
    for bad in [
        with(&|t| t.services.push(SSA.into())),
        with(&|t| t.id = good.tenant.clone()),
        with(&|t| t.id = TenantId::parse("officer.a").unwrap()),
        with(&|t| t.policy.ceiling = Level::Two),
        with(&|t| t.brand.ja = String::new()),
        with(&|t| t.brand.colour = Some("red".into())),
        twice(),
    ] {
        let started = world.node_drawing(bad, Arc::new(SystemRandom)).await;
        assert!(matches!(started.err(), Some(StartError::Unusable(_))));
    }
    // A tenant that isn't served any more has nobody to ask for it, and its rows stay as they are.
    let alone = SamConfig {
        tenants: Vec::new(),
        ..good.clone()
    };
    world.sam = world.node_with(alone).await;
    let nothing = serde_json::json!({});
    let router = ssa_router(world.sam.inside());
    assert!(call(router, ACME_SSA, About::PATH, &nothing).await.is_err());
    assert!(world.sam.scrub().await.unwrap().strange.is_empty());
}
