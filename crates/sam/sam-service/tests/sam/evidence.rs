//! Receipts: what the SAM gives out, judged by the checker that shares nothing with it.

use audit_log::{LogKey, Sequencer};
use audit_verify::{Anchors, EvidenceFault, Shown, TrustedProvider, verify_evidence};
use core_types::timekeeping::{ClockEstimate, ClockRule};
use core_types::{Clock as _, Digest32, KeyAlg, SecretBytes, sha256};
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::ssa::*;
use sam_service::SamConfig;
use sap::NewFactor;
use sap::proof::Method;
use serde_json::{Value, json};

use crate::kit::*;

pub struct Log {
    sequencer: Sequencer,
    pub key: String,
}

impl Log {
    pub async fn of(world: &World) -> Self {
        let key = LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![5; 32])).unwrap();
        let public = key.public();
        let audit = world.sam.audit().clone();
        let sequencer = Sequencer::open(audit, key, None, &world.store)
            .await
            .unwrap();
        Self {
            sequencer,
            key: public,
        }
    }

    pub async fn turn(&self, world: &World) {
        let now = world.clock.now();
        self.sequencer.sequence(&world.store, now).await.unwrap();
    }
}

impl World {
    pub async fn receipt(&self, signer: &Signer, act: Digest32) -> Result<String, Refusal> {
        let request = ReceiptRequest {
            person: signer.person.clone(),
            act,
        };
        Ok(self.sam.receipt(request).await?.bundle)
    }

    /// What the checker says of an act.
    pub async fn shown(&self, signer: &Signer, act: Digest32) -> Shown {
        let log = Log::of(self).await;
        log.turn(self).await;
        let bundle = self.receipt(signer, act).await.unwrap();
        self.check(&bundle, &log).unwrap()
    }

    /// Its registration authority, as a reader knows it.
    pub fn authorities(&self) -> [String; 1] {
        [serde_json::to_string(self.ra.public_key()).unwrap()]
    }

    pub fn check(&self, bundle: &str, log: &Log) -> Result<Shown, EvidenceFault> {
        let (root, authorities) = (self.sam.root().kid(), self.authorities());
        let anchors = Anchors {
            root: &root,
            log: &log.key,
            issuer: Some(&self.config.issuers[0]),
            providers: &[],
            authorities: &authorities,
        };
        verify_evidence(bundle.as_bytes(), anchors)
    }

    /// The same by somebody who knows these providers.
    pub async fn shown_to(
        &self,
        providers: &[TrustedProvider],
        signer: &Signer,
        act: Digest32,
    ) -> Result<Shown, EvidenceFault> {
        let log = Log::of(self).await;
        log.turn(self).await;
        let bundle = self.receipt(signer, act).await.unwrap();
        let root = self.sam.root().kid();
        let anchors = Anchors {
            root: &root,
            log: &log.key,
            issuer: Some(&self.config.issuers[0]),
            providers,
            authorities: &[],
        };
        verify_evidence(bundle.as_bytes(), anchors)
    }
}

// shows: II-A1-sad-once, T-USE-SAP-BYPASS, I-6.1-signer-identifiable, I-A2.12-evidence-provided,
// I-A1.1-rssp-authenticates-on-direct-issue
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_shown_from_enrolment_to_value_without_asking_us() {
    for mut world in worlds().await {
        // Somebody keeps its clock right.
        let kept = SamConfig {
            clock: ClockRule::BoundMs(500),
            ..world.config.clone()
        };
        world.sam = world.node_with(kept).await;
        let estimate = ClockEstimate {
            error_ms: 5,
            at: START,
        };
        world.sam.heed_clock(Some(estimate)).await.unwrap();
        let log = Log::of(&world).await;
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1), hash(2)]).await;
        let act = world.open(rid).await;
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
        world.bind(rid, "token").await.unwrap();
        let values = world
            .sign(&signer, "token", &[hash(2)])
            .await
            .unwrap()
            .signatures;
        assert!(
            world.receipt(&signer, act).await.is_err(),
            "not before a checkpoint"
        );
        log.turn(&world).await;
        assert_eq!(
            world.receipt(&other, act).await.unwrap_err(),
            Refusal::NotFound
        );

        let bundle = world.receipt(&signer, act).await.unwrap();
        let shown = world.check(&bundle, &log).unwrap();
        assert_eq!(
            (shown.kind.as_str(), shown.method.as_str()),
            ("sign", "passkey")
        );
        assert_eq!(shown.person, ["p", "p"]);
        assert_eq!(shown.act, act.to_string());
        assert_eq!(shown.client, Some(("Known client".into(), true)));
        assert_eq!((shown.what.len(), shown.chain.len()), (2, 1));
        assert!(!shown.by_word);
        assert_eq!(shown.remarks, ["the-sams-word-for-the-secret"]);
        assert_eq!(shown.approved_at, START.0);
        // Who let the person in, how sure of them, and up to which level.
        let invited = shown.invited.clone().unwrap();
        assert_eq!(invited.authority, world.ra.public_key().kid());
        assert_eq!((&*invited.assurance, invited.ceiling), ("in-person", 3));
        // What wrote it, in which epoch, under which policy; and that the client's request had no signature of its own.
        assert_eq!(shown.software, env!("CARGO_PKG_VERSION"));
        assert_eq!(shown.epoch.as_deref().map(str::len), Some(43));
        assert_eq!(shown.policy.map(|(version, _)| version), Some(1));
        let policy = world.config.policy.digest().to_string();
        assert_eq!(shown.policy_digest, Some(policy));
        assert!(!shown.client_signed && shown.document.is_none());
        let signature = &shown.signatures[0];
        assert_eq!(signature.items, [1]);
        assert_eq!(signature.values, [sha256(&[&values[0].0]).to_string()]);
        assert!(shown.log.iter().any(|(_, kind)| kind == "signature.made"));
        let list = world.sam.signatures(SignaturesRequest {
            person: signer.person.clone(),
        });
        assert_eq!(list.await.unwrap().entries[0].act, act);

        let asked = ReceiptOfRequest {
            client: client(),
            person: None,
            key: signer.keys[0].key.clone(),
            value: sha256(&[&values[0].0]),
        };
        only_who_got_a_value_gets_its_receipt(&world, &asked, &signer, &other, &bundle).await;

        every_change_is_noticed(&world, &log, &bundle, &other);
    }
}

async fn only_who_got_a_value_gets_its_receipt(
    world: &World,
    asked: &ReceiptOfRequest,
    signer: &Signer,
    other: &Signer,
    bundle: &str,
) {
    let theirs = ReceiptOfRequest {
        person: Some(signer.person.clone()),
        ..asked.clone()
    };
    for good in [asked, &theirs] {
        let answer = world.sam.receipt_of(good.clone()).await.unwrap();
        assert_eq!(answer.bundle, bundle);
    }
    for bad in [
        ReceiptOfRequest {
            client: core_types::ClientId::parse("other-client").unwrap(),
            ..asked.clone()
        },
        ReceiptOfRequest {
            person: Some(other.person.clone()),
            ..asked.clone()
        },
        ReceiptOfRequest {
            key: other.keys[0].key.clone(),
            ..asked.clone()
        },
        ReceiptOfRequest {
            value: sha256(&[b"another"]),
            ..asked.clone()
        },
    ] {
        let refused = world.sam.receipt_of(bad.clone()).await.unwrap_err();
        assert_eq!(refused, Refusal::NotFound, "{bad:?}");
    }
}

/// What was got long ago has its receipt too, and what never was isn't taken for it.
// shows: I-A2.12-evidence-provided
#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_found_behind_many_later_calls_of_its_key() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut values = Vec::new();
        for n in 0..70 {
            let rid = world.prepare(&signer, &[hash(n)]).await;
            let act = world.open(rid).await;
            let proof = signer.passkey.prove(act).unwrap();
            world.approve(proof).await.unwrap();
            let token = format!("token-{n}");
            world.bind(rid, &token).await.unwrap();
            let signed = world.sign(&signer, &token, &[hash(n)]).await.unwrap();
            values.push((act, sha256(&[&signed.signatures[0].0])));
        }
        log.turn(&world).await;
        let asked = |value| ReceiptOfRequest {
            client: client(),
            person: None,
            key: signer.keys[0].key.clone(),
            value,
        };
        for (act, value) in [values[69], values[6], values[5], values[0]] {
            let answer = world.sam.receipt_of(asked(value)).await.unwrap();
            let shown = world.check(&answer.bundle, &log).unwrap();
            assert_eq!(shown.act, act.to_string());
        }
        let never = world.sam.receipt_of(asked(sha256(&[b"never"]))).await;
        assert_eq!(never.unwrap_err(), Refusal::NotFound);
    }
}

fn every_change_is_noticed(world: &World, log: &Log, bundle: &str, other: &Signer) {
    let good: Value = serde_json::from_str(bundle).unwrap();
    let refused = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good, "{name} changed nothing");
        let judged = world.check(&bad.to_string(), log);
        assert!(judged.is_err(), "{name}: {judged:?}");
    };
    refused("another act", &|b| b["act"] = json!(Digest32([1; 32])));
    refused("another root", &|b| {
        b["root"]["x"] = json!(Digest32([1; 32]))
    });
    refused("an unknown member", &|b| b["more"] = json!(1));
    refused("no certificate", &|b| b["certificates"] = json!([]));
    refused("another's certificate", &|b| {
        b["certificates"][0] = json!(other.keys[0].chain[0]);
    });
    refused("another checkpoint", &|b| {
        b["checkpoint"] = json!(b["checkpoint"].as_str().unwrap().replacen("\n1", "\n2", 1));
        b["entries"][0]["seq"] = json!(7777);
    });
    let (documents, entries) = (
        good["documents"].as_array().unwrap(),
        good["entries"].as_array().unwrap(),
    );
    for n in 0..documents.len() {
        refused("a document less", &|b| {
            b["documents"].as_array_mut().unwrap().remove(n);
        });
        for (from, to) in [
            ("\"at\":18", "\"at\":19"),
            ("\"policy\":1", "\"policy\":2"),
            ("\"act\":\"", "\"act\":\"A"),
        ] {
            if documents[n].as_str().unwrap().contains(from) {
                refused("an edited document", &|b| {
                    let text = b["documents"][n].as_str().unwrap().replacen(from, to, 1);
                    b["documents"][n] = json!(text);
                });
            }
        }
    }
    for n in 0..entries.len() {
        refused("an edited entry", &|b| {
            let text = b["entries"][n]["body"]
                .as_str()
                .unwrap()
                .replacen("\"at\":1", "\"at\":2", 1);
            b["entries"][n]["body"] = json!(text);
        });
        refused("a wrong path", &|b| {
            b["entries"][n]["proof"][0] = json!(Digest32([3; 32]));
        });
        refused("a moved entry", &|b| {
            b["entries"][n]["seq"] = json!(b["entries"][n]["seq"].as_u64().unwrap() + 1);
        });
        let kind = entries[n]["body"].as_str().unwrap();
        if ["act.approved", "person.enrolled", "signature.made"]
            .iter()
            .any(|k| kind.contains(k))
        {
            refused("an entry less", &|b| {
                b["entries"].as_array_mut().unwrap().remove(n);
            });
        }
    }
    let root = world.sam.root().kid();
    let stranger = LogKey::from_seed("sam.test/log", &SecretBytes::new(vec![6; 32]))
        .unwrap()
        .public();
    let anchors = Anchors {
        root: &root,
        log: &stranger,
        issuer: None,
        providers: &[],
        authorities: &[],
    };
    assert!(verify_evidence(bundle.as_bytes(), anchors).is_err());
    let anchors = Anchors {
        log: &log.key,
        issuer: Some(&other.keys[0].chain[0].0),
        ..anchors
    };
    assert!(
        verify_evidence(bundle.as_bytes(), anchors).is_err(),
        "another issuer"
    );
    let anchors = Anchors {
        issuer: None,
        ..anchors
    };
    let shown = verify_evidence(bundle.as_bytes(), anchors).unwrap();
    let unknown = ["the-sams-word-for-the-invitation", "issuer-not-checked"];
    assert_eq!((&shown.remarks[..], &shown.invited), (&unknown[..], &None));
    let stranger = jose::SigningKey::generate().unwrap().0;
    let stranger = serde_json::to_string(stranger.public()).unwrap();
    let known = |authorities: &[String]| {
        let anchors = Anchors {
            authorities,
            ..anchors
        };
        verify_evidence(bundle.as_bytes(), anchors)
    };
    assert_eq!(
        known(std::slice::from_ref(&stranger)),
        Err(EvidenceFault::Broken(
            "the invitation isn't by an authority that you know"
        ))
    );
    let unreadable = known(&["{}".into()]);
    assert!(matches!(unreadable, Err(EvidenceFault::Anchor(_))));
    let [own] = world.authorities();
    assert!(known(&[stranger, own]).unwrap().invited.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_acts_have_evidence_too_and_secrets_only_our_word() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let mut signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        // A signature by PIN and code: the SAM's word.
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let by_pin = world.open(rid).await;
        let proof = world.pin_proof(by_pin, PIN, world.otp(&seed, 0)).await;
        world.approve(proof).await.unwrap();
        world.bind(rid, "token").await.unwrap();
        world.sign(&signer, "token", &[hash(1)]).await.unwrap();
        // A passkey added by the old one, and the key destroyed with it.
        let registration = signer.keys[0].registration.clone();
        let adding = world
            .change(
                &signer,
                Wish::AddFactor {
                    registration,
                    method: Method::Passkey,
                },
            )
            .await;
        let mut fresh = passkey();
        let new = NewFactor::Passkey {
            registration: fresh.register(adding).unwrap(),
        };
        let proof = signer.passkey.prove(adding).unwrap();
        world.approve_with(proof, Some(new)).await.unwrap();
        let key = signer.keys[0].key.clone();
        let destroying = world.change(&signer, Wish::Destroy { key }).await;
        world
            .approve(fresh.prove(destroying).unwrap())
            .await
            .unwrap();
        log.turn(&world).await;

        let pin = world.receipt(&signer, by_pin).await.unwrap();
        let shown = world.check(&pin, &log).unwrap();
        let secret = "the-sams-word-for-the-secret";
        let remarks = [secret, "the-sams-word-only", "clock-not-kept"];
        assert!(shown.by_word && shown.remarks == remarks);
        assert!(!pin.contains(PIN));

        // The enrolment itself, which made the first factors: no factor could approve it.
        let history = world.history(&signer).await;
        let enrolled = history.iter().find(|e| e.what == Happened::Enrolled);
        let enrolled = enrolled.and_then(|e| e.act).unwrap();
        let text = world.receipt(&signer, enrolled).await.unwrap();
        let shown = world.check(&text, &log).unwrap();
        assert_eq!(
            (shown.kind.as_str(), shown.method.as_str()),
            ("enrol", "enrolment")
        );
        assert!(!shown.by_word && shown.remarks == [secret, "clock-not-kept"]);
        assert!(shown.invited.is_some());
        assert_eq!(shown.person[0], "p");

        let added = world.receipt(&signer, adding).await.unwrap();
        let shown = world.check(&added, &log).unwrap();
        assert_eq!((shown.kind.as_str(), shown.chain.len()), ("factor", 1));

        let destroyed = world.receipt(&signer, destroying).await.unwrap();
        let shown = world.check(&destroyed, &log).unwrap();
        assert_eq!(shown.kind, "destroy");
        assert_eq!(shown.chain.first(), Some(&adding.to_string()));
        assert_eq!(
            shown.chain.len(),
            2,
            "from the new passkey through the old one to the enrolment"
        );
        assert_eq!(shown.remarks, [secret, "no-certificate", "clock-not-kept"]);
    }
}

// shows: I-A2.12-evidence-provided, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_on_somebodys_word_is_shown_as_that_and_as_nothing_more() {
    for world in worlds().await {
        let log = Log::of(&world).await;
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let key = signer.keys[0].key.clone();
        let changes = world.key(&signer).await.changes;
        world.stop(&signer, changes).await.unwrap();
        let request = GuardRequest::Key { key: key.clone() };
        world.sam.guard_stop(GUARD, request).await.unwrap();
        log.turn(&world).await;
        let told = world.history(&signer).await;
        let stops = told.iter().filter(|e| e.what == Happened::Suspended);
        let stops: Vec<Digest32> = stops.filter_map(|e| e.act).collect();
        assert_eq!(stops.len(), 2, "each has a receipt");
        for (act, method, peer, before) in [
            (stops[0], "guard", GUARD, changes + 1),
            (stops[1], "login", SSA, changes),
        ] {
            let bundle = world.receipt(&signer, act).await.unwrap();
            let shown = world.check(&bundle, &log).unwrap();
            assert_eq!(
                (shown.kind.as_str(), shown.method.as_str()),
                ("stop", method)
            );
            assert!(shown.by_word, "nothing was proven");
            assert_eq!(shown.person, [peer, ""]);
            assert_eq!(shown.key.as_ref().unwrap()[0], key.as_str());
            let what = ["key of p".to_owned(), format!("changes before {before}")];
            assert_eq!(shown.what, what);
            // By nobody else, and of nothing else.
            let named = format!("\\\"peer\\\":\\\"{peer}\\\"");
            let edited = bundle.replace(&named, "\\\"peer\\\":\\\"x\\\"");
            assert_ne!(edited, bundle);
            assert!(world.check(&edited, &log).is_err());
            let foreign = world.receipt(&other, act).await.unwrap_err();
            assert_eq!(foreign, Refusal::NotFound);
        }
        // Without the log's entry of it, the text is nobody's word.
        let bundle = world.receipt(&signer, stops[1]).await.unwrap();
        let mut value: Value = serde_json::from_str(&bundle).unwrap();
        let entries = value["entries"].as_array_mut().unwrap();
        entries.retain(|e| !e["body"].as_str().unwrap().contains("key.stopped"));
        assert!(world.check(&value.to_string(), &log).is_err());
    }
}
