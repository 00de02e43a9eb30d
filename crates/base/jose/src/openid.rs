//! ID tokens of OpenID providers (OpenID Connect Core 1.0 §2, §3.1.3.7): judged as a function of what is expected. Keys come
//! from whoever configured the provider; nothing in a token names where to get one.

use core_types::UnixTime;
use serde_json::{Map, Value};

use crate::{ForeignJws, ForeignKey};

/// How far a provider's clock may be off, in seconds.
pub const SKEW: i64 = 60;
/// A token is good for this long after it was made, whatever it says itself, in seconds.
const LONGEST: i64 = 600;
/// Longest token in bytes.
const MAX_LEN: usize = 12 * 1024;

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `iss`, exactly.
    pub issuer: &'a str,
    /// `aud`: the one audience.
    pub audience: &'a str,
    /// `nonce`, exactly.
    pub nonce: &'a str,
    /// `acr` is one of these; empty: anything or nothing.
    pub acr: &'a [String],
    /// `amr` has all of these.
    pub amr: &'a [String],
    /// The person proved themselves (`auth_time`) at that time or later; nothing: whenever.
    pub since: Option<UnixTime>,
    /// The time.
    pub now: UnixTime,
}

/// Who proved themselves, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// `sub`: the provider's name of the person for good.
    pub subject: String,
    /// `acr`.
    pub acr: Option<String>,
    /// `auth_time`: when the person proved themselves.
    pub auth_time: Option<UnixTime>,
}

/// Why a token isn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenFault {
    /// It can't be read, or is too long.
    #[error("malformed ID token")]
    Malformed,
    /// None of the provider's keys signed it.
    #[error("not signed by the provider")]
    Signature,
    /// Another issuer.
    #[error("another issuer")]
    Issuer,
    /// Made for somebody else, or for others too.
    #[error("another audience")]
    Audience,
    /// Made for something else.
    #[error("another nonce")]
    Nonce,
    /// Too old, from the future, or without times.
    #[error("not of this time")]
    Time,
    /// The person proved themselves less, or otherwise.
    #[error("authentication context is not enough")]
    Context,
    /// The person didn't prove themselves for this.
    #[error("authentication is not fresh")]
    Stale,
    /// There is no usable `sub`.
    #[error("no subject")]
    Subject,
}

impl IdTokenFault {
    /// As audit logs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "id-token-malformed",
            Self::Signature => "id-token-signature",
            Self::Issuer => "id-token-issuer",
            Self::Audience => "id-token-audience",
            Self::Nonce => "id-token-nonce",
            Self::Time => "id-token-time",
            Self::Context => "id-token-context",
            Self::Stale => "id-token-stale",
            Self::Subject => "id-token-subject",
        }
    }
}

/// Judges an ID token.
///
/// # Errors
/// [`IdTokenFault`]: the first thing that isn't as expected.
pub fn identify(
    token: &str,
    keys: &[ForeignKey],
    expected: Expected<'_>,
) -> Result<Identified, IdTokenFault> {
    use IdTokenFault::{
        Audience, Context, Issuer, Malformed, Nonce, Signature, Stale, Subject, Time,
    };
    if token.len() > MAX_LEN {
        return Err(Malformed);
    }
    let jws = ForeignJws::read(token).map_err(|_| Malformed)?;
    // Other tokens that the provider signs, such as access tokens and logout tokens, name their type.
    if !matches!(jws.typ().as_deref(), None | Some("jwt")) {
        return Err(Malformed);
    }
    let named = |key: &&ForeignKey| match (jws.kid(), key.kid()) {
        (Some(wanted), Some(kid)) => wanted == kid,
        _ => true,
    };
    let mut known = keys.iter().filter(named);
    let payload = known
        .find_map(|key| jws.verify(key).ok())
        .ok_or(Signature)?;
    let claims: Map<String, Value> = serde_json::from_slice(payload).map_err(|_| Malformed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(Issuer);
    }
    // §3.1.3.7 step 3: an audience that isn't trusted makes it nobody's.
    let alone = match claims.get("aud") {
        Some(Value::Array(all)) => match all.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        other => other.and_then(Value::as_str),
    };
    let party = claims
        .get("azp")
        .is_none_or(|azp| azp.as_str() == Some(expected.audience));
    if alone != Some(expected.audience) || !party {
        return Err(Audience);
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(Nonce);
    }
    let now = expected.now;
    let (made, end) = (
        time(&claims, "iat").ok_or(Time)?,
        time(&claims, "exp").ok_or(Time)?,
    );
    let begun =
        claims.get("nbf").is_none() || time(&claims, "nbf").is_some_and(|at| at <= now.plus(SKEW));
    if !begun || made > now.plus(SKEW) || now >= end || now >= made.plus(LONGEST) {
        return Err(Time);
    }
    let acr = text("acr");
    let methods = claims.get("amr").and_then(Value::as_array);
    let used = |method: &String| {
        methods.is_some_and(|all| all.iter().any(|used| used.as_str() == Some(method)))
    };
    let enough =
        expected.acr.is_empty() || acr.is_some_and(|acr| expected.acr.iter().any(|a| a == acr));
    if !enough || !expected.amr.iter().all(used) {
        return Err(Context);
    }
    let auth_time = time(&claims, "auth_time");
    if let Some(since) = expected.since {
        let fresh = |at: UnixTime| since.plus(-SKEW) <= at && at <= now.plus(SKEW);
        if !auth_time.is_some_and(fresh) {
            return Err(Stale);
        }
    }
    let subject = text("sub").filter(|sub| (1..=255).contains(&sub.len()) && sub.is_ascii());
    Ok(Identified {
        subject: subject.ok_or(Subject)?.to_owned(),
        acr: acr.map(str::to_owned),
        auth_time,
    })
}

fn time(claims: &Map<String, Value>, name: &str) -> Option<UnixTime> {
    let value = claims.get(name)?;
    let whole = value.as_i64().filter(|seconds| *seconds >= 0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a NumericDate may have a fraction; it saturates"
    )]
    let whole = whole.or_else(|| Some(value.as_f64().filter(|s| *s >= 0.0)? as i64));
    whole.map(UnixTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use serde_json::json;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn claims() -> Value {
        json!({
            "iss": "https://op.example", "aud": "natsuin", "nonce": "n", "sub": "s",
            "iat": NOW.0 - 5, "exp": NOW.0 + 300, "auth_time": NOW.0 - 5,
            "acr": "high", "amr": ["hwk", "pin"],
        })
    }

    fn judged(claims: &Value, key: &SigningKey, typ: &str) -> Result<Identified, IdTokenFault> {
        let token = key.sign(typ, claims.to_string().as_bytes()).unwrap();
        judge(&token, key)
    }

    fn judge(token: &str, key: &SigningKey) -> Result<Identified, IdTokenFault> {
        let public = serde_json::to_value(key.public()).unwrap();
        let keys = [ForeignKey::parse(&public).unwrap()];
        let (acr, amr) = (["high".to_owned(), "higher".to_owned()], ["hwk".to_owned()]);
        let expected = Expected {
            issuer: "https://op.example",
            audience: "natsuin",
            nonce: "n",
            acr: &acr,
            amr: &amr,
            since: Some(NOW.plus(-60)),
            now: NOW,
        };
        identify(token, &keys, expected)
    }

    #[test]
    fn each_claim_is_held_to_what_is_expected() {
        let (key, _) = SigningKey::generate().unwrap();
        let good = judged(&claims(), &key, "JWT").unwrap();
        assert_eq!(
            (good.subject.as_str(), good.acr.as_deref()),
            ("s", Some("high"))
        );
        use IdTokenFault::*;
        let (now, long) = (NOW.0, "x".repeat(256));
        let cases = [
            ("iss", json!("https://op.example/"), Issuer),
            ("iss", Value::Null, Issuer),
            ("aud", json!("other"), Audience),
            ("aud", json!(["natsuin", "other"]), Audience),
            ("aud", json!([]), Audience),
            ("azp", json!("other"), Audience),
            ("nonce", json!("m"), Nonce),
            ("nonce", Value::Null, Nonce),
            ("exp", json!(now), Time),
            ("exp", Value::Null, Time),
            ("exp", json!("soon"), Time),
            ("iat", json!(now + 61), Time),
            ("iat", json!(now - 600), Time),
            ("iat", json!(-1), Time),
            ("nbf", json!(now + 61), Time),
            ("nbf", json!("now"), Time),
            ("acr", json!("low"), Context),
            ("acr", Value::Null, Context),
            ("amr", json!(["pin"]), Context),
            ("amr", json!("hwk"), Context),
            ("auth_time", json!(now - 121), Stale),
            ("auth_time", json!(now + 61), Stale),
            ("auth_time", Value::Null, Stale),
            ("sub", json!(""), Subject),
            ("sub", json!(long), Subject),
            ("sub", json!(7), Subject),
        ];
        for (member, value, fault) in cases {
            let mut bad = claims();
            bad[member] = value.clone();
            assert_eq!(judged(&bad, &key, "JWT"), Err(fault), "{member} {value}");
        }
        let mut same = claims();
        same["aud"] = json!(["natsuin"]);
        same["azp"] = json!("natsuin");
        assert!(judged(&same, &key, "JWT").is_ok());
    }

    #[test]
    fn tokens_of_other_keys_and_kinds_are_nothing() {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let forged = other.sign("JWT", claims().to_string().as_bytes()).unwrap();
        assert_eq!(judge(&forged, &key), Err(IdTokenFault::Signature));
        for typ in ["at+jwt", "logout+jwt", "dpop+jwt"] {
            assert_eq!(
                judged(&claims(), &key, typ),
                Err(IdTokenFault::Malformed),
                "{typ}"
            );
        }
        let good = key.sign("JWT", claims().to_string().as_bytes()).unwrap();
        let none = core_types::bytes::b64u(r#"{"alg":"none"}"#);
        let payload = good.split('.').nth(1).unwrap();
        for bad in [
            format!("{none}.{payload}."),
            format!("{payload}.{payload}"),
            String::new(),
            "x".repeat(MAX_LEN + 1),
        ] {
            let fault = judge(&bad, &key).unwrap_err();
            assert!(matches!(
                fault,
                IdTokenFault::Malformed | IdTokenFault::Signature
            ));
        }
    }
}
