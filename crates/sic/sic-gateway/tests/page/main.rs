//! The page's modules against Rust's: the same formats, the same refusals. Needs Node.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use core_types::bytes::{b64u, from_b64u};
use core_types::random::SeededRandom;
use core_types::{
    B64, ClientId, Digest32, HashAlg, KeyAlg, KeyId, Level, PersonId, SecretBytes, SigAlg,
    TenantId, UnixTime, VoucherId,
};
use jose::{JweContext, SealKey, SigningKey};
use sap::act::{ActClient, ActKey, Person, Since, Version1};
use sap::enrol::{InvitedBy, SealedSeed};
use sap::proof::Method;
use sap::{
    Act, EnrolAct, Item, SamKeys, SealedProof, SignAct, SignOpenAct, TYP_ACT, TYP_KEYS, TYP_SEALED,
    TYP_SEED, act_digest,
};
use serde_json::{Value, json};

mod acts;
mod measures;

use acts::*;

const NOW: UnixTime = UnixTime(1_795_323_912);

fn with_header(jws: &str, header: &str) -> String {
    let (_, rest) = jws.split_once('.').unwrap();
    format!("{}.{rest}", b64u(header))
}

/// The true act under another header, with a signature by the true key over just that.
fn signed_with_header(pkcs8: &SecretBytes, act: &str, header: &str) -> String {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose()).unwrap();
    let signed = format!("{}.{}", b64u(header), act.split('.').nth(1).unwrap());
    let value = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", b64u(value.as_ref()))
}

fn bad_acts(key: &SigningKey, pkcs8: &SecretBytes, act: &str) -> BTreeMap<&'static str, String> {
    let other = SigningKey::generate().unwrap().0;
    let kid = key.public().kid();
    let header = |alg: &str, more: &str| {
        format!(r#"{{"alg":"{alg}","typ":"{TYP_ACT}","kid":"{kid}"{more}}}"#)
    };
    let resigned = |header: &str| signed_with_header(pkcs8, act, header);
    let set = |path: &'static str, value: Value| {
        changed(key, &move |act: &mut Value| {
            *act.pointer_mut(path).unwrap() = value.clone()
        })
    };
    let mut bad = BTreeMap::from([
        ("another key", changed(&other, &|_| ())),
        (
            "another type",
            resigned(&header("ES256", "").replace(TYP_ACT, TYP_KEYS)),
        ),
        ("alg none", resigned(&header("none", ""))),
        ("alg HS256", resigned(&header("HS256", ""))),
        (
            "jwk in the header",
            resigned(&header("ES256", r#","jwk":{}"#)),
        ),
        (
            "doubled member in the header",
            resigned(&header("ES256", &format!(r#","kid":"{kid}""#))),
        ),
        (
            "no kid",
            resigned(&format!(r#"{{"alg":"ES256","typ":"{TYP_ACT}"}}"#)),
        ),
        (
            "a header with spaces",
            resigned(&header("ES256", "").replace(',', ", ")),
        ),
        (
            "a changed header",
            with_header(act, &header("ES256", r#","crit":[]"#)),
        ),
        ("no signature", act.rsplit_once('.').unwrap().0.to_owned()),
        ("a fourth part", format!("{act}.AA")),
        ("an unknown member", changed(key, &|a| a["more"] = json!(1))),
        (
            "an unknown member of the client",
            changed(key, &|a| a["client"]["more"] = json!(1)),
        ),
        (
            "an unknown member of an item",
            changed(key, &|a| a["items"][0]["more"] = json!(1)),
        ),
        ("another SAM", set("/sam", json!("sam.other"))),
        (
            "another epoch",
            set("/epoch", json!(Digest32([9; 32]).to_string())),
        ),
        ("version 2", set("/v", json!(2))),
        ("kind enrol in a sign act", set("/kind", json!("enrol"))),
        ("a life of 301 s", set("/exp", json!(NOW.0 + 301))),
        ("an end before the beginning", set("/exp", json!(NOW.0))),
        ("times as text", set("/exp", json!("later"))),
        ("no items", set("/items", json!([]))),
        ("items as text", set("/items", json!("all"))),
        ("a short hash", set("/items/0/h", json!("AAAA"))),
        ("an unknown hash", set("/items/0/ha", json!("sha1"))),
        (
            "a hash named like a member of objects",
            set("/items/0/ha", json!("constructor")),
        ),
        ("an unknown form", set("/items/0/form", json!("pdf"))),
        (
            "a label that isn't text",
            set("/items/0/label", json!({"a": 1})),
        ),
        (
            "a script as return",
            set("/return", json!("javascript:alert(1)")),
        ),
    ]);
    let mut missing = sign_act();
    missing.items.truncate(1);
    let mut value = serde_json::to_value(Act::Sign(missing)).unwrap();
    value.as_object_mut().unwrap().remove("since");
    bad.insert(
        "a missing member",
        key.sign(TYP_ACT, value.to_string().as_bytes()).unwrap(),
    );
    bad
}

// shows: T-USE-DTBSR-FORGE, T-USE-SAD-FORGE, T-USE-CAPTURE, II-3.3.1-sap-sad-confidentiality
#[test]
fn the_page_and_rust_agree_on_every_format() {
    let random = SeededRandom::new(7);
    let (root, _) = SigningKey::generate().unwrap();
    let (other_root, _) = SigningKey::generate().unwrap();
    let (act_key, act_pkcs8) = SigningKey::generate().unwrap();
    let (seal_key, _) = SealKey::generate().unwrap();
    let (page_key, page_secret) = SealKey::generate().unwrap();

    let keys = SamKeys {
        sam: "sam.test".into(),
        epoch: Digest32([2; 32]),
        act: act_key.public().clone(),
        seal: seal_key.public().clone(),
        nbf: NOW.plus(-3600),
        exp: NOW.plus(86_400),
    };
    let statement = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(&keys).unwrap();
        change(&mut value);
        root.sign(TYP_KEYS, value.to_string().as_bytes()).unwrap()
    };
    let good = statement(&|_| ());
    let bad_statements = vec![
        statement(&|s| s["exp"] = json!(NOW.0 + 49 * 3600)),
        statement(&|s| s["more"] = json!(1)),
        with_header(
            &good,
            &format!(
                r#"{{"alg":"none","typ":"{TYP_KEYS}","kid":"{}"}}"#,
                root.public().kid()
            ),
        ),
        act_key
            .sign(TYP_KEYS, &serde_json::to_vec(&keys).unwrap())
            .unwrap(),
    ];
    let act = changed(&act_key, &|_| ());
    let digest = act_digest(&act);
    let seed = SealedSeed {
        seed: SecretBytes::from("GEZDGNBVGY3TQOJQ".to_owned()),
        uri: SecretBytes::from("otpauth://totp/x".to_owned()),
    };
    let seed = SecretBytes::new(serde_json::to_vec(&seed).unwrap());
    let seed = jose::seal(
        &seed,
        page_key.public(),
        JweContext {
            typ: TYP_SEED,
            apu: digest,
        },
        &random,
    )
    .unwrap();
    let mut page_jwk = serde_json::to_value(page_key.public()).unwrap();
    page_jwk["d"] = json!(b64u(page_secret.expose()));
    let texts = [
        "hello".to_owned(),
        "otpauth://totp/%E6%8D%BA%E5%8D%B0:hanako?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Natsuin".to_owned(),
        "natsuin ".repeat(30),
        "natsuin ".repeat(70),
    ];
    let vectors = json!({
        "now": NOW, "roots": [root.public()], "root_kid": root.public().kid(),
        "other_roots": [other_root.public()], "statement": good, "bad_statements": bad_statements,
        "act": act, "digest": digest, "bad_acts": bad_acts(&act_key, &act_pkcs8, &act),
        "enrol": act_key.sign(TYP_ACT, &serde_json::to_vec(&Act::Enrol(enrol_act())).unwrap()).unwrap(),
        "enrols": enrols(&act_key),
        "opens": opens(&act_key),
        "changes": changes(&act_key),
        "office": office(&act_key),
        "seed": seed, "page_key": page_jwk, "page_public": page_key.public(), "qr": texts,
    });

    let answers = run_node("page", &vectors);
    let opened = |name: &str| {
        let jwe = answers[name].as_str().unwrap();
        seal_key
            .open(
                jwe,
                JweContext {
                    typ: TYP_SEALED,
                    apu: digest,
                },
            )
            .unwrap()
    };
    let proof: SealedProof = serde_json::from_slice(opened("sealed").expose()).unwrap();
    assert_eq!(proof.act, digest);
    assert!(proof.pin.ct_eq("暗証 12345".as_bytes()) && proof.otp.ct_eq(b"123456"));
    assert!(opened("again").ct_eq(b"x"));
    for symbol in answers["qr"].as_array().unwrap() {
        check_qr(symbol);
    }
    assert!(from_b64u(&digest.to_string()).is_ok());
}

// shows: T-USE-DTBSR-FORGE
#[test]
fn a_readers_file_is_the_document_only_if_everything_in_it_is_hashed() {
    passes("file");
}

#[test]
fn an_officers_session_that_is_begun_anew_never_stands_beside_the_one_before() {
    passes("desk");
}

/// Runs `js-tests/NAME.test.mjs`, which needs nothing of Rust.
fn passes(name: &str) {
    let done = Command::new("node")
        .args(["--test", &format!("js-tests/{name}.test.mjs")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("Node runs the page's tests; `cargo xtask test` installs it");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
}

#[test]
fn ten_thousand_documents_can_be_looked_through_on_a_telephone() {
    // The pages over a SAM that only talks; cargo builds examples with the tests.
    let here = std::env::current_exe().unwrap();
    let pages = here
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/pages");
    let mut pages = Command::new(pages)
        .arg("0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example `pages` is built: cargo build -p sic-gateway --example pages");
    // It listens when it has told its last address.
    let mut told = BufReader::new(pages.stdout.take().unwrap()).lines();
    let lines = told.by_ref().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| !line.contains("v-ssa")).collect();
    let url = lines.iter().find(|l| l.ends_with("  10,000 documents"));
    // For looking at the pages: NATSUIN_SCREENSHOTS=DIR keeps them.
    let dir = std::env::var_os("NATSUIN_SCREENSHOTS");
    let done = Command::new("node")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/browser"))
        .args(["many.mjs", url.unwrap().split("  ").next().unwrap()])
        .arg(dir.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()))
        .output()
        .expect("Node drives the browser; `cargo xtask test` installs it");
    pages.kill().unwrap();
    pages.wait().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

/// Runs `js-tests/NAME.test.mjs` with these vectors; answers what it writes.
fn run_node(name: &str, vectors: &Value) -> Value {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let input = dir.join(format!("sic-{name}-vectors.json"));
    let output = dir.join(format!("sic-{name}-answers.json"));
    std::fs::write(&input, vectors.to_string()).unwrap();
    let done = Command::new("node")
        .args(["--test", &format!("js-tests/{name}.test.mjs")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VECTORS", &input)
        .env("ANSWERS", &output)
        .output()
        .expect("Node runs the page's tests; `cargo xtask test` installs it");
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap()
}

/// One of the page's eight masks has to give exactly the symbol that an independent encoder makes of the same bytes.
fn check_qr(symbol: &Value) {
    use qrcode::bits::Bits;
    use qrcode::{Color, EcLevel, QrCode, Version};
    let text = symbol["text"].as_str().unwrap();
    let masks = symbol["masks"].as_array().unwrap();
    let size = masks[0].as_array().unwrap().len();
    let version = Version::Normal(i16::try_from((size - 17) / 4).unwrap());
    let mut bits = Bits::new(version);
    bits.push_byte_data(text.as_bytes()).unwrap();
    bits.push_terminator(EcLevel::M).unwrap();
    let code = QrCode::with_bits(bits, EcLevel::M).unwrap();
    let theirs: Vec<u64> = code
        .to_colors()
        .iter()
        .map(|c| u64::from(*c == Color::Dark))
        .collect();
    let ours = masks.iter().map(|mask| {
        let rows = mask.as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap().iter().map(|c| c.as_u64().unwrap()))
            .collect::<Vec<_>>()
    });
    assert!(
        ours.into_iter().any(|m| m == theirs),
        "{size} modules: {text}"
    );
}
