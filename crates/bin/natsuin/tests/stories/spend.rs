//! One approval, one signature: over HTTP, on both stores.

use core_types::random::SystemRandom;
use core_types::{HashAlg, KeyAlg, Random as _, SigAlg};
use csc_client::{
    AuthorizeParams, Callback, Client, ClientCredentials, ClientError, HttpOptions, Provider,
};
use csc_types::{
    Certificates, DocumentDigest, HashType, InfoRequest, Purpose, SecretText, SignHashRequest,
    SignatureAuthorization,
};
use natsuin::agent::Agent;
use natsuin::stack::{DevClient, DevSigner, Factors, Stack, StoreChoice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kit::{Story, start};

pub const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

pub struct Spender {
    client: Client,
    provider: Provider,
    redirect_uri: String,
    http: reqwest::Client,
    sign_hash: String,
}

impl Spender {
    pub async fn new(stack: &Stack, client: &str) -> Self {
        let pem = std::fs::read(stack.ca.trust_anchors_file()).unwrap();
        let registered = stack.client(client).unwrap();
        Self::at(&stack.ssa_url, registered, pem, stack.http.clone()).await
    }

    /// The same in the words of version 1: parameters, and no details.
    pub async fn in_version_1(stack: &Stack, client: &str) -> Self {
        let pem = std::fs::read(stack.ca.trust_anchors_file()).unwrap();
        let registered = stack.client(client).unwrap();
        let http = stack.http.clone();
        let mut own = Self::speaking("v1", &stack.ssa_url, registered, pem, http).await;
        own.provider.rar = false;
        own
    }

    /// The same at a service that runs elsewhere.
    pub async fn at(
        ssa_url: &str,
        registered: &DevClient,
        pem: Vec<u8>,
        http: reqwest::Client,
    ) -> Self {
        Self::speaking("v2", ssa_url, registered, pem, http).await
    }

    async fn speaking(
        version: &str,
        ssa_url: &str,
        registered: &DevClient,
        pem: Vec<u8>,
        http: reqwest::Client,
    ) -> Self {
        let credentials = ClientCredentials {
            client_id: registered.client_id.clone(),
            client_secret: registered.client_secret.clone().map(SecretText::new),
        };
        let base = format!("{ssa_url}/csc/{version}");
        let options = HttpOptions {
            extra_roots_pem: Some(pem),
            ..HttpOptions::default()
        };
        let client = Client::new(&base, credentials, &options).unwrap();
        let provider = client.discover().await.unwrap();
        Self {
            client,
            provider,
            redirect_uri: registered.redirect_uris[0].clone(),
            http,
            sign_hash: format!("{base}/signatures/signHash"),
        }
    }

    /// Has the signer log in and approve; returns the token.
    pub async fn token(
        &self,
        story: &mut Story,
        agent: &mut Agent,
        purpose: Purpose,
    ) -> SecretText {
        let factors = Factors::Passkey(&mut story.device);
        self.token_of(&story.signer, agent, factors, purpose).await
    }

    /// The same for any signer and factors.
    pub async fn token_of(
        &self,
        signer: &DevSigner,
        agent: &mut Agent,
        factors: Factors<'_>,
        purpose: Purpose,
    ) -> SecretText {
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let pending = self
            .client
            .authorize(&self.provider, &params, &SystemRandom)
            .await
            .unwrap();
        let back = agent
            .until(pending.url.as_str(), &self.redirect_uri, signer, factors)
            .await
            .unwrap();
        let callback = Callback::from_query(back.query().unwrap()).unwrap();
        self.client
            .exchange(&self.provider, &pending, &callback)
            .await
            .unwrap()
            .access_token
    }

    /// Asks for an authorization, as an application does before it sends the browser; the status of a refusal.
    pub async fn asks(&self, purpose: Purpose) -> Result<(), u16> {
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let asked = self
            .client
            .authorize(&self.provider, &params, &SystemRandom);
        match asked.await {
            Ok(_) => Ok(()),
            Err(ClientError::Api { status, .. }) => Err(status),
            Err(other) => panic!("{other}"),
        }
    }

    /// The first key of the person whose login this token is.
    pub async fn first_credential(&self, login: &SecretText) -> String {
        let all = self.client.credentials(login).await.unwrap();
        all[0].credential_id.clone().unwrap()
    }

    /// Whether the SAM accepts what these factors make of the request.
    pub async fn approves(
        &self,
        signer: &DevSigner,
        agent: &mut Agent,
        factors: Factors<'_>,
        purpose: Purpose,
    ) -> bool {
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let asked = self
            .client
            .authorize(&self.provider, &params, &SystemRandom);
        let pending = asked.await.unwrap();
        let back = agent.until(pending.url.as_str(), &self.redirect_uri, signer, factors);
        back.await
            .is_ok_and(|back| back.query_pairs().any(|(name, _)| name == "code"))
    }

    /// The certificate of the key that this token is for, DER.
    pub async fn certificate(&self, token: &SecretText, credential_id: &str) -> Vec<u8> {
        let request = InfoRequest {
            credential_id: credential_id.to_owned(),
            certificates: Certificates::Chain,
            ..InfoRequest::default()
        };
        let told = self.client.credential_info(token, &request).await.unwrap();
        told.cert.der().unwrap().remove(0)
    }

    pub async fn post(
        &self,
        token: &SecretText,
        body: String,
        key: Option<&str>,
    ) -> (u16, serde_json::Value) {
        let mut request = self
            .http
            .post(&self.sign_hash)
            .bearer_auth(token.expose())
            .header("content-type", "application/json")
            .body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json().await.unwrap_or_default(),
        )
    }
}

impl Spender {
    /// The same with so many spaces, over a connection of its own without TLS. The service answers and closes it before it has read
    /// more than it takes: what can't be sent any more is no fault, and the answer counts.
    pub async fn post_spaces(&self, token: &SecretText, count: usize) -> (u16, serde_json::Value) {
        let url = reqwest::Url::parse(&self.sign_hash).unwrap();
        let (path, port) = (url.path(), url.port().unwrap());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost:{port}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {count}\r\nconnection: close\r\n\r\n",
            token.expose()
        );
        let request = [head, " ".repeat(count)].concat();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let mut heard = Vec::new();
        // Neither has to come to its end.
        let (_, _) = tokio::join!(
            to.write_all(request.as_bytes()),
            from.read_to_end(&mut heard)
        );
        let heard = String::from_utf8(heard).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }
}

pub fn credential(story: &Story) -> String {
    story.signer.credentials[0].credential_id.clone()
}

pub fn hashes(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|_| SystemRandom.digest32().0.to_vec()).collect()
}

pub fn approval(credential_id: &str, hashes: &[Vec<u8>]) -> Purpose {
    let digest = |h: &Vec<u8>| DocumentDigest {
        hash: h.clone(),
        label: None,
        hash_type: Some(HashType::Dtbsr),
        ..DocumentDigest::default()
    };
    Purpose::Credential(SignatureAuthorization {
        credential_id: Some(credential_id.to_owned()),
        signature_qualifier: None,
        num_signatures: u32::try_from(hashes.len()).unwrap(),
        digests: hashes.iter().map(digest).collect(),
        hash_algorithm: Some(HashAlg::Sha256),
        renewable_for: None,
    })
}

pub fn body(credential_id: &str, hashes: &[Vec<u8>]) -> String {
    let request = SignHashRequest {
        credential_id: credential_id.to_owned(),
        sad: None,
        hashes: hashes.to_vec(),
        hash_algorithm_oid: Some(HashAlg::Sha256.oid().to_owned()),
        sign_algo: ALG.oid().to_owned(),
        sign_algo_params: None,
        client_data: None,
    };
    serde_json::to_string(&request).unwrap()
}

pub async fn on_both<F: AsyncFn(Story)>(story: F) {
    story(Story::begin(KeyAlg::P256).await).await;
    let store_kit::StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    story(Story::on(KeyAlg::P256, StoreChoice::Postgres(url.to_string()), false).await).await;
}

// shows: II-1-logical-structure, II-A1-sad-needed-after-login, T-USE-SAP-REPLAY, T-KEY-ABUSE, T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn one_approval_makes_one_signature_whatever_the_client_does() {
    on_both(async |mut story| {
        let spender = Spender::new(&story.stack, "test-client").await;
        let mut agent = Agent::new(&story.stack);

        let approved = hashes(1);
        let asked = approval(&credential(&story), &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let other = body(&credential(&story), &hashes(1));
        let (status, refused) = spender.post(&token, other, None).await;
        assert_eq!(
            (status, refused["error"].as_str()),
            (400, Some("invalid_request")),
            "{refused}"
        );
        let short = body(&credential(&story), &[vec![1; 20]]);
        assert_eq!(spender.post(&token, short, None).await.0, 400);
        assert_eq!(spender.post(&token, "{".to_owned(), None).await.0, 400);
        let oversized = spender.post_spaces(&token, 3 << 20).await.0;
        assert!((400..500).contains(&oversized), "{oversized}");

        let request = body(&credential(&story), &approved);
        let all = (0..100).map(|_| spender.post(&token, request.clone(), None));
        let all = futures_util::future::join_all(all).await;
        let good: Vec<_> = all.iter().filter(|(status, _)| *status == 200).collect();
        assert_eq!(
            good.len(),
            1,
            "exactly one signature out of 100 tries at once"
        );
        assert_eq!(
            spender.post(&token, request, None).await.0,
            401,
            "and none later: the token is spent"
        );

        // A client that named its call may ask again for the same answer, and for nothing else.
        let approved = hashes(3);
        let asked = approval(&credential(&story), &approved);
        let token = spender.token(&mut story, &mut agent, asked).await;
        let request = body(&credential(&story), &approved);
        let (status, first) = spender.post(&token, request.clone(), Some("call-1")).await;
        assert_eq!(status, 200, "{first}");
        let (status, again) = spender.post(&token, request.clone(), Some("call-1")).await;
        assert_eq!((status, &again), (200, &first));
        assert_ne!(spender.post(&token, request, Some("call-2")).await.0, 200);
        assert_ne!(
            spender
                .post(
                    &token,
                    body(&credential(&story), &approved[..1]),
                    Some("call-1")
                )
                .await
                .0,
            200
        );

        // The login's token is no approval.
        let service = spender
            .token(&mut story, &mut agent, Purpose::Service)
            .await;
        assert_ne!(
            spender
                .post(&service, body(&credential(&story), &approved), None)
                .await
                .0,
            200
        );
        story.stack.stop().await;
    })
    .await;
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_spent_revives_with_a_restart() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let approved = hashes(1);
    let asked = approval(&credential(&story), &approved);
    let token = spender.token(&mut story, &mut agent, asked).await;
    let request = body(&credential(&story), &approved);
    assert_eq!(spender.post(&token, request.clone(), None).await.0, 200);
    let url = story.stack.ssa_url.clone();
    story.stack.stop().await;
    let stack = start(&story.dir.path().join("data"), StoreChoice::Embedded, false).await;
    assert_eq!(
        stack.ssa_url, url,
        "the ports of the last start are taken again"
    );
    assert_eq!(spender.post(&token, request, None).await.0, 401);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_https_too() {
    let mut story = Story::on(KeyAlg::P256, StoreChoice::Embedded, true).await;
    assert!(story.stack.sic_url.starts_with("https://sic.localhost:"));
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let approved = hashes(1);
    let asked = approval(&credential(&story), &approved);
    let token = spender.token(&mut story, &mut agent, asked).await;
    assert_eq!(
        spender
            .post(&token, body(&credential(&story), &approved), None)
            .await
            .0,
        200
    );
    story.stack.stop().await;
}
