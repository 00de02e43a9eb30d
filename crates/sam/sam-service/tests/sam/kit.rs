//! A world to test in: a SAM on a given store, a CM, a development CA and RA, signers with software passkeys.

use std::sync::Arc;

use cm_core::backend::Backend;
use cm_core::wait::AtOnce;
use cm_core::{ImportCa, Module, ModuleConfig, RootSecret};
use cm_soft::SoftBackend;
use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::{
    B64, ClientId, Clock as _, Digest32, HashAlg, KeyAlg, Level, PersonId, Random, SecretBytes,
    SigAlg, TenantId, UnixTime, VoucherId, sha256,
};
use dev_ca::ra::Invitation;
use dev_ca::{DevCa, Ra, Urls};
use jose::{JweContext, SealKey, SigningKey};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::attest::Attesters;
use sam_core::clock::ClockRule;
use sam_core::passkey::RelyingParty;
use sam_core::provider::Providers;
use sam_core::{Policy, totp};
use sam_service::{KnownClient, MIGRATIONS, Sam, SamConfig, SettingsSource, StartError};
use sap::enrol::{CertifyRequest, SealedEnrolment, SealedSeed, Subject};
use sap::messages::*;
use sap::{NewFactor, Proof, SamKeys, SealedProof, TYP_SEALED, TYP_SEED, act_digest};
use soft_passkey::{Behaviour, SoftPasskey};
use store_kit::testing::{self, TestStore};

use crate::cm::Cm;
use crate::office_kit::{Founders, office_config};

mod door;
mod steps;

pub use door::Node;

pub const ORIGIN: &str = "http://sic.localhost:8443";
pub const RP_ID: &str = "sic.localhost";
pub const SSA: &str = "ssa.test";
pub const GATEWAY: &str = "sic.test";
pub const GUARD: &str = "guard.test";
pub const RETURN: &str = "http://ssa.localhost:1/return";
pub const PIN: &str = "canary-pin-blue-heron";
pub const START: UnixTime = UnixTime(1_800_000_000);

/// Tries until something comes of it, for a minute at most.
pub async fn until<T>(what: &str, mut tried: impl AsyncFnMut() -> Option<T>) -> T {
    let came = async {
        loop {
            if let Some(came) = tried().await {
                break came;
            }
            tokio::task::yield_now().await;
        }
    };
    let longest = std::time::Duration::from_secs(60);
    match tokio::time::timeout(longest, came).await {
        Ok(came) => came,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub struct World {
    pub sam: Node,
    pub cm: Cm,
    pub ra: Ra,
    pub ca: Arc<DevCa>,
    pub clock: Arc<ManualClock>,
    pub store: TestStore,
    pub config: SamConfig,
    pub founders: tokio::sync::Mutex<Founders>,
    /// Name in the certificate of the service that asks, and where pages go afterwards.
    pub service: &'static str,
    pub back: &'static str,
    /// A CA whose keys the module takes.
    pub sender: SigningKey,
    _cm_store: TestStore,
    _dir: tempfile::TempDir,
}

/// A person with their factors and keys.
pub struct Signer {
    pub person: PersonId,
    pub passkey: SoftPasskey,
    pub seed: Option<SecretBytes>,
    pub keys: Vec<KeyInfo>,
}

/// Two worlds: one on SQLite, one on PostgreSQL.
pub async fn worlds() -> [World; 2] {
    let [sqlite, postgres] = testing::both(MIGRATIONS).await;
    [World::on(sqlite).await, World::on(postgres).await]
}

pub fn passkey() -> SoftPasskey {
    SoftPasskey::new(Behaviour::honest(ORIGIN, RP_ID), &SystemRandom).unwrap()
}

pub fn client() -> ClientId {
    ClientId::parse("client-1").unwrap()
}

pub fn hash(n: u32) -> B64 {
    B64(HashAlg::Sha256.digest(&n.to_be_bytes()))
}

pub fn hash_items(hashes: &[B64]) -> Vec<PrepareItem> {
    let item = |h: &B64| PrepareItem {
        ha: HashAlg::Sha256,
        h: h.clone(),
        label: "契約書.pdf".into(),
        doc: None,
    };
    hashes.iter().map(item).collect()
}

pub fn subject(name: &str) -> Subject {
    Subject {
        common_name: name.into(),
        country: "JP".into(),
        organization: None,
        serial_number: "s-1".into(),
    }
}

impl World {
    pub async fn on(store: TestStore) -> Self {
        Self::with(store, Arc::new(SoftBackend), Policy::default()).await
    }

    /// As [`Self::on`], with another module and policy.
    pub async fn with(store: TestStore, backend: Arc<dyn Backend>, policy: Policy) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let random = Arc::new(SystemRandom);
        let dir = tempfile::tempdir().unwrap();
        let urls = Urls::under("http://ca.localhost:1");
        let ca = Arc::new(DevCa::open(dir.path(), urls, clock.clone(), random.clone()).unwrap());
        let cm_store = testing::sqlite(cm_core::MIGRATIONS).await;
        let root_secret = RootSecret::new(SecretBytes::new(vec![7; 32])).unwrap();
        let (sender, _) = SigningKey::generate().unwrap();
        let module_config = ModuleConfig {
            import_cas: vec![ImportCa {
                key: sender.public().clone(),
                generation: Some("test, not audited".into()),
            }],
            // Above level 1 there have to be two, whoever they are.
            officers: (0..2)
                .map(|_| SigningKey::generate().unwrap().0.public().clone())
                .collect(),
            ..ModuleConfig::new("sam.test", "cm-1", 1_000_000)
        };
        // The module's own switch is on: what is refused here, the SAM refuses.
        let algorithms = cm_core::Policy::built_in().unwrap().experiments(true);
        let module = Module::start_with(
            module_config,
            algorithms,
            backend,
            cm_store.store.clone(),
            &root_secret,
            clock.clone(),
            random.clone(),
        );
        let module = Arc::new(module.await.unwrap().pausing(Arc::new(AtOnce)));
        let root = module.root().clone();
        let cm = Cm::new(cm_core::router(module, "sam.test"));
        let ra = Ra::new(ca.clone(), "sam.test", vec![root.clone()]).unwrap();
        let config = SamConfig {
            sam: "sam.test".into(),
            node: "sam-1".into(),
            beside: false,
            tenant: TenantId::parse("demo").unwrap(),
            brand: None,
            tenants: Vec::new(),
            relying_party: RelyingParty {
                origin: ORIGIN.into(),
                rp_id: RP_ID.into(),
            },
            return_prefixes: vec![RETURN.into()],
            registration_authorities: vec![ra.public_key().clone()],
            issuers: vec![ca.root().der().to_vec()],
            policy: Policy {
                max_items: 10_000,
                ..policy
            },
            attesters: Attesters::default(),
            providers: Providers::default(),
            clients: [(
                client(),
                KnownClient {
                    name: "Known client".into(),
                    keys: Vec::new(),
                },
            )]
            .into(),
            services: vec![SSA.into(), "other-ssa.test".into()],
            gateways: vec![GATEWAY.into()],
            guards: vec![GUARD.into()],
            backups: None,
            clock: ClockRule::default(),
            notice_before_end: 30 * 24 * 3600,
            office: office_config(),
            counter_sign: None,
            restorers: audit_log::Restorers::default(),
            source: SettingsSource::Program,
        };
        let founders = Founders::new(&config, &root, START);
        founders
            .found(&config, &cm, &store, clock.clone())
            .await
            .unwrap();
        let sam = Sam::start(
            config.clone(),
            cm.clone(),
            store.store.clone(),
            Some(root),
            clock.clone(),
            random,
        );
        let sam = Node::behind_doors(sam.await.unwrap(), &config).await;
        Self {
            sam,
            cm,
            ra,
            ca,
            clock,
            store,
            config,
            service: SSA,
            back: RETURN,
            founders: tokio::sync::Mutex::new(founders),
            sender,
            _cm_store: cm_store,
            _dir: dir,
        }
    }

    /// Another node on the same store, or the same one after a crash.
    pub async fn node(&self, name: &str) -> Node {
        let config = SamConfig {
            node: name.into(),
            ..self.config.clone()
        };
        self.node_with(config).await
    }

    pub async fn node_with(&self, config: SamConfig) -> Node {
        let started = self.node_drawing(config, Arc::new(SystemRandom)).await;
        started.unwrap()
    }

    /// Goes on with a node of this configuration.
    pub async fn go_on_with(&mut self, config: SamConfig) {
        self.sam = self.node_with(config.clone()).await;
        self.config = config;
    }

    /// As [`Self::node_with`], drawing from another generator.
    pub async fn node_drawing(
        &self,
        config: SamConfig,
        random: Arc<dyn Random>,
    ) -> Result<Node, StartError> {
        let root = Some(self.sam.root().clone());
        let sam = Sam::start(
            config.clone(),
            self.cm.clone(),
            self.store.store.clone(),
            root,
            self.clock.clone(),
            random,
        );
        Ok(Node::behind_doors(sam.await?, &config).await)
    }

    pub fn invitation(&self, person: &str, keys: &[KeyAlg]) -> Invitation {
        Invitation {
            tenant: self.config.tenant.clone(),
            person: PersonId::parse(person).unwrap(),
            subject: subject(person),
            assurance: "in-person".into(),
            ceiling: Level::Three,
            keys: keys.to_vec(),
            exp: self.clock.now().plus(3600),
            replaces: None,
            collected: false,
            codes: None,
            notices: None,
            exportable: false,
            one_time: false,
        }
    }

    pub async fn invite(&self, invitation: Invitation) -> (VoucherId, SecretBytes) {
        let (invite, voucher, secret) = self.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: self.back.into(),
        };
        let answer = self.sam.voucher(self.service, request).await.unwrap();
        assert_eq!(answer.voucher, voucher);
        (voucher, secret)
    }

    /// Enrols a person with a passkey (and PIN and code), and has the keys certified.
    pub async fn enrol(&self, name: &str, with_pin: bool, keys: &[KeyAlg]) -> Signer {
        let mut invitation = self.invitation(name, keys);
        if with_pin {
            invitation.ceiling = Level::One;
        }
        self.enrol_by(invitation, with_pin).await
    }

    /// As [`Self::enrol`], by this invitation.
    pub async fn enrol_by(&self, invitation: Invitation, with_pin: bool) -> Signer {
        let person = invitation.person.clone();
        let (voucher, secret) = self.invite(invitation).await;
        let act = self
            .sam
            .enrol_open(EnrolOpenRequest {
                voucher: voucher.clone(),
            })
            .await
            .unwrap()
            .act;
        let act = act_digest(&act);
        let mut passkey = passkey();
        let registration = passkey.register(act).unwrap();
        let mut seed = None;
        let mut sealed = self.secrets(act, &secret);
        if with_pin {
            let plain = self.fetch_seed(act, &secret).await.unwrap();
            sealed.pin = Some(SecretBytes::from(PIN.to_owned()));
            sealed.otp = Some(self.otp(&plain, 0));
            seed = Some(plain);
        }
        let request = EnrolRegisterRequest {
            act,
            sealed: self.seal(act, &sealed).await,
            passkey: Some(registration),
            id_token: None,
        };
        self.sam.enrol_register(request).await.unwrap();
        let keys = self.certify(&voucher).await;
        Signer {
            person,
            passkey,
            seed,
            keys,
        }
    }

    pub fn secrets(&self, act: Digest32, secret: &SecretBytes) -> SealedEnrolment {
        let text = core_types::bytes::b64u(secret.expose());
        SealedEnrolment {
            act,
            secret: SecretBytes::from(text),
            pin: None,
            otp: None,
        }
    }

    pub async fn fetch_seed(
        &self,
        act: Digest32,
        secret: &SecretBytes,
    ) -> Result<SecretBytes, SapRefusal> {
        let (page, _) = SealKey::generate().unwrap();
        let sealed = self.seal(act, &self.secrets(act, secret)).await;
        let answer = self
            .sam
            .enrol_seed(EnrolSeedRequest {
                act,
                sealed,
                key: page.public().clone(),
            })
            .await?;
        let plain = page
            .open(
                &answer.sealed,
                JweContext {
                    typ: TYP_SEED,
                    apu: act,
                },
            )
            .unwrap();
        let plain: SealedSeed = serde_json::from_slice(plain.expose()).unwrap();
        Ok(SecretBytes::new(from_base32(plain.seed.expose())))
    }

    /// Has the keys of a used voucher made and certified.
    pub async fn certify(&self, voucher: &VoucherId) -> Vec<KeyInfo> {
        let EnrolmentAnswer::Enrolled {
            person,
            statement,
            keys,
        } = self.enrolment(voucher).await
        else {
            panic!("not enrolled")
        };
        for key in keys.into_iter().filter(|key| !key.certified) {
            let request = CertifyRequest {
                statement: statement.clone(),
                enrolment: key.enrolment,
                csr: key.csr,
            };
            let answer = self.ra.certify(&request).unwrap();
            let request = CertificateRequest {
                key: key.key,
                certify: answer.certify,
                chain: answer.chain,
            };
            self.sam.certificate(self.service, request).await.unwrap();
        }
        self.sam.keys(KeysRequest { person }).await.unwrap().keys
    }

    /// Has the keys of the signer's registration certified that have no certificate yet.
    pub async fn certify_again(&self, signer: &Signer) -> Vec<KeyInfo> {
        self.certify(&signer.keys[0].registration).await
    }

    pub async fn enrolment(&self, voucher: &VoucherId) -> EnrolmentAnswer {
        self.sam
            .enrolment(
                self.service,
                EnrolmentRequest {
                    voucher: voucher.clone(),
                },
            )
            .await
            .unwrap()
    }

    pub fn otp(&self, seed: &SecretBytes, steps: i64) -> SecretBytes {
        let step = self.clock.now().0.div_euclid(totp::STEP) + steps;
        SecretBytes::from(totp::code(seed, step))
    }

    /// A code that the app doesn't show now, nor shortly before or after.
    pub fn no_otp(&self, seed: &SecretBytes) -> SecretBytes {
        let near: Vec<_> = (-2..=2).map(|steps| self.otp(seed, steps)).collect();
        let mut codes = (0..).map(|n: u32| SecretBytes::from(format!("{n:06}")));
        let none_of = |code: &SecretBytes| near.iter().all(|own| !own.ct_eq(code.expose()));
        codes.find(none_of).unwrap()
    }

    pub async fn seal_key(&self) -> jose::Jwk {
        let statement = self.sam.statement().await.unwrap().statement;
        let roots = [self.sam.root().clone()];
        SamKeys::verify(&statement, &roots, self.clock.now())
            .unwrap()
            .seal
    }

    pub async fn seal(&self, act: Digest32, plain: &impl serde::Serialize) -> String {
        let plain = SecretBytes::new(serde_json::to_vec(plain).unwrap());
        let context = JweContext {
            typ: TYP_SEALED,
            apu: act,
        };
        jose::seal(&plain, &self.seal_key().await, context, &SystemRandom).unwrap()
    }

    pub async fn pin_proof(&self, act: Digest32, pin: &str, otp: SecretBytes) -> Proof {
        let plain = SealedProof {
            act,
            pin: SecretBytes::from(pin.to_owned()),
            otp,
        };
        Proof::PinTotp {
            act,
            sealed: self.seal(act, &plain).await,
        }
    }

    /// The text of all audit entries, in order.
    pub async fn audit_text(&self) -> Vec<String> {
        let mut tx = self.store.read("audit").await.unwrap();
        let rows = tx
            .fetch_all(store_kit::sql(
                "SELECT body FROM audit_entry ORDER BY node, n",
            ))
            .await
            .unwrap();
        rows.iter().map(|r| r.text("body").unwrap()).collect()
    }

    pub async fn audited(&self, kind: &str, with: &str) -> usize {
        let kind = format!("\"{kind}\"");
        self.audit_text()
            .await
            .iter()
            .filter(|t| t.contains(&kind) && t.contains(with))
            .count()
    }
}

pub fn random_token() -> String {
    format!("canary-token-{}", SystemRandom.digest32())
}

pub fn alg(key: &KeyInfo) -> SigAlg {
    key.alg.sig_algs()[0]
}

pub fn verifies(key: &KeyInfo, hash: &B64, value: &B64) -> bool {
    pki::verify_signature(
        &key.spki.0,
        alg(key),
        pki::Signed::Digest(&hash.0),
        &value.0,
    )
    .is_ok()
}

pub fn from_base32(text: &[u8]) -> Vec<u8> {
    let value = |c: &u8| {
        u32::from(if c.is_ascii_uppercase() {
            c - b'A'
        } else {
            c - b'2' + 26
        })
    };
    let (mut out, mut window, mut bits) = (Vec::new(), 0_u32, 0);
    for c in text {
        window = window << 5 | value(c);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
            window &= (1 << bits) - 1;
        }
    }
    out
}
