//! `credentials/create` through the public doors: a person who is known makes another key at an application's wish, and signs with it.

use core_types::bytes::b64;
use core_types::random::SystemRandom;
use core_types::{HashAlg, KeyAlg, SecretBytes};
use csc_client::plain::{Proof, Service};
use csc_client::{AuthorizeParams, Callback, Client, ClientCredentials, HttpOptions, Provider};
use csc_types::create::CreationRequest;
use csc_types::{DocumentDigest, Purpose, SecretText, SignatureAuthorization};
use natsuin::stack::{Device, Factors, NewFactors};
use serde_json::json;
use sic_core::Voucher;

use crate::kit::Story;

/// An application and its way to tokens.
pub struct App {
    client: Client,
    provider: Provider,
    redirect_uri: String,
    service: Service,
}

impl App {
    pub async fn of(story: &Story) -> Self {
        let known = story.stack.client("test-client").unwrap();
        let credentials = ClientCredentials {
            client_id: known.client_id.clone(),
            client_secret: known.client_secret.clone().map(SecretText::new),
        };
        let url = format!("{}/csc/v2", story.stack.ssa_url);
        let client = Client::new(&url, credentials, &HttpOptions::default()).unwrap();
        Self {
            provider: client.discover().await.unwrap(),
            client,
            redirect_uri: known.redirect_uris[0].clone(),
            service: Service::new(&url, &HttpOptions::default()).unwrap(),
        }
    }

    /// The token that this purpose leads to, with the signer's factors; a new key is made with `fresh`.
    pub async fn token(
        &self,
        story: &mut Story,
        purpose: Purpose,
        fresh: &mut Device,
    ) -> SecretText {
        let params = AuthorizeParams {
            purpose,
            redirect_uri: &self.redirect_uri,
            lang: None,
            description: None,
        };
        let pending = self
            .client
            .authorize(&self.provider, &params, &SystemRandom);
        let pending = pending.await.unwrap();
        let page = format!("{}/e#", story.stack.sic_url);
        let makes = matches!(params.purpose, Purpose::Creation(_));
        let mut next = pending.url.to_string();
        if makes {
            let there = story
                .agent
                .until(&next, &page, &story.signer, Factors::Passkey(fresh))
                .await
                .unwrap();
            let voucher = there.fragment().unwrap().to_owned();
            let voucher = Voucher::parse(&SecretBytes::from(voucher)).unwrap();
            let made = story.stack.sic();
            let made = made.enrol_and_go_on(voucher, NewFactors::Passkey(fresh));
            next = made.await.unwrap().1;
        }
        let back = story
            .agent
            .until(
                &next,
                &self.redirect_uri,
                &story.signer,
                Factors::Passkey(fresh),
            )
            .await
            .unwrap();
        let callback = Callback::from_query(back.query().unwrap()).unwrap();
        let granted = self.client.exchange(&self.provider, &pending, &callback);
        granted.await.unwrap().access_token
    }
}

// shows: T-REG-IMPERSONATE, I-4.2.2a-keygen-signer-triggered
#[tokio::test(flavor = "multi_thread")]
async fn a_person_makes_another_key_at_an_applications_wish_and_signs_with_it() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let app = App::of(&story).await;
    let mut fresh = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
    let wish = Purpose::Creation(CreationRequest::default());
    let token = app.token(&mut story, wish, &mut fresh).await;
    let creation = CreationRequest::default();
    let made = app.client.created(&token, &creation).await.unwrap();
    assert_eq!(made.level.unwrap().level, 1);
    // The name is the one that the authority approved for the first key.
    assert!(made.cert.subject_dn.unwrap().contains("髙橋 花子"));
    let again = json!({ "credentialCreationRequest": {} });
    let again = app
        .service
        .call("credentials/create", Proof::Bearer(&token), &again);
    assert_eq!(again.await.unwrap().status, 401, "told once");
    let key = made.credential_id.unwrap();
    assert_ne!(key, story.signer.credentials[0].credential_id);

    // It signs with its own passkey; the first key's doesn't reach it.
    let hash = vec![7; 32];
    let asked = || SignatureAuthorization {
        credential_id: Some(key.clone()),
        signature_qualifier: None,
        num_signatures: 1,
        digests: vec![DocumentDigest {
            hash: hash.clone(),
            ..DocumentDigest::default()
        }],
        hash_algorithm: Some(HashAlg::Sha256),
        renewable_for: None,
    };
    let right = app.token(&mut story, Purpose::Credential(asked()), &mut fresh);
    let right = right.await;
    let body =
        json!({ "credentialID": key, "hashes": [b64(&hash)], "signAlgo": "1.2.840.10045.4.3.2" });
    let signed = app
        .service
        .call("signatures/signHash", Proof::Bearer(&right), &body);
    assert_eq!(signed.await.unwrap().status, 200);
    let params = AuthorizeParams {
        purpose: Purpose::Credential(asked()),
        redirect_uri: &app.redirect_uri,
        lang: None,
        description: None,
    };
    let pending = app.client.authorize(&app.provider, &params, &SystemRandom);
    let pending = pending.await.unwrap();
    let older = Factors::Passkey(&mut story.device);
    let tried = story
        .agent
        .until(
            pending.url.as_str(),
            &app.redirect_uri,
            &story.signer,
            older,
        )
        .await;
    assert!(tried.is_err(), "{tried:?}");
    story.stack.stop().await;
}
