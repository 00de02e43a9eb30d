//! What officers propose on their page against the SAM's own rules: the same measures, by the same roles, in the same form.

use cm_api::switch::{Switch, TYP_SWITCH};
use core_types::{DestroyCause, OfficerId, PersonName};
use sam_core::office::ceremony;
use sam_core::office::proposal::{check_measure, takes};
use sam_keys::{Destruction, TYP_DESTRUCTION};
use sap::office::{EndCause, KeyAction, Measure, Office, Role, Training, Zone};
use web_ui::{Lang, Messages};

use super::*;

/// Random bytes of the page are all this.
const BYTE: u8 = 7;

fn day(date: &str, more: i64) -> UnixTime {
    let began = UnixTime::from_rfc3339(&format!("{date}T00:00:00+09:00"));
    began.unwrap().plus(more)
}

const DAY: i64 = 24 * 3600;

fn office(roles: &[Role], training: Option<Training>) -> Office {
    Office {
        roles: roles.to_vec(),
        both: roles.len() > 1,
        until: day("2028-03-31", DAY),
        training,
    }
}

/// What is typed on the page, and the measure that the program makes of the same; one of each kind at least.
fn examples() -> Vec<(&'static str, Value, Measure)> {
    let officer = || OfficerId::parse("nanami").unwrap();
    let account = |text: &str| PersonId::parse(text).unwrap();
    let digest = Digest32([9; 32]);
    let secret = core_types::sha256(&[&[BYTE; 16]]);
    let trained = ceremony::training("2026-11-20", "2027-11-20");
    let key = KeyId::parse("k-1").unwrap();
    vec![
        (
            "appoint",
            json!({"officer": "nanami", "name": "新人 七海", "identity": " staff\u{3000}7 ", "role": "system-operator", "until": "2028-03-31",
                "trained-at": "2026-11-20", "trained-until": "2027-11-20"}),
            Measure::Appoint {
                officer: officer(),
                name: "新人 七海".into(),
                identity: ceremony::identity("staff\u{3000}7"),
                office: office(&[Role::SystemOperator], trained),
                account: account("officer.nanami"),
                secret,
            },
        ),
        (
            "account",
            json!({"officer": "nanami", "account": "nanami-2"}),
            Measure::Account {
                officer: officer(),
                account: account("officer.nanami-2"),
                secret,
            },
        ),
        (
            "office",
            json!({"officer": "nanami", "role": "both", "until": "2028-03-31", "trained-at": "", "trained-until": ""}),
            Measure::Office {
                officer: officer(),
                office: office(&[Role::SystemAdministrator, Role::SystemOperator], None),
            },
        ),
        (
            "dismiss",
            json!({"officer": "nanami"}),
            Measure::Dismiss { officer: officer() },
        ),
        (
            "key",
            json!({"key": "k-1", "action": "suspend"}),
            Measure::Key {
                key: key.clone(),
                action: KeyAction::Suspend,
            },
        ),
        (
            "key",
            json!({"key": "k-1", "action": "resume"}),
            Measure::Key {
                key: key.clone(),
                action: KeyAction::Resume,
            },
        ),
        (
            "key",
            json!({"key": "k-1", "action": "destroy"}),
            Measure::Key {
                key,
                action: KeyAction::Destroy,
            },
        ),
        (
            "factors",
            json!({"person": "hanako", "registration": "v-1"}),
            Measure::Factors {
                person: account("hanako"),
                registration: VoucherId::parse("v-1").unwrap(),
                secret,
            },
        ),
        (
            "module",
            json!({"enabled": "on"}),
            Measure::Module { enabled: true },
        ),
        (
            "module",
            json!({"enabled": "off"}),
            Measure::Module { enabled: false },
        ),
        (
            "end-keys",
            json!({"tenant": "*", "cause": "incident"}),
            Measure::EndKeys {
                tenant: None,
                cause: EndCause::Incident,
            },
        ),
        (
            "end-keys",
            json!({"tenant": "acme", "cause": "end-of-service"}),
            Measure::EndKeys {
                tenant: Some(TenantId::parse("acme").unwrap()),
                cause: EndCause::EndOfService,
            },
        ),
        (
            "delete-archived",
            json!({"zone": "sam", "archive": digest, "size": "512"}),
            Measure::DeleteArchived {
                zone: Zone::Sam,
                archive: digest,
                size: 512,
            },
        ),
        (
            "forget-person",
            json!({"forgotten": "acme/taro"}),
            Measure::ForgetPerson {
                subject: audit_log::subject_of(
                    &[BYTE; 32],
                    &PersonName::parse("acme/taro").unwrap(),
                ),
            },
        ),
    ]
}

fn texts(lang: Lang) -> Vec<String> {
    let all = Messages::new(lang).catalogue("office");
    all.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn officers_propose_on_their_page_what_the_sam_takes_from_their_role() {
    let (officer, _) = SigningKey::generate().unwrap();
    let (root, _) = SigningKey::generate().unwrap();
    let switch = Switch {
        sam: "sam.test".into(),
        root: "kid".into(),
        enabled: false,
        recover: false,
        error: None,
        reason: "it's $(broken)".into(),
        serial: 4,
        exp: NOW.plus(3000),
    };
    let text = serde_json::to_string(&switch).unwrap();
    let of_type = |typ: &str| officer.sign(typ, text.as_bytes()).unwrap();
    let proposal = Digest32([5; 32]);
    let certificate = |key: &str| {
        let told = Destruction {
            sam: "sam.test".into(),
            key: KeyId::parse(key).unwrap(),
            spki: Digest32([3; 32]),
            owner: PersonId::parse("hanako").unwrap(),
            act: proposal,
            cause: DestroyCause::Officers,
            signatures: 3,
            unusable_since: NOW,
            erased: None,
            unrecoverable_after: None,
        };
        root.sign(TYP_DESTRUCTION, &serde_json::to_vec(&told).unwrap())
            .unwrap()
    };
    let examples = examples();
    let typed: Vec<Value> = examples
        .iter()
        .map(|(name, given, _)| json!([name, given]))
        .collect();
    let vectors = json!({
        "examples": typed, "byte": BYTE,
        "texts": {"ja": texts(Lang::Ja), "en": texts(Lang::En)},
        "switch": {"text": text, "good": switch.approve(&officer).unwrap(), "other_type": of_type(TYP_ACT), "type": TYP_SWITCH},
        "destroyed": {"root": root.public(), "other_root": officer.public(), "proposal": proposal, "key": "k-1",
            "certificate": certificate("k-1"), "other": certificate("k-2")},
    });
    let answers = run_node("office", &vectors);
    for (n, (name, given, wanted)) in examples.iter().enumerate() {
        let made = &answers["made"][n];
        let measure: Measure = serde_json::from_value(made["measure"].clone()).unwrap();
        assert_eq!(measure, *wanted, "{name} {given}");
        assert_eq!(measure.code(), *name);
        assert_eq!(check_measure(&measure, NOW), Ok(()), "{name}");
        // The same roles, and the same hands that carry it out.
        let rule = takes(&measure);
        let by: Vec<Role> = serde_json::from_value(made["by"].clone()).unwrap();
        assert_eq!(by, rule.ask, "{name}");
        assert_eq!(made["taken"].as_bool(), Some(rule.taken), "{name}");
    }
    // There is an example of everything in the form, and nothing is missing there but what stands in the signed configuration, and
    // what an account asks for itself.
    let offered: Vec<&str> = answers["offered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut shown: Vec<&str> = examples.iter().map(|(name, ..)| *name).collect();
    shown.dedup();
    assert_eq!(offered, shown);
}
