use cm_api::ModuleState;
use core_types::{B64, Digest32, HashAlg};

use super::*;

fn health(ceiling: Level, device: bool, declaration: Option<&str>) -> Health {
    Health {
        operational: true,
        state: ModuleState::Operational,
        switched: 0,
        backend: "any".into(),
        ceiling,
        exports: false,
        device: device.then(|| "maker model 1.0".into()),
        declaration: declaration.map(Into::into),
        witness_declaration: None,
        tested: None,
        error: None,
        members: Vec::new(),
    }
}

/// The digest leaves out what is at its default, so a default that changes would change what an old version names.
// shows: II-3.3.2-config-tamper-detected
#[test]
fn what_a_policy_means_that_says_nothing_is_never_changed() {
    let defaults = serde_json::json!({
        "version": 1,
        "pin_totp_at_level_2": false,
        "provider_at_level_2": false,
        "ceiling": 1,
        "sam_declaration": null,
        "bare_hashes_at_level_3": false,
        "experimental_algorithms": false,
        "max_items": 1,
        "sign_open": 0,
        "sign_open_seconds": 600,
    });
    assert_eq!(serde_json::to_value(Policy::default()).unwrap(), defaults);
    let least = serde_json::json!({ "version": 1, "pin_totp_at_level_2": false });
    let least: Policy = serde_json::from_value(least).unwrap();
    assert_eq!(serde_json::to_value(least).unwrap(), defaults);
}

// shows: II-3.3.2-config-tamper-detected
#[test]
fn a_policy_has_another_digest_with_each_member_and_the_same_where_one_is_left_out() {
    let usual = Policy::default();
    let members = serde_json::to_value(&usual).unwrap();
    let mut digests = vec![usual.digest()];
    for (name, value) in members.as_object().unwrap() {
        let other = match value {
            Value::Bool(is) => Value::Bool(!is),
            Value::Number(n) => Value::from(n.as_u64().unwrap() + 1),
            _ => Value::from("certificate 1"),
        };
        let mut changed = members.clone();
        changed[name] = other;
        let changed: Policy = serde_json::from_value(changed).unwrap();
        digests.push(changed.digest());
    }
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!((digests.len(), count), (count, 11));
    // As a configuration says it: only what has no default has to stand there.
    let least = r#"{"version":1,"pin_totp_at_level_2":false}"#;
    let least: Policy = serde_json::from_str(least).unwrap();
    assert_eq!(least.digest(), usual.digest());
    let text = "natsuin-policy-v1\n{\"max_items\":2,\"version\":3}";
    let small = Policy {
        version: 3,
        max_items: 2,
        ..usual
    };
    assert_eq!(small.digest(), sha256(&[text.as_bytes()]));
}

// shows: II-3.3.1-sad-verified, T-USE-DTBSR-FORGE
#[test]
fn what_is_not_shown_is_signed_at_level_one_within_bounds_or_not_at_all() {
    let off = Policy::default();
    let of = |sign_open| Policy {
        sign_open,
        ..Policy::default()
    };
    let alg = KeyAlg::P256;
    let check = |policy: &Policy, level, count| policy.check_open(alg, level, count);
    assert_eq!(
        check(&off, Level::One, 1),
        Err(Reason::NotAllowed("sign-open"))
    );
    for level in [Level::Two, Level::Three] {
        let above = Err(Reason::Level("II-3.3.1-sad-verified"));
        assert_eq!(check(&of(9), level, 1), above);
    }
    assert_eq!(check(&of(9), Level::One, 9), Ok(()));
    for count in [0, 10, u32::MAX] {
        let bounds = Err(Reason::Invalid("open"));
        assert_eq!(check(&of(9), Level::One, count), bounds, "{count}");
    }
    assert_eq!(usize::try_from(of(u32::MAX).max_open()), Ok(MAX_ITEMS));
    let bare = of(9).check_open(KeyAlg::Ed25519, Level::One, 1);
    assert_eq!(bare, Err(Reason::BareHash));
    for (given, kept) in [(i64::MIN, 60), (60, 60), (90, 90), (i64::MAX, 600)] {
        let policy = Policy {
            sign_open_seconds: given,
            ..of(9)
        };
        assert_eq!(policy.open_seconds(), kept);
    }
}

#[test]
fn experimental_keys_are_for_who_switched_them_on() {
    let with = |experimental_algorithms| Policy {
        experimental_algorithms,
        ..Policy::default()
    };
    for on in [false, true] {
        assert_eq!(with(on).check_alg(KeyAlg::P256), Ok(()));
    }
    assert_eq!(with(true).check_alg(KeyAlg::MlDsa65), Ok(()));
    let off = with(false).check_alg(KeyAlg::MlDsa65);
    assert_eq!(off, Err(Reason::AlgorithmNotApproved));
}

// shows: II-3.3.1-dtbsr-integrity
#[test]
fn bare_hashes_are_signed_where_nothing_better_is_asked_for() {
    let hash = Item::Hash {
        ha: HashAlg::Sha256,
        h: B64(vec![1; 32]),
        label: String::new(),
    };
    let doc = Item::Doc {
        ha: HashAlg::Sha256,
        h: B64(vec![1; 32]),
        label: String::new(),
        d: B64(vec![2; 32]),
        m: Digest32([2; 32]),
        ranges: None,
    };
    let three = Policy {
        max_items: 3,
        ..Policy::default()
    };
    let (bare, docs) = ([hash.clone()], [doc.clone()]);
    let check = |alg, level, items: &[Item]| three.check_items(alg, level, items);
    let p256 = KeyAlg::P256;
    for level in [Level::One, Level::Two] {
        assert_eq!(check(p256, level, &bare), Ok(()));
    }
    assert_eq!(check(p256, Level::Three, &docs), Ok(()));
    let integrity = Err(Reason::Level("II-3.3.1-dtbsr-integrity"));
    assert_eq!(check(p256, Level::Three, &bare), integrity);
    // One among many is enough.
    let mixed = [doc.clone(), hash.clone()];
    assert_eq!(check(p256, Level::Three, &mixed), integrity);
    assert_eq!(check(KeyAlg::Ed25519, Level::One, &docs), Ok(()));
    let message = check(KeyAlg::Ed25519, Level::One, &mixed);
    assert_eq!(message, Err(Reason::BareHash));
    let allowed = Policy {
        bare_hashes_at_level_3: true,
        ..Policy::default()
    };
    assert_eq!(allowed.check_items(p256, Level::Three, &bare), Ok(()));
    let many = vec![hash; 4];
    assert_eq!(check(p256, Level::One, &many[..3]), Ok(()));
    let more = check(p256, Level::One, &many);
    assert_eq!(more, Err(Reason::Invalid("items")));
    let whatever = Policy {
        max_items: u32::MAX,
        ..Policy::default()
    };
    assert_eq!(whatever.max_items(), MAX_ITEMS);
    assert_eq!(three.max_items(), 3);
}

fn policy(ceiling: Level, sam: Option<&str>) -> Policy {
    Policy {
        ceiling,
        sam_declaration: sam.map(Into::into),
        ..Policy::default()
    }
}

const CERTIFICATE: Option<&str> = Some("certificate 1");

// shows: II-3.2-keyauth-L1, II-3.2-keyauth-L2-mfa
#[test]
fn the_table_of_proofs() {
    let off = Policy::default();
    let on = Policy {
        pin_totp_at_level_2: true,
        ..Policy::default()
    };
    let row = |p: &Policy, f| [Level::One, Level::Two, Level::Three].map(|l| p.admits(l, f));
    let compromised = FactorKind::PasskeyCompromised;
    assert_eq!(row(&off, compromised), [true, false, false]);
    assert_eq!(row(&off, FactorKind::PasskeySynced), [true, true, false]);
    assert_eq!(row(&off, FactorKind::PasskeyBound), [true, true, false]);
    assert_eq!(row(&off, FactorKind::PasskeyAttested), [true, true, true]);
    assert_eq!(row(&off, FactorKind::PinTotp), [true, false, false]);
    assert_eq!(row(&on, FactorKind::PinTotp), [true, true, false]);
    assert_eq!(row(&off, FactorKind::Device), [true, true, false]);
    // An application on its own, whatever is switched on (pattern 2).
    assert_eq!(row(&on, FactorKind::Collected), [true, false, false]);
    assert_eq!(off.enrolment_methods(Level::Two), [Method::Passkey]);
    let refused = off.check(Level::Two, FactorKind::PinTotp);
    assert_eq!(refused, Err(Reason::Level("I-3.5.1-keyauth-L2")));
    let refused = off.check(Level::Three, FactorKind::PasskeySynced);
    assert_eq!(refused, Err(Reason::Level("I-3.5.1-keyauth-L3")));
}

// shows: I-3.5.1-keygen-L2, I-3.5.1-keyauth-L3, I-3.5-level-definitions
#[test]
fn a_configuration_that_facts_contradict_is_refused() {
    let named = |health: &Health, policy: &Policy| {
        Service::judge(health, policy)
            .err()
            .map(|c| (c.level, c.requirement))
    };
    let (one, two, three) = (Level::One, Level::Two, Level::Three);
    let keygen2 = Some((two, "I-3.5.1-keygen-L2"));
    let keygen3 = Some((three, "I-3.5.1-keygen-L3"));
    // A software module at level 2, whoever says so.
    assert_eq!(
        named(&health(two, false, CERTIFICATE), &policy(one, None)),
        keygen2
    );
    assert_eq!(
        named(&health(one, false, None), &policy(two, None)),
        keygen2
    );
    // A device that nobody declares, or with an empty declaration.
    assert_eq!(named(&health(two, true, None), &policy(two, None)), keygen2);
    let empty = health(two, true, Some(" "));
    assert_eq!(named(&empty, &policy(two, None)), keygen2);
    // Level 3 with a device of level 2, and without a declared SAM.
    let level2 = health(two, true, CERTIFICATE);
    assert_eq!(named(&level2, &policy(three, CERTIFICATE)), keygen3);
    let level3 = health(three, true, CERTIFICATE);
    let refused = Some((three, "I-3.5.1-keyauth-L3"));
    assert_eq!(named(&level3, &policy(three, None)), refused);
    assert_eq!(named(&level3, &policy(three, CERTIFICATE)), None);
    assert_eq!(named(&level2, &policy(two, None)), None);
    assert_eq!(named(&health(one, false, None), &policy(one, None)), None);
}

// shows: I-3.5.1-keygen-L1
#[test]
fn a_key_is_as_good_as_its_worst_part_and_says_what_the_next_level_needs() {
    let all = KeyFacts {
        generation: Level::Three,
        import: Level::Three,
        retention: Level::Three,
        authorization: Level::Three,
        enrolment: Level::Three,
        service: Level::Three,
    };
    type Change = fn(&mut KeyFacts);
    let worst: [(Change, LevelPart); 6] = [
        (|f| f.generation = Level::One, LevelPart::Generation),
        (|f| f.import = Level::One, LevelPart::Import),
        (|f| f.retention = Level::One, LevelPart::Retention),
        (|f| f.authorization = Level::One, LevelPart::Authorization),
        (|f| f.enrolment = Level::One, LevelPart::Enrolment),
        (|f| f.service = Level::One, LevelPart::Service),
    ];
    let level3 = health(Level::Three, true, CERTIFICATE);
    let service = Service::judge(&level3, &policy(Level::Three, Some("sam 1"))).unwrap();
    assert_eq!(all.level().0, Level::Three);
    assert!(all.told(&service).needs.is_empty());
    assert_eq!(all.told(&service).declared.len(), 3);
    for (change, part) in worst {
        let mut facts = all;
        change(&mut facts);
        assert_eq!(facts.level(), (Level::One, part));
        let told = facts.told(&service);
        assert_eq!(told.needs, [requirement(part, Level::Two)]);
        assert!(told.declared.is_empty());
    }
    let two = KeyFacts {
        service: Level::Two,
        ..all
    };
    let declared = two.told(&service).declared;
    assert!(declared.iter().all(|d| d.reference == "certificate 1"));
    assert_eq!(declared.len(), 2);
}

// shows: I-3.5-level-definitions
#[test]
fn where_a_logs_witness_lies_is_declared_with_all_that_rests_on_it() {
    let device = health(Level::Two, true, CERTIFICATE);
    let module = Health {
        witness_declaration: Some("medium of the module".into()),
        ..device
    };
    let service = |ceiling| {
        let judged = Service::judge(&module, &policy(ceiling, None)).unwrap();
        judged.witnessed(Some(" medium of the SAM "))
    };
    let told = |service: &Service, level| -> Vec<String> {
        let declared = service.declared_for(level).into_iter();
        declared.map(|d| d.reference).collect()
    };
    let (low, high) = (service(Level::One), service(Level::Two));
    assert!(told(&high, Level::One).is_empty());
    let expected = [
        "certificate 1",
        "certificate 1",
        "medium of the module",
        "medium of the SAM",
    ];
    assert_eq!(told(&high, Level::Two), expected);
    assert!(low.declared.iter().all(|d| d.part != LevelPart::Service));
    assert_eq!(low.witnessed(None), service(Level::One));
    let blank = high.clone().witnessed(Some(" "));
    assert_eq!(blank, high);
}

// shows: I-3.5-level-definitions
#[test]
fn a_key_of_a_level_that_the_service_has_lost_is_not_used() {
    let level2 = health(Level::Two, true, CERTIFICATE);
    let now = |ceiling| Service::judge(&level2, &policy(ceiling, None)).unwrap();
    assert_eq!(now(Level::Two).vouch(Level::Two), Ok(()));
    let refused = now(Level::Two).vouch(Level::Three);
    assert_eq!(refused, Err(Reason::Level("I-3.5.1-keygen-L3")));
    let refused = now(Level::One).vouch(Level::Two);
    assert_eq!(refused, Err(Reason::Level("I-3.5-level-definitions")));
}
