//! Somebody who has taken over a whole zone: its certificate, its name, its place in the network.

use core_types::random::SystemRandom;
use core_types::rpc::Method;
use core_types::{
    B64, ClientId, Digest32, HashAlg, KeyAlg, KeyId, PersonId, Random as _, SecretBytes, SigAlg,
    sha256,
};
use natsuin::stack::{
    Device, Factors, NAME_CM, NAME_SAM, NAME_SIC, NAME_SSA, NewFactors, NewSigner, StoreChoice,
};
use sam_api::Refusal;
use sam_api::ssa::{
    About, Bind, BindRequest, Prepare, PrepareItem, PrepareRequest, RequestState, Sign,
    SignRequest, Status, StatusRequest,
};
use service_kit::{CallError, Client};
use store_kit::StoreUrl;

use crate::bad_input::keys_used;
use crate::kit::Story;
use crate::spend::credential;

/// The status with which a listener answers a well-formed message; nothing when it doesn't talk at all.
async fn status(caller: &Client, path: &str, body: &str) -> Option<u16> {
    let answer = caller.forward(path, body.as_bytes().to_vec()).await;
    answer.ok().map(|(status, _)| status)
}

// shows: III-3-4-authenticate-application, T-USE-SAP-BYPASS, I-7.1.2.1-identify-authenticate-each-user,
// I-4.2.1-player-roles
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_opens_to_its_own_callers_only() {
    let story = Story::begin(KeyAlg::P256).await;
    let inner = story.stack.inner.clone();
    let rid = format!("{{\"rid\":\"{}\"}}", SystemRandom.digest32());
    let doors = [
        (
            &inner.module,
            NAME_SAM,
            vec![("/cm/v1/root", "{}"), ("/cm/v1/status", "{}")],
        ),
        (
            &inner.sam_for_ssa,
            NAME_SSA,
            vec![(About::PATH, "{}"), (Status::PATH, rid.as_str())],
        ),
        (
            &inner.sam_for_sic,
            NAME_SIC,
            vec![
                (sap::messages::Keys::PATH, "{}"),
                (sap::messages::Open::PATH, rid.as_str()),
            ],
        ),
    ];
    let everybody = [NAME_CM, NAME_SAM, NAME_SSA, NAME_SIC, "stranger.example"];
    let paths: Vec<&str> = doors
        .iter()
        .flat_map(|(.., own)| own.iter().map(|(path, _)| *path))
        .collect();
    for (door, owner, own) in &doors {
        for name in everybody {
            let caller = story.stack.caller(door, name).unwrap();
            for (path, body) in own {
                let got = status(&caller, path, body).await;
                if name != *owner {
                    assert_eq!(got, Some(422), "{name} at {path}");
                } else if *body == "{}" {
                    assert_eq!(got, Some(200), "{name} at {path}");
                }
            }
        }
        // What one listener serves, no other does: a gateway can't prepare, and an SSA can't approve.
        let caller = story.stack.caller(door, owner).unwrap();
        for path in paths.iter().filter(|p| !own.iter().any(|(o, _)| o == *p)) {
            assert_eq!(status(&caller, path, "{}").await, Some(404), "{path}");
        }
    }
    story.stack.stop().await;
}

/// The SSA as an attacker: it may call what it is there for, in any order and with any content.
struct HostileSsa {
    sam: Client,
    person: PersonId,
    key: KeyId,
    client: ClientId,
    return_uri: String,
}

impl HostileSsa {
    async fn prepare(&self, hash: &[u8]) -> Digest32 {
        let request = PrepareRequest {
            person: self.person.clone(),
            key: self.key.clone(),
            client: self.client.clone(),
            client_name: "Bank".to_owned(),
            client_jws: None,
            items: vec![PrepareItem {
                ha: HashAlg::Sha256,
                h: B64(hash.to_vec()),
                label: "harmless.pdf".to_owned(),
                doc: None,
            }],
            open: None,
            renew: 0,
            return_uri: self.return_uri.clone(),
            ttl: 600,
        };
        self.sam.call::<Prepare>(&request).await.unwrap().rid
    }

    async fn bind(&self, rid: Digest32, token: &str) -> Result<(), CallError<Refusal>> {
        let grant = sha256(&[token.as_bytes()]);
        let bound = self.sam.call::<Bind>(&BindRequest { rid, grant }).await;
        bound.map(drop)
    }

    async fn sign(&self, token: &str, hash: &[u8]) -> Result<Vec<B64>, CallError<Refusal>> {
        let request = SignRequest {
            token: SecretBytes::from(token.to_owned()),
            client: self.client.clone(),
            key: self.key.clone(),
            alg: SigAlg::Ecdsa(HashAlg::Sha256),
            hashes: vec![B64(hash.to_vec())],
            idempotency_key: None,
        };
        let signed = self.sam.call::<Sign>(&request).await;
        signed.map(|answer| answer.signatures)
    }

    async fn state(&self, rid: Digest32) -> RequestState {
        let asked = self.sam.call::<Status>(&StatusRequest { rid }).await;
        asked.unwrap().state
    }
}

// shows: I-3.3-key-held-used-on-instruction, T-INS-OPERATOR, T-USE-SAP-BYPASS, T-USE-SAD-FORGE, T-USE-DTBSR-FORGE,
// I-3.4-use-auth-and-key-auth, I-3.4-signer-intent-through-app, I-4.2.1-rssp-signs-on-key-auth,
// I-6.1-nobody-else-signs
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_ssa_gets_nothing_that_its_signer_did_not_approve() {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    for store in [
        StoreChoice::Embedded,
        StoreChoice::Postgres(url.to_string()),
    ] {
        let mut story = Story::on(KeyAlg::P256, store.clone(), false).await;
        let ssa = HostileSsa {
            sam: story
                .stack
                .caller(&story.stack.inner.sam_for_ssa, NAME_SSA)
                .unwrap(),
            person: PersonId::parse(story.signer.person.clone()).unwrap(),
            key: KeyId::parse(credential(&story)).unwrap(),
            client: ClientId::parse("test-client").unwrap(),
            return_uri: format!("{}/", story.stack.ssa_url),
        };
        let (wanted, harmless) = (SystemRandom.digest32().0, SystemRandom.digest32().0);

        // Without the signer: no order of its own calls makes a right.
        let rid = ssa.prepare(&wanted).await;
        assert!(ssa.bind(rid, "my own token").await.is_err());
        assert!(ssa.sign("my own token", &wanted).await.is_err());

        // With passkeys of its own, at the gateway everybody reaches: one that nobody enrolled, and an accomplice's.
        let mut unknown = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
        let mut accomplice = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
        let new = NewSigner {
            login: "mallory",
            name: "Mallory",
            keys: &[KeyAlg::P256],
            collected: false,
            exportable: false,
            one_time: false,
        };
        let factors = NewFactors::Passkey(&mut accomplice);
        story.stack.enrol(&new, factors).await.unwrap();
        for device in [&mut unknown, &mut accomplice] {
            let approved = story
                .stack
                .sic()
                .approve(rid, Factors::Passkey(device))
                .await;
            assert!(approved.is_err());
        }
        assert_eq!(ssa.state(rid).await, RequestState::Open);

        // With an approval that it got for something else: those bytes, once, and not one more.
        let rid = ssa.prepare(&harmless).await;
        let factors = Factors::Passkey(&mut story.device);
        story.stack.sic().approve(rid, factors).await.unwrap();
        ssa.bind(rid, "a token").await.unwrap();
        assert!(ssa.bind(rid, "another token").await.is_err());
        assert!(ssa.sign("another token", &harmless).await.is_err());
        assert!(matches!(
            ssa.sign("a token", &wanted).await,
            Err(CallError::Refused(Refusal::HashNotApproved))
        ));
        assert_eq!(ssa.sign("a token", &harmless).await.unwrap().len(), 1);
        for hash in [&harmless, &wanted] {
            assert!(ssa.sign("a token", hash).await.is_err());
        }
        assert!(ssa.bind(rid, "a third token").await.is_err());

        let dir = story.dir.path().to_owned();
        story.stack.stop().await;
        assert_eq!(
            keys_used(&dir, &store).await,
            1,
            "the module made one value"
        );
    }
}
