//! `natsuin csc` without a browser: refresh tokens, and approvals by the signer's component.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg, SigAlg};
use natsuin::stack::{NewFactors, NewSigner, StoreChoice};
use serde_json::Value;

use crate::bad_input::Ahead;
use crate::csc_command::Caller;
use crate::kit::{Story, natsuin, run, text};

/// One JSON object and the exit code of `natsuin csc`, told in words.
pub fn csc(caller: &Caller, version: u8, told: &[&str]) -> (i32, Value) {
    let mut natsuin = natsuin();
    natsuin
        .args(["csc", told[0], "--json", "--url"])
        .arg(format!("{}/csc/v{version}", caller.url))
        .arg("--trust")
        .arg(&caller.trust)
        .args(&told[1..]);
    let output = run(&mut natsuin);
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|_| panic!("one JSON object: {}", text(&output)));
    (output.status.code().unwrap(), value)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_browser_the_signers_component_approves_and_tokens_are_renewed() {
    let clock = Arc::new(Ahead::default());
    clock.advance(-30);
    let story = Story::at(KeyAlg::P256, StoreChoice::Embedded, false, clock.clone()).await;
    let pin = core_types::SecretBytes::from("a pin of taro's".to_owned());
    let mut people = Vec::new();
    for login in ["taro", "jiro"] {
        let new = NewSigner {
            login,
            name: "山田 太郎",
            keys: &[KeyAlg::P256],
            collected: false,
            exportable: false,
            one_time: false,
        };
        let enrolled = story.stack.enrol(&new, NewFactors::PinTotp(&pin)).await;
        people.push(enrolled.unwrap().shown);
    }
    clock.advance(30);
    let (taro, jiro, hanako) = (&people[0], &people[1], &story.signer);
    let caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: story.stack.ssa_url.clone(),
    };
    let file = |name: &str, content: &str| caller.file(name, content).display().to_string();
    let token_of = |told: &Value, member: &str, name: &str| {
        let text = told["answer"][member].as_str();
        file(name, text.unwrap_or_else(|| panic!("{member}: {told}")))
    };

    // Refresh tokens, of a client and of `auth/login`.
    let client = story.stack.client("test-client").unwrap();
    let client = file("client.secret", client.client_secret.as_deref().unwrap());
    let of_client = ["--client", "test-client", "--client-secret-file", &client];
    let (password, seed) = (
        file("hanako.password", &hanako.password),
        file("hanako.seed", &hanako.login_totp_secret),
    );
    let mut by_form = vec!["login", "--redirect-uri", "http://localhost/callback"];
    by_form.extend(of_client);
    by_form.extend(["--user", "hanako", "--password-file", &password]);
    by_form.extend(["--totp-secret-file", &seed]);
    let (code, told) = csc(&caller, 2, &by_form);
    assert_eq!(code, 0, "{told}");
    let refresh = token_of(&told, "refresh_token", "refresh");
    let mut again = vec!["login", "--refresh-file", &refresh];
    again.extend(of_client);
    let (code, told) = csc(&caller, 1, &again);
    assert_eq!(code, 0, "{told}");
    let fresh = token_of(&told, "access_token", "fresh");
    assert_eq!(csc(&caller, 2, &["list", "--token-file", &fresh]).0, 0);
    assert_ne!(csc(&caller, 1, &again).0, 0, "each counts once");
    let (password, seed) = (
        file("jiro.password", &jiro.password),
        file("jiro.seed", &jiro.login_totp_secret),
    );
    let mut by_name = vec![
        "login",
        "--remember",
        "--user",
        "jiro",
        "--password-file",
        &password,
    ];
    by_name.extend(["--totp-secret-file", &seed]);
    let (code, told) = csc(&caller, 1, &by_name);
    assert_eq!(code, 0, "{told}");
    let refresh = token_of(&told, "refresh_token", "jiro.refresh");
    let (code, told) = csc(&caller, 1, &["login", "--refresh-file", &refresh]);
    assert_eq!(code, 0, "{told}");
    assert!(told["answer"]["access_token"].is_string(), "{told}");

    // A key that no application may approve for, at version 1, from the login to the value.
    let (password, seed) = (
        file("taro.password", &taro.password),
        file("taro.seed", &taro.login_totp_secret),
    );
    let kept = caller.dir.join("taro.session").display().to_string();
    let person = [
        "--client",
        "natsuin-cli",
        "--user",
        "taro",
        "--password-file",
        &password,
        "--session-file",
        &kept,
    ];
    let mut login = vec!["login", "--totp-secret-file", &seed];
    login.extend(person);
    let (code, told) = csc(&caller, 1, &login);
    assert_eq!(code, 0, "{told}");
    let reading = token_of(&told, "access_token", "taro.token");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, list) = csc(&caller, 2, &["list", "--token-file", &reading]);
    let own = &list["answer"]["credentialInfos"][0];
    assert_eq!(own["auth"]["mode"], "oauth2code", "{list}");
    let (id, digest) = (own["credentialID"].as_str().unwrap(), [5_u8; 32]);
    let hash = b64(digest);
    let (pin, seed) = (
        file("taro.pin", "a pin of taro's"),
        file("taro.signing", &taro.totp_secret),
    );
    let (sic, root) = (
        story.stack.sic_url.clone(),
        story.root().display().to_string(),
    );
    let (stranger, _) = jose::SigningKey::generate().unwrap();
    let stranger = file(
        "other.jwk",
        &serde_json::to_string(stranger.public()).unwrap(),
    );
    let approve = |root: &str| {
        let mut what = vec![
            "authorize",
            "--key",
            id,
            "--hash",
            &hash,
            "--pin-file",
            &pin,
        ];
        what.extend(["--totp-secret-file", &seed, "--sic", &sic, "--root", root]);
        what.extend(person);
        csc(&caller, 1, &what)
    };
    let (code, told) = approve(&stranger);
    assert_ne!(code, 0, "no SAM of this root: {told}");
    let (code, told) = approve(&root);
    assert_eq!(code, 0, "{told}");
    let right = token_of(&told, "access_token", "taro.right");
    let sign = [
        "sign-hash",
        "--token-file",
        &reading,
        "--sad-file",
        &right,
        "--key",
        id,
        "--hash",
        &hash,
        "--sign-algo",
        "1.2.840.10045.4.3.2",
    ];
    let (code, signed) = csc(&caller, 1, &sign);
    assert_eq!(code, 0, "{signed}");
    let decoded = |text: &Value| core_types::bytes::from_b64(text.as_str().unwrap()).unwrap();
    let certificate = decoded(&own["cert"]["certificates"][0]);
    let certificate = pki::Certificate::parse(&certificate).unwrap();
    pki::verify_signature(
        certificate.spki(),
        SigAlg::Ecdsa(HashAlg::Sha256),
        pki::Signed::Digest(&digest),
        &decoded(&signed["answer"]["signatures"][0]),
    )
    .unwrap();
    // A key of an application's has no place on the approval page, and one of the page none for an application's secrets.
    let explicit = [
        "authorize",
        "--token-file",
        &reading,
        "--key",
        id,
        "--hash",
        &hash,
        "--pin-file",
        &pin,
    ];
    let (code, told) = csc(&caller, 2, &explicit);
    assert_eq!(
        (code, &told["code"]),
        (6, &Value::from("credential-mode")),
        "{told}"
    );
    story.stack.stop().await;
}
