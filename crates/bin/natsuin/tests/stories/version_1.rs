//! Version 1 of the API from a login to a value, on each of its ways, by a client that knows its words and nothing else.

use std::sync::Arc;

use core_types::bytes::{b64, b64u, from_b64};
use core_types::{Clock as _, HashAlg, KeyAlg, SecretBytes, sha256};
use natsuin::stack::{Factors, StoreChoice};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use sic_core::Totp;

use crate::bad_input::Ahead;
use crate::clients::officer;
use crate::keys::between;
use crate::kit::{Story, until};
use crate::spend::{ALG, credential, hashes};

const VERIFIER: &str = "a-verifier-of-a-client-that-speaks-version-1";
const AUTHORIZE: &str = "credentials/authorize";
const EXTEND: &str = "credentials/extendTransaction";
const INFO: &str = "credentials/info";
const SIGN: &str = "signatures/signHash";

/// A client with its secret.
struct Older {
    id: &'static str,
    secret: String,
    redirect: &'static str,
}

impl Older {
    /// What the token endpoint answers once the signer was in the browser.
    async fn granted(&self, story: &mut Story, asked: &[(&str, &str)]) -> Value {
        let home = story.stack.ssa_url.clone();
        let challenge = b64u(sha256(&[VERIFIER.as_bytes()]).0);
        let mut url = Url::parse(&format!("{home}/oauth2/authorize")).unwrap();
        url.query_pairs_mut().extend_pairs(asked).extend_pairs([
            ("response_type", "code"),
            ("client_id", self.id),
            ("redirect_uri", self.redirect),
            ("state", "one"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        let factors = Factors::Passkey(&mut story.device);
        let agent = &mut story.agent;
        let back = agent.until(url.as_str(), self.redirect, &story.signer, factors);
        let back = back.await.unwrap();
        let mut told = back.query_pairs();
        let (_, code) = told.find(|(name, _)| name == "code").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", self.redirect),
            ("code_verifier", VERIFIER),
        ];
        let request = story.stack.http.post(format!("{home}/oauth2/token"));
        let request = request.basic_auth(self.id, Some(&self.secret));
        let answer = request.form(&form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.json().await.unwrap()
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn call(story: &Story, method: &str, token: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/csc/v1/{method}", story.stack.ssa_url);
    let request = story.stack.http.post(url).bearer_auth(token).json(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

async fn about(story: &Story, token: &str) -> Value {
    let body = json!({ "credentialID": credential(story), "certificates": "single",
        "authInfo": true });
    let (status, told) = call(story, INFO, token, &body).await;
    assert_eq!(status, 200, "{told}");
    told
}

fn to_sign(story: &Story, sad: &str, hash: &[u8]) -> Value {
    json!({ "credentialID": credential(story), "SAD": sad, "hash": [b64(hash)],
        "hashAlgo": HashAlg::Sha256.oid(), "signAlgo": ALG.oid() })
}

/// One value, of this key.
fn good(info: &Value, hash: &[u8], (status, signed): &(u16, Value)) {
    assert_eq!(*status, 200, "{signed}");
    let decoded = |text: &Value| from_b64(text.as_str().unwrap()).unwrap();
    assert_eq!(signed["signatures"].as_array().unwrap().len(), 1);
    let certificate = decoded(&info["cert"]["certificates"][0]);
    let certificate = pki::Certificate::parse(&certificate).unwrap();
    let value = decoded(&signed["signatures"][0]);
    let digest = pki::Signed::Digest(hash);
    pki::verify_signature(certificate.spki(), ALG, digest, &value).unwrap();
}

// shows: I-5.2.2-flow-may-vary, II-A1-multi-method-2, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn version_1_goes_from_login_to_value_on_each_of_its_ways() {
    let clock = Arc::new(Ahead::default());
    let key = KeyAlg::P256;
    let mut story = Story::at(key, StoreChoice::Embedded, false, clock.clone()).await;
    with_hashes(&mut story).await;
    // One-time codes of logins count once.
    clock.advance(60);
    by_name(&story, &clock).await;
    elsewhere(&mut story).await;
    story.stack.stop().await;
}

/// OAuth: the right to sign two hashes, one after the other.
async fn with_hashes(story: &mut Story) {
    let registered = story.stack.client("test-client").unwrap();
    let client = Older {
        id: "test-client",
        secret: registered.client_secret.clone().unwrap(),
        redirect: "http://localhost/callback",
    };
    let login = client.granted(story, &[("scope", "service")]).await;
    assert_eq!(login["token_type"], "Bearer");
    let reading = string(&login["access_token"]);
    let info = about(story, &reading).await;
    assert_eq!(info["authMode"], "oauth2code", "{info}");

    let (own, list) = (credential(story), hashes(2));
    let both: Vec<String> = list.iter().map(b64u).collect();
    let both = both.join(",");
    let asked = [
        ("scope", "credential"),
        ("credentialID", own.as_str()),
        ("numSignatures", "2"),
        ("hash", both.as_str()),
        ("description", "Lease"),
    ];
    let right = client.granted(story, &asked).await;
    assert_eq!(right["token_type"], "SAD");
    let first = string(&right["access_token"]);
    let one = to_sign(story, &first, &list[0]);
    good(&info, &list[0], &call(story, SIGN, &reading, &one).await);
    let extend = json!({ "credentialID": own, "hash": [b64(&list[1])], "SAD": first });
    let (status, told) = call(story, EXTEND, &reading, &extend).await;
    assert_eq!(status, 200, "{told}");
    assert!(told["expiresIn"].as_u64().unwrap() > 0, "{told}");
    let second = string(&told["SAD"]);
    let other = to_sign(story, &first, &list[1]);
    let next = to_sign(story, &second, &list[1]);
    assert_eq!(call(story, SIGN, &reading, &other).await.0, 400, "replaced");
    good(&info, &list[1], &call(story, SIGN, &reading, &next).await);
    for used in [&one, &next] {
        let (status, told) = call(story, SIGN, &reading, used).await;
        assert_eq!(status, 400, "each counts once: {told}");
    }
    assert_eq!(call(story, EXTEND, &reading, &extend).await.0, 400);
}

/// `auth/login`, with what keeps it.
async fn by_name(story: &Story, clock: &Ahead) {
    let signer = &story.signer;
    let seed = SecretBytes::from(signer.login_totp_secret.clone());
    let code = Totp::from_base32(&seed).unwrap().code(clock.now());
    let code = String::from_utf8(code.expose().to_vec()).unwrap();
    let url = format!("{}/csc/v1/auth/login", story.stack.ssa_url);
    let request = story.stack.http.post(&url);
    let password = format!("{}{code}", signer.password);
    let request = request.basic_auth(&signer.user, Some(password));
    let remember = json!({ "rememberMe": true });
    let answer = request.json(&remember).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let told: Value = answer.json().await.unwrap();
    let kept = json!({ "refresh_token": told["refresh_token"] });
    let later = story.stack.http.post(&url).json(&kept);
    let later: Value = later.send().await.unwrap().json().await.unwrap();
    for token in [&told, &later] {
        let token = string(&token["access_token"]);
        let (status, list) = call(story, "credentials/list", &token, &json!({})).await;
        let own = json!({ "credentialIDs": [credential(story)] });
        assert_eq!((status, &list), (200, &own));
    }
}

/// `implicit`: the call waits while the person decides in the portal.
async fn elsewhere(story: &mut Story) {
    let redirect = "http://127.0.0.1:8080/callback";
    let settings = story.dir.path().join("settings.json");
    std::fs::write(&settings, r#"{"out_of_band":true}"#).unwrap();
    let settings = settings.display().to_string();
    let secret = tokio::task::block_in_place(|| {
        let add = [
            "add",
            "older-app",
            "--name",
            "Older",
            "--redirect-uri",
            redirect,
            "--settings",
            &settings,
        ];
        assert_eq!(officer(&story.stack, "tanaka", &add).0, 0);
        let (code, given) = officer(&story.stack, "sato", &["rotate", "older-app"]);
        assert_eq!(code, 0, "{given}");
        string(&given["secret"])
    });
    let client = Older {
        id: "older-app",
        secret,
        redirect,
    };
    let login = client.granted(story, &[("scope", "service")]).await;
    let reading = string(&login["access_token"]);
    let info = about(story, &reading).await;
    assert_eq!(info["authMode"], "implicit", "{info}");

    let hash = hashes(1).remove(0);
    let asked = json!({ "credentialID": credential(story), "numSignatures": 1, "hash": [b64(&hash)],
        "description": "Lease" });
    let home = story.stack.ssa_url.clone();
    let waiting = story.stack.http.post(format!("{home}/csc/v1/{AUTHORIZE}"));
    let waiting = tokio::spawn(waiting.bearer_auth(&reading).json(&asked).send());
    let mut page = String::new();
    until("the request in the portal", async || {
        page = story.portal("/requests").await;
        page.contains("name=\"request\"")
    })
    .await;
    assert!(!waiting.is_finished());
    let value = |name: &str| between(&page, &format!("name=\"{name}\" value=\""), "\"").unwrap();
    let form = [("token", value("token")), ("request", value("request"))];
    let url = Url::parse(&format!("{home}/requests")).unwrap();
    let request = story.agent.request(Method::POST, &url);
    let request = request.header("origin", &home).form(&form);
    let answer = story.agent.send(&url, request).await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(to.starts_with(&story.stack.sic_url), "{to}");
    let factors = Factors::Passkey(&mut story.device);
    let decided = story.agent.visit(&to, &home, &story.signer, factors);
    decided.await.unwrap();

    let granted = waiting.await.unwrap().unwrap();
    assert_eq!(granted.status().as_u16(), 200);
    let granted: Value = granted.json().await.unwrap();
    let body = to_sign(story, &string(&granted["SAD"]), &hash);
    good(&info, &hash, &call(story, SIGN, &reading, &body).await);
    assert_eq!(call(story, SIGN, &reading, &body).await.0, 400);
}
