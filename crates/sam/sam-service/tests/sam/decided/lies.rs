//! What a SAM could show that lies about who proved what, how and when: its keys are good, its log says whatever it likes, and who
//! looks finds it out.

use audit_log::Event;
use audit_verify::{Anchors, EvidenceFault, Shown, verify_evidence};
use core_types::timekeeping::ClockState;
use core_types::{Digest32, FactorId, KeyAlg, PersonId, UnixTime, VoucherId, sha256};
use jose::SigningKey;
use sam_api::ssa::*;
use sam_core::enrol::PublicFactor;
use sam_core::evidence::{Approval, Enrolment, Evidence, PublicProof, Signature};
use sam_core::passkey::{Attestation, Passkey, verify_registration};
use serde_json::{Value, json};
use soft_passkey::SoftPasskey;

use super::claimed;
use crate::evidence::Log;
use crate::kit::*;

const EPOCH: Digest32 = Digest32([5; 32]);
const YEAR: i64 = 365 * 24 * 3600;

/// What it claims of a signature of p's.
struct Claim {
    level: u8,
    /// Of the enrolment at which the factor began: whose, whom the authority had invited, who invited, up to which level.
    person: &'static str,
    invited: &'static str,
    by: &'static str,
    ceiling: u8,
    /// Of the factor and its proof.
    method: &'static str,
    vouched: bool,
    bound: bool,
    host: &'static str,
    /// Policy of the approval.
    policy: u32,
    renew: i64,
    /// Seconds after the approval.
    signed: i64,
    /// Whose certificate the authority approved.
    certified: Option<&'static str>,
}

/// As it would be if it were true.
const TRUE: Claim = Claim {
    level: 2,
    person: "p",
    invited: "p",
    by: "ra",
    ceiling: 3,
    method: "passkey",
    vouched: false,
    bound: false,
    host: RP_ID,
    policy: 1,
    renew: 0,
    signed: 5,
    certified: Some("p"),
};

/// A signer, with the authority's approval of their certificate.
struct Known {
    signer: Signer,
    certify: String,
}

async fn known(world: &World, log: &Log, name: &str) -> Known {
    let mut signer = world.enrol(name, false, &[KeyAlg::P256]).await;
    let token = world.approved(&mut signer, &[hash(1)]).await;
    world.sign(&signer, &token, &[hash(1)]).await.unwrap();
    log.turn(world).await;
    let list = world.sam.signatures(SignaturesRequest {
        person: signer.person.clone(),
    });
    let act = list.await.unwrap().entries[0].act;
    let bundle = world.receipt(&signer, act).await.unwrap();
    let bundle: Value = serde_json::from_str(&bundle).unwrap();
    let texts = bundle["documents"].as_array().unwrap().iter();
    let certify = texts.filter_map(Value::as_str).find_map(|text| {
        match serde_json::from_str::<Evidence>(text).ok()? {
            Evidence::Signature(made) => made.certify,
            _ => None,
        }
    });
    Known {
        signer,
        certify: certify.unwrap(),
    }
}

struct Liar<'w> {
    world: &'w World,
    log: &'w Log,
    known: [&'w Known; 2],
    root: SigningKey,
    own: SigningKey,
}

impl Liar<'_> {
    fn statement(&self) -> String {
        let statement = json!({
            "sam": "sam.test", "epoch": EPOCH, "act": self.own.public(), "nbf": START.0 - 60, "exp": START.0 + YEAR,
        });
        let statement = statement.to_string();
        self.root
            .sign("natsuin-keys+jws", statement.as_bytes())
            .unwrap()
    }

    /// An act of its own: text and digest.
    fn act(&self, kind: &str, person: &str, level: u8, more: &Value) -> (String, Digest32) {
        let mut act = json!({
            "kind": kind, "sam": "sam.test", "tenant": "demo", "epoch": EPOCH, "iat": START.0, "exp": START.0 + 300,
            "policy": 1, "level": level, "person": { "id": person, "name": person },
        });
        for (name, value) in more.as_object().unwrap() {
            act[name] = value.clone();
        }
        let text = self
            .own
            .sign("natsuin-act+jws", act.to_string().as_bytes())
            .unwrap();
        let digest = sap::act_digest(&text);
        (text, digest)
    }

    /// An enrolment that its log tells of p.
    async fn enrolled(&self, claim: &Claim) -> (SoftPasskey, PublicFactor) {
        let world = self.world;
        let invitation = world.invitation(claim.invited, &[KeyAlg::P256]);
        let (invite, voucher, _) = world.ra.invite(invitation).unwrap();
        let about = json!({ "voucher": voucher, "by": claim.by, "rp_id": RP_ID });
        let (act, digest) = self.act("enrol", claim.person, claim.ceiling, &about);
        let mut device = passkey();
        device.behaviour.backup_eligible = !claim.bound;
        device.behaviour.backed_up = !claim.bound;
        let registration = device.register(digest).unwrap();
        let place = &world.config.relying_party;
        let (made, _) = verify_registration(place, digest, &registration).unwrap();
        let made = Passkey {
            attestation: match claim.vouched {
                true => Attestation::Vouched,
                false => made.attestation,
            },
            ..made
        };
        let by_passkey = claim.method == "passkey";
        let factor = PublicFactor {
            id: factor_of(&voucher),
            act: digest,
            created: START,
            passkey: by_passkey.then_some(made),
            device: None,
            provider: None,
        };
        let evidence = Evidence::Enrolment(Box::new(Enrolment {
            act,
            statement: self.statement(),
            invite,
            factors: vec![factor.clone()],
            registration: by_passkey
                .then_some([registration.client_data, registration.attestation]),
            at: START,
            clock: ClockState::Synchronised,
            software: "0.1.0".into(),
        }));
        let id = factor.id.clone();
        claimed(world, &evidence, |evidence| Event::Enrolled {
            person: person(),
            factor: id.clone(),
            method: "passkey".into(),
            act: digest,
            evidence,
        })
        .await;
        (device, factor)
    }

    fn proof(
        &self,
        claim: &Claim,
        device: &mut SoftPasskey,
        factor: &PublicFactor,
        act: Digest32,
    ) -> PublicProof {
        let factor = factor.id.clone();
        match claim.method {
            "passkey" => {
                device.behaviour.origin = format!("http://{}:8443", claim.host);
                device.behaviour.rp_id = claim.host.to_owned();
                PublicProof::Passkey {
                    proof: device.prove(act).unwrap(),
                }
            }
            "collected" => PublicProof::Collected {
                act,
                factor,
                client: client(),
            },
            _ => PublicProof::PinTotp { act, factor },
        }
    }

    /// The evidence of a signature of which all this is claimed.
    async fn bundle(&self, claim: &Claim) -> String {
        let (world, [p, q]) = (self.world, self.known);
        let key = &p.signer.keys[0];
        let certificate = sha256(&[&key.chain[0].0]);
        let (mut device, factor) = self.enrolled(claim).await;
        let (text, act) = self.act(
            "sign",
            "p",
            claim.level,
            &json!({
                "key": {
                    "id": key.key, "version": 1, "spki": sha256(&[&key.spki.0]), "cert": certificate, "subject": "p",
                },
                "items": [{ "form": "hash", "ha": "sha256", "h": hash(1), "label": "a" }],
                "algs": [alg(key)], "renew": claim.renew,
                "client": { "id": "c", "name": "C", "known": true, "signed": false },
                // So that no two acts of these are one.
                "nonce": factor.act,
            }),
        );
        let proof = self.proof(claim, &mut device, &factor, act);
        let approval = Evidence::Approval(Box::new(Approval {
            act: text,
            statement: self.statement(),
            proof,
            factor,
            at: START,
            policy: claim.policy,
            policy_digest: None,
            made: None,
            clock: ClockState::Synchronised,
            software: "0.1.0".into(),
        }));
        let approval = claimed(world, &approval, |evidence| Event::ActApproved {
            act,
            person: person(),
            proof: EPOCH,
            evidence,
            sign_until: START.plus(300),
        })
        .await;
        let of = |name: &str| if name == "p" { p } else { q };
        let signature = Evidence::Signature(Box::new(Signature {
            act,
            approval,
            order: EPOCH,
            alg: alg(key),
            indices: vec![0],
            filled: Vec::new(),
            values: vec![act],
            certificates: key.chain.clone(),
            certify: claim.certified.map(|name| of(name).certify.clone()),
            epoch: EPOCH,
            at: UnixTime(START.0 + claim.signed),
            clock: ClockState::Synchronised,
            software: "0.1.0".into(),
        }));
        claimed(world, &signature, |evidence| Event::SignatureMade {
            act,
            client: client(),
            person: person(),
            key: key.key.clone(),
            certificate,
            alg: alg(key),
            step: 0,
            count: 1,
            values: EPOCH,
            evidence,
        })
        .await;
        self.log.turn(world).await;
        let made = sam_service::bundle(&world.store.store, self.root.public(), "p", act).await;
        made.unwrap()
    }

    async fn shown(&self, claim: &Claim) -> Result<Shown, EvidenceFault> {
        let (bundle, root) = (self.bundle(claim).await, self.root.public().kid());
        let authorities = self.world.authorities();
        let anchors = Anchors {
            root: &root,
            log: &self.log.key,
            issuer: Some(&self.world.config.issuers[0]),
            providers: &[],
            authorities: &authorities,
        };
        verify_evidence(bundle.as_bytes(), anchors)
    }
}

fn person() -> PersonId {
    PersonId::parse("p").unwrap()
}

fn factor_of(voucher: &VoucherId) -> FactorId {
    FactorId::parse(voucher.as_str()).unwrap()
}

type Change = fn(&mut Claim);

const WEAK: Option<&str> = Some("such a proof doesn't count at the act's level");
const NOT_THEN: Option<&str> = Some("a signature isn't one of those approved");

/// What is changed of what would be true, and what is found; nothing where it could be true.
const CASES: [(&str, Change, Option<&str>); 27] = [
    ("nothing", |_| (), None),
    (
        "another person's passkey",
        |c| (c.person, c.invited) = ("q", "q"),
        Some("the factor is another person's"),
    ),
    (
        "another person's invitation",
        |c| c.invited = "q",
        Some("the authority invited somebody else, or to something else"),
    ),
    (
        "invited by the service above level 1",
        |c| c.by = "ssa",
        Some("above level 1 it takes an authority to invite"),
    ),
    (
        "invited by officers",
        |c| (c.by, c.certified) = ("office", None),
        None,
    ),
    (
        "invited to a lower level",
        |c| (c.level, c.ceiling) = (2, 1),
        Some("the invitation was to a lower level than the act's"),
    ),
    (
        "another key's certificate",
        |c| c.certified = Some("q"),
        Some("the authority approved another key's certificate"),
    ),
    (
        "a passkey of another host",
        |c| c.host = "evil.localhost",
        Some("the passkey was registered for another host"),
    ),
    ("a synced passkey", |c| c.level = 3, WEAK),
    (
        "one that nobody vouches for",
        |c| (c.level, c.bound) = (3, true),
        WEAK,
    ),
    (
        "a synced one that is vouched for",
        |c| (c.level, c.vouched) = (3, true),
        WEAK,
    ),
    (
        "a bound one that is vouched for",
        |c| (c.level, c.vouched, c.bound) = (3, true, true),
        None,
    ),
    (
        "no level at all",
        |c| c.level = 0,
        Some("there is no such level as the act has"),
    ),
    (
        "a level that isn't there",
        |c| (c.level, c.ceiling) = (4, 4),
        Some("there is no such level as the act has"),
    ),
    (
        "a PIN at level 3",
        |c| (c.level, c.method) = (3, "pin-totp"),
        WEAK,
    ),
    ("a PIN at level 2", |c| c.method = "pin-totp", None),
    (
        "collected at level 3",
        |c| (c.level, c.method) = (3, "collected"),
        WEAK,
    ),
    ("collected at level 2", |c| c.method = "collected", WEAK),
    (
        "collected at level 1",
        |c| (c.level, c.method) = (1, "collected"),
        None,
    ),
    (
        "another policy",
        |c| c.policy = 2,
        Some("it was approved under another policy than the act's"),
    ),
    ("a year later", |c| c.signed = YEAR, NOT_THEN),
    (
        "after the right and its answer",
        |c| c.signed = 700,
        NOT_THEN,
    ),
    ("with the last answer", |c| c.signed = 699, None),
    ("before the approval", |c| c.signed = -61, NOT_THEN),
    ("by a clock that goes behind", |c| c.signed = -60, None),
    (
        "after renewal",
        |c| (c.renew, c.signed) = (START.0 + 3600, 3700),
        NOT_THEN,
    ),
    (
        "with the last renewal",
        |c| (c.renew, c.signed) = (START.0 + 3600, 3699),
        None,
    ),
];

// shows: T-INS-OPERATOR, T-REG-IMPERSONATE, T-USE-CRED-FORGE, I-3.5.1-keyauth-L3, I-A2.12-evidence-provided
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_that_lies_about_who_proved_what_how_and_when_is_found_out() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let (p, q) = (
            known(&world, &log, "p").await,
            known(&world, &log, "q").await,
        );
        let liar = Liar {
            world: &world,
            log: &log,
            known: [&p, &q],
            root: SigningKey::generate().unwrap().0,
            own: SigningKey::generate().unwrap().0,
        };
        for (what, change, found) in CASES {
            let mut claim = TRUE;
            change(&mut claim);
            match (liar.shown(&claim).await, found) {
                (Ok(shown), None) => assert_eq!(shown.signatures.len(), 1, "{what}"),
                (Err(fault), Some(found)) => {
                    assert_eq!(fault, EvidenceFault::Broken(found), "{what}");
                }
                (judged, _) => panic!("{what}: {judged:?}"),
            }
        }
        let remarks = async |claim: &Claim| liar.shown(claim).await.unwrap().remarks;
        let secret = "the-sams-word-for-the-secret";
        assert_eq!(remarks(&TRUE).await, [secret]);
        let unsaid = Claim {
            certified: None,
            ..TRUE
        };
        let said = [secret, "no-authoritys-word-for-the-certificate"];
        assert_eq!(remarks(&unsaid).await, said);
        let vouched = Claim {
            level: 3,
            vouched: true,
            bound: true,
            ..TRUE
        };
        let said = [secret, "the-sams-word-for-the-authenticator"];
        assert_eq!(remarks(&vouched).await, said);
        let by_pin = Claim {
            method: "pin-totp",
            ..TRUE
        };
        let said = [
            secret,
            "counts-by-the-operators-policy",
            "the-sams-word-only",
        ];
        assert_eq!(remarks(&by_pin).await, said);
    }
}
