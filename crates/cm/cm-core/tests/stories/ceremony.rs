//! Keys of the provider: made and ended by two officers, and good for one purpose.

use cm_api::ceremony::{Ceremony, CeremonyRequest, Held, ProviderKey, Subject, Wanted};
use cm_api::rpc::Reason;
use cm_api::{Executed, KeyCreated, ModuleError, OrderKind, Refusal};
use core_types::{B64, DestroyCause, Digest32, KeyAlg, KeyId, Level, SigAlg, sha256};
use pki::csr::Csr;

use crate::destroy::KeyRow;
use crate::kit::{NOW, P256, SAM, Story, by_act, digest, everywhere, generate, refusal, sign};
use crate::switch::Officers;

const ORIGIN: &str = "sign.example.jp/sam";

pub fn held(story: &Story, what: Wanted) -> Ceremony {
    Ceremony {
        sam: SAM.into(),
        root: story.module.root().kid(),
        reason: "更新".into(),
        exp: NOW.plus(600),
        what,
    }
}

pub fn seal_key() -> Wanted {
    Wanted::SealKey {
        alg: KeyAlg::P256,
        level: Level::One,
        subject: Subject {
            country: "JP".into(),
            organization: "捺印株式会社".into(),
            name: "Remote signing service".into(),
        },
        not_after: NOW.plus(1000),
    }
}

pub fn log_key() -> Wanted {
    Wanted::LogKey {
        origin: ORIGIN.into(),
        level: Level::One,
        not_after: NOW.plus(1000),
    }
}

impl Officers {
    pub fn approved(&self, who: &[usize], of: &Ceremony) -> CeremonyRequest {
        let sign = |i: &usize| of.approve(&self.0[*i]).unwrap();
        CeremonyRequest {
            approvals: who.iter().map(sign).collect(),
        }
    }

    pub async fn made(&self, story: &Story, what: Wanted) -> ProviderKey {
        let request = self.approved(&[0, 1], &held(story, what));
        match story.module.ceremony(&request).await.unwrap() {
            Held::Made(key) => key,
            other => panic!("a key was made: {other:?}"),
        }
    }
}

/// What an order for documents needs to name such a key.
pub fn as_signers(key: &ProviderKey) -> KeyCreated {
    KeyCreated {
        key: key.key.clone(),
        version: 1,
        spki: key.spki.clone(),
        origin: String::new(),
        statement: String::new(),
    }
}

pub fn checkpoint(key: &KeyId, spki: Digest32, size: u64, root: u8) -> OrderKind {
    OrderKind::Checkpoint {
        key: key.clone(),
        spki,
        size,
        root: Digest32([root; 32]),
    }
}

// shows: III-3-5-key-purpose-defined, III-A1.3-limited-purpose, III-A1.4.2-dual-control, T-KEY-MISUSE
#[tokio::test]
async fn a_key_of_the_provider_is_made_by_two_officers_and_is_good_for_one_purpose() {
    everywhere(
        a_key_of_the_provider_is_made_by_two_officers_and_is_good_for_one_purpose::ON_TOKENS,
        async |mut story| {
            let officers = Officers::new();
            story.module = story.again_with(&officers.setup()).await;
            let of = held(&story, seal_key());
            let ask =
                async |request: CeremonyRequest| refusal(story.module.ceremony(&request).await);
            for who in [&[][..], &[0], &[0, 0]] {
                let request = officers.approved(who, &of);
                assert_eq!(ask(request).await, Refusal::NotAuthentic, "{who:?}");
            }
            let stranger = Officers::new();
            let request = stranger.approved(&[0, 1], &of);
            assert_eq!(ask(request).await, Refusal::NotAuthentic);
            let mut mixed = officers.approved(&[0], &of);
            let other = held(&story, log_key());
            mixed
                .approvals
                .extend(officers.approved(&[1], &other).approvals);
            assert_eq!(
                ask(mixed).await,
                Refusal::NotAuthentic,
                "not the same bytes"
            );
            let foreign = |change: fn(&mut Ceremony)| {
                let mut of = held(&story, seal_key());
                change(&mut of);
                officers.approved(&[0, 1], &of)
            };
            for (change, answer) in [
                (
                    (|c| c.sam = "another".into()) as fn(&mut Ceremony),
                    Refusal::NotAuthentic,
                ),
                (|c| c.root = "another".into(), Refusal::NotAuthentic),
                (|c| c.exp = NOW, Refusal::NotNow),
                (|c| c.exp = NOW.plus(3601), Refusal::NotNow),
                (|c| c.reason = String::new(), Refusal::Malformed),
                (|c| c.reason = " because".into(), Refusal::Malformed),
            ] {
                assert_eq!(ask(foreign(change)).await, answer);
            }
            let level = Refusal::NotAllowed(Reason::Level);
            for (change, answer) in [
                (
                    (|w| {
                        if let Wanted::SealKey { level, .. } = w {
                            *level = Level::Two;
                        }
                    }) as fn(&mut Wanted),
                    level,
                ),
                (
                    |w| {
                        if let Wanted::SealKey { not_after, .. } = w {
                            *not_after = NOW;
                        }
                    },
                    Refusal::NotNow,
                ),
                (
                    |w| {
                        if let Wanted::SealKey { subject, .. } = w {
                            subject.country = "Japan".into();
                        }
                    },
                    Refusal::Malformed,
                ),
                (
                    |w| {
                        if let Wanted::SealKey { subject, .. } = w {
                            subject.name = String::new();
                        }
                    },
                    Refusal::Malformed,
                ),
            ] {
                let mut what = seal_key();
                change(&mut what);
                let request = officers.approved(&[0, 1], &held(&story, what));
                assert_eq!(ask(request).await, answer);
            }
            assert_eq!(story.audited("cm.ceremony-held").await, 0);
            assert_eq!(story.audited("key.generated").await, 0);

            // Made once; its certification request is for itself and by itself.
            let key = officers.made(&story, seal_key()).await;
            let again = ask(officers.approved(&[0, 1], &of)).await;
            assert_eq!(again, Refusal::Duplicate);
            let csr = Csr::verify(&key.request.as_ref().unwrap().0).unwrap();
            assert_eq!(csr.spki, key.spki.0);
            let named = pki::name::to_text(&csr.subject);
            assert!(named.contains("CN=Remote signing service"), "{named}");
            assert_eq!(story.audited("cm.ceremony-held").await, 1);
            assert_eq!(story.audited("key.csr-signed").await, 1);

            // A signer's order gets nothing of it, whatever it asks for.
            let purpose = Refusal::NotAllowed(Reason::Purpose);
            let named = as_signers(&key);
            let spki = sha256(&[&key.spki.0]);
            let info = pki::csr::request_info(&[0x30, 0], &key.spki.0);
            for kind in [
                sign(&named, P256, &[digest(P256, "a")]),
                checkpoint(&key.key, spki, 1, 1),
                OrderKind::SignCsr {
                    key: key.key.clone(),
                    version: 1,
                    spki,
                    info: B64(info),
                },
                OrderKind::HandOver {
                    key: key.key.clone(),
                    version: 1,
                    spki,
                    receiver: story.act.public().clone(),
                    act: Digest32([4; 32]),
                },
                OrderKind::Destroy {
                    key: key.key.clone(),
                    version: 1,
                    spki,
                    act: Digest32([4; 32]),
                    cause: DestroyCause::Officers,
                },
            ] {
                let refused = story.refused(kind).await;
                assert_eq!(refused, purpose);
            }
            // Nor do officers end a signer's key.
            let signers = story.key(KeyAlg::P256).await;
            let end = |key: &KeyId, spki: &[u8]| Wanted::Destroy {
                key: key.clone(),
                spki: sha256(&[spki]),
            };
            let of_signer = held(&story, end(&signers.key, &signers.spki.0));
            assert_eq!(ask(officers.approved(&[0, 1], &of_signer)).await, purpose);
            let of_own = held(&story, end(&key.key, &key.spki.0));
            assert_eq!(
                ask(officers.approved(&[2], &of_own)).await,
                Refusal::NotAuthentic
            );
            let request = officers.approved(&[1, 2], &of_own);
            let ended = story.module.ceremony(&request).await.unwrap();
            assert!(matches!(ended, Held::Destroyed(_)), "{ended:?}");
            let gone = story.refused(sign(&named, P256, &[digest(P256, "a")]));
            assert_eq!(gone.await, Refusal::NoSuchKey);
        },
    )
    .await;
}

// shows: III-3-5-key-purpose-defined, T-KEY-MISUSE, T-KEY-ABUSE
#[tokio::test]
async fn a_log_key_signs_checkpoints_of_one_log_that_only_grows() {
    everywhere(
        a_log_key_signs_checkpoints_of_one_log_that_only_grows::ON_TOKENS,
        async |mut story| {
            let officers = Officers::new();
            story.module = story.again_with(&officers.setup()).await;
            let bad = Wanted::LogKey {
                origin: "two words".into(),
                level: Level::One,
                not_after: NOW.plus(1000),
            };
            let bad = officers.approved(&[0, 1], &held(&story, bad));
            assert_eq!(
                refusal(story.module.ceremony(&bad).await),
                Refusal::Malformed
            );
            if story.backend.name() == "pkcs11-wrapped" {
                let request = officers.approved(&[0, 1], &held(&story, log_key()));
                let refused = refusal(story.module.ceremony(&request).await);
                assert_eq!(refused, Refusal::NotAllowed(Reason::Algorithm));
                return;
            }
            let key = officers.made(&story, log_key()).await;
            assert_eq!(key.request, None);
            let spki = sha256(&[&key.spki.0]);
            let ask = async |story: &Story, size, root| {
                let order = story.order(checkpoint(&key.key, spki, size, root));
                match story.module.execute(&order).await {
                    Ok(Executed::Signed(values)) => Ok(values),
                    Ok(other) => panic!("a checkpoint was ordered: {other:?}"),
                    Err(ModuleError::Refused(refusal)) => Err(refusal),
                    Err(ModuleError::Unknown) => panic!("unknown"),
                }
            };
            let before = story.audited("").await;
            let first = ask(&story, 5, 1).await.unwrap();
            let text = audit_log::checkpoint_text(ORIGIN, 5, &Digest32([1; 32]));
            assert!(text.starts_with("sign.example.jp/sam\n5\n"), "{text}");
            let signed = pki::Signed::Message(text.as_bytes());
            pki::verify_signature(&key.spki.0, SigAlg::Ed25519, signed, &first[0].0).unwrap();
            assert_eq!(ask(&story, 5, 1).await.unwrap(), first, "the same again");
            let other = Err(Refusal::NotAllowed(Reason::OtherTree));
            for (size, root) in [(5, 2), (4, 1), (0, 1)] {
                assert_eq!(ask(&story, size, root).await, other, "{size} {root}");
            }
            ask(&story, 6, 2).await.unwrap();
            // Each is in the module's log once; so is what was refused.
            assert_eq!(story.audited("").await, before + 5);
            assert_eq!(story.audited("cm.checkpoint-signed").await, 2);
            story.module = story.again_with(&officers.setup()).await;
            assert_eq!(ask(&story, 5, 1).await, other, "after a restart");
            let row = KeyRow::of(&story, &as_signers(&key)).await;
            ask(&story, 7, 3).await.unwrap();
            row.replace(&story).await;
            assert_eq!(
                ask(&story, 7, 4).await,
                Err(Refusal::NoSuchKey),
                "a row that was set back"
            );
            KeyRow::of(&story, &as_signers(&key))
                .await
                .delete(&story)
                .await;

            // A signer's key signs none, and a log key no document: neither as digest nor as message.
            let signers = story.key(KeyAlg::Ed25519).await;
            let purpose = Refusal::NotAllowed(Reason::Purpose);
            let of = checkpoint(&signers.key, sha256(&[&signers.spki.0]), 1, 1);
            assert_eq!(story.refused(of).await, purpose);
            let fresh = Wanted::LogKey {
                origin: "sign.example.jp/cm".into(),
                level: Level::One,
                not_after: NOW.plus(1000),
            };
            let key = officers.made(&story, fresh).await;
            let message = audit_log::checkpoint_text("sign.example.jp/cm", 1, &Digest32([1; 32]));
            let forged = sign(&as_signers(&key), SigAlg::Ed25519, &[message.into_bytes()]);
            assert_eq!(story.refused(by_act(8, forged)).await, purpose);
            story.clock.advance(1000);
            let late = checkpoint(&key.key, sha256(&[&key.spki.0]), 1, 1);
            assert_eq!(story.refused(late).await, Refusal::NotAllowed(Reason::Time));
            let order = generate(KeyAlg::P256, Level::One);
            story.module.execute(&story.order(order)).await.unwrap();
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    a_key_of_the_provider_is_made_by_two_officers_and_is_good_for_one_purpose,
    a_log_key_signs_checkpoints_of_one_log_that_only_grows,
);
