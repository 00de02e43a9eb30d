//! What a stack remembers between starts: ports, clients and the people it enrolled, secrets included.
//!
//! A file like this exists in development only. In production clients and signers keep their secrets themselves.

use core_types::SecretBytes;
use sam_api::ssa::{Declared, LevelPart};
use sap::level::references;
use serde::{Deserialize, Serialize};
use web_ui::Messages;

use super::counter::DevCounterSigner;
use super::officers::DevOffice;

/// Contents of `state.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Ports of the last start, taken again where free: origins of passkeys and URLs in certificates hold them.
    pub ports: Ports,
    /// Root key of the module, pinned at the first start.
    pub root: Option<jose::Jwk>,
    /// Registered clients.
    pub clients: Vec<DevClient>,
    /// Enrolled signers.
    pub signers: Vec<DevSigner>,
    /// PKCS#8 of the two officers' keys of the module, which remembers them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub module_officers: Vec<SecretBytes>,
    /// With what signatures are counter-signed, since a start asked for it.
    pub counter_signer: Option<DevCounterSigner>,
    /// PKCS#8 of the key with which the e-contract application signs its requests, if the first start asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_key: Option<SecretBytes>,
    /// Officers, and what their ceremony handed out.
    pub office: DevOffice,
}

/// Ports of the public listeners; 0 = not chosen yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Portal, OAuth 2 and CSC.
    pub ssa: u16,
    /// SIC page.
    pub sic: u16,
    /// Officers' page.
    #[serde(default)]
    pub office: u16,
    /// E-contract application.
    pub sca: u16,
    /// CA, OCSP, CRL, TSA.
    pub ca: u16,
}

/// A client, as the ready file shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevClient {
    /// Id.
    pub client_id: String,
    /// Secret; none for the command line.
    pub client_secret: Option<String>,
    /// Redirect URIs.
    pub redirect_uris: Vec<String>,
}

/// A signer, as the ready file shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevSigner {
    /// Login name.
    pub user: String,
    /// Id of the person, as in acts and audit logs.
    #[serde(default)]
    pub person: String,
    /// Login password.
    pub password: String,
    /// Seed of the login's one-time codes, base32.
    pub login_totp_secret: String,
    /// Signing PIN.
    pub pin: String,
    /// Seed of the signing one-time codes, base32.
    pub totp_secret: String,
    /// Keys.
    pub credentials: Vec<DevCredential>,
}

impl DevCredential {
    /// Level and why not higher, for a person, in the words of the portal.
    pub fn level_sentence(&self, m: Messages) -> String {
        let part = match self.level_because {
            LevelPart::Generation => "portal-level-generation",
            LevelPart::Import => "portal-level-import",
            LevelPart::Retention => "portal-level-retention",
            LevelPart::Authorization => "portal-level-authorization",
            LevelPart::Enrolment => "portal-level-enrolment",
            LevelPart::Service => "portal-level-service",
        };
        let declared = m.t("portal-level-declared");
        let declared: String = references(&self.level_declared)
            .iter()
            .map(|r| format!(" {declared} {r}"))
            .collect();
        let level = m.n(part, self.level.into());
        format!("{level} ({}){declared}", self.origin)
    }
}

/// A key, as the ready file shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevCredential {
    /// Id.
    #[serde(rename = "credentialID")]
    pub credential_id: String,
    /// Kind, such as `rsa-3072`.
    pub algo: String,
    /// Level.
    pub level: u8,
    /// Which part of the level matrix holds it down.
    pub level_because: LevelPart,
    /// Requirements that the next level would need met.
    #[serde(default)]
    pub level_needs: Vec<String>,
    /// What of it rests on the operator's word.
    #[serde(default)]
    pub level_declared: Vec<Declared>,
    /// Back end that made and keeps the key, such as `software`.
    pub origin: String,
    /// How the client gets an authorization.
    pub auth_mode: String,
    /// Explicit mode: PIN of this key alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Explicit mode: seed of its one-time codes, base32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_secret: Option<String>,
}
