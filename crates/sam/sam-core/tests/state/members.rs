//! Every member of every act, proof, sealed secret and order (`sap.md` §14, 1): missing, doubled, of another type, one more. None is
//! read as something else.

use core_types::{Digest32, UnixTime};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::ALG;

/// Where a value stands: names of members and numbers of elements.
type Path = Vec<String>;

fn head() -> Value {
    json!({
        "v": 1, "sam": "sam.test", "tenant": "t", "nonce": Digest32([1; 32]),
        "brand": {"ja": "みなと", "en": "Minato", "colour": "#0a5c8a"},
        "iat": UnixTime(1000), "exp": UnixTime(1300), "epoch": Digest32([2; 32]), "policy": 1, "level": 1,
        "person": {"id": "p", "name": "髙橋 花子"}, "return": "https://ssa.test/r",
    })
}

fn with(base: &Value, members: Value) -> Value {
    let mut all = base.clone();
    let more = members.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    all
}

/// One act of each kind and form.
fn acts() -> Vec<Value> {
    let key = json!({
        "id": "k", "version": 1, "spki": Digest32([3; 32]), "cert": Digest32([4; 32]), "subject": "CN=髙橋 花子",
    });
    let client = json!({"id": "c", "name": "c", "known": true, "signed": false});
    let jwk = jose::SigningKey::generate().unwrap().0;
    let since = json!({"act": 1, "factors": 2, "keys": 3});
    let managed = with(&head(), json!({"since": since}));
    let sign = with(
        &managed,
        json!({"kind": "sign", "key": key, "client": client}),
    );
    let sign = with(&sign, json!({"algs": [ALG], "renew": 2}));
    let hash = json!({"form": "hash", "ha": "sha256", "h": "BQUF", "label": "a.pdf"});
    let doc = with(
        &hash,
        json!({"form": "doc", "d": "BgYG", "m": Digest32([7; 32]), "ranges": [0, 1, 2, 3]}),
    );
    let open = with(
        &sign,
        json!({"kind": "sign-open", "count": 3, "until": 1300}),
    );
    let mut open = open;
    open.as_object_mut().unwrap().remove("renew");
    let enrol = with(
        &head(),
        json!({
            "kind": "enrol", "voucher": "v", "by": "ra", "methods": ["passkey"], "keys": ["p-256"], "replaces": {"registration": "w", "keys": [key]},
            "exportable": true, "one_time": true, "rp_id": "sic.test",
        }),
    );
    let on_key = |kind: &str| with(&managed, json!({"kind": kind, "key": key, "alg": "p-256"}));
    let factor = |change: Value| {
        let change =
            json!({"kind": "factor", "registration": "v", "rp_id": "sic.test", "change": change});
        with(&managed, change)
    };
    vec![
        with(&sign, json!({"items": [hash, doc]})),
        open,
        enrol,
        on_key("suspend"),
        on_key("resume"),
        on_key("destroy"),
        with(&on_key("hand-over"), json!({"receiver": jwk.public()})),
        with(
            &managed,
            json!({"kind": "leave", "registration": "v", "keys": [key], "factors": ["f"]}),
        ),
        with(
            &managed,
            json!({
                "kind": "import", "registration": "v", "alg": "p-256", "spki": Digest32([7; 32]), "case": "3-i",
                "until": 1300,
            }),
        ),
        with(
            &managed,
            json!({"kind": "officer", "what": "key", "document": Digest32([8; 32]), "text": "t", "needs": 2}),
        ),
        factor(json!({"do": "add", "method": "passkey"})),
        factor(json!({"do": "add-device", "key": jwk.public()})),
        factor(json!({"do": "remove", "factor": "f", "method": "passkey"})),
        factor(json!({"do": "pin", "factor": "f"})),
        factor(json!({"do": "unlock", "factor": "f"})),
    ]
}

fn proofs() -> Vec<Value> {
    let act = Digest32([1; 32]);
    vec![
        json!({"method": "passkey", "act": act, "id": "AA", "authData": "AA", "clientData": "AA", "sig": "AA"}),
        json!({"method": "pin-totp", "act": act, "sealed": "x"}),
        json!({"method": "device", "act": act, "key": act, "sig": "AA", "sealed": "x"}),
        json!({"method": "idp", "act": act, "id_token": "x"}),
    ]
}

fn orders() -> Vec<Value> {
    let (key, digest) = (json!({"key": "k", "version": 1}), Digest32([3; 32]));
    let key = with(&key, json!({"spki": digest}));
    let jwk = jose::SigningKey::generate().unwrap().0;
    let owner = json!({"tenant": "t", "owner": "p", "level": 1, "act": digest});
    let kinds = [
        with(
            &owner,
            json!({"do": "generate", "alg": "p-256", "exportable": true, "one_time": true}),
        ),
        with(
            &owner,
            json!({"do": "import", "case": "3-i", "spki": digest, "envelope": "x"}),
        ),
        with(
            &key,
            json!({"do": "hand-over", "receiver": jwk.public(), "act": digest}),
        ),
        with(&key, json!({"do": "sign-csr", "info": "AA"})),
        with(
            &key,
            json!({
                "do": "sign", "alg": ALG, "items": [{"i": 0, "d": "BQUF"}], "act": digest, "proof": digest,
                "approved": 1000, "renewable": false, "step": 0, "attempt": 1,
                "counter_sign": {"key": "c", "certificate": "AA"},
            }),
        ),
        json!({"do": "checkpoint", "key": "k", "spki": digest, "size": 1, "root": digest}),
        with(
            &key,
            json!({"do": "destroy", "act": digest, "cause": "owner"}),
        ),
    ];
    let order = json!({"sam": "s", "order": digest, "epoch": digest, "exp": 1000});
    let orders = kinds.into_iter();
    orders
        .map(|kind| with(&order, json!({"kind": kind})))
        .collect()
}

// shows: T-USE-SAD-FORGE, T-USE-SAP-BYPASS
#[test]
fn no_member_is_missing_doubled_of_another_type_or_one_too_many() {
    let act = Digest32([1; 32]);
    let may_be_missing = [
        "brand",
        "colour",
        "ranges",
        "replaces",
        "exportable",
        "one_time",
    ];
    let (mut kinds, mut tried) = (std::collections::BTreeSet::new(), 0);
    for good in acts() {
        kinds.insert(good["kind"].as_str().unwrap().to_owned());
        tried += closed::<sap::Act>(&good, &may_be_missing);
    }
    assert_eq!(kinds.len(), 11, "every kind of act: {kinds:?}");
    for good in proofs() {
        tried += closed::<sap::Proof>(&good, &[]);
    }
    for good in orders() {
        tried += closed::<cm_api::order::OrderBody>(&good, &["one_time", "counter_sign"]);
    }
    tried += closed::<sap::SealedProof>(&json!({"act": act, "pin": "p", "otp": "1"}), &[]);
    tried += closed::<sap::proof::SealedPin>(&json!({"act": act, "pin": "p"}), &[]);
    let enrolment = json!({"act": act, "secret": "s", "pin": "p", "otp": "1"});
    tried += closed::<sap::enrol::SealedEnrolment>(&enrolment, &["pin", "otp"]);
    let factor = json!({"act": act, "new_pin": "p", "otp": "1"});
    tried += closed::<sap::manage::SealedFactor>(&factor, &["otp"]);
    let notice = json!({
        "sam": "s", "tenant": "t", "key": "k", "cert": act, "effect": "revoked", "iat": 1000,
    });
    tried += closed::<sap::RevocationNotice>(&notice, &[]);
    assert!(tried > 1000, "{tried}");
}

/// Bends each member of each object in `good`; answers how often. `may_be_missing`: members that are left out when they say nothing, as
/// are all of `since`.
fn closed<T: DeserializeOwned + Serialize>(good: &Value, may_be_missing: &[&str]) -> usize {
    let read: T = serde_json::from_value(good.clone()).unwrap_or_else(|e| panic!("{e}: {good}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *good);
    let refused = |text: &str, why: &str| {
        assert!(serde_json::from_str::<T>(text).is_err(), "{why}: {text}");
    };
    let mut tried = 0;
    for object in objects(good, &Vec::new()) {
        let at = object.join("/");
        let mut more = good.clone();
        inside(&mut more, &object).insert("more".to_owned(), json!(1));
        refused(&more.to_string(), &format!("more at /{at}"));
        let names: Vec<String> = inside(&mut good.clone(), &object).keys().cloned().collect();
        for name in names {
            let mut bent = good.clone();
            let members = inside(&mut bent, &object);
            members.remove(&name);
            let since = object.last().is_some_and(|last| last == "since");
            let optional = since || may_be_missing.contains(&name.as_str());
            if !optional {
                refused(&bent.to_string(), &format!("without /{at}/{name}"));
            }
            for other in [
                json!({"other": "type"}),
                json!([[]]),
                json!(-1.5),
                json!("\u{0}"),
            ] {
                let mut bent = good.clone();
                let before = inside(&mut bent, &object).insert(name.clone(), other.clone());
                // Words of people may be any text.
                if other.is_string() && before.is_some_and(|before| before.is_string()) {
                    continue;
                }
                refused(&bent.to_string(), &format!("another type of /{at}/{name}"));
                tried += 1;
            }
            let twice = Twice {
                value: good,
                path: &object,
                name: &name,
            };
            refused(
                &serde_json::to_string(&twice).unwrap(),
                &format!("/{at}/{name} twice"),
            );
            tried += 2;
        }
    }
    tried
}

/// Paths of all objects.
fn objects(value: &Value, at: &Path) -> Vec<Path> {
    let below = |name: String, value: &Value| objects(value, &[at.clone(), vec![name]].concat());
    match value {
        Value::Object(members) => {
            let own = std::iter::once(at.clone());
            own.chain(
                members
                    .iter()
                    .flat_map(|(name, value)| below(name.clone(), value)),
            )
            .collect()
        }
        Value::Array(elements) => {
            let numbered = elements.iter().enumerate();
            numbered
                .flat_map(|(n, value)| below(n.to_string(), value))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn inside<'v>(value: &'v mut Value, path: &Path) -> &'v mut serde_json::Map<String, Value> {
    let pointer: String = path.iter().map(|part| format!("/{part}")).collect();
    value
        .pointer_mut(&pointer)
        .unwrap()
        .as_object_mut()
        .unwrap()
}

/// The same with one member written twice.
struct Twice<'v> {
    value: &'v Value,
    path: &'v [String],
    name: &'v str,
}

impl Serialize for Twice<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{SerializeMap as _, SerializeSeq as _};
        let below = |name: &str, value| match self.path.split_first() {
            Some((first, path)) if first == name => Some(Twice {
                value,
                path,
                name: self.name,
            }),
            _ => None,
        };
        match self.value {
            Value::Object(members) => {
                let mut map = s.serialize_map(None)?;
                for (name, value) in members {
                    match below(name, value) {
                        Some(inner) => map.serialize_entry(name, &inner)?,
                        None => map.serialize_entry(name, value)?,
                    }
                    if self.path.is_empty() && name == self.name {
                        map.serialize_entry(name, value)?;
                    }
                }
                map.end()
            }
            Value::Array(elements) => {
                let mut list = s.serialize_seq(None)?;
                for (n, value) in elements.iter().enumerate() {
                    match below(&n.to_string(), value) {
                        Some(inner) => list.serialize_element(&inner)?,
                        None => list.serialize_element(value)?,
                    }
                }
                list.end()
            }
            other => other.serialize(s),
        }
    }
}
