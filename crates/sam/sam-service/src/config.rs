//! Settings of a SAM, fixed while it runs.

use std::collections::{BTreeMap, BTreeSet};

use audit_log::Restorers;
use core_types::timekeeping::ClockRule;
use core_types::{B64, ClientId, KeyId, PersonId, TenantId};
use jose::{ForeignKey, Jwk};
use pki::{Certificate, DerError};
use sam_core::Policy;
use sam_core::attest::AttestationPolicy;
use sam_core::office::Limits;
use sam_core::passkey::RelyingParty;
use sam_core::provider::Providers;
use sap::act::Brand;

use crate::backups::BackupWatch;
use crate::metadata::MetadataFile;
use crate::pages::DeclaredPages;
use crate::settings::SettingsSource;

/// Settings of a SAM.
#[derive(Debug, Clone)]
pub struct SamConfig {
    /// Name of the SAM, as in acts and statements.
    pub sam: String,
    /// Name of this node, unique among the nodes on one store; names its chain in the audit log.
    pub node: String,
    /// The provider's own tenant; what stands beside is for it alone, as far as [`TenantConfig`] has it too.
    pub tenant: TenantId,
    /// How it is shown to its signers; nothing: by no name.
    pub brand: Option<Brand>,
    /// Other tenants.
    pub tenants: Vec<TenantConfig>,
    /// Origin and RP ID of the SIC.
    pub relying_party: RelyingParty,
    /// Where the SIC page may go afterwards: prefixes of the SSA's URIs.
    pub return_prefixes: Vec<String>,
    /// Public keys of the registration authorities.
    pub registration_authorities: Vec<Jwk>,
    /// Pinned issuers of signers' certificates, DER.
    pub issuers: Vec<Vec<u8>>,
    /// Policy of levels.
    pub policy: Policy,
    /// Authenticators that are vouched for.
    pub attestation: AttestationPolicy,
    /// Where FIDO metadata about them come from, if any are used.
    pub metadata: Option<MetadataFile>,
    /// Identity providers whose word counts.
    pub providers: Providers,
    /// What the pages of signers and officers consist of, for the log.
    pub pages: Vec<DeclaredPages>,
    /// Clients the SAM knows itself, by id.
    pub clients: BTreeMap<ClientId, KnownClient>,
    /// Names in the certificates of the SSA services that may call `/sam/v1/*`.
    pub services: Vec<String>,
    /// Names in the certificates of the gateways that may call `/sap/v1/*`.
    pub gateways: Vec<String>,
    /// Names in the certificates of the programs that watch the logs and may stop keys and officers' sessions, and nothing else.
    pub guards: Vec<String>,
    /// What is declared of this machine's clock.
    pub clock: ClockRule,
    /// What the operator declares of the medium on which the witness's file of the log lies.
    pub witness_declaration: Option<String>,
    /// How backups are watched, if they are.
    pub backups: Option<BackupWatch>,
    /// With what the provider counter-signs each signature, if it does.
    pub counter_sign: Option<CounterSigner>,
    /// How many seconds before the end of its certificate the owner of a key is told; 0: never.
    pub notice_before_end: i64,
    /// Where officers act, and how long their sessions last.
    pub office: OfficeConfig,
    /// Who makes backups, and who approves their restore.
    pub restorers: Restorers,
    /// Where all this comes from.
    pub source: SettingsSource,
    /// For a command beside the node, which may run meanwhile: what it writes into the log is a node's of its own.
    pub beside: bool,
}

/// A tenant: persons, keys, vouchers, requests and acts of its own, which no other tenant's service can name.
#[derive(Debug, Clone)]
pub struct TenantConfig {
    /// Name, as in acts, vouchers and orders to the module.
    pub id: TenantId,
    /// How it is shown to its signers, in every act.
    pub brand: Brand,
    /// Names in the certificates of its SSA services. By them alone it is known whose a call is.
    pub services: Vec<String>,
    /// Where the SIC page may go afterwards.
    pub return_prefixes: Vec<String>,
    /// Public keys of its registration authorities.
    pub registration_authorities: Vec<Jwk>,
    /// Pinned issuers of its signers' certificates, DER.
    pub issuers: Vec<Vec<u8>>,
    /// Its policy of levels. Its ceiling isn't above the installation's.
    pub policy: Policy,
    /// Identity providers whose word counts.
    pub providers: Providers,
    /// Its clients that the SAM knows itself.
    pub clients: BTreeMap<ClientId, KnownClient>,
}

impl SamConfig {
    /// What holds within a tenant.
    pub(crate) fn within(&self, tenant: &TenantConfig) -> Self {
        let tenant = tenant.clone();
        Self {
            tenant: tenant.id,
            brand: Some(tenant.brand),
            services: tenant.services,
            return_prefixes: tenant.return_prefixes,
            registration_authorities: tenant.registration_authorities,
            issuers: tenant.issuers,
            policy: tenant.policy,
            providers: tenant.providers,
            clients: tenant.clients,
            ..self.clone()
        }
    }

    /// Whether every call has one tenant: an error says what is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut ids = BTreeSet::from([&self.tenant]);
        let mut services: BTreeSet<&String> = self.services.iter().collect();
        for tenant in &self.tenants {
            if !ids.insert(&tenant.id) || is_account(tenant.id.as_str()) {
                return Err("a tenant is there twice, or has a name that only officers have");
            }
            if !tenant.services.iter().all(|name| services.insert(name)) {
                return Err("a service belongs to two tenants");
            }
            if tenant.policy.ceiling > self.policy.ceiling {
                return Err("a tenant's ceiling is above the installation's");
            }
            if !tenant.brand.is_possible() {
                return Err(
                    "a tenant has no name in Japanese or English, or no colour that is one",
                );
            }
        }
        match self.brand.as_ref().is_none_or(Brand::is_possible) {
            true => Ok(()),
            false => {
                Err("the provider has no name in Japanese or English, or no colour that is one")
            }
        }
    }
}

/// Officers' accounts begin so: their rows never look like a tenant's.
fn is_account(name: &str) -> bool {
    PersonId::parse(name).is_ok_and(|id| sap::office::is_account(&id))
}

/// The officers' place: an origin of its own, with a gateway of its own.
#[derive(Debug, Clone)]
pub struct OfficeConfig {
    /// Origin and RP ID of the officers' page. Proofs of officers are made there and nowhere else.
    pub relying_party: RelyingParty,
    /// Names in the certificates of the gateways that may call `/sap/v1/office/*`; none of them is among those of signers.
    pub gateways: Vec<String>,
    /// Limits of sessions.
    pub limits: Limits,
}

/// A client in the SAM's own records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownClient {
    /// Name as shown to signers.
    pub name: String,
    /// Keys with which it signs its requests. With one here, no unsigned request of its is taken.
    pub keys: Vec<ForeignKey>,
}

/// The provider's key for counter-signatures, and its certificate (`III-A1.8-rssp-counter-signature`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSigner {
    /// The module's key of purpose *seal*.
    pub key: KeyId,
    /// Certificates, DER: the key's first, then those above it.
    pub chain: Vec<B64>,
}

impl CounterSigner {
    /// A key and the certificates (PEM) that it is shown with.
    ///
    /// # Errors
    /// A certificate can't be read, or there is none.
    pub fn new(key: KeyId, pem: &str) -> Result<Self, DerError> {
        let chain = Certificate::parse_pem(pem)?;
        if chain.is_empty() {
            return Err(DerError("no certificate of the counter-signing key"));
        }
        let chain = chain.iter().map(|c| B64(c.der().to_vec())).collect();
        Ok(Self { key, chain })
    }
}
