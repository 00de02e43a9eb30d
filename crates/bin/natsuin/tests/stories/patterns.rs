//! The guideline's patterns of user authentication: A, the application knows its user; B, it brings them to the provider, for which A
//! may stand at level 1; C, the signer logs in at the provider. None of them authorizes a key. (The patterns of key authorization are
//! in `crates/sam/sam-service/tests/sam/patterns.rs`.)

use core_types::KeyAlg;
use csc_client::{Client, ClientCredentials, HttpOptions};
use csc_types::{Purpose, SecretText};
use natsuin::agent::Agent;

use crate::kit::Story;
use crate::spend::{Spender, approval, body, credential, hashes};

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

// shows: I-3.5.2-L1-user-auth, T-USE-SAP-BYPASS,
// I-5.2.4.1-login-id-kinds, I-5.2.4.1-authorization-per-signer
#[tokio::test(flavor = "multi_thread")]
async fn a_for_b_reaches_the_people_of_a_contract_and_only_an_approval_reaches_a_key() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let (id, approved) = (credential(&story), hashes(1));
    let spender = Spender::new(&story.stack, "test-client").await;
    // A for B: an application that has authenticated its user, by a contract that names them.
    let program = client(&story, "hanako-program");
    let provider = program.discover().await.unwrap();
    let token = program.own_token(&provider).await.unwrap();
    let told = program
        .credentials_of(&token, Some("hanako"))
        .await
        .unwrap();
    assert_eq!(told[0].credential_id.as_deref(), Some(id.as_str()));
    for other in [Some("taro"), None] {
        assert!(program.credentials_of(&token, other).await.is_err());
    }
    assert_ne!(
        spender.post(&token, body(&id, &approved), None).await.0,
        200
    );
    // An application without such a contract: only C is left, and its word counts for nobody.
    let plain = client(&story, "test-client");
    assert!(plain.own_token(&provider).await.is_err());
    let mut agent = Agent::new(&story.stack);
    let login = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    let told = plain.credentials(&login).await.unwrap();
    assert_eq!(told[0].credential_id.as_deref(), Some(id.as_str()));
    assert_ne!(
        spender.post(&login, body(&id, &approved), None).await.0,
        200
    );
    // After the login, the signer authorizes the key apart from it.
    let asked = approval(&id, &approved);
    let right = spender.token(&mut story, &mut agent, asked).await;
    assert_eq!(
        spender.post(&right, body(&id, &approved), None).await.0,
        200
    );
    story.stack.stop().await;
}
