//! What a signer is told by mail: over SMTP, from the SAM's side, whatever the SSA does.

use core_types::KeyAlg;
use core_types::bytes::from_b64;
use core_types::random::SystemRandom;
use natsuin::agent::Agent;
use natsuin::stack::{Device, Factors, NewFactors, NewSigner, Options, Stack, StoreChoice};
use reqwest::{Method, Url};
use store_kit::StoreUrl;
use store_kit::testing::postgres_database;
use tokio::sync::mpsc;

use crate::alert::relay;
use crate::kit::next;
use crate::site::first_port;

/// Head and text of a mail.
fn parts(mail: &str) -> (String, String) {
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(head.contains("base64"), "{head}");
    let body: String = body.split_whitespace().collect();
    let text = String::from_utf8(from_b64(&body).unwrap()).unwrap();
    (head.to_owned(), text)
}

// shows: T-INS-OPERATOR, T-TERM-NOT-OWNER, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_the_portal_reaches_its_owner_by_mail() {
    let StoreUrl::Postgres(database) = postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(database.to_string()),
    ] {
        let (sent, mut mails) = mpsc::unbounded_channel();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let options = Options {
            port: first_port(&data),
            load: true,
            store,
            mail_port: Some(relay(sent).await),
            ..Options::new(data)
        };
        let stack = Stack::start(&options, &|_| {}).await.unwrap();
        let mut device = Device::new(&stack.sic_url, &SystemRandom).unwrap();
        let new = NewSigner {
            login: "hanako",
            name: "髙橋\r\nBcc: mallory@example.jp 花子",
            keys: &[KeyAlg::P256],
            collected: false,
            exportable: false,
            one_time: false,
        };
        // A name like that is refused already; what comes through is a name.
        let refused = stack.enrol(&new, NewFactors::Passkey(&mut device)).await;
        assert!(refused.is_err());
        let new = NewSigner {
            login: "taro",
            name: "Bcc: mallory@example.jp",
            ..new
        };
        let mut device = Device::new(&stack.sic_url, &SystemRandom).unwrap();
        let signer = stack.enrol(&new, NewFactors::Passkey(&mut device)).await;
        let signer = signer.unwrap().shown;
        let (head, text) = parts(&next("a mail", &mut mails).await);
        assert!(head.contains("To: taro@example.jp") && !head.contains("mallory"));
        assert!(text.contains("登録") && text.contains("Enrolled"), "{text}");

        // Stopped by the portal's own button.
        let mut agent = Agent::new(&stack);
        let page = format!("{}/signing", stack.ssa_url);
        let login = format!("{}/login?next=/signing", stack.ssa_url);
        let factors = Factors::Passkey(&mut device);
        agent.visit(&login, &page, &signer, factors).await.unwrap();
        let url = Url::parse(&page).unwrap();
        let asked = agent.request(Method::GET, &url);
        let html = agent.send(&url, asked).await.unwrap();
        let html = html.text().await.unwrap();
        assert!(html.contains("登録時に届け出たアドレスにもメールで通知されます"));
        let value = |name: &str| {
            let field = format!("name=\"{name}\" value=\"");
            html.split(&field)
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap()
        };
        let form = [
            ("token", value("token")),
            ("key", value("key")),
            ("changes", value("changes")),
        ];
        let stop = url.join("/signing/stop").unwrap();
        let pressed = agent.request(Method::POST, &stop).form(&form);
        let pressed = pressed.header("origin", &stack.ssa_url);
        let answer = agent.send(&stop, pressed).await.unwrap();
        assert!(answer.status().is_redirection());
        let (head, text) = parts(&next("a mail", &mut mails).await);
        assert!(
            head.contains("To: taro@example.jp") && head.contains("=?utf-8?b?"),
            "{head}"
        );
        let key = &signer.credentials[0].credential_id;
        for words in ["鍵を停止", "Key stopped", "Stopped from this portal", key] {
            assert!(text.contains(words), "{words}: {text}");
        }
        // No link to follow, no secret, and nothing that somebody else wrote.
        for never in ["://", "mallory", signer.password.as_str()] {
            assert!(!text.contains(never), "{never}: {text}");
        }
        stack.stop().await;
    }
}
