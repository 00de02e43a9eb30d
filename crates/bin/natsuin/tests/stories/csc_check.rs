//! `natsuin csc check` with somebody who logs in and approves: what else only a browser brings, at keys that no application may
//! approve for.

use std::path::PathBuf;
use std::sync::Arc;

use core_types::{KeyAlg, SecretBytes};
use natsuin::stack::{NewFactors, NewSigner, StoreChoice};
use serde_json::Value;

use crate::bad_input::Ahead;
use crate::csc_command::{Caller, untested};
use crate::kit::Story;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_logs_in_and_approves_finds_our_own_service_good_in_both_versions() {
    // Codes of the enrolment are of the half minute before, so that those of the check count. Each check needs somebody of its own.
    let clock = Arc::new(Ahead::default());
    clock.advance(-30);
    let story = Story::at(KeyAlg::P256, StoreChoice::Embedded, false, clock.clone()).await;
    let pin = SecretBytes::from("a pin of theirs".to_owned());
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

    let caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: story.stack.ssa_url.clone(),
    };
    let hanako = (
        PathBuf::from("hanako"),
        caller.file("hanako.password", &story.signer.password),
        caller.file("hanako.seed", &story.signer.login_totp_secret),
    );
    let given = [
        ("--user", hanako.0.as_path()),
        ("--password-file", &hanako.1),
        ("--totp-secret-file", &hanako.2),
    ];
    let (code, told) = caller.call(2, "login", &given);
    assert_eq!(code, 0, "{told}");
    let other = caller.file("other", told["answer"]["access_token"].as_str().unwrap());
    let client = story.stack.client("test-client").unwrap();
    let secret = caller.file("client.secret", client.client_secret.as_deref().unwrap());
    let pin = caller.file("pin", "a pin of theirs");
    let (id, back) = (
        PathBuf::from("test-client"),
        PathBuf::from("http://localhost/callback"),
    );
    let (sic, root) = (PathBuf::from(&story.stack.sic_url), story.root());
    for (version, who) in [(2, &people[0]), (1, &people[1])] {
        let name = PathBuf::from(&who.user);
        let password = caller.file(&format!("{}.password", who.user), &who.password);
        let login = caller.file(&format!("{}.login", who.user), &who.login_totp_secret);
        let seed = caller.file(&format!("{}.seed", who.user), &who.totp_secret);
        let key = PathBuf::from(&who.credentials[0].credential_id);
        let given = [
            ("--other-token-file", other.as_path()),
            ("--key", &key),
            ("--client", &id),
            ("--client-secret-file", &secret),
            ("--redirect-uri", &back),
            ("--user", &name),
            ("--password-file", &password),
            ("--login-totp-secret-file", &login),
            ("--sic", &sic),
            ("--root", &root),
            ("--pin-file", &pin),
            ("--totp-secret-file", &seed),
        ];
        let (code, report) = caller.call(version, "check", &given);
        assert_eq!((code, &report["failed"]), (0, &Value::from(0)), "{report}");
        let (open, passed) = (untested(&report), report["passed"].as_u64().unwrap());
        match version {
            2 => assert_eq!(open, OPEN, "{report}"),
            // Has no PKCE, no pushed requests and fewer methods: the signature is what counts.
            _ => {
                for name in [
                    "an approval brings a token for it",
                    "authorize and sign",
                    "the signature is the certificate's key's, over the hash",
                    "a SAD works once",
                    "a code works once",
                ] {
                    assert!(!open.contains(&name), "{name}: {report}");
                }
            }
        }
        assert!(passed > 50, "{report}");
    }
    story.stack.stop().await;
}

/// A check sends no codes, asks nobody elsewhere, and makes and ends no keys.
const OPEN: [&str; 7] = [
    "a challenge is sent",
    "a credential is created",
    "a credential is deleted",
    "a document is signed",
    "a one-time code is sent",
    "a transaction is extended",
    "an authorization is decided elsewhere",
];
