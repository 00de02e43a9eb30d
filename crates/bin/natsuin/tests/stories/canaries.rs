//! Secrets of every kind are used, and then looked for: in databases, exports, archives, backups and evidence, and in what all zones say
//! when they say most.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::bytes::{b64, b64u, from_b64, from_b64u};
use core_types::random::SystemRandom;
use core_types::{KeyAlg, Level, PersonId, Random as _, SecretBytes, TenantId, VoucherId, sha256};
use csc_types::{Purpose, SecretText};
use natsuin::agent::Agent;
use natsuin::stack::{
    DevCredential, DevSigner, Device, Factors, NAME_SSA, NewFactors, Sic, Stack, StoreChoice,
};
use sam_api::ssa::{Voucher, VoucherRequest};
use sap::enrol::{Invite, Subject};
use serde_json::Value;
use sic_core::{Totp, Trust};

use crate::archive::Medium;
use crate::clients::officer;
use crate::csc_command::Caller;
use crate::kit::{entries, files, natsuin, run, start, text};
use crate::levels::stores;
use crate::spend::{Spender, approval, body, hashes};

mod places;

use places::{Lines, handed_out, holds, in_store, private_keys, rows};

// shows: T-USE-CAPTURE, T-KEY-DATA-DISCLOSE, I-7.1.4.1-log-signing-events, I-7.1.4.1-signing-event-certificate,
// I-4.2.1-rssp-holds-verification-info, I-7.1.5.1-archive-no-secrets, I-7.1.7.1-backup-confidentiality,
// T-REG-INFO-CAPTURE, I-7.1.4.1-log-sad-management
#[tokio::test(flavor = "multi_thread")]
async fn no_log_database_or_export_holds_a_secret() {
    let lines = Lines(Arc::default());
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            "trace,hyper=debug,h2=info,mio=info,sqlx=debug,rustls=debug",
        ))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    for store in stores().await {
        *lines.0.lock().unwrap() = Some(Vec::new());
        used_and_looked_for(&store, &lines).await;
    }
}

/// Something that nobody but its owner may ever see, in the forms in which it might be written.
type Canary = (&'static str, Vec<u8>);

/// A text that stands for bytes: both.
fn both(what: &'static str, text: &str, bytes: Vec<u8>) -> [Canary; 2] {
    [(what, text.as_bytes().to_vec()), (what, bytes)]
}

/// A seed as people type it and as bytes.
fn seed(what: &'static str, text: &str) -> [Canary; 2] {
    let typed = SecretBytes::from(text.to_owned());
    both(
        what,
        text,
        otp::from_base32(&typed).unwrap().expose().to_vec(),
    )
}

async fn used_and_looked_for(store: &StoreChoice, lines: &Lines) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut stack = start(&data, store.clone(), false).await;
    stack.seed_signers().await.unwrap();
    let signer = stack.signers()[0].clone();
    let spender = Spender::new(&stack, "test-client").await;
    let mut agent = Agent::new(&stack);
    let (pin, totp) = (
        SecretBytes::from(signer.pin.clone()),
        Totp::from_base32(&SecretBytes::from(signer.totp_secret.clone())).unwrap(),
    );
    let factors = || Factors::PinTotp {
        pin: &pin,
        totp: &totp,
    };
    let p256 = |c: &&DevCredential| c.algo == KeyAlg::P256.name();
    let key = signer.credentials.iter().find(p256).unwrap();
    let key = key.credential_id.clone();
    let approved = hashes(1);
    let asked = approval(&key, &approved);
    let token = spender
        .token_of(&signer, &mut agent, factors(), asked)
        .await;
    let (status, answer) = spender.post(&token, body(&key, &approved), None).await;
    assert_eq!(status, 200, "{answer}");
    let service = spender
        .tokens_of(&signer, &mut agent, factors(), Purpose::Service)
        .await;
    let refresh = service.refresh_token.unwrap();
    let renewed = spender.renewed(&refresh).await;
    let client = stack.client("test-client").unwrap().clone();
    let cookies = agent.cookies();
    assert!(!cookies.is_empty(), "the browser has a session");

    let mut secrets: Vec<Canary> = vec![
        ("PIN", signer.pin.clone().into_bytes()),
        ("password", signer.password.clone().into_bytes()),
        ("client secret", client.client_secret.unwrap().into_bytes()),
    ];
    secrets.extend(seed("signing seed", &signer.totp_secret));
    secrets.extend(seed("login seed", &signer.login_totp_secret));
    for (what, token) in [
        ("token of the approval", &token),
        ("token of the login", &service.access_token),
        ("refresh token", &refresh),
        ("renewed token", &renewed.access_token),
        (
            "next refresh token",
            renewed.refresh_token.as_ref().unwrap(),
        ),
    ] {
        secrets.push((what, token.expose().as_bytes().to_vec()));
    }
    secrets.extend(cookies.into_iter().map(|c| ("cookie", c.into_bytes())));
    secrets.extend(of_an_application(
        &stack,
        dir.path(),
        &signer,
        &renewed.access_token,
    ));
    secrets.extend(of_invitations(&stack).await);
    secrets.extend(of_an_officer(&stack, &data).await);
    stack.stop().await;

    let export = dir.path().join("export");
    let mut exporting = natsuin();
    exporting.args(["audit", "export", "--data"]).arg(&data);
    in_store(&mut exporting, store);
    let said = run(exporting.arg("--out").arg(&export));
    assert!(said.status.success(), "{}", text(&said));
    let archive = dir.path().join("medium");
    let medium = Medium::new(dir.path(), data.join("witness"));
    let said = medium.create(&export, &archive);
    assert!(said.status.success(), "{}", text(&said));
    let told = handed_out(dir.path(), store, &export, &signer.person);
    one_signature_is_linked(&export, &key);

    let state: Value =
        serde_json::from_slice(&std::fs::read(data.join("state.json")).unwrap()).unwrap();
    let shares = state["office"]["shares"].as_array().unwrap();
    let shares = shares.iter().map(|s| s.as_str().unwrap().to_owned());
    secrets.extend(shares.map(|s| ("recovery share", s.into_bytes())));
    let mut places: Vec<(String, Vec<u8>)> = ["cm", "sam", "ssa", "sca", "witness"]
        .iter()
        .flat_map(|zone| files(&data.join(zone)))
        .chain(files(&export))
        .chain(files(&archive))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    places.push((
        "the log".to_owned(),
        lines.0.lock().unwrap().take().unwrap(),
    ));
    places.extend(told);
    places.extend(rows(store).await);
    let keys = private_keys(&data);
    // What isn't secret is found, so the search works.
    let keeps_keys = match store {
        StoreChoice::Embedded => "sam.db",
        StoreChoice::Postgres(_) => "rows of sam.signing_key",
    };
    for (place, bytes) in [
        (keeps_keys, key.as_bytes()),
        ("the log", b"sic_gateway::forward" as &[u8]),
    ] {
        let mut of = places.iter().filter(|(name, _)| name.ends_with(place));
        assert!(of.any(|(_, all)| holds(all, bytes)), "{place}");
    }
    for (place, bytes) in &places {
        for (what, secret) in &secrets {
            assert!(!holds(bytes, secret), "{place} holds a {what}");
        }
        for (what, forms) in keys.iter().filter(|(what, _)| what != place) {
            for form in forms {
                assert!(!holds(bytes, form), "{place} holds {what}");
            }
        }
    }
}

/// What an application is told by its user and by the service: a PIN and one-time codes of a key of explicit mode, among them one that
/// was sent, what it may sign by, and with what notices to it are signed.
fn of_an_application(
    stack: &Stack,
    dir: &Path,
    signer: &DevSigner,
    token: &SecretText,
) -> Vec<Canary> {
    let caller = Caller {
        dir: dir.to_owned(),
        trust: stack.ca.trust_anchors_file(),
        url: stack.ssa_url.clone(),
    };
    let explicit = |c: &&DevCredential| c.auth_mode == "explicit";
    let key = signer.credentials.iter().find(explicit).unwrap();
    let (pin, totp) = (key.pin.clone().unwrap(), key.totp_secret.clone().unwrap());
    let (token, pin_file) = (
        caller.file("token", token.expose()),
        caller.file("explicit.pin", &pin),
    );
    let (id, hash) = (
        PathBuf::from(&key.credential_id),
        PathBuf::from(b64([7; 32])),
    );
    let given = [
        ("--token-file", token.as_path()),
        ("--key", &id),
        ("--hash", &hash),
        ("--pin-file", &pin_file),
    ];
    let (code, sent) = caller.call(1, "send-otp", &given[..2]);
    assert_eq!(code, 0, "{sent}");
    let letters = std::fs::read_to_string(stack.codes_file()).unwrap();
    let letter: Value = serde_json::from_str(letters.lines().last().unwrap()).unwrap();
    let sent = letter["code"].as_str().unwrap();
    let sent_file = caller.file("sent", sent);
    let with_code = [&given[..], &[("--otp-file", sent_file.as_path())]].concat();
    let (code, granted) = caller.call(2, "authorize", &with_code);
    assert_eq!(code, 0, "{granted}");
    let sad = granted["answer"]["SAD"].as_str().unwrap();
    let (code, told) = officer(stack, "sato", &["response-secret", "test-client"]);
    assert_eq!(code, 0, "{told}");
    let notices = told["secret"].as_str().unwrap();
    let bare = notices.strip_prefix("whsec_").unwrap();
    let mut found = vec![
        ("SAD of an application", sad.as_bytes().to_vec()),
        ("PIN of explicit mode", pin.into_bytes()),
        // Six digits alone are found everywhere; a text that is a code isn't.
        (
            "one-time code that was sent",
            format!("\"{sent}\"").into_bytes(),
        ),
    ];
    found.extend(seed("seed of explicit mode", &totp));
    found.extend(both("secret of notices", bare, from_b64(bare).unwrap()));
    found
}

/// What people are invited with: a link of the service's own, and the secret of a voucher, which somebody enrols by.
async fn of_invitations(stack: &Stack) -> Vec<Canary> {
    let mut found = Vec::new();
    for link in stack.invitations().await.unwrap() {
        let visited = stack.http.get(&link).send().await.unwrap().status();
        assert!(visited.as_u16() < 400, "{visited}");
        let code = link.rsplit('/').next().unwrap().to_owned();
        found.push(("code of an invitation", code.into_bytes()));
    }
    let voucher = VoucherId::random(&SystemRandom);
    let secret = SystemRandom.digest32().0[..16].to_vec();
    let ssa = stack.caller(&stack.inner.sam_for_ssa, NAME_SSA).unwrap();
    let request = VoucherRequest::Ssa {
        return_uri: format!("{}/enrolled/{voucher}", stack.ssa_url),
        invite: Box::new(Invite {
            voucher: voucher.clone(),
            tenant: TenantId::parse("dev").unwrap(),
            person: PersonId::parse("p-invited").unwrap(),
            subject: Subject {
                common_name: "招待 花子".to_owned(),
                country: "JP".to_owned(),
                organization: None,
                serial_number: "DEV-INVITED".to_owned(),
            },
            assurance: "mail-only".to_owned(),
            ceiling: Level::One,
            keys: vec![KeyAlg::P256],
            exp: stack.clock().now().plus(3600),
            secret: sha256(&[&secret]),
            replaces: None,
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        }),
    };
    ssa.call::<Voucher>(&request).await.unwrap();
    let text = format!("{voucher}.{}", b64u(&secret));
    let typed = sic_core::Voucher::parse(&SecretBytes::from(text.clone())).unwrap();
    let pin = "a pin for the invited";
    let chosen = SecretBytes::from(pin.to_owned());
    let enrolled = stack.sic().enrol(typed, NewFactors::PinTotp(&chosen)).await;
    let seed_of_it = enrolled.unwrap().unwrap();
    let seed_of_it = String::from_utf8(seed_of_it.expose().to_vec()).unwrap();
    found.push(("PIN of an enrolment", pin.as_bytes().to_vec()));
    found.extend(seed("seed of an enrolment", &seed_of_it));
    found.extend(ticket("voucher", &text));
    found
}

/// With what a new officer is invited, once two others have approved it; they enrol a passkey by it.
async fn of_an_officer(stack: &Stack, data: &Path) -> [Canary; 2] {
    let known = |id: &str| {
        let mut all = stack.officers().iter();
        all.find(|o| o.officer.as_str() == id).unwrap().file.clone()
    };
    let done = |who: &str, args: &[&str]| -> Value {
        let mut command = natsuin();
        command.arg("--json").args(args).arg("--as");
        let said = run(command.arg(known(who)));
        assert!(said.status.success(), "{}", text(&said));
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let until = stack.clock().now().plus(100 * 24 * 3600).rfc3339();
    let mut appoint = vec!["officer", "appoint", "nanami", "--name", "新人 七海"];
    appoint.extend(["--identity", "staff 7", "--role", "system-operator"]);
    appoint.extend(["--until", &until, "--reason", "at night"]);
    let made = done("sato", &appoint);
    let proposal = made["proposal"].as_str().unwrap();
    for who in ["suzuki", "takahashi"] {
        done(who, &["approval", "give", proposal, "--yes"]);
    }
    let link = made["link"].as_str().unwrap();
    let (_, typed) = link.split_once('#').unwrap();
    let root = std::fs::read(data.join("root.jwk")).unwrap();
    let roots = vec![serde_json::from_slice(&root).unwrap()];
    let sic = Sic {
        trust: Trust::new(roots, stack.office_url.clone()).unwrap(),
        origin: stack.office_url.clone(),
        ..stack.sic()
    };
    let mut device = Device::new(&stack.office_url, &SystemRandom).unwrap();
    let voucher = sic_core::Voucher::parse(&SecretBytes::from(typed.to_owned())).unwrap();
    let enrolled = sic.enrol(voucher, NewFactors::Passkey(&mut device)).await;
    enrolled.unwrap();
    ticket("officer's invitation", typed)
}

/// The secret half of `voucher.secret`.
fn ticket(what: &'static str, text: &str) -> [Canary; 2] {
    let (_, secret) = text.rsplit_once('.').unwrap();
    both(what, secret, from_b64u(secret).unwrap())
}

/// Request, authentication, use and value of the signature with this key, each naming the next.
fn one_signature_is_linked(export: &Path, key: &str) {
    let bodies = entries(export, "sam");
    let one = |kind: &str, member: &str, value: &Value| {
        let fits = |b: &&Value| b["kind"] == kind && b["detail"][member] == *value;
        let found: Vec<&Value> = bodies.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{kind} with {member} {value}");
        &found[0]["detail"]
    };
    let made = |b: &&Value| b["kind"] == "signature.made" && b["detail"]["key"] == key;
    let made = bodies.iter().find(made);
    let made = &made.unwrap()["detail"];
    let act = &made["act"];
    let opened = one("request.opened", "act", act);
    let prepared = one("request.prepared", "request", &opened["request"]);
    let proved = one("sap.authenticated", "act", act);
    let used = one("sad.consumed", "act", act);
    assert_eq!(prepared["person"], proved["person"]);
    assert_eq!(
        (&prepared["key"], &used["key"]),
        (&made["key"], &made["key"])
    );
    assert!(made["certificate"].is_string(), "which certificate: {made}");
}
