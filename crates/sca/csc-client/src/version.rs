//! The two versions of the API: what their members are called, and one in the words of the other. Nothing is sent here.

use csc_types::{AuthInfo, v1};
use serde_json::{Value, json};
use url::Url;

use crate::error::ClientError;
use crate::http::safe_url;

/// A version of the API, told by the path of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.0.4.0 and before.
    V1,
    /// 2.0.0.2 and later.
    V2,
}

impl Version {
    /// The API at this address, which ends in `/csc/v1` or `/csc/v2`; without either the second is meant, and its path added.
    pub(crate) fn of(base_url: &str) -> Result<(Url, Self), ClientError> {
        let mut base = safe_url(base_url)?;
        let path = base.path().trim_end_matches('/').to_owned();
        let (path, version) = if path.ends_with("/csc/v1") {
            (path, Self::V1)
        } else if path.ends_with("/csc/v2") {
            (path, Self::V2)
        } else {
            (format!("{path}/csc/v2"), Self::V2)
        };
        base.set_path(&path);
        base.set_query(None);
        base.set_fragment(None);
        Ok((base, version))
    }

    /// Names of the members for hashes and for their algorithm.
    pub fn hash_members(self) -> (&'static str, &'static str) {
        match self {
            Self::V1 => ("hash", "hashAlgo"),
            Self::V2 => ("hashes", "hashAlgorithmOID"),
        }
    }

    /// Where secrets of this credential go: `credential` is the answer of `credentials/info` in this version, with `authInfo`.
    pub fn places(self, credential: &Value) -> Places {
        let credential = self.credential(credential.clone());
        let auth = serde_json::from_value(credential["auth"].clone());
        Places::of(self, &auth.unwrap_or_default())
    }

    /// A request in the words of this version; it was written in those of version 2.
    pub(crate) fn body(self, mut v2: Value) -> Value {
        let Some(members) = v2.as_object_mut().filter(|_| self == Self::V1) else {
            return v2;
        };
        if let Some(hashes) = members.remove("hashes") {
            members.insert("hash".to_owned(), hashes);
        }
        members.remove("hashType");
        // Only signHash names the algorithm; elsewhere the length does.
        if let Some(oid) = members.remove("hashAlgorithmOID")
            && members.contains_key("signAlgo")
        {
            members.insert("hashAlgo".to_owned(), oid);
        }
        v2
    }

    /// Parameters of `oauth2/authorize` in the words of this version.
    pub(crate) fn pairs(self, v2: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
        if self == Self::V2 {
            return v2;
        }
        let named = v2.into_iter().filter_map(|(name, value)| match name {
            "hashes" => Some(("hash", value)),
            "hashAlgorithmOID" => None,
            _ => Some((name, value)),
        });
        named.collect()
    }

    /// A credential as version 2 shows it.
    pub(crate) fn credential(self, mut told: Value) -> Value {
        let Some(members) = told.as_object_mut().filter(|_| self == Self::V1) else {
            return told;
        };
        let mode = members.remove("authMode").unwrap_or_default();
        let mut objects = Vec::new();
        for id in [v1::PIN, v1::OTP] {
            let Some(group) = members.remove(id) else {
                continue;
            };
            let mut object = json!({ "id": id, "type": "Password" });
            if group["presence"] == "false" {
                continue;
            }
            if group["type"] == "online" {
                object["type"] = json!("ChallengeResponse");
            }
            for name in ["format", "label", "description"] {
                if let Some(value) = group.get(name) {
                    object[name] = value.clone();
                }
            }
            objects.push(object);
        }
        // The one call of such a credential waits for its person.
        let implicit = mode == "implicit";
        if implicit {
            objects = vec![json!({ "id": v1::PORTAL, "type": "ChallengeResponseOOB" })];
        }
        let mode = if implicit { json!("explicit") } else { mode };
        members.insert(
            "auth".to_owned(),
            json!({ "mode": mode, "objects": objects }),
        );
        told
    }
}

/// Where the secrets of a credential in explicit mode go, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    version: Version,
    pin: Option<String>,
    otp: Option<String>,
    /// Objects with which the person is asked elsewhere.
    elsewhere: Vec<String>,
}

impl Places {
    /// From `auth` of a credential. What takes a challenge, has a generator or calls itself a one-time code is one; another
    /// password is the PIN.
    pub fn of(version: Version, auth: &AuthInfo) -> Self {
        let mut places = Self {
            version,
            pin: None,
            otp: None,
            elsewhere: Vec::new(),
        };
        for object in &auth.objects {
            let Some(id) = object["id"].as_str() else {
                continue;
            };
            let generated = !object["generator"].as_str().unwrap_or_default().is_empty();
            let code = generated || id.to_ascii_lowercase().contains("otp");
            let place = match object["type"].as_str() {
                Some("PasswordOOB" | "ChallengeResponseOOB") => {
                    places.elsewhere.push(id.to_owned());
                    continue;
                }
                Some("ChallengeResponse") => &mut places.otp,
                Some("Password") if code => &mut places.otp,
                Some("Password") => &mut places.pin,
                _ => continue,
            };
            place.get_or_insert_with(|| id.to_owned());
        }
        // Names are fixed in version 1, and some services tell only with which mode.
        if version == Version::V1 && auth.objects.is_empty() && auth.mode == "explicit" {
            places.pin = Some(v1::PIN.to_owned());
            places.otp = Some(v1::OTP.to_owned());
        }
        places
    }

    /// The members of `credentials/authorize` that carry these secrets; without any, those with which the person is asked elsewhere.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`]: the credential names no place for a secret that was given.
    pub fn fill(
        &self,
        pin: Option<&str>,
        otp: Option<&str>,
    ) -> Result<Vec<(&'static str, Value)>, ClientError> {
        let mut given = Vec::new();
        for (place, value, none) in [(&self.pin, pin, NO_PIN), (&self.otp, otp, NO_OTP)] {
            if let Some(value) = value {
                let id = place.clone().ok_or(ClientError::Unsupported(none))?;
                given.push((id, value));
            }
        }
        Ok(match self.version {
            Version::V1 => given
                .into_iter()
                .map(|(id, value)| {
                    let name = if id == v1::PIN { v1::PIN } else { v1::OTP };
                    (name, json!(value))
                })
                .collect(),
            Version::V2 => {
                let data: Vec<Value> = match given.is_empty() {
                    true => self
                        .elsewhere
                        .iter()
                        .map(|id| json!({ "id": id }))
                        .collect(),
                    false => given
                        .into_iter()
                        .map(|(id, value)| json!({ "id": id, "value": value }))
                        .collect(),
                };
                vec![("authData", json!(data))]
            }
        })
    }
}

const NO_PIN: &str = "an authentication object for a PIN with this credential";
const NO_OTP: &str = "an authentication object for a one-time code with this credential";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_where_the_credential_says() {
        let v2 = json!({ "auth": { "mode": "explicit", "objects": [
            { "type": "ChallengeResponse", "id": "sms-7" }, { "type": "Password", "id": "pw" } ] } });
        let places = Version::V2.places(&v2);
        assert_eq!(
            places.fill(Some("1"), Some("2")).unwrap(),
            [(
                "authData",
                json!([{ "id": "pw", "value": "1" }, { "id": "sms-7", "value": "2" }])
            )]
        );
        let app = json!({ "auth": { "objects": [{ "type": "Password", "id": "x", "generator": "totp" }] } });
        let places = Version::V2.places(&app);
        assert_eq!(
            places.fill(None, Some("2")).unwrap(),
            [("authData", json!([{ "id": "x", "value": "2" }]))]
        );
        assert!(matches!(
            places.fill(Some("1"), None),
            Err(ClientError::Unsupported(_))
        ));
        let elsewhere =
            json!({ "auth": { "objects": [{ "type": "ChallengeResponseOOB", "id": "app" }] } });
        assert_eq!(
            Version::V2.places(&elsewhere).fill(None, None).unwrap(),
            [("authData", json!([{ "id": "app" }]))]
        );
        assert!(
            Version::V2
                .places(&json!({}))
                .fill(Some("1"), None)
                .is_err()
        );
    }

    #[test]
    fn version_1_is_read_and_written() {
        let told = json!({ "authMode": "explicit", "SCAL": "2", "PIN": { "presence": "true", "format": "A" },
            "OTP": { "presence": "false" } });
        let read = Version::V1.credential(told.clone());
        assert_eq!(
            read,
            json!({ "SCAL": "2", "auth": { "mode": "explicit",
                "objects": [{ "id": "PIN", "type": "Password", "format": "A" }] } })
        );
        let places = Version::V1.places(&told);
        assert_eq!(places.fill(Some("1"), None).unwrap(), [("PIN", json!("1"))]);
        assert!(places.fill(None, Some("2")).is_err(), "no code is wanted");
        let short = Version::V1.places(&json!({ "authMode": "explicit" }));
        assert_eq!(short.fill(None, Some("2")).unwrap(), [("OTP", json!("2"))]);
        let implicit = json!({ "authMode": "implicit" });
        assert_eq!(Version::V1.places(&implicit).fill(None, None).unwrap(), []);

        let sign = json!({ "hashes": ["a"], "hashAlgorithmOID": "1", "signAlgo": "2" });
        assert_eq!(
            Version::V1.body(sign.clone()),
            json!({ "hash": ["a"], "hashAlgo": "1", "signAlgo": "2" })
        );
        assert_eq!(Version::V2.body(sign.clone()), sign);
        let grant = json!({ "hashes": ["a"], "hashAlgorithmOID": "1" });
        assert_eq!(Version::V1.body(grant), json!({ "hash": ["a"] }));
        let pairs = vec![
            ("hashes", "a,b".to_owned()),
            ("hashAlgorithmOID", "1".to_owned()),
        ];
        assert_eq!(Version::V1.pairs(pairs), [("hash", "a,b".to_owned())]);
    }

    #[test]
    fn the_path_tells_the_version() {
        let of = |url: &str| {
            let (base, version) = Version::of(url).unwrap();
            (base.path().to_owned(), version)
        };
        assert_eq!(
            of("https://a.example/x/csc/v1/"),
            ("/x/csc/v1".to_owned(), Version::V1)
        );
        assert_eq!(of("https://a.example"), ("/csc/v2".to_owned(), Version::V2));
        assert!(Version::of("http://a.example/csc/v1").is_err());
    }
}
