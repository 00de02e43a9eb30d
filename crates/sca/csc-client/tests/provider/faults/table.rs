//! Faults that show without somebody who logs in, each with the one case that has to find it.

use core_types::bytes::b64;
use serde_json::{Value, json};

use super::KEY;
use super::fake::{ALGO, BACK, Fault, Reply, good, led, no};

/// Name of the case, and the fault.
pub(super) const FAULTS: [(&str, Fault); 38] = [
    ("info has every required member", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["description"] = json!(7);
        }
    }),
    ("info.region is a country's two letters", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["region"] = json!("EUR");
        }
    }),
    ("info names one OAuth server if there is any", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["oauth2Issuer"] = r.body["oauth2"].clone();
        }
    }),
    ("null means absent, unknown members don't matter", |a, r| {
        if a.at == "info" && a.body.get("lang").is_some_and(Value::is_null) {
            *r = no(400, "invalid_request");
        }
    }),
    ("a repeated member is refused", |a, r| {
        if a.at == "info" && a.malformed && a.body.is_object() {
            *r = good(json!({}));
        }
    }),
    ("an unknown method is refused", |a, r| {
        if a.at == "credentials/nonsense" {
            *r = good(json!({}));
        }
    }),
    ("every method wants a token", |a, r| {
        if a.at == "auth/revoke" && a.token.is_empty() {
            *r = good(json!({}));
        }
    }),
    ("no method takes an unknown token", |a, r| {
        if a.at == "credentials/list" && a.token.contains("this-is-no-token") {
            *r = good(json!({ "credentialIDs": [] }));
        }
    }),
    ("credentials/list", |a, r| {
        if a.at == "credentials/list" && r.status == 200 {
            r.body = json!({ "credentialIDs": "k1" });
        }
    }),
    ("userID beside a user's token is refused", |a, r| {
        if a.at == "credentials/list" && a.body["userID"].is_string() && a.token == "Bearer mine" {
            *r = good(json!({ "credentialIDs": [] }));
        }
    }),
    ("an unknown credential is refused", |a, r| {
        if a.at == "credentials/info" && a.body["credentialID"] == "no-such-credential" {
            r.status = 500;
        }
    }),
    ("a missing credentialID is refused", |a, r| {
        if a.at == "credentials/info" && a.body == json!({}) && a.token == "Bearer mine" {
            r.body = json!({ "message": "no" });
        }
    }),
    ("another user's credential", |a, r| {
        if a.at == "credentials/info" && a.token == "Bearer others" {
            *r = good(json!({ "key": {} }));
        }
    }),
    ("a credential has the required members", |a, r| {
        if let ("credentials/info", 200, Some(told)) =
            (a.at.as_str(), r.status, r.body.as_object_mut())
        {
            told.remove("multisign");
        }
    }),
    (
        "the certificates are a chain, the signer's first",
        |a, r| {
            if a.at == "credentials/info" && r.status == 200 {
                r.body["cert"]["certificates"][1] = r.body["cert"]["certificates"][0].clone();
            }
        },
    ),
    (KEY, |a, r| {
        if a.at == "credentials/info" && r.status == 200 {
            r.body["key"]["len"] = json!(384);
        }
    }),
    (KEY, |a, r| {
        if a.at == "credentials/info" && r.status == 200 {
            r.body["key"]["algo"] = json!([ALGO, "1.2.840.113549.1.1.11"]);
        }
    }),
    (
        "serialNumber, validFrom and validTo are the certificate's",
        |a, r| {
            if a.at == "credentials/info" && r.status == 200 {
                r.body["cert"]["validTo"] = json!("20991231235959Z");
            }
        },
    ),
    ("signHash with an invented SAD is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["SAD"] == "invented" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("SHA-1 is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["hashAlgorithmOID"] == "1.3.14.3.2.26" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("authorize for no signature is refused", |a, r| {
        if a.at == "credentials/authorize" && a.body["numSignatures"] == 0 {
            *r = good(json!({ "SAD": "x" }));
        }
    }),
    ("a one-time code works once", |a, r| {
        if a.at == "credentials/authorize" && a.body["authData"].is_array() {
            *r = good(json!({ "SAD": "right" }));
        }
    }),
    ("a hash that wasn't authorized is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["hashes"][0] == b64([9; 32]) {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("another user's SAD is refused", |a, r| {
        if a.at == "signatures/signHash" && a.token == "Bearer others" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("a SAD works once", |a, r| {
        if a.at == "signatures/signHash"
            && a.body["SAD"] == "right"
            && a.token == "Bearer mine"
            && a.body["hashes"][0] == b64([7; 32])
            && r.status == 400
        {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    (
        "extendTransaction with an invented SAD is refused",
        |a, r| {
            if a.at == "credentials/extendTransaction" && a.body["SAD"] == "invented" {
                *r = good(json!({ "SAD": "x" }));
            }
        },
    ),
    ("auth/login of an unknown person is refused", |a, r| {
        if a.at == "auth/login" && a.token.starts_with("Basic") {
            *r = good(json!({ "access_token": "x" }));
        }
    }),
    ("the authorization server's metadata are its own", |a, r| {
        if a.at.starts_with("/.well-known/") && r.status == 200 {
            r.body["issuer"] = json!("https://elsewhere.invalid");
        }
    }),
    ("PKCE with S256 is announced", |a, r| {
        if a.at.starts_with("/.well-known/") && r.status == 200 {
            r.body["code_challenge_methods_supported"] = json!(["plain"]);
        }
    }),
    ("an unknown code is refused", |a, r| {
        if a.at == "/oauth2/token" && a.given.contains_key("code") && r.status == 400 {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    ("a wrong client secret is refused", |a, r| {
        if a.at == "/oauth2/token" && a.token.starts_with("Basic") && r.status == 401 {
            *r = no(400, "invalid_grant");
        }
    }),
    ("an authorization without PKCE is refused", |a, r| {
        let missing = !a.given.contains_key("code_challenge_method");
        if a.at == "/oauth2/authorize"
            && r.status == 302
            && missing
            && !a.given.contains_key("request_uri")
        {
            *r = led("/login".to_owned());
        }
    }),
    ("PKCE with plain is refused", |a, r| {
        if a.at == "/oauth2/authorize"
            && a.given
                .get("code_challenge_method")
                .is_some_and(|m| m == "plain")
        {
            *r = led("/login".to_owned());
        }
    }),
    ("an unknown redirect_uri isn't followed", |a, r| {
        let to = a
            .given
            .get("redirect_uri")
            .filter(|to| to.contains("elsewhere"));
        let known = a.given.get("client_id").is_some_and(|id| id == "app");
        if let ("/oauth2/authorize", Some(to), true) = (a.at.as_str(), to, known) {
            *r = led(format!("{to}?error=invalid_request"));
        }
    }),
    (
        "a refusal brings state back, and iss if it is announced",
        |a, r| {
            if a.at == "/oauth2/authorize"
                && r.location.as_ref().is_some_and(|to| to.contains("iss="))
            {
                r.location = Some(format!(
                    "{BACK}?error=invalid_request&state={}",
                    a.given["state"]
                ));
            }
        },
    ),
    ("a request_uri works once", |a, r| {
        let own = a.given.get("client_id").is_some_and(|id| id == "app");
        if a.at == "/oauth2/authorize" && own && a.given.contains_key("request_uri") {
            *r = led("/login".to_owned());
        }
    }),
    ("a request_uri of somebody else is refused", |a, r| {
        let own = a.given.get("client_id").is_some_and(|id| id == "app");
        if a.at == "/oauth2/authorize" && !own && a.given.contains_key("request_uri") {
            *r = led("/login".to_owned());
        }
    }),
    ("a pushed request without PKCE is refused", |a, r| {
        if a.at == "/oauth2/pushed_authorize" && !a.given.contains_key("code_challenge") {
            *r = Reply {
                status: 201,
                ..good(json!({ "request_uri": "urn:2", "expires_in": 9 }))
            };
        }
    }),
];
