//! Accounts at an OpenID provider, over HTTP: they log their person in, and what the provider says about an act signs it.

use std::sync::Arc;

use core_types::KeyAlg;
use core_types::clock::SystemClock;
use dev_provider::DevProvider;
use jose::ForeignKey;
use natsuin::agent::Agent;
use natsuin::stack::{Factors, NewFactors, NewSigner, Options, Stack};
use reqwest::{Method, Url};
use sam_core::provider::{Provider, Providers};
use service_kit::{Shutdown, bind, serve};

use crate::site::first_port;
use crate::spend::{Spender, approval, body, hashes};

/// Goes to the provider by the button on this page, and back. Answers where the service sends the browser then.
async fn there_and_back(
    stack: &Stack,
    agent: &mut Agent,
    page: &str,
    action: &str,
) -> Option<String> {
    let page = Url::parse(&format!("{}{page}", stack.ssa_url)).unwrap();
    let shown = agent.request(Method::GET, &page);
    let html = agent
        .send(&page, shown)
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let token = html.split("name=\"token\" value=\"").nth(1).unwrap();
    let form = [("token", token.split('"').next().unwrap())];
    let to = page.join(action).unwrap();
    let pressed = agent.request(Method::POST, &to).form(&form);
    let left = agent.send(&to, pressed).await.unwrap();
    let on = left.headers()["refresh"].to_str().unwrap();
    let there = Url::parse(on.strip_prefix("0; url=").unwrap()).unwrap();
    let asked = agent.request(Method::GET, &there);
    let answered = agent.send(&there, asked).await.unwrap();
    let back = Url::parse(answered.headers()["location"].to_str().unwrap()).unwrap();
    let came = agent.request(Method::GET, &back);
    let came = agent.send(&back, came).await.unwrap();
    let location = came.headers().get("location");
    location.map(|to| to.to_str().unwrap().to_owned())
}

/// A stack whose people log in and approve at a provider.
pub struct Elsewhere {
    pub stack: Stack,
    pub op: Arc<DevProvider>,
    pub issuer: String,
    _dir: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Elsewhere {
    pub async fn begin() -> Self {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let issuer = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let clock = Arc::new(SystemClock);
        let op = DevProvider::of(&issuer, &["natsuin-ssa", "natsuin-sam"], clock);
        let op = Arc::new(op.unwrap());
        op.seat("sub-hanako");
        let (stop, shutdown) = Shutdown::new();
        serve(listener, op.clone().router(), None, shutdown).unwrap();

        let keys = op.jwks()["keys"].as_array().unwrap().clone();
        let keys = keys
            .iter()
            .map(|key| ForeignKey::parse_of_provider(key).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let options = Options {
            port: first_port(&data),
            load: true,
            login_providers: vec![ssa_service::Provider {
                id: "op".to_owned(),
                name: "OP".to_owned(),
                issuer: issuer.clone(),
                client_id: "natsuin-ssa".to_owned(),
                client_secret: None,
                endpoints: None,
                assurance: [("high".to_owned(), 2)].into(),
                least: 2,
            }],
            providers: Providers(vec![Provider {
                name: "OP".to_owned(),
                issuer: issuer.clone(),
                client: "natsuin-sam".to_owned(),
                authorize: format!("{issuer}/authorize"),
                keys: keys.collect(),
                acr: vec!["high".to_owned()],
                amr: Vec::new(),
                multi_factor: true,
            }]),
            ..Options::new(data)
        };
        // One client for both: what logs somebody in could approve an act.
        let mut shared = options.clone();
        shared.login_providers[0].client_id = "natsuin-sam".to_owned();
        let refused = Stack::start(&shared, &|_| {}).await.err().unwrap();
        assert_eq!(refused.code, "bad-config");
        let stack = Stack::start(&options, &|_| {}).await.unwrap();
        Self {
            stack,
            op,
            issuer,
            _dir: dir,
            _stop: stop,
        }
    }

    /// What asks the provider for an ID token, as a browser would.
    pub fn ask(&self) -> impl FnMut(&str) -> Option<String> + use<> {
        let provider = self.op.clone();
        move |address: &str| {
            let back = provider.authorize(&Url::parse(address).ok()?)?;
            let said = url::form_urlencoded::parse(back.fragment()?.as_bytes());
            let mut said = said.filter(|(name, _)| name == "id_token");
            said.next().map(|(_, token)| token.into_owned())
        }
    }
}

// shows: I-4.2.2b-authenticate-with-rsc, I-3.5.1-keyauth-L1, T-USE-SAD-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_logs_its_person_in_and_its_word_about_an_act_signs_it() {
    let elsewhere = Elsewhere::begin().await;
    let (stack, op) = (&elsewhere.stack, &elsewhere.op);
    let mut ask = elsewhere.ask();
    let new = NewSigner {
        login: "hanako",
        name: "髙橋 花子",
        keys: &[KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let enrolled = stack.enrol(&new, NewFactors::Provider(&mut ask)).await;
    let signer = enrolled.unwrap().shown;

    // Bound after a login with the password, the account logs in by itself.
    let mut agent = Agent::new(stack);
    let (login, home) = (
        format!("{}/login?next=/security", stack.ssa_url),
        format!("{}/security", stack.ssa_url),
    );
    let factors = Factors::Provider(&mut ask);
    agent.visit(&login, &home, &signer, factors).await.unwrap();
    let bound = there_and_back(stack, &mut agent, "/security", "/security/provider/op").await;
    assert_eq!(bound.as_deref(), Some("/security"));
    let mut agent = Agent::new(stack);
    let entered = there_and_back(stack, &mut agent, "/login", "/login/provider/op").await;
    assert_eq!(entered.as_deref(), Some("/keys"));
    op.seat("sub-other");
    let other = there_and_back(
        stack,
        &mut Agent::new(stack),
        "/login",
        "/login/provider/op",
    )
    .await;
    assert_eq!(other, None);

    // Somebody else's word, and one that was given for a login, sign nothing; the person's own about this act does.
    let spender = Spender::new(stack, "test-client").await;
    let key = signer.credentials[0].credential_id.clone();
    let asked = hashes(1);
    let wanted = approval(&key, &asked);
    assert!(
        !spender
            .approves(
                &signer,
                &mut agent,
                Factors::Provider(&mut ask),
                wanted.clone()
            )
            .await
    );
    op.seat("sub-hanako");
    let stale = op.id_token_for("natsuin-sam", "a login");
    let mut replays = move |_: &str| Some(stale.clone());
    let replayed = Factors::Provider(&mut replays);
    assert!(
        !spender
            .approves(&signer, &mut agent, replayed, wanted.clone())
            .await
    );
    // A hostile SSA has the person log in, with the act's digest for a nonce.
    let provider = op.clone();
    let mut logs_in = move |address: &str| {
        let asked = Url::parse(address).ok()?;
        let nonce = asked.query_pairs().find(|(name, _)| name == "nonce")?;
        Some(provider.id_token_for("natsuin-ssa", &nonce.1))
    };
    let logged_in = Factors::Provider(&mut logs_in);
    assert!(
        !spender
            .approves(&signer, &mut agent, logged_in, wanted.clone())
            .await
    );
    let factors = Factors::Provider(&mut ask);
    let token = spender.token_of(&signer, &mut agent, factors, wanted).await;
    let (status, signed) = spender.post(&token, body(&key, &asked), None).await;
    assert_eq!(status, 200, "{signed}");
    elsewhere.stack.stop().await;
}
