//! Keys that come in and keys that leave, through the door that signers and CAs use (`III-3-15-import-*`, `III-3-9-*`).

use cm_core::backend::{Backend as _, NewKey};
use cm_soft::SoftBackend;
use core_types::random::SystemRandom;
use core_types::{
    B64, Clock as _, DestroyCause, Digest32, KeyAlg, Level, OriginCase, PersonId, UnixTime, sha256,
};
use jose::{Jwk, SealKey, SigningKey};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::import::{CA_BRINGS, SIGNER_BRINGS};
use sam_keys::Destruction;
use sam_keys::import::{CaImport, ImportKey, ImportedKey, take_over};
use sap::messages::{
    ImportAnswer, ImportKeyRequest, ImportRequest, OpenRequest, SapRefusal, SapRefusalCode,
};
use sap::{Act, act_digest};

use crate::cm::Fault;
use crate::kit::*;
use crate::levels::worlds_at;

/// A pair that somebody has outside.
struct Outside {
    alg: KeyAlg,
    made: NewKey,
}

impl Outside {
    fn new(alg: KeyAlg) -> Self {
        let made = SoftBackend.generate(alg).unwrap();
        Self { alg, made }
    }

    /// What its owner seals for the module.
    fn sent(&self, owner: &PersonId, act: Digest32) -> ImportedKey {
        let spki = sha256(&[&self.made.spki]);
        let bound = ImportedKey::binding("sam.test", owner, act, spki);
        let alg = self.alg.csr_alg();
        let key = SoftBackend.load(self.alg, &self.made.material).unwrap();
        ImportedKey {
            sam: "sam.test".into(),
            owner: owner.clone(),
            act,
            pkcs8: self.made.material.clone(),
            spki: B64(self.made.spki.clone()),
            proof: B64(key.sign(alg, &alg.dtbs(&bound)).unwrap()),
        }
    }
}

fn wish(signer: &Signer, spki: &[u8], case: OriginCase, level: Level) -> Wish {
    Wish::Import {
        registration: signer.keys[0].registration.clone(),
        spki: B64(spki.to_vec()),
        case,
        level,
    }
}

fn own(signer: &Signer, key: &Outside) -> Wish {
    wish(signer, &key.made.spki, OriginCase::Signer, Level::One)
}

fn level(requirement: &str) -> Refusal {
    Refusal::Level {
        requirement: requirement.to_owned(),
    }
}

impl World {
    /// Has the import of this key approved; answers the digest of the act.
    async fn admit(&self, wish: Wish, signer: &mut Signer) -> Digest32 {
        let act = self.change(signer, wish).await;
        let proof = signer.passkey.prove(act).unwrap();
        self.approve(proof).await.unwrap();
        act
    }

    async fn import_key(&self, act: Digest32) -> Result<ImportKey, SapRefusal> {
        let answer = self.sam.import_key(ImportKeyRequest { act }).await?;
        let roots = [self.sam.root().clone()];
        assert_eq!(act_digest(&answer.act), act);
        Ok(ImportKey::verify(&answer.statement, &roots, self.clock.now()).unwrap())
    }

    async fn seal_in(&self, sent: &ImportedKey) -> String {
        let to = self.import_key(sent.act).await.unwrap();
        sent.seal(&to, &SystemRandom).unwrap()
    }

    async fn bring(&self, act: Digest32, envelope: String) -> Result<ImportAnswer, SapRefusal> {
        self.sam.import(ImportRequest { act, envelope }).await
    }

    /// Which requirement a key doesn't meet that is brought.
    async fn unmet(&self, act: Digest32, envelope: String) -> String {
        let refusal = self.bring(act, envelope).await.unwrap_err();
        assert_eq!(refusal.code, SapRefusalCode::Refused);
        refusal.requirement.unwrap()
    }

    async fn keys(&self, signer: &Signer) -> Vec<KeyInfo> {
        let person = signer.person.clone();
        self.sam.keys(KeysRequest { person }).await.unwrap().keys
    }

    async fn happened(&self, signer: &Signer) -> Vec<Happened> {
        let entries = self.history(signer).await;
        entries.into_iter().map(|e| e.what).collect()
    }
}

// shows: III-3-15-import-L1, I-3.5.1-import-L1, I-4.2.2a-existing-key, I-3.5.1-key-correctly-generated-or-imported,
// I-4.2.2a-keygen-by-signer, I-4.2.1-keygen-candidates
#[tokio::test(flavor = "multi_thread")]
async fn a_signers_own_key_comes_in_by_their_act_gets_its_certificate_and_signs() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        let rid = world.ask(&signer, own(&signer, &key)).await.unwrap();
        let jws = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        let Act::Import(said) = sam_core::act::read_act(&jws).unwrap() else {
            panic!("another kind")
        };
        // Everything is fixed before the signer sees it.
        assert_eq!(said.spki, sha256(&[&key.made.spki]));
        assert_eq!((said.alg, said.case), (KeyAlg::P256, OriginCase::Signer));
        assert_eq!(said.until, world.clock.now().plus(SIGNER_BRINGS));
        let act = act_digest(&jws);
        let early = world.import_key(act).await.unwrap_err();
        assert_eq!(early.code, SapRefusalCode::Refused);

        let proof = signer.passkey.prove(act).unwrap();
        world.approve(proof.clone()).await.unwrap();
        assert!(world.approve(proof).await.is_err());
        // It is a right to bring one key, and none to sign.
        assert!(world.bind(rid, "token").await.is_err());
        assert_eq!(world.keys(&signer).await.len(), 1);
        let envelope = world.seal_in(&key.sent(&signer.person, act)).await;
        let brought = world.bring(act, envelope.clone()).await.unwrap();
        let again = world.bring(act, envelope).await.unwrap_err();
        assert_eq!(again.code, SapRefusalCode::Used);

        let keys = world.certify_again(&signer).await;
        let info = keys.iter().find(|k| k.key == brought.key).unwrap();
        assert_eq!((info.state, keys.len()), (KeyState::Active, 2));
        assert_eq!(
            (info.origin_case, info.level.level),
            (OriginCase::Signer, Level::One)
        );
        assert_eq!(info.spki.0, key.made.spki);
        let mut with_it = Signer {
            keys: vec![info.clone()],
            ..signer
        };
        let token = world.approved(&mut with_it, &[hash(1)]).await;
        let made = world.sign(&with_it, &token, &[hash(1)]).await.unwrap();
        assert!(verifies(info, &hash(1), &made.signatures[0]));
        let happened = world.happened(&with_it).await;
        for what in [Happened::Imported, Happened::ImportApproved] {
            assert!(happened.contains(&what), "{what:?}");
        }
        assert_eq!(world.audited("key.imported", "3-i").await, 1);
        assert_eq!(world.audited("act.minted", "import").await, 1);
        // Anybody can check offline which key was let in, and by whom.
        let shown = world.shown(&with_it, act).await;
        assert_eq!((shown.kind.as_str(), shown.by_word), ("import", false));
        let line = format!("key p-256 {} of case 3-i", said.spki);
        assert!(shown.what.iter().any(|w| w.starts_with(&line)), "{shown:?}");
    }
}

// shows: III-3-15-import-L2, III-3-15-import-L3, III-A1.2-wrapping-strength, I-4.2.2a-keygen-signer-triggered
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_come_in_is_refused_by_name_before_anybody_approves() {
    for world in worlds_at(Level::Two).await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        let ask = async |case, level| {
            let wish = wish(&signer, &key.made.spki, case, level);
            world.ask(&signer, wish).await.map(drop)
        };
        let cases = OriginCase::ALL.into_iter().filter(|c| c.imported());
        for case in cases {
            let refused = ask(case, Level::Three).await;
            assert_eq!(refused, Err(level("III-3-15-import-L3")), "{case}");
        }
        for case in [OriginCase::Signer, OriginCase::CaThroughSigner] {
            let refused = ask(case, Level::Two).await;
            assert_eq!(refused, Err(level("III-3-15-import-L2")), "{case}");
            assert_eq!(ask(case, Level::One).await, Ok(()));
        }
        assert_eq!(ask(OriginCase::CaDirect, Level::Two).await, Ok(()));
        for case in [OriginCase::ProviderDevice, OriginCase::ProviderSoftware] {
            assert!(ask(case, Level::One).await.is_err(), "{case}");
        }
        let strong = Outside::new(KeyAlg::P384);
        let refused = world.ask(&signer, own(&signer, &strong)).await;
        assert_eq!(refused, Err(level("III-A1.2-wrapping-strength")));
        // For somebody else's registration, and something that is no key.
        let foreign = world.ask(&signer, own(&other, &key)).await;
        assert_eq!(foreign, Err(Refusal::NotFound));
        let nothing = wish(&signer, b"no key", OriginCase::Signer, Level::One);
        assert!(world.ask(&signer, nothing).await.is_err());
        assert_eq!(world.audited("act.minted", "import").await, 0);
    }
}

/// An RSA SubjectPublicKeyInfo whose modulus has the fingerprint of a broken generator.
fn weak_spki() -> Vec<u8> {
    const MODULUS: &str = include_str!("../../../../cm/cm-core/tests/data/roca-modulus.hex");
    let digits = MODULUS.trim().as_bytes().chunks(2);
    let modulus: Vec<u8> = digits
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
        .collect();
    let oid = pki::asn1::try_oid("1.2.840.113549.1.1.1").unwrap();
    let rsa = pki::asn1::sequence(&[&oid, &[5, 0]]);
    let key = pki::asn1::sequence(&[&pki::asn1::uint(&modulus), &pki::asn1::uint(&[1, 0, 1])]);
    pki::asn1::sequence(&[&rsa, &pki::asn1::bits(&key)])
}

// shows: III-3-15-import-L1, I-4.2.2a-existing-key, III-3-9-protected-import-export, T-REG-IMP-DUPLICATE
// shows: T-REG-IMP-FOREIGN-KEY, T-REG-IMP-FOREIGN-INFO, T-REG-IMP-UNAUTH, I-6.1-key-bound-to-signer
#[tokio::test(flavor = "multi_thread")]
async fn duplicate_weak_foreign_and_unproven_keys_are_refused_by_name_when_they_are_brought() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        let act = world.admit(own(&signer, &key), &mut signer).await;
        let honest = key.sent(&signer.person, act);

        // Another key than was agreed to; in the clear; altered; another's name; without the key's own proof.
        let protected = "III-3-9-protected-import-export";
        let another = Outside::new(KeyAlg::P256).sent(&signer.person, act);
        assert_eq!(
            world.unmet(act, world.seal_in(&another).await).await,
            protected
        );
        let plain = core_types::bytes::b64u(key.made.material.expose());
        assert_eq!(world.unmet(act, plain).await, protected);
        let mut altered = world.seal_in(&honest).await;
        altered.pop();
        assert_eq!(world.unmet(act, altered).await, protected);
        let forged = key.sent(&other.person, act);
        assert_eq!(
            world.unmet(act, world.seal_in(&forged).await).await,
            "III-3-15-import-L1"
        );
        let unproven = ImportedKey {
            proof: another.proof.clone(),
            ..honest.clone()
        };
        assert_eq!(
            world.unmet(act, world.seal_in(&unproven).await).await,
            "III-3-15-import-L1"
        );
        assert_eq!(world.keys(&signer).await.len(), 1);
        world
            .bring(act, world.seal_in(&honest).await)
            .await
            .unwrap();

        // The same key once more, by its owner and by somebody who got hold of it; and after its end.
        let known = "I-4.2.2a-existing-key";
        let again = world.admit(own(&signer, &key), &mut signer).await;
        let sent = key.sent(&signer.person, again);
        assert_eq!(world.unmet(again, world.seal_in(&sent).await).await, known);
        let theirs = world.admit(own(&other, &key), &mut other).await;
        let sent = key.sent(&other.person, theirs);
        assert_eq!(world.unmet(theirs, world.seal_in(&sent).await).await, known);

        // A key that can be factored.
        let spki = weak_spki();
        let weak = wish(&signer, &spki, OriginCase::Signer, Level::One);
        let act = world.admit(weak, &mut signer).await;
        let sent = ImportedKey {
            act,
            spki: B64(spki),
            ..honest
        };
        assert_eq!(world.unmet(act, world.seal_in(&sent).await).await, known);
        assert_eq!(world.audited("key.imported", "").await, 1);
        assert_eq!(world.audited("sap.refused", known).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_to_bring_a_key_ends_with_time_tries_and_registration() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        // Too late, to the second.
        let act = world.admit(own(&signer, &key), &mut signer).await;
        let sent = key.sent(&signer.person, act);
        world.clock.advance(SIGNER_BRINGS - 1);
        let envelope = world.seal_in(&sent).await;
        world.clock.advance(1);
        let late = world.bring(act, envelope).await.unwrap_err();
        assert_eq!(late.code, SapRefusalCode::Expired);
        // Ten tries.
        let act = world.admit(own(&signer, &key), &mut signer).await;
        let envelope = world.seal_in(&key.sent(&signer.person, act)).await;
        for _ in 0..10 {
            world.unmet(act, "x".into()).await;
        }
        let spent = world.bring(act, envelope.clone()).await.unwrap_err();
        assert_eq!(spent.code, SapRefusalCode::Locked);
        assert!(world.bring(act, envelope).await.is_err());
        // Who left brings nothing any more.
        let act = world.admit(own(&signer, &key), &mut signer).await;
        let envelope = world.seal_in(&key.sent(&signer.person, act)).await;
        let registration = signer.keys[0].registration.clone();
        let leave = Wish::Leave { registration };
        world.changed(leave, &mut signer).await.unwrap();
        let gone = world.bring(act, envelope).await.unwrap_err();
        assert_eq!(gone.code, SapRefusalCode::Withdrawn);
        assert_eq!(world.audited("key.imported", "").await, 0);
    }
}

// shows: III-3-15-import-L2, I-3.5.1-import-L2, I-4.2.2a-keygen-by-ca, I-7.1.1.3-ca, I-4.2.1-keygen-candidates
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_ca_sends_a_key_of_level_two_under_the_signers_act_and_nobody_else_does() {
    for world in worlds_at(Level::Two).await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        let direct = |spki: &[u8]| wish(&signer, spki, OriginCase::CaDirect, Level::Two);
        let asked = direct(&key.made.spki);
        let rid = world.ask(&signer, asked).await.unwrap();
        let act = world.open(rid).await;
        let (unlisted, _) = SigningKey::generate().unwrap();
        let sent = key.sent(&signer.person, act);
        // No consent, no key.
        let told = |owner: &PersonId, sealed: String| CaImport {
            sam: "sam.test".into(),
            owner: owner.clone(),
            act,
            spki: sha256(&[&key.made.spki]),
            key: sealed,
            exp: UnixTime(i64::MAX),
        };
        let unasked = told(&signer.person, "sealed".into())
            .sign(&world.sender)
            .unwrap();
        assert!(world.bring(act, unasked).await.is_err());

        let proof = signer.passkey.prove(act).unwrap();
        world.approve(proof).await.unwrap();
        world.clock.advance(CA_BRINGS / 2);
        let sealed = world.seal_in(&sent).await;
        let two = "III-3-15-import-L2";
        assert_eq!(world.unmet(act, sealed.clone()).await, two, "by the signer");
        let word = told(&signer.person, sealed.clone());
        let by = |ca: &SigningKey, word: &CaImport| word.sign(ca).unwrap();
        assert_eq!(world.unmet(act, by(&unlisted, &word)).await, two);
        let another = told(&other.person, sealed);
        assert_eq!(
            world.unmet(act, by(&world.sender, &another)).await,
            "III-3-15-import-L1"
        );
        let brought = world.bring(act, by(&world.sender, &word)).await.unwrap();
        let keys = world.certify_again(&signer).await;
        let info = keys.iter().find(|k| k.key == brought.key).unwrap();
        assert_eq!(info.origin_case, OriginCase::CaDirect);
        assert_eq!(
            (info.level.level, info.state),
            (Level::Two, KeyState::Active)
        );
    }
}

// shows: T-KEY-DATA-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_the_module_costs_a_second_call_and_makes_no_second_key() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let key = Outside::new(KeyAlg::P256);
        let act = world.admit(own(&signer, &key), &mut signer).await;
        let envelope = world.seal_in(&key.sent(&signer.person, act)).await;
        world.cm.next(Fault::ImportLost);
        let lost = world.bring(act, envelope.clone()).await.unwrap_err();
        assert_eq!(lost.code, SapRefusalCode::NotNow);
        assert_eq!(world.keys(&signer).await.len(), 1);
        // On another node, and from several hands at once: one key.
        let node = world.node("sam-2").await;
        let request = || ImportRequest {
            act,
            envelope: envelope.clone(),
        };
        let (a, b) = tokio::join!(node.import(request()), world.sam.import(request()));
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
        assert_eq!(world.keys(&signer).await.len(), 2);
        assert_eq!(world.audited("key.imported", "").await, 1);
    }
}

fn receiver() -> (SealKey, Jwk) {
    let (key, _) = SealKey::generate().unwrap();
    let public = key.public().clone();
    (key, public)
}

fn hand_over(signer: &Signer, receiver: &Jwk) -> Wish {
    Wish::HandOver {
        key: signer.keys[0].key.clone(),
        receiver: receiver.clone(),
    }
}

async fn exportable(world: &World, name: &str) -> Signer {
    let mut invitation = world.invitation(name, &[KeyAlg::P256]);
    invitation.ceiling = Level::One;
    invitation.exportable = true;
    world.enrol_by(invitation, false).await
}

// shows: III-3-9-attributed-keys, III-A1.5-export-encrypted, III-3-9-protected-import-export, I-A4.3-leaving-service
#[tokio::test(flavor = "multi_thread")]
async fn a_key_leaves_by_its_owners_act_for_the_receiver_of_the_act_and_is_destroyed_here() {
    for world in worlds().await {
        let mut signer = exportable(&world, "p").await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        assert!(signer.keys[0].exportable && !other.keys[0].exportable);
        let (receiver, public) = receiver();
        let theirs = world.ask(&other, hand_over(&signer, &public)).await;
        assert_eq!(theirs, Err(Refusal::NotFound));
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let rid = world
            .ask(&signer, hand_over(&signer, &public))
            .await
            .unwrap();
        let jws = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        let Act::HandOver(said) = sam_core::act::read_act(&jws).unwrap() else {
            panic!("another kind")
        };
        assert_eq!(said.receiver, public);
        let act = act_digest(&jws);
        let proof = signer.passkey.prove(act).unwrap();
        // The module's first answer is lost: it is asked again, for the same receiver only.
        world.cm.next(Fault::HandOverLost);
        world.approve(proof.clone()).await.unwrap();
        let refused = world.sign(&signer, &token, &[hash(1)]).await.unwrap_err();
        assert_eq!(refused, Refusal::KeyNotActive);
        let answer = until("the key in its seal", async || {
            world.sam.maintain().await.unwrap();
            let request = HandedOverRequest {
                person: signer.person.clone(),
                act,
            };
            let answer = world.sam.handed_over(request).await;
            answer
                .inspect_err(|refusal| assert_eq!(*refusal, Refusal::NotFound))
                .ok()
        })
        .await;
        let pkcs8 = take_over(&answer.sealed, act, &receiver).unwrap();
        let taken = SoftBackend.load(KeyAlg::P256, &pkcs8).unwrap();
        assert_eq!(taken.spki(), signer.keys[0].spki.0);

        world.sam.maintain().await.unwrap();
        let key = world.key(&signer).await;
        assert_eq!(key.state, KeyState::Destroyed);
        let stop = key.stop.unwrap();
        assert_eq!(stop.cause, StopCause::HandedOver);
        let roots = [world.sam.root().clone()];
        let told = Destruction::verify(&stop.certificate.unwrap(), &roots).unwrap();
        assert_eq!((told.act, told.cause), (act, DestroyCause::HandedOver));
        assert!(world.approve(proof).await.is_err());
        assert!(
            world
                .ask(&signer, hand_over(&signer, &public))
                .await
                .is_err()
        );
        assert!(
            world
                .happened(&signer)
                .await
                .contains(&Happened::HandedOver)
        );
        assert_eq!(world.audited("key.handed-over", &public.kid()).await, 1);
        let shown = world.shown(&signer, act).await;
        assert!(shown.what.contains(&format!("receiver {}", public.kid())));

        // Only its owner fetches it, and only for a while.
        let request = |person: &PersonId| HandedOverRequest {
            person: person.clone(),
            act,
        };
        let foreign = world.sam.handed_over(request(&other.person)).await;
        assert_eq!(foreign.unwrap_err(), Refusal::NotFound);
        let left = answer.until.0 - world.clock.now().0;
        world.clock.advance(left);
        world.sam.maintain().await.unwrap();
        let late = world.sam.handed_over(request(&signer.person)).await;
        assert_eq!(late.unwrap_err(), Refusal::NotFound);
    }
}

// shows: III-3-9-attributed-keys, III-3-17-retention-L2-no-export
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_not_leave_stay_and_the_refusal_names_why() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (_, public) = receiver();
        let refused = world.ask(&signer, hand_over(&signer, &public)).await;
        assert_eq!(refused, Err(level("III-3-9-attributed-keys")));
        // Above level 1 nobody can even be invited to such keys.
        let mut invitation = world.invitation("q", &[KeyAlg::P256]);
        invitation.exportable = true;
        let (invite, ..) = world.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        let refused = world.sam.voucher(SSA, request).await.unwrap_err();
        assert_eq!(refused, level("III-3-17-retention-L2-no-export"));

        // A module that changes its mind: the key stays, stopped, and is its owner's to resume.
        let mut signer = exportable(&world, "r").await;
        world.cm.next(Fault::HandOverRefused);
        let wish = hand_over(&signer, &public);
        world.changed(wish, &mut signer).await.unwrap();
        until("the stop to be the signer's", async || {
            world.sam.maintain().await.unwrap();
            let stop = world.key(&signer).await.stop.unwrap();
            (stop.cause == StopCause::Signer).then_some(())
        })
        .await;
        let key = signer.keys[0].key.clone();
        world
            .changed(Wish::Resume { key }, &mut signer)
            .await
            .unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
    for world in worlds_at(Level::Two).await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (_, public) = receiver();
        let refused = world.ask(&signer, hand_over(&signer, &public)).await;
        assert_eq!(refused, Err(level("III-3-17-retention-L2-no-export")));
        // And its back end makes none that could.
        let mut invitation = world.invitation("q", &[KeyAlg::P256]);
        invitation.ceiling = Level::One;
        invitation.exportable = true;
        let (invite, ..) = world.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        let refused = world.sam.voucher(SSA, request).await.unwrap_err();
        assert_eq!(refused, level("I-3.5.1-retention-L2"));
    }
}
