//! What some clients write otherwise than the specification, in its words: applied to what a client sends before anything else reads it,
//! where the operator's contract with that client says so. Nothing is decided here. Only what can mean nothing else is changed; the rest
//! stays as it came, to be refused by its name.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::body::{Body, strict};
use crate::details::DETAILS;
use crate::v1::{OTP, PIN};

/// Members that are numbers, and members that are true or false.
const NUMBERS: [&str; 3] = ["numSignatures", "maxResults", "validity_period"];
const FLAGS: [&str; 6] = [
    "credentialInfo",
    "certInfo",
    "authInfo",
    "onlyValid",
    "rememberMe",
    "returnValidationInfo",
];
/// Names of members in other styles, and the one that is meant.
const STYLES: [(&str, &str); 3] = [
    ("sign_algo_params", "signAlgoParams"),
    ("validityPeriod", "validity_period"),
    ("responseURI", "response_uri"),
];

/// A request body of a method in the words of its version; nothing if it has no other.
///
/// - Numbers and truth values as texts.
/// - Percent-encoded base64 of hashes.
/// - In version 2: the names of version 1 for hashes, their algorithm, `PIN` and `OTP`; and members in other styles.
/// - A wish for validation data, which nobody here has, counts as none.
///
/// A member that is there by its right name counts, whatever stands beside it.
pub fn body(bytes: &[u8], v1: bool) -> Option<Vec<u8>> {
    let mut members = Body::parse(bytes).ok()?.into_members();
    let mut changed = false;
    if !v1 {
        changed |= in_version_2(&mut members);
    }
    for name in NUMBERS {
        changed |= number(&mut members, name);
    }
    for name in FLAGS {
        changed |= flag(&mut members, name);
    }
    for name in ["returnValidationInfo", "returnValidationInformation"] {
        if members.get(name) == Some(&Value::Bool(true)) {
            members.remove(name);
            changed = true;
        }
    }
    for name in ["hash", "hashes"] {
        changed |= members.get_mut(name).is_some_and(decode_all);
    }
    let digests = members.get_mut("documentDigests");
    let digests = digests.and_then(Value::as_array_mut);
    for entry in digests.into_iter().flatten() {
        changed |= entry.get_mut("hashes").is_some_and(decode_all);
    }
    changed.then(|| Value::Object(members).to_string().into_bytes())
}

/// Whether a member says nothing.
fn free(members: &Map<String, Value>, name: &str) -> bool {
    members
        .get(name)
        .is_none_or(|value| value.is_null() || value.as_str() == Some(""))
}

fn in_version_2(members: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    // A text of this name is what `signatures/timestamp` calls its one hash, in both versions.
    let list = members.get("hash").is_some_and(Value::is_array);
    if list && free(members, "hashes") {
        let hashes = members.remove("hash").unwrap_or_default();
        members.insert("hashes".to_owned(), hashes);
        changed = true;
    }
    let named = members.get("hashAlgo").filter(|oid| oid.is_string());
    let named = named.filter(|_| members.contains_key("hashes")).cloned();
    if let Some(oid) = named.filter(|_| free(members, "hashAlgorithmOID")) {
        members.insert("hashAlgorithmOID".to_owned(), oid);
        changed = true;
    }
    for (other, right) in STYLES {
        if free(members, right)
            && let Some(value) = members.remove(other)
        {
            members.insert(right.to_owned(), value);
            changed = true;
        }
    }
    let secrets = [PIN, OTP].into_iter().filter(|id| !free(members, id));
    let secrets: Vec<_> = secrets
        .filter_map(|id| Some((id, members.get(id)?.as_str()?)))
        .map(|(id, value)| json!({ "id": id, "value": value }))
        .collect();
    if !secrets.is_empty() && free(members, "authData") {
        members.insert("authData".to_owned(), Value::Array(secrets));
        changed = true;
    }
    changed
}

/// A number that is written as a text of digits.
fn number(members: &mut Map<String, Value>, name: &str) -> bool {
    let text = members.get(name).and_then(Value::as_str);
    let digits = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else {
        return false;
    };
    members.insert(name.to_owned(), number.into());
    true
}

/// A truth value that is written as a text; some languages begin it with a capital.
fn flag(members: &mut Map<String, Value>, name: &str) -> bool {
    let text = members.get(name).and_then(Value::as_str);
    let flag = match text.map(str::to_ascii_lowercase).as_deref() {
        Some("true") => true,
        Some("false") => false,
        _ => return false,
    };
    members.insert(name.to_owned(), flag.into());
    true
}

fn decode_all(hashes: &mut Value) -> bool {
    let mut changed = false;
    for hash in hashes.as_array_mut().into_iter().flatten() {
        changed |= decode(hash);
    }
    changed
}

fn decode(hash: &mut Value) -> bool {
    let Some(Cow::Owned(plain)) = hash.as_str().map(unescaped) else {
        return false;
    };
    *hash = json!(plain);
    true
}

/// Base64 whose signs were percent-encoded: no alphabet of base64 has `%`.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut plain = text.to_owned();
    for (code, sign) in [
        ("%2B", "+"),
        ("%2b", "+"),
        ("%2F", "/"),
        ("%2f", "/"),
        ("%3D", "="),
        ("%3d", "="),
    ] {
        plain = plain.replace(code, sign);
    }
    Cow::Owned(plain)
}

/// Parameters of an authorization request.
///
/// - `hash` and `hashes` whose `+` came as a space, or percent-encoded a second time.
/// - In `authorization_details`: percent-encoded hashes, a number of signatures as text, and lists as Python prints them.
pub fn parameters(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mended = pairs.into_iter().map(|(name, value)| {
        let value = match name.as_str() {
            "hash" | "hashes" => unescaped(&value).replace(' ', "+"),
            DETAILS => details(&value).unwrap_or(value),
            _ => value,
        };
        (name, value)
    });
    mended.collect()
}

/// Parameters of a token request: as of an authorization request. Details are what was authorized, said once more, and may be left out; so
/// those that can't be read, or come in parts, count as left out.
pub fn token_parameters(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut pairs = parameters(pairs);
    let all = pairs.iter().filter(|(name, _)| name == DETAILS);
    let all: Vec<&str> = all.map(|(_, value)| value.as_str()).collect();
    let readable = match all.as_slice() {
        [] => true,
        [one] => strict(one.as_bytes()).is_some(),
        _ => false,
    };
    if !readable {
        pairs.retain(|(name, _)| name != DETAILS);
    }
    pairs
}

/// A token request that is written as a JSON object: its members as parameters. Nothing for what is no such object.
pub fn json_parameters(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let members = Body::parse(bytes).ok()?.into_members();
    let named = members.into_iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text,
            // Details are an object in there, and a number is its digits.
            other => other.to_string(),
        };
        Some((name, text))
    });
    Some(named.collect())
}

fn details(text: &str) -> Option<String> {
    let json = python(text);
    let mut changed = matches!(json, Cow::Owned(_));
    let mut value = strict(json.as_bytes())?;
    let entries = match &mut value {
        Value::Array(entries) => entries.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        changed |= number(entry, "numSignatures");
        let digests = entry.get_mut("documentDigests");
        let digests = digests.and_then(Value::as_array_mut);
        for digest in digests.into_iter().flatten() {
            changed |= digest.get_mut("hash").is_some_and(decode);
        }
    }
    changed.then(|| value.to_string())
}

/// A list or object of texts as Python prints it, in JSON. Where neither `"` nor `\` occurs, every `'` is an end of a text: one within would
/// have brought one of them.
fn python(text: &str) -> Cow<'_, str> {
    match text.contains('\'') && !text.contains(['"', '\\']) {
        true => Cow::Owned(text.replace('\'', "\"")),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sent: &Value, v1: bool) -> Option<Value> {
        let read = body(sent.to_string().as_bytes(), v1)?;
        Some(serde_json::from_slice(&read).unwrap())
    }

    #[test]
    fn texts_that_are_numbers_or_truths_become_them_and_no_others() {
        let sent = json!({ "numSignatures": "2", "certInfo": "True", "authInfo": "false", "PIN": "0000",
            "credentialID": "1", "clientData": "true" });
        let meant = json!({ "numSignatures": 2, "certInfo": true, "authInfo": false, "PIN": "0000",
            "credentialID": "1", "clientData": "true" });
        assert_eq!(read(&sent, true), Some(meant));
        for other in [
            json!({ "numSignatures": "" }),
            json!({ "numSignatures": "-1" }),
            json!({ "numSignatures": " 1" }),
            json!({ "numSignatures": "1.0" }),
            json!({ "numSignatures": "99999999999999999999" }),
            json!({ "certInfo": "yes" }),
            json!({ "certInfo": 1 }),
        ] {
            assert_eq!(read(&other, true), None, "{other}");
        }
        for broken in [
            &b""[..],
            b"[]",
            b"{",
            br#"{"certInfo":"true","certInfo":"true"}"#,
        ] {
            assert_eq!(body(broken, false), None);
        }
    }

    #[test]
    fn names_of_version_1_count_in_version_2_where_its_own_are_not_there() {
        let sent = json!({ "hash": ["a%2Bb%2f%3D"], "hashAlgo": "1", "PIN": "1234", "OTP": "", "validityPeriod": "5",
            "sign_algo_params": "x" });
        let meant = json!({ "hashes": ["a+b/="], "hashAlgo": "1", "hashAlgorithmOID": "1", "PIN": "1234", "OTP": "",
            "authData": [{ "id": "PIN", "value": "1234" }], "validity_period": 5, "signAlgoParams": "x" });
        assert_eq!(read(&sent, false), Some(meant));
        // What is there by its right name isn't touched, and a time-stamp has its own.
        for kept in [
            json!({ "hashes": ["a"], "hash": ["b"], "hashAlgorithmOID": "1", "hashAlgo": "2" }),
            json!({ "authData": [{ "id": "PIN", "value": "1" }], "PIN": "2" }),
            json!({ "hash": "YQ==", "hashAlgo": "1" }),
            json!({ "PIN": 1234 }),
        ] {
            assert_eq!(read(&kept, false), None, "{kept}");
        }
        // In version 1 they are its own.
        assert_eq!(read(&json!({ "hash": ["a"], "PIN": "1" }), true), None);
        let digests =
            json!({ "returnValidationInfo": "true", "documentDigests": [{ "hashes": ["a%3D"] }] });
        let meant = json!({ "documentDigests": [{ "hashes": ["a="] }] });
        assert_eq!(read(&digests, false), Some(meant));
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn details_are_read_as_python_prints_them_if_that_can_mean_one_thing_only() {
        let mended = |text: &str| parameters(vec![pair(DETAILS, text)]).remove(0).1;
        let printed = "[{'type': 'credential', 'numSignatures': '1', 'documentDigests': [{'hash': 'YQ%3D%3D'}]}]";
        let meant: Value = serde_json::from_str(&mended(printed)).unwrap();
        assert_eq!(
            meant,
            json!([{ "type": "credential", "numSignatures": 1, "documentDigests": [{ "hash": "YQ==" }] }])
        );
        for kept in [
            r#"[{"type":"credential","label":"it's"}]"#,
            r#"[{'label': "it's"}]"#,
            r"[{'label': 'it\'s'}]",
            "[{'label': None}]",
            "x",
        ] {
            assert_eq!(mended(kept), kept);
        }
        let lists = parameters(vec![pair("hash", "a b,c%2F"), pair("state", "a b%2F")]);
        assert_eq!(lists, [pair("hash", "a+b,c/"), pair("state", "a b%2F")]);
    }

    #[test]
    fn a_token_request_may_leave_its_details_out_and_be_json() {
        let code = || pair("code", "c");
        let once = vec![code(), pair(DETAILS, "[]")];
        assert_eq!(token_parameters(once.clone()), once);
        for odd in [
            vec![code(), pair(DETAILS, "type")],
            vec![pair(DETAILS, "[]"), code(), pair(DETAILS, "[]")],
        ] {
            assert_eq!(token_parameters(odd), [code()]);
        }
        let json = br#"{"code":"c","n":1,"none":null,"authorization_details":[{"a":1}]}"#;
        let read = json_parameters(json).unwrap();
        let details = pair(DETAILS, r#"[{"a":1}]"#);
        for one in [code(), pair("n", "1"), details] {
            assert!(read.contains(&one), "{read:?}");
        }
        assert_eq!(read.len(), 3);
        assert_eq!(json_parameters(br#"{"code":"a","code":"b"}"#), None);
        assert_eq!(json_parameters(b"grant_type=x"), None);
    }
}
