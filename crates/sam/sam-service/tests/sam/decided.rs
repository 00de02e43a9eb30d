//! Evidence of what nobody but others decided: officers, an authority, a CA. Judged by the checker that shares nothing with the
//! SAM.

mod lies;
mod officers;

use audit_log::Event;
use audit_verify::{
    Anchors, EvidenceFault, ProposalShown, Shown, verify_evidence, verify_proposal,
};
use core_types::{B64, Clock as _, Digest32, KeyAlg, sha256};
use jose::SigningKey;
use sam_api::ssa::*;
use sam_core::evidence::{Evidence, Notice, Revocation};
use sap::manage::NoticeEffect;
use serde_json::{Value, json};
use store_kit::{StoreError, sql, transaction};

use crate::evidence::Log;
use crate::kit::*;
use crate::life::notice;
use crate::revocation::serial;

/// What the checker says of something, with the certificate of the signers' issuer or without.
struct Judge {
    root: String,
    log: String,
    issuer: Vec<u8>,
}

/// A way to make it worse.
type Change<'c> = &'c dyn Fn(&mut Value);

impl Judge {
    fn of(world: &World, log: &Log) -> Self {
        Self {
            root: world.sam.root().kid(),
            log: log.key.clone(),
            issuer: world.config.issuers[0].clone(),
        }
    }

    fn anchors(&self, issuer: bool) -> Anchors<'_> {
        Anchors {
            root: &self.root,
            log: &self.log,
            issuer: Some(self.issuer.as_slice()).filter(|_| issuer),
            providers: &[],
            authorities: &[],
        }
    }

    fn proposal(&self, text: &str) -> Result<ProposalShown, EvidenceFault> {
        verify_proposal(text.as_bytes(), self.anchors(true))
    }

    fn one(&self, text: &str) -> Result<Shown, EvidenceFault> {
        verify_evidence(text.as_bytes(), self.anchors(true))
    }

    /// Every change of this kind makes it worthless.
    fn none_of(&self, good: &str, changes: &[(&str, Change<'_>)]) {
        let good: Value = serde_json::from_str(good).unwrap();
        for (name, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert_ne!(bad, good, "{name} changed nothing");
            let text = bad.to_string();
            let judged = match good["format"] == "natsuin-proposal/1" {
                true => self.proposal(&text).is_err(),
                false => self.one(&text).is_err(),
            };
            assert!(judged, "{name}");
        }
    }
}

/// Takes the entries of a kind out of a bundle.
fn without(bundle: &mut Value, kind: &str) {
    let entries = bundle["entries"].as_array_mut().unwrap();
    entries.retain(|e| !e["body"].as_str().unwrap().contains(&format!("\"{kind}\"")));
}

/// Changes a document whose text contains `from`.
fn edit(bundle: &mut Value, from: &str, to: &str) {
    for document in bundle["documents"].as_array_mut().unwrap() {
        let text = document.as_str().unwrap();
        if text.contains(from) {
            *document = json!(text.replacen(from, to, 1));
        }
    }
}

// shows: I-A2.12-evidence-provided, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_by_an_authoritys_notice_is_shown_by_the_authoritys_own_signature() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let said = notice(&world, &signer, NoticeEffect::Hold, 1);
        let jws = world.ra.notice(&said).unwrap();
        let digest = sha256(&[jws.as_bytes()]);
        let request = NoticeRequest { notice: jws };
        world.sam.notice(SSA, request).await.unwrap();
        log.turn(&world).await;
        let told = &world.history(&signer).await[0];
        assert_eq!((told.what, told.act), (Happened::Suspended, Some(digest)));
        let text = world.receipt(&signer, digest).await.unwrap();
        let judge = Judge::of(&world, &log);
        let shown = judge.one(&text).unwrap();
        assert_eq!((&*shown.kind, &*shown.sam), ("notice", &*world.config.sam));
        let authority = world.config.registration_authorities[0].kid();
        assert_eq!(shown.person, [authority, String::new()]);
        assert_eq!(shown.what[0], "effect hold");
        assert!(shown.what[1].contains(signer.keys[0].key.as_str()));
        assert_eq!(shown.remarks, ["whose-key-is-the-sams-word"]);
        judge.none_of(
            &text,
            &[
                ("another act", &|b| b["act"] = json!(Digest32([1; 32]))),
                ("another time", &|b| edit(b, "\"at\":1", "\"at\":2")),
                ("no entry", &|b| without(b, "notice.heeded")),
                ("no document", &|b| b["documents"] = json!([])),
            ],
        );
    }
}

// shows: I-A2.12-evidence-provided, I-A4.2-revocation-prompt-destruction
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_by_what_a_ca_published_is_shown_by_the_cas_own_signature() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let judge = Judge::of(&world, &log);
        for (name, reason, effect) in [("p", 1, "revoked"), ("q", 6, "hold")] {
            for by_ocsp in [false, true] {
                let signer = world
                    .enrol(&format!("{name}{by_ocsp}"), false, &[KeyAlg::P256])
                    .await;
                world.clock.advance(10);
                world.ca.revoke(&serial(&signer), reason).unwrap();
                let published = match by_ocsp {
                    true => world.ocsp(&signer),
                    false => world.crl(),
                };
                world.published(&signer, published).await.unwrap();
                log.turn(&world).await;
                let told = world.history(&signer).await;
                let named = told.iter().find_map(|entry| entry.act);
                let text = world.receipt(&signer, named.unwrap()).await.unwrap();
                let shown = judge.one(&text).unwrap();
                let method = if by_ocsp { "ocsp" } else { "crl" };
                assert_eq!((&*shown.kind, &*shown.method), ("revocation", method));
                assert_eq!(shown.what[0], format!("effect {effect}"));
                let whose = "whose-certificate-is-the-sams-word";
                assert_eq!((&shown.remarks[..], shown.by_word), (&[whose][..], false));
                let unknown = verify_evidence(text.as_bytes(), judge.anchors(false)).unwrap();
                assert_eq!(unknown.remarks, [whose, "issuer-not-checked"]);
                judge.none_of(
                    &text,
                    &[
                        ("no entry", &|b| without(b, "revocation.heeded")),
                        ("another effect", &|b| {
                            for entry in b["entries"].as_array_mut().unwrap() {
                                let text = entry["body"].as_str().unwrap();
                                entry["body"] = json!(text.replace(effect, "released"));
                            }
                        }),
                        ("another document", &|b| edit(b, "\"at\":1", "\"at\":2")),
                    ],
                );
            }
        }
    }
}

/// Has the SAM's own log say that this was heeded, whatever it is: what a SAM could write that lies. Answers the evidence's name.
async fn claimed(
    world: &World,
    evidence: &Evidence,
    event: impl Fn(Digest32) -> Event,
) -> Digest32 {
    let bytes = evidence.bytes().unwrap();
    let name = sha256(&[&bytes]);
    let (id, audit, now) = (name.to_string(), world.sam.audit(), world.clock.now());
    let done: Result<(), StoreError> = transaction!(world.store.store, "claim", |tx| {
        let insert = sql("INSERT INTO evidence (id, body) VALUES ($1, $2)");
        tx.execute(insert.bind(id.as_str()).bind(bytes.as_slice()))
            .await?;
        audit.append(tx, event(name), now).await.map(drop)
    });
    done.unwrap();
    name
}

// shows: T-INS-OPERATOR, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_sam_that_only_claims_what_a_ca_published_or_an_authority_said_is_found_out() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let judge = Judge::of(&world, &log);
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (leaf, issuing) = (&signer.keys[0].chain[0], &signer.keys[0].chain[1]);
        let dir = tempfile::tempdir().unwrap();
        let urls = world.ca.urls().clone();
        let random = std::sync::Arc::new(core_types::random::SystemRandom);
        let other = dev_ca::DevCa::open(dir.path(), urls, world.clock.clone(), random).unwrap();
        let own = |published| match published {
            Published::Crl(der) | Published::Ocsp(der) => der.0,
        };
        let (crl, ocsp) = (own(world.crl()), own(world.ocsp(&signer)));
        let edited = |der: &[u8]| {
            let mut der = der.to_vec();
            let last = der.len() - 1;
            der[last] ^= 1;
            der
        };
        // What is claimed of the key, whose CA, what it published, and what is found.
        let unsigned = "the CA didn't sign what was published";
        let cases = [
            ("released", &issuing.0, crl.clone(), None),
            ("released", &issuing.0, ocsp.clone(), None),
            (
                "revoked",
                &issuing.0,
                crl.clone(),
                Some("what was published says something else"),
            ),
            (
                "hold",
                &issuing.0,
                ocsp.clone(),
                Some("what was published says something else"),
            ),
            ("released", &issuing.0, edited(&crl), Some(unsigned)),
            ("released", &issuing.0, other.crl().unwrap(), Some(unsigned)),
            (
                "released",
                &other.issuing_ca().der().to_vec(),
                other.crl().unwrap(),
                Some("the certificate isn't by that CA"),
            ),
        ];
        for (effect, issuer, published, found) in cases {
            let evidence = Evidence::Revocation(Box::new(Revocation {
                certificate: leaf.clone(),
                issuer: B64(issuer.clone()),
                digest: sha256(&[&published]),
                published: Some(B64(published)),
                at: world.clock.now(),
                software: effect.to_owned(),
            }));
            let name = claimed(&world, &evidence, |evidence| Event::RevocationHeeded {
                authority: sha256(&[issuer]),
                key: signer.keys[0].key.clone(),
                owner: signer.person.clone(),
                effect: effect.into(),
                evidence,
            })
            .await;
            log.turn(&world).await;
            let text = world.receipt(&signer, name).await.unwrap();
            let judged = judge.one(&text);
            match found {
                None => assert_eq!(judged.unwrap().what[0], "effect released"),
                Some(what) => assert_eq!(judged, Err(EvidenceFault::Broken(what))),
            }
        }

        // A notice by another key than it says, and one that says something else than was done.
        let said = notice(&world, &signer, NoticeEffect::Hold, 1);
        let jws = world.ra.notice(&said).unwrap();
        let (stranger, _) = SigningKey::generate().unwrap();
        let known = world.config.registration_authorities[0].clone();
        for (authority, effect, found) in [
            (&known, "hold", None),
            (
                stranger.public(),
                "hold",
                Some("the notice isn't by the authority's key"),
            ),
            (
                &known,
                "revoked",
                Some("the log doesn't contain the notice"),
            ),
        ] {
            let evidence = Evidence::Notice(Box::new(Notice {
                notice: jws.clone(),
                authority: authority.clone(),
                at: world.clock.now(),
                software: effect.to_owned(),
            }));
            let digest = sha256(&[jws.as_bytes()]);
            let of = Digest32::parse(&authority.kid()).unwrap();
            claimed(&world, &evidence, |evidence| Event::NoticeHeeded {
                notice: digest,
                authority: of,
                key: signer.keys[0].key.clone(),
                owner: signer.person.clone(),
                effect: effect.into(),
                evidence,
            })
            .await;
            log.turn(&world).await;
            let text = world.receipt(&signer, digest).await.unwrap();
            // Only this one's evidence: a bundle has all of the same notice.
            let mut bundle: Value = serde_json::from_str(&text).unwrap();
            let software = format!("\"software\":\"{effect}\"");
            let key = format!("\"x\":{}", serde_json::to_value(authority).unwrap()["x"]);
            bundle["documents"].as_array_mut().unwrap().retain(|d| {
                let text = d.as_str().unwrap();
                text.contains(&software) && text.contains(&key)
            });
            let judged = judge.one(&bundle.to_string());
            match found {
                None => assert_eq!(judged.unwrap().what[0], "effect hold"),
                Some(what) => assert_eq!(judged, Err(EvidenceFault::Broken(what))),
            }
        }
    }
}
