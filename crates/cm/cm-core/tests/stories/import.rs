//! Keys from elsewhere, and keys that leave: who may, at which level, and what is refused by name.

use cm_api::rpc::Reason;
use cm_api::{Executed, KeyCreated, OrderKind, Refusal};
use cm_core::ImportCa;
use cm_core::backend::{Backend as _, NewKey};
use cm_soft::SoftBackend;
use core_types::random::SystemRandom;
use core_types::{B64, Digest32, KeyAlg, Level, OriginCase, PersonId, TenantId, UnixTime, sha256};
use jose::{SealKey, SigningKey};
use sam_keys::Origin;
use sam_keys::import::{CaImport, ImportKey, ImportedKey, take_over};

use crate::destroy::destroy;
use crate::faulty::Faulty;
use crate::kit::{NOW, P256, SAM, Setup, Story, digest, everywhere, generate, sign};

const ACT: Digest32 = Digest32([6; 32]);

fn person(name: &str) -> PersonId {
    PersonId::parse(name).unwrap()
}

/// A pair made outside, and what its owner sends.
pub struct Outside {
    made: NewKey,
    sent: ImportedKey,
}

impl Outside {
    pub fn new(alg: KeyAlg) -> Self {
        let made = SoftBackend.generate(alg).unwrap();
        let sent = ImportedKey {
            sam: SAM.into(),
            owner: person("hanako"),
            act: ACT,
            pkcs8: made.material.clone(),
            spki: B64(made.spki.clone()),
            proof: B64(Vec::new()),
        };
        let mut outside = Self { made, sent };
        outside.prove(alg);
        outside
    }

    fn prove(&mut self, alg: KeyAlg) {
        let spki = sha256(&[&self.sent.spki.0]);
        let bound = ImportedKey::binding(SAM, &self.sent.owner, self.sent.act, spki);
        let key = SoftBackend.load(alg, &self.made.material).unwrap();
        let alg = alg.csr_alg();
        self.sent.proof = B64(key.sign(alg, &alg.dtbs(&bound)).unwrap());
    }

    pub fn sealed(&self, story: &Story) -> String {
        let told = story.module.import_key().unwrap().statement;
        let roots = [story.module.root().clone()];
        let to = ImportKey::verify(&told, &roots, NOW).unwrap();
        self.sent.seal(&to, &SystemRandom).unwrap()
    }
}

/// An order for the key of `outside`, with this envelope.
pub fn import(outside: &Outside, level: Level, case: OriginCase, envelope: String) -> OrderKind {
    OrderKind::Import {
        tenant: TenantId::parse("t").unwrap(),
        owner: person("hanako"),
        level,
        act: ACT,
        case,
        spki: sha256(&[&outside.sent.spki.0]),
        envelope,
    }
}

pub async fn imported(story: &Story, kind: OrderKind) -> (KeyCreated, Origin) {
    let done = story.module.execute(&story.order(kind)).await.unwrap();
    let Executed::Created(key) = done else {
        panic!("a key was imported")
    };
    let roots = [story.module.root().clone()];
    let told = Origin::verify(&key.statement, &roots).unwrap();
    (key, told)
}

pub const SIGNER: OriginCase = OriginCase::Signer;

// shows: III-3-15-import-L1, III-3-15-import-L3, III-3-9-protected-import-export, III-A1.2-import-encrypted
// shows: III-A1.2-wrapping-strength, T-REG-IMP-UNAUTH, T-REG-IMP-DUPLICATE, T-REG-IMP-FOREIGN-KEY
// shows: T-REG-IMP-FOREIGN-INFO, T-KEY-DATA-ALTER
#[tokio::test]
async fn a_signers_own_key_comes_in_sealed_proven_and_once() {
    everywhere(
        a_signers_own_key_comes_in_sealed_proven_and_once::ON_TOKENS,
        async |story| {
            let no = Refusal::NotAllowed;
            let outside = Outside::new(KeyAlg::P256);
            let order_of = |key: &Outside, envelope| import(key, Level::One, SIGNER, envelope);
            let whole = |key: &Outside| order_of(key, key.sealed(&story));
            let one = |envelope| order_of(&outside, envelope);

            for case in OriginCase::ALL.into_iter().filter(|c| c.imported()) {
                let order = import(&outside, Level::Three, case, outside.sealed(&story));
                assert_eq!(story.refused(order).await, no(Reason::ImportL3), "{case}");
            }
            let plain = String::from_utf8_lossy(outside.made.material.expose()).into_owned();
            assert_eq!(story.refused(one(plain)).await, no(Reason::NotThisKey));
            let mut altered = outside.sealed(&story);
            altered.pop();
            assert_eq!(story.refused(one(altered)).await, no(Reason::NotThisKey));
            let (stranger, _) = SealKey::generate().unwrap();
            let other = ImportKey {
                sam: SAM.into(),
                key: stranger.public().clone(),
                nbf: NOW,
                exp: NOW.plus(60),
            };
            let other = outside.sent.seal(&other, &SystemRandom).unwrap();
            assert_eq!(story.refused(one(other)).await, no(Reason::NotThisKey));

            // Caught on its way and sent again for somebody else, or for another act.
            let mut moved = whole(&outside);
            if let OrderKind::Import { owner, .. } = &mut moved {
                *owner = person("mallory");
            }
            assert_eq!(story.refused(moved).await, no(Reason::ImportL1));
            let mut moved = whole(&outside);
            if let OrderKind::Import { act, .. } = &mut moved {
                *act = Digest32([7; 32]);
            }
            assert_eq!(story.refused(moved).await, no(Reason::NotThisKey));
            // Another key than the one that the owner agreed to, whole and proven.
            let another = Outside::new(KeyAlg::P256).sealed(&story);
            assert_eq!(story.refused(one(another)).await, no(Reason::NotThisKey));

            // An own key under another's name: theirs is the order, not the envelope.
            let mut labelled = Outside::new(KeyAlg::P256);
            labelled.sent.owner = person("mallory");
            labelled.prove(KeyAlg::P256);
            assert_eq!(story.refused(whole(&labelled)).await, no(Reason::ImportL1));

            let mut unproven = Outside::new(KeyAlg::P256);
            unproven.sent.proof = outside.sent.proof.clone();
            assert_eq!(story.refused(whole(&unproven)).await, no(Reason::ImportL1));
            // Another's public key with one's own private key and proof.
            let mut foreign = Outside::new(KeyAlg::P256);
            foreign.sent.spki = B64(outside.made.spki.clone());
            foreign.prove(KeyAlg::P256);
            assert_eq!(story.refused(whole(&foreign)).await, no(Reason::ImportL1));
            let strong = whole(&Outside::new(KeyAlg::P384));
            assert_eq!(story.refused(strong).await, no(Reason::WrappingStrength));

            let (key, told) = imported(&story, whole(&outside)).await;
            assert_eq!((told.case, told.level), (SIGNER, Level::One));
            assert!(!told.case.only_at_provider() && !told.exportable);
            assert_eq!(key.spki.0, outside.made.spki);
            let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
            let Executed::Signed(values) = story.module.execute(&order).await.unwrap() else {
                panic!("a signature was ordered")
            };
            let signed = pki::Signed::Message(b"a");
            pki::verify_signature(&key.spki.0, P256, signed, &values[0].0).unwrap();

            // Whoever lost the answer gets it again; nothing comes in twice.
            let (again, _) = imported(&story, whole(&outside)).await;
            assert_eq!((&again.key, &again.spki), (&key.key, &key.spki));
            let mut second = Outside::new(KeyAlg::P256);
            second.made = SoftBackend
                .import(KeyAlg::P256, &outside.made.material, &outside.made.spki)
                .unwrap();
            second.sent.spki = outside.sent.spki.clone();
            second.sent.pkcs8 = outside.sent.pkcs8.clone();
            second.sent.act = Digest32([7; 32]);
            second.prove(KeyAlg::P256);
            let by_another_act = || {
                let mut order = whole(&second);
                if let OrderKind::Import { act, .. } = &mut order {
                    *act = second.sent.act;
                }
                order
            };
            assert_eq!(story.refused(by_another_act()).await, no(Reason::KnownKey));
            story
                .module
                .execute(&story.order(destroy(&key)))
                .await
                .unwrap();
            for order in [whole(&outside), by_another_act()] {
                let refused = story.refused(order).await;
                assert_eq!(refused, no(Reason::KnownKey), "nor does it come back");
            }
            let rsa = Outside::new(KeyAlg::Rsa2048);
            let (key, _) = imported(&story, whole(&rsa)).await;
            let alg = KeyAlg::Rsa2048.csr_alg();
            let order = story.order(sign(&key, alg, &[digest(alg, "a")]));
            story.module.execute(&order).await.unwrap();
            assert_eq!(story.audited("key.imported").await, 2);
        },
    )
    .await;
}

// shows: III-3-15-import-L2, III-3-15-import-L3, T-REG-IMP-UNAUTH, I-3.5.1-import-L2-ca-keygen
#[tokio::test]
async fn at_level_two_a_key_comes_only_from_a_trusted_ca_for_its_person() {
    let faulty = Faulty::default();
    faulty.plan(|plan| plan.device = true);
    let mut story = faulty.story().await;
    let (ca, _) = SigningKey::generate().unwrap();
    let (unlisted, _) = SigningKey::generate().unwrap();
    let (vague, _) = SigningKey::generate().unwrap();
    let listed = |ca: &SigningKey, generation: Option<&str>| ImportCa {
        key: ca.public().clone(),
        generation: generation.map(Into::into),
    };
    let setup = Setup {
        import_cas: vec![listed(&ca, Some("audit 1")), listed(&vague, None)],
        ..Setup::default()
    };
    story.module = story.again_with(&setup).await;
    let no = Refusal::NotAllowed;
    let outside = Outside::new(KeyAlg::P256);
    let by = |signer: &SigningKey, change: &dyn Fn(&mut CaImport)| {
        let mut told = CaImport {
            sam: SAM.into(),
            owner: person("hanako"),
            act: ACT,
            spki: sha256(&[&outside.made.spki]),
            key: outside.sealed(&story),
            exp: NOW.plus(60),
        };
        change(&mut told);
        told.sign(signer).unwrap()
    };
    let two = |envelope| import(&outside, Level::Two, OriginCase::CaDirect, envelope);
    for case in [SIGNER, OriginCase::CaThroughSigner] {
        let order = import(&outside, Level::Two, case, outside.sealed(&story));
        assert_eq!(story.refused(order).await, no(Reason::ImportL2), "{case}");
    }
    let refused = async |envelope| story.refused(two(envelope)).await;
    assert_eq!(
        refused(outside.sealed(&story)).await,
        no(Reason::ImportL2),
        "no CA"
    );
    assert_eq!(refused(by(&unlisted, &|_| {})).await, no(Reason::ImportL2));
    // Trusted to know its persons, but not declared to make keys as the level wants it.
    assert_eq!(refused(by(&vague, &|_| {})).await, no(Reason::CaKeygen));
    assert_eq!(refused(by(&ca, &|t| t.exp = NOW)).await, Refusal::NotNow);
    assert_eq!(
        refused(by(&ca, &|t| t.owner = person("taro"))).await,
        no(Reason::ImportL1)
    );
    assert_eq!(
        refused(by(&ca, &|t| t.sam = "another".into())).await,
        no(Reason::ImportL1)
    );
    let other = Digest32([8; 32]);
    assert_eq!(
        refused(by(&ca, &|t| t.act = other)).await,
        no(Reason::ImportL1)
    );
    assert_eq!(
        refused(by(&ca, &|t| t.spki = other)).await,
        no(Reason::NotThisKey)
    );
    let three = import(
        &outside,
        Level::Three,
        OriginCase::CaDirect,
        by(&ca, &|_| {}),
    );
    assert_eq!(story.refused(three).await, no(Reason::ImportL3));
    let made_here = import(
        &outside,
        Level::One,
        OriginCase::ProviderDevice,
        by(&ca, &|_| {}),
    );
    assert_eq!(
        story.refused(made_here).await,
        Refusal::Malformed,
        "not an import"
    );
    let (_, told) = imported(&story, two(by(&ca, &|_| {}))).await;
    assert_eq!((told.case, told.level), (OriginCase::CaDirect, Level::Two));
    assert!(told.case.only_at_provider());
}

fn hand_over(key: &KeyCreated, receiver: &SealKey) -> OrderKind {
    OrderKind::HandOver {
        key: key.key.clone(),
        version: key.version,
        spki: sha256(&[&key.spki.0]),
        receiver: receiver.public().clone(),
        act: ACT,
    }
}

fn exportable(level: Level) -> OrderKind {
    exportable_as(KeyAlg::P256, level)
}

fn exportable_as(alg: KeyAlg, level: Level) -> OrderKind {
    match generate(alg, level) {
        OrderKind::Generate {
            tenant,
            owner,
            alg,
            level,
            act,
            ..
        } => OrderKind::Generate {
            tenant,
            owner,
            alg,
            level,
            act,
            exportable: true,
            one_time: false,
        },
        other => other,
    }
}

// shows: III-3-9-attributed-keys, III-3-17-retention-L2-no-export, III-A1.5-export-encrypted, T-KEY-DISCLOSE
// shows: III-A1.2-wrapping-strength
#[tokio::test]
async fn a_key_leaves_only_if_it_was_made_so_sealed_and_for_good() {
    everywhere(
        a_key_leaves_only_if_it_was_made_so_sealed_and_for_good::ON_TOKENS,
        async |story| {
            let no = Refusal::NotAllowed;
            let (receiver, _) = SealKey::generate().unwrap();
            let (other, _) = SealKey::generate().unwrap();
            let ordinary = story.key(KeyAlg::P256).await;
            let order = hand_over(&ordinary, &receiver);
            assert_eq!(story.refused(order).await, no(Reason::Export));
            let two = exportable(Level::Two);
            assert_eq!(story.refused(two).await, no(Reason::Export));
            if story.backend.name() != "software" {
                let refused = story.refused(exportable(Level::One)).await;
                assert_eq!(
                    refused,
                    no(Reason::Export),
                    "what is in a token stays there"
                );
                return;
            }
            let (key, told) = imported(&story, exportable(Level::One)).await;
            assert!(told.exportable);
            let order = story.order(hand_over(&key, &receiver));
            let Executed::HandedOver(jwe) = story.module.execute(&order).await.unwrap() else {
                panic!("a key was to be handed over")
            };
            assert!(take_over(&jwe, ACT, &other).is_err());
            assert!(take_over(&jwe, Digest32([7; 32]), &receiver).is_err());
            let pkcs8 = take_over(&jwe, ACT, &receiver).unwrap();
            let taken = SoftBackend.load(KeyAlg::P256, &pkcs8).unwrap();
            assert_eq!(taken.spki(), key.spki.0);
            // From now on it isn't the only one, so that it is of no use here.
            let gone = no(Reason::HandedOver);
            let use_of = sign(&key, P256, &[digest(P256, "a")]);
            assert_eq!(story.refused(use_of).await, gone);
            // Only whoever lost the answer gets it again: the same receiver by the same act.
            let again = story.order(hand_over(&key, &receiver));
            let Executed::HandedOver(jwe) = story.module.execute(&again).await.unwrap() else {
                panic!("a key was to be handed over")
            };
            assert!(
                take_over(&jwe, ACT, &receiver)
                    .unwrap()
                    .ct_eq(pkcs8.expose())
            );
            assert_eq!(story.refused(hand_over(&key, &other)).await, gone);
            let mut by_another_act = hand_over(&key, &receiver);
            if let OrderKind::HandOver { act, .. } = &mut by_another_act {
                *act = Digest32([7; 32]);
            }
            assert_eq!(story.refused(by_another_act).await, gone);
            story
                .module
                .execute(&story.order(destroy(&key)))
                .await
                .unwrap();
            assert_eq!(story.audited("key.handed-over").await, 2);
            for alg in [KeyAlg::P384, KeyAlg::P521] {
                let refused = story.refused(exportable_as(alg, Level::One)).await;
                assert_eq!(refused, no(Reason::WrappingStrength), "{alg}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn the_import_key_proves_itself_and_for_a_day() {
    let story = Faulty::default().story().await;
    let told = story.module.import_key().unwrap().statement;
    let roots = [story.module.root().clone()];
    assert!(ImportKey::verify(&told, &roots, NOW).is_ok());
    assert!(ImportKey::verify(&told, &roots, NOW.plus(86_400)).is_err());
    assert!(ImportKey::verify(&told, &roots, UnixTime(NOW.0 - 1)).is_err());
    let (stranger, _) = SigningKey::generate().unwrap();
    assert!(ImportKey::verify(&told, &[stranger.public().clone()], NOW).is_err());
}

pkcs11_faults::on_tokens!(
    a_signers_own_key_comes_in_sealed_proven_and_once,
    a_key_leaves_only_if_it_was_made_so_sealed_and_for_good,
);
