//! Stories at each level: a stack that is declared good for it (*test, not evaluated*), and a signer whose key is of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::rpc::Method;
use core_types::{
    B64, ClientId, Clock, Digest32, HashAlg, KeyAlg, KeyId, Level, PersonId, SecretBytes, SigAlg,
    TenantId, UnixTime, VoucherId, sha256,
};
use csc_types::{HashType, Purpose};
use natsuin::stack::{Assurance, Device, NAME_SSA, StoreChoice};
use sam_api::Refusal;
use sam_api::ssa::{
    Bind, BindRequest, DocItem, Prepare, PrepareItem, PrepareRequest, RequestState, Sign,
    SignRequest, Status, StatusRequest,
};
use sam_core::attest::{AttestationPolicy, Format, Model};
use sap::enrol::{Invite, Subject};
use service_kit::{CallError, Client};
use soft_passkey::Attester;
use store_kit::StoreUrl;

use crate::kit::Story;
use crate::spend::{approval, credential};

/// The client in whose name everything is asked for.
pub const CLIENT: &str = "test-client";
/// The only model of authenticators that level 3 admits here.
const MODEL: [u8; 16] = [0xa1; 16];

/// A fresh store of each kind.
pub async fn stores() -> [StoreChoice; 2] {
    let StoreUrl::Postgres(url) = store_kit::testing::postgres_database().await else {
        panic!("a PostgreSQL database was asked for");
    };
    [
        StoreChoice::Embedded,
        StoreChoice::Postgres(url.to_string()),
    ]
}

/// A story at a level.
pub struct Levelled {
    pub story: Story,
    pub level: Level,
    maker: Arc<Attester>,
}

impl Levelled {
    pub async fn begin(level: Level, store: StoreChoice, clock: Arc<dyn Clock>) -> Self {
        let maker = Arc::new(Attester::new(MODEL, MODEL, clock.now()).unwrap());
        let assurance = Assurance {
            level,
            attestation: AttestationPolicy {
                models: BTreeSet::from([Model::parse(&maker.model()).unwrap()]),
                formats: BTreeSet::from([Format::Packed]),
                roots: vec![maker.root.clone()],
            },
        };
        let device = |origin: &str| device(level, origin, &maker);
        let story = Story::assured(assurance, store, clock, device).await;
        let key = &story.signer.credentials[0];
        assert_eq!(key.level, u8::from(level));
        assert_eq!(key.level_declared.is_empty(), level == Level::One);
        let mut declared = key.level_declared.iter();
        assert!(declared.all(|d| d.reference == cm_pkcs11::TEST));
        Self {
            story,
            level,
            maker,
        }
    }

    /// Another device of the kind that this level admits.
    pub fn device(&self) -> Device {
        device(self.level, &self.story.stack.sic_url, &self.maker)
    }

    /// What an application asks for at this level.
    pub fn purpose(&self, hashes: &[Vec<u8>]) -> Purpose {
        asked_at(self.level, approval(&credential(&self.story), hashes))
    }

    /// The SAM's listener for the SSA, as whoever has the SSA's certificate reaches it.
    pub fn ssa(&self) -> SsaCalls {
        let stack = &self.story.stack;
        SsaCalls {
            sam: stack.caller(&stack.inner.sam_for_ssa, NAME_SSA).unwrap(),
            person: PersonId::parse(self.story.signer.person.clone()).unwrap(),
            key: KeyId::parse(credential(&self.story)).unwrap(),
            client: ClientId::parse(CLIENT).unwrap(),
            return_uri: format!("{}/", stack.ssa_url),
            level: self.level,
        }
    }
}

/// Secrets that an application collects are none for a signer's own key; above level 1 the requirement says so.
pub fn not_collected<T: std::fmt::Debug>(level: Level, told: Result<T, CallError<Refusal>>) {
    match (level, told) {
        (Level::One, Err(CallError::Refused(Refusal::Mismatch))) => {}
        (level, Err(CallError::Refused(Refusal::Level { requirement }))) => {
            assert_eq!(requirement, format!("I-3.5.1-keyauth-L{}", u8::from(level)));
        }
        (level, told) => panic!("{level:?}: {told:?}"),
    }
}

/// As it can be asked for at this level: level 3 signs documents only.
pub fn asked_at(level: Level, mut asked: Purpose) -> Purpose {
    if let Purpose::Credential(of) = &mut asked
        && level == Level::Three
    {
        for digest in &mut of.digests {
            digest.hash_type = Some(HashType::Sdr);
        }
    }
    asked
}

fn device(level: Level, origin: &str, maker: &Arc<Attester>) -> Device {
    match level {
        Level::One | Level::Two => Device::new(origin, &SystemRandom),
        Level::Three => Device::attested(origin, maker.clone(), &SystemRandom),
    }
    .unwrap()
}

/// A call at a gateway, where anybody may call.
pub async fn at_gateway<M: Method>(
    http: &reqwest::Client,
    origin: &str,
    request: &M::Request,
) -> Result<M::Response, M::Refusal> {
    let url = format!("{origin}{}", M::PATH);
    let answer = http.post(url).json(request).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Ok(answer.json().await.unwrap()),
        422 => Err(answer.json().await.unwrap()),
        other => panic!("the gateway answered with {other}"),
    }
}

/// The SSA's calls, in any order and with any content.
pub struct SsaCalls {
    pub sam: Client,
    pub person: PersonId,
    pub key: KeyId,
    pub client: ClientId,
    pub return_uri: String,
    pub level: Level,
}

impl SsaCalls {
    /// An invitation of its own for this person, with a secret that it knows.
    pub fn invite(&self, now: UnixTime, secret: &[u8]) -> Invite {
        Invite {
            voucher: VoucherId::random(&SystemRandom),
            tenant: TenantId::parse("dev").unwrap(),
            person: self.person.clone(),
            subject: Subject {
                common_name: "髙橋 花子".to_owned(),
                country: "JP".to_owned(),
                organization: None,
                serial_number: "DEV-hanako".to_owned(),
            },
            assurance: "in-person".to_owned(),
            ceiling: Level::Three,
            keys: vec![KeyAlg::P256],
            exp: now.plus(3600),
            secret: sha256(&[secret]),
            replaces: None,
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        }
    }

    /// A hash, or at level 3 the hash of a document.
    pub fn item(&self, hash: &[u8]) -> PrepareItem {
        PrepareItem {
            ha: HashAlg::Sha256,
            h: B64(hash.to_vec()),
            label: "harmless.pdf".to_owned(),
            doc: (self.level == Level::Three).then_some(DocItem {
                signed_attrs: None,
                ranges: None,
            }),
        }
    }

    /// A request for these.
    pub fn request(&self, items: Vec<PrepareItem>) -> PrepareRequest {
        PrepareRequest {
            person: self.person.clone(),
            key: self.key.clone(),
            client: self.client.clone(),
            client_name: "Bank".to_owned(),
            client_jws: None,
            items,
            open: None,
            renew: 0,
            return_uri: self.return_uri.clone(),
            ttl: 600,
        }
    }

    pub async fn prepare_item(&self, item: PrepareItem) -> Result<Digest32, CallError<Refusal>> {
        let request = self.request(vec![item]);
        let prepared = self.sam.call::<Prepare>(&request).await;
        prepared.map(|answer| answer.rid)
    }

    pub async fn prepare(&self, hash: &[u8]) -> Digest32 {
        self.prepare_item(self.item(hash)).await.unwrap()
    }

    pub async fn bind(&self, rid: Digest32, token: &str) -> Result<(), CallError<Refusal>> {
        let grant = sha256(&[token.as_bytes()]);
        let bound = self.sam.call::<Bind>(&BindRequest { rid, grant }).await;
        bound.map(drop)
    }

    pub async fn sign(&self, token: &str, hash: &[u8]) -> Result<Vec<B64>, CallError<Refusal>> {
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

    pub async fn state(&self, rid: Digest32) -> RequestState {
        let asked = self.sam.call::<Status>(&StatusRequest { rid }).await;
        asked.unwrap().state
    }
}
