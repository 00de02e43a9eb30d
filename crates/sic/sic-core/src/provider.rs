//! Where a person proves their will to an identity provider.

use core_types::Digest32;
use sap::messages::ProviderHint;

/// The provider's page for an act: an ID token in the fragment, made for the act's digest by somebody who proves themselves
/// anew (OpenID Connect Core 1.0 §3.2.2).
pub(crate) fn provider_address(
    hint: &ProviderHint,
    act: Digest32,
    redirect_uri: &str,
    state: &str,
) -> String {
    let nonce = act.to_string();
    let acr = hint.acr.join(" ");
    let mut pairs = vec![
        ("response_type", "id_token"),
        ("response_mode", "fragment"),
        ("scope", "openid"),
        ("client_id", &hint.client),
        ("redirect_uri", redirect_uri),
        ("state", state),
        ("nonce", &nonce),
        ("prompt", "login"),
        ("max_age", "0"),
    ];
    if !acr.is_empty() {
        pairs.push(("acr_values", &acr));
    }
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let join = if hint.authorize.contains('?') {
        '&'
    } else {
        '?'
    };
    format!("{}{join}{}", hint.authorize, pairs.join("&"))
}

/// RFC 3986 §2.1: everything but unreserved characters as octets.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_the_act_and_asks_for_a_fresh_proof() {
        let hint = |authorize: &str| ProviderHint {
            name: "OP".to_owned(),
            issuer: "https://op.example".to_owned(),
            authorize: authorize.to_owned(),
            client: "sam&x".to_owned(),
            acr: vec!["a".to_owned(), "b/c".to_owned()],
        };
        let act = Digest32([7; 32]);
        let to = provider_address(&hint("https://op.example/a"), act, "https://sic/p", "s");
        assert!(to.starts_with("https://op.example/a?response_type=id_token&"));
        for part in [
            format!("&nonce={act}"),
            "&client_id=sam%26x&".to_owned(),
            "&redirect_uri=https%3A%2F%2Fsic%2Fp&".to_owned(),
            "&prompt=login&max_age=0&acr_values=a%20b%2Fc".to_owned(),
        ] {
            assert!(to.contains(&part), "{to}");
        }
        let to = provider_address(&hint("https://op.example/a?t=1"), act, "x", "s");
        assert!(to.starts_with("https://op.example/a?t=1&response_type="));
    }
}
