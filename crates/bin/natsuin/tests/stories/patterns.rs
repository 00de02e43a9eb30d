//! The guideline's patterns through the public doors, at each level, against zones that are declared good for it.
//!
//! Of user authentication: A, the application knows its user; B, it brings them to the provider, for which A may stand at level 1; C,
//! the signer logs in at the provider. None of them authorizes a key, at level 1 either.
//!
//! Of key authorization: 1, a proof of the signer's at a SAM that nobody declares certified, and 4, the same at one of which that is
//! declared: which of the two it is, the level of the zones decides. 2, secrets that an application collects: of its own keys,
//! which are of level 1 wherever they are. 3, the SSA for the signer: at no level. (At the SAM's own doors, with clocks and rows in
//! hand: `crates/sam/sam-service/tests/sam/patterns.rs`; a whole SSA in hostile hands: `hostile_ssa.rs`.)

use std::sync::Arc;

use core_types::bytes::b64;
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, KeyAlg, Level, Random as _, SecretBytes, sha256};
use csc_client::{Client, ClientCredentials, HttpOptions};
use csc_types::{Purpose, SecretText};
use natsuin::agent::Agent;
use natsuin::stack::{DevCredential, NewSigner, StoreChoice};
use sam_api::Refusal;
use sam_api::ssa::{Explicit, ExplicitRequest, LevelPart, Voucher, VoucherRequest};
use sap::enrol::Invite;
use serde_json::{Value, json};
use service_kit::CallError;
use sic_core::Totp;

use crate::bad_input::{Ahead, keys_used};
use crate::kit::Story;
use crate::levels::{CLIENT, Levelled, not_collected};
use crate::spend::{ALG, Spender, body, credential, hashes};

fn client(story: &Story, id: &str) -> Client {
    let registered = story.stack.client(id).unwrap();
    let credentials = ClientCredentials {
        client_id: id.to_owned(),
        client_secret: registered.client_secret.clone().map(SecretText::new),
    };
    let options = HttpOptions {
        extra_roots_pem: Some(std::fs::read(story.anchors()).unwrap()),
        ..HttpOptions::default()
    };
    Client::new(&story.stack.ssa_url, credentials, &options).unwrap()
}

/// Zones of a level, their signer at a browser, and their clock.
struct Patterns {
    at: Levelled,
    clock: Arc<Ahead>,
    spender: Spender,
    agent: Agent,
    /// The signer's own key.
    key: String,
}

impl Patterns {
    async fn begin(level: Level) -> Self {
        let clock = Arc::new(Ahead::default());
        let at = Levelled::begin(level, StoreChoice::Embedded, clock.clone()).await;
        Self {
            clock,
            spender: Spender::new(&at.story.stack, CLIENT).await,
            agent: Agent::new(&at.story.stack),
            key: credential(&at.story),
            at,
        }
    }

    async fn token(&mut self, purpose: Purpose) -> SecretText {
        let (story, agent) = (&mut self.at.story, &mut self.agent);
        self.spender.token(story, agent, purpose).await
    }

    /// The status of the call that signs this with the signer's key.
    async fn signs(&self, token: &SecretText, hashes: &[Vec<u8>]) -> u16 {
        let request = body(&self.key, hashes);
        self.spender.post(token, request, None).await.0
    }

    /// A for B, and C: whom an application reaches, and that no login signs; the token of C's.
    async fn of_user_authentication(&mut self) -> SecretText {
        let approved = hashes(1);
        // A for B: an application that has authenticated its user, by a contract that names them.
        let program = client(&self.at.story, "hanako-program");
        let provider = program.discover().await.unwrap();
        let token = program.own_token(&provider).await.unwrap();
        let told = program.credentials_of(&token, Some("hanako")).await;
        let told = told.unwrap();
        assert_eq!(told[0].credential_id.as_deref(), Some(self.key.as_str()));
        let level = told[0].level.as_ref().unwrap();
        assert_eq!(level.level, u8::from(self.at.level));
        for other in [Some("taro"), None] {
            assert!(program.credentials_of(&token, other).await.is_err());
        }
        assert_ne!(self.signs(&token, &approved).await, 200);
        // An application without such a contract: only C is left, and its word counts for nobody.
        let plain = client(&self.at.story, CLIENT);
        assert!(plain.own_token(&provider).await.is_err());
        let login = self.token(Purpose::Service).await;
        let told = plain.credentials(&login).await.unwrap();
        assert_eq!(told[0].credential_id.as_deref(), Some(self.key.as_str()));
        assert_ne!(self.signs(&login, &approved).await, 200);
        login
    }

    /// 1 and 4: after the login, the signer authorizes the key apart from it.
    async fn by_the_signer(&mut self) {
        let approved = hashes(1);
        let asked = self.at.purpose(&approved);
        let right = self.token(asked).await;
        assert_eq!(self.signs(&right, &approved).await, 200);
        let declared = &self.at.story.signer.credentials[0].level_declared;
        let of_sam = declared.iter().any(|d| d.part == LevelPart::Authorization);
        assert_eq!(of_sam, self.at.level == Level::Three, "{declared:?}");
    }

    /// 2: an application with the secrets that it collected for a key of its own.
    async fn by_an_application(&mut self, login: &SecretText) {
        let new = NewSigner {
            login: "hanako",
            name: "髙橋 花子",
            keys: &[KeyAlg::P256],
            collected: false,
            exportable: false,
            one_time: false,
        };
        let stack = &self.at.story.stack;
        let mut signer = self.at.story.signer.clone();
        stack.enrol_collected(&new, &mut signer).await.unwrap();
        let mut own = signer.credentials.iter();
        let own = own.find(|c| c.auth_mode == "explicit" && !c.algo.starts_with("rsa"));
        let own = own.unwrap();
        assert_eq!(own.level, 1);
        let hash = SystemRandom.digest32().0;
        self.clock.advance(60);
        let (status, granted) = self.collected(login, own, &own.credential_id, &hash).await;
        assert_eq!(status, 200, "{granted}");
        let signs = json!({ "credentialID": own.credential_id, "SAD": granted["SAD"], "hashes": [b64(hash)],
            "hashAlgorithmOID": HashAlg::Sha256.oid(), "signAlgo": ALG.oid() });
        let (status, signed) = self.call(login, "signatures/signHash", &signs).await;
        assert_eq!(status, 200, "{signed}");
        assert_eq!(signed["signatures"].as_array().unwrap().len(), 1);
        // To the key of a signer, at whatever level, they are nothing.
        self.clock.advance(60);
        let (status, told) = self.collected(login, own, &self.key, &hash).await;
        assert_eq!((status, &told["error"]), (400, &json!("invalid_request")));
        let ssa = self.at.ssa();
        let explicit = ExplicitRequest {
            person: ssa.person.clone(),
            key: ssa.key.clone(),
            client: ssa.client.clone(),
            client_name: "Bank".to_owned(),
            items: vec![ssa.item(&hash)],
            renew: 0,
            pin: SecretBytes::from(own.pin.clone().unwrap()),
            otp: SecretBytes::from(self.code(own)),
            grant: sha256(&[b"its own"]),
        };
        not_collected(self.at.level, ssa.sam.call::<Explicit>(&explicit).await);
        // And nobody is invited to such secrets for a key above level 1.
        let invite = Invite {
            collected: true,
            ceiling: self.at.level,
            ..ssa.invite(self.clock.now(), &hash[..16])
        };
        let request = VoucherRequest::Ssa {
            invite: Box::new(invite),
            return_uri: ssa.return_uri.clone(),
        };
        match (self.at.level, ssa.sam.call::<Voucher>(&request).await) {
            (Level::One, told) => drop(told.unwrap()),
            (level, Err(CallError::Refused(Refusal::Level { requirement }))) => {
                let unmet = format!("I-3.5.1-keyauth-L{}", u8::from(level));
                assert_eq!(requirement, unmet);
            }
            (level, told) => panic!("{level:?}: {told:?}"),
        }
    }

    /// 3: the SSA, whatever it says of a login.
    async fn by_the_ssa(&self, login: &SecretText) {
        let (ssa, hash) = (self.at.ssa(), SystemRandom.digest32().0);
        let rid = ssa.prepare(&hash).await;
        for token in ["its own", login.expose()] {
            assert!(matches!(
                ssa.bind(rid, token).await,
                Err(CallError::Refused(Refusal::NotApproved))
            ));
            assert!(ssa.sign(token, &hash).await.is_err());
        }
    }

    /// What the authenticator app of these secrets shows.
    fn code(&self, secrets: &DevCredential) -> String {
        let seed = SecretBytes::from(secrets.totp_secret.clone().unwrap());
        let code = Totp::from_base32(&seed).unwrap().code(self.clock.now());
        String::from_utf8(code.expose().to_vec()).unwrap()
    }

    /// Asks for an authorization of this key with the secrets of that one.
    async fn collected(
        &self,
        login: &SecretText,
        secrets: &DevCredential,
        key: &str,
        hash: &[u8],
    ) -> (u16, Value) {
        let code = self.code(secrets);
        let asked = json!({ "credentialID": key, "numSignatures": 1, "hashes": [b64(hash)],
            "hashAlgorithmOID": HashAlg::Sha256.oid(),
            "authData": [{ "id": "PIN", "value": secrets.pin }, { "id": "OTP", "value": code }] });
        self.call(login, "credentials/authorize", &asked).await
    }

    async fn call(&self, token: &SecretText, method: &str, asked: &Value) -> (u16, Value) {
        let stack = &self.at.story.stack;
        let call = stack
            .http
            .post(format!("{}/csc/v2/{method}", stack.ssa_url));
        let call = call.bearer_auth(token.expose()).json(asked);
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }
}

async fn each_pattern_at(level: Level) {
    let mut patterns = Patterns::begin(level).await;
    let login = patterns.of_user_authentication().await;
    patterns.by_the_ssa(&login).await;
    patterns.by_the_signer().await;
    patterns.by_an_application(&login).await;
    let story = patterns.at.story;
    story.stack.stop().await;
    let used = keys_used(story.dir.path(), &StoreChoice::Embedded).await;
    assert_eq!(used, 2, "once for the signer, once for the application");
}

// shows: I-3.5.2-L1-user-auth, I-3.5.2-L1-key-auth-direct, I-3.5.2-L1-key-auth-delegated, T-USE-SAP-BYPASS,
// I-5.2.4.1-login-id-kinds, I-5.2.4.1-authorization-per-signer
#[tokio::test(flavor = "multi_thread")]
async fn at_level_one_a_signer_and_an_application_authorize_their_own_keys_and_a_login_none() {
    each_pattern_at(Level::One).await;
}

// shows: I-3.5.2-L2-patterns, II-3.2-keyauth-L2-separate, II-A1-sad-needed-after-login, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn at_level_two_a_key_is_authorized_by_its_signer_alone_and_apart_from_a_login() {
    each_pattern_at(Level::Two).await;
}

// shows: I-3.5.2-L3-pattern, II-3.2-keyauth-L2-separate, II-A1-sad-needed-after-login, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn at_level_three_a_key_is_authorized_by_its_signer_at_a_declared_sam_alone() {
    each_pattern_at(Level::Three).await;
}
