//! Officers to test with: founders of an installation, their passkeys, and the officers' listener.

use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::rpc::Method;
use core_types::{
    Clock as _, Digest32, OfficerId, PersonId, SecretBytes, UnixTime, VoucherId, sha256,
};
use jose::{Jwk, SigningKey};
use sam_core::office::Limits;
use sam_core::passkey::RelyingParty;
use sam_service::{FoundError, OfficeConfig, Sam, SamConfig};
use sap::act::Version1;
use sap::act_digest;
use sap::enrol::SealedEnrolment;
use sap::messages::{EnrolOpen, EnrolOpenRequest, EnrolRegister, EnrolRegisterRequest, SapRefusal};
use sap::office::calls::*;
use sap::office::{Founder, Genesis, Measure, Office, Role, TYP_GENESIS};
use soft_passkey::{Behaviour, SoftPasskey};
use std::sync::Arc;
use store_kit::testing::TestStore;
use store_kit::{StoreError, sql, transaction};

use crate::cm::Cm;
use crate::kit::*;

pub const OFFICE: &str = "http://sic.localhost:8444";
pub const OFFICE_GATEWAY: &str = "office.test";
pub const IDLE: i64 = 600;
pub const SESSION: i64 = 3600;
pub const YEAR: i64 = 365 * 24 * 3600;

pub fn office_config() -> OfficeConfig {
    OfficeConfig {
        relying_party: RelyingParty {
            origin: OFFICE.into(),
            rp_id: RP_ID.into(),
        },
        gateways: vec![OFFICE_GATEWAY.into()],
        limits: Limits::new(IDLE, SESSION).unwrap(),
    }
}

/// The genesis of an installation with three security officers, and what only its ceremony knows.
pub struct Founders {
    pub jws: String,
    pub genesis: Genesis,
    pub recovery: SigningKey,
    pub secrets: Vec<SecretBytes>,
    pub devices: Vec<Device>,
}

/// An account of an officer, with its passkey.
pub struct Device {
    pub officer: OfficerId,
    pub account: PersonId,
    pub passkey: SoftPasskey,
}

pub fn secret() -> SecretBytes {
    use core_types::Random as _;
    let mut bytes = vec![0; 16];
    SystemRandom.fill(&mut bytes);
    SecretBytes::new(bytes)
}

pub fn founder(name: &str, secret: &SecretBytes, now: UnixTime) -> Founder {
    Founder {
        officer: OfficerId::parse(name).unwrap(),
        name: format!("Officer {name}"),
        identity: sha256(&[b"staff", name.as_bytes()]),
        account: PersonId::parse(format!("officer.{name}")).unwrap(),
        until: now.plus(YEAR),
        training: None,
        voucher: VoucherId::random(&SystemRandom),
        secret: sha256(&[secret.expose()]),
        exp: now.plus(3600),
    }
}

impl Founders {
    pub fn new(config: &SamConfig, root: &Jwk, now: UnixTime) -> Self {
        let names = ["a", "b", "c"];
        let secrets: Vec<SecretBytes> = names.iter().map(|_| secret()).collect();
        let officers = names.iter().zip(&secrets);
        let officers: Vec<Founder> = officers.map(|(name, s)| founder(name, s, now)).collect();
        Self::of(config, root, officers, secrets, now)
    }

    pub fn of(
        config: &SamConfig,
        root: &Jwk,
        officers: Vec<Founder>,
        secrets: Vec<SecretBytes>,
        now: UnixTime,
    ) -> Self {
        let (recovery, _) = SigningKey::generate().unwrap();
        let genesis = Genesis {
            v: Version1,
            sam: config.sam.clone(),
            tenant: config.tenant.clone(),
            root: root.clone(),
            recovery: recovery.public().clone(),
            need: 2,
            of: 3,
            officers,
            settings: vec![],
            nonce: Digest32([7; 32]),
            at: now,
        };
        let payload = serde_json::to_vec(&genesis).unwrap();
        Self {
            jws: recovery.sign(TYP_GENESIS, &payload).unwrap(),
            genesis,
            recovery,
            secrets,
            devices: Vec::new(),
        }
    }

    pub async fn found(
        &self,
        config: &SamConfig,
        cm: &Cm,
        store: &TestStore,
        clock: Arc<ManualClock>,
    ) -> Result<(), FoundError> {
        let (store, random) = (store.store.clone(), Arc::new(SystemRandom));
        let config = config.clone();
        Sam::found(config, cm.clone(), store, None, clock, random, &self.jws).await
    }
}

impl World {
    pub async fn office<M: Method>(&self, request: &M::Request) -> Result<M::Response, M::Refusal> {
        self.sam.office::<M>(OFFICE_GATEWAY, request).await
    }

    /// Enrols the founders' passkeys, if that hasn't been done.
    pub async fn officers(&self) -> tokio::sync::MutexGuard<'_, Founders> {
        let mut founders = self.founders.lock().await;
        if founders.devices.is_empty() {
            let pairs: Vec<_> = founders
                .genesis
                .officers
                .iter()
                .cloned()
                .zip(founders.secrets.clone())
                .collect();
            for (founder, secret) in pairs {
                let device = self.enrol_officer(&founder.voucher, &secret).await.unwrap();
                founders.devices.push(device);
            }
        }
        founders
    }

    pub async fn enrol_officer(
        &self,
        voucher: &VoucherId,
        secret: &SecretBytes,
    ) -> Result<Device, SapRefusal> {
        let passkey = SoftPasskey::new(Behaviour::honest(OFFICE, RP_ID), &SystemRandom).unwrap();
        self.enrol_officer_with(voucher, secret, passkey).await
    }

    pub async fn enrol_officer_with(
        &self,
        voucher: &VoucherId,
        secret: &SecretBytes,
        mut passkey: SoftPasskey,
    ) -> Result<Device, SapRefusal> {
        let request = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let act = self.office::<EnrolOpen>(&request).await?.act;
        let payload = core_types::bytes::from_b64u(act.split('.').nth(1).unwrap()).unwrap();
        let sap::Act::Enrol(shown) = serde_json::from_slice(&payload).unwrap() else {
            panic!("another kind")
        };
        let act = act_digest(&act);
        let sealed = SealedEnrolment {
            act,
            secret: SecretBytes::from(core_types::bytes::b64u(secret.expose())),
            pin: None,
            otp: None,
        };
        let request = EnrolRegisterRequest {
            act,
            sealed: self.seal(act, &sealed).await,
            passkey: Some(passkey.register(act).unwrap()),
            id_token: None,
        };
        self.office::<EnrolRegister>(&request).await?;
        let account = shown.person.id;
        Ok(Device {
            officer: OfficerId::parse(account.as_str().trim_start_matches("officer.")).unwrap(),
            account,
            passkey,
        })
    }

    pub async fn log_in(&self, device: &mut Device) -> Result<LoggedIn, OfficeRefusal> {
        let request = LogInOpenRequest {
            account: device.account.clone(),
        };
        let act = act_digest(&self.office::<LogInOpen>(&request).await?.act);
        let proof = device.passkey.prove(act).unwrap();
        let request = ProofRequest {
            proof,
            switch: None,
        };
        self.office::<LogIn>(&request).await
    }

    pub async fn propose(
        &self,
        device: &mut Device,
        measure: Measure,
    ) -> Result<ProposalInfo, OfficeRefusal> {
        let request = ProposeRequest {
            session: self.log_in(device).await?.session,
            measure,
            reason: "because it is so".into(),
            ttl: 3600,
        };
        self.office::<Propose>(&request).await
    }

    /// The act with which this officer would approve.
    pub async fn approval_act(
        &self,
        device: &mut Device,
        proposal: Digest32,
    ) -> Result<OfficeAct, OfficeRefusal> {
        let request = ProposalRequest {
            session: self.log_in(device).await?.session,
            proposal,
        };
        self.office::<ProposalOpen>(&request).await
    }

    pub async fn approve_proposal(
        &self,
        device: &mut Device,
        proposal: Digest32,
    ) -> Result<ProposalInfo, OfficeRefusal> {
        let act = self.approval_act(device, proposal).await?;
        assert_eq!(sha256(&[act.document.as_bytes()]), proposal);
        let proof = device.passkey.prove(act_digest(&act.act)).unwrap();
        let request = ProofRequest {
            proof,
            switch: None,
        };
        self.office::<ProposalApprove>(&request).await
    }

    /// Has the first founder propose it and the others approve.
    pub async fn decide(&self, measure: Measure) -> Result<ProposalInfo, OfficeRefusal> {
        let mut founders = self.officers().await;
        let [first, rest @ ..] = founders.devices.as_mut_slice() else {
            panic!("no founders")
        };
        let mut info = self.propose(first, measure).await?;
        for device in rest {
            if info.state == ProposalState::Open {
                info = self.approve_proposal(device, info.proposal).await?;
            }
        }
        Ok(info)
    }

    /// Asks that the passkey be confirmed which a link has enrolled.
    pub async fn ask_confirm(&self, device: &mut Device) -> Result<ProposalInfo, OfficeRefusal> {
        let known = self.log_in(device).await?;
        let request = ProposeRequest {
            session: known.session,
            measure: Measure::Confirm {
                officer: known.officer,
                account: device.account.clone(),
                passkey: known.unconfirmed.unwrap_or_default(),
            },
            reason: "it is mine".into(),
            ttl: 3600,
        };
        self.office::<Propose>(&request).await
    }

    /// Has it confirmed by somebody who neither has it nor asked for the account.
    pub async fn confirm(&self, device: &mut Device, by: &mut Device) {
        let asked = self.ask_confirm(device).await.unwrap();
        let done = self.approve_proposal(by, asked.proposal).await.unwrap();
        assert_eq!(done.state, ProposalState::Done);
    }

    /// Appoints somebody, enrols their passkey and has it confirmed.
    pub async fn appoint(&self, name: &str, role: Role) -> Device {
        let (measure, secret) = appointment(name, &[role], self.clock.now());
        let done = self.decide(measure).await.unwrap();
        let voucher = VoucherId::parse(done.proposal.to_string()).unwrap();
        let mut device = self.enrol_officer(&voucher, &secret).await.unwrap();
        let mut founders = self.officers().await;
        self.confirm(&mut device, &mut founders.devices[1]).await;
        device
    }
}

pub fn office_of(roles: &[Role], now: UnixTime) -> Office {
    Office {
        roles: roles.to_vec(),
        both: false,
        until: now.plus(YEAR),
        training: None,
    }
}

pub fn appointment(name: &str, roles: &[Role], now: UnixTime) -> (Measure, SecretBytes) {
    let secret = secret();
    let measure = Measure::Appoint {
        officer: OfficerId::parse(name).unwrap(),
        name: format!("Officer {name}"),
        identity: sha256(&[b"staff", name.as_bytes()]),
        office: office_of(roles, now),
        account: PersonId::parse(format!("officer.{name}")).unwrap(),
        secret: sha256(&[secret.expose()]),
    };
    (measure, secret)
}

pub fn rule(refusal: OfficeRefusal) -> String {
    refusal
        .rule
        .unwrap_or_else(|| format!("{:?}", refusal.code))
}

pub async fn run(world: &World, statement: &'static str) {
    let store = &world.store.store;
    let done: Result<u64, StoreError> =
        transaction!(store, "attack", |tx| { tx.execute(sql(statement)).await });
    done.unwrap();
}

pub fn officer(name: &str) -> OfficerId {
    OfficerId::parse(name).unwrap()
}

pub fn dismiss(name: &str) -> Measure {
    Measure::Dismiss {
        officer: officer(name),
    }
}
