//! Enrolment: who binds person, authenticator and key (`II-3.1.*`).

use core_types::{
    B64, Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, SecretBytes, TenantId, UnixTime,
    VoucherId,
};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::proof::{optional_secret_text, secret_text};

/// Who invited a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvitedBy {
    /// A registration authority, by its registered key.
    Ra,
    /// The SSA by mail; never above level 1.
    Ssa,
    /// Officers, by an approved order or the genesis record: for an office, or for a signer whose factors are lost.
    Office,
}

/// Subject data for the certificate, as the RA proved them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Common name, code points kept exactly; 1 to 64 characters.
    pub common_name: String,
    /// Country, ISO 3166-1 alpha-2.
    pub country: String,
    /// Organisation, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Serial number that tells persons of one name apart.
    pub serial_number: String,
}

/// Where the SAM sends one-time codes, past the SSA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeAddress {
    /// A mail address, at most 254 visible ASCII characters.
    Mail(String),
    /// A telephone number for short messages, E.164: `+` and 7 to 15 digits.
    Phone(String),
}

/// A language in which a person is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLanguage {
    /// Japanese.
    Ja,
    /// English.
    En,
}

/// Where the SAM tells a person what happened to their keys and factors, past the SSA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeAddress {
    /// A mail address, as in [`CodeAddress::Mail`].
    pub mail: String,
    /// The person's language; both when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<NoticeLanguage>,
}

/// An invitation: payload of the RA's JWS (`natsuin-invite+jws`), or the SSA's own words at level 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Voucher id.
    pub voucher: VoucherId,
    /// Tenant.
    pub tenant: TenantId,
    /// Id of the person at the SSA and the SAM.
    pub person: PersonId,
    /// Subject data.
    pub subject: Subject,
    /// How the identity was proved, such as `in-person` or `mail-only`; shown and put on record.
    pub assurance: String,
    /// Highest level of keys made with this voucher.
    pub ceiling: Level,
    /// Keys to make.
    pub keys: Vec<KeyAlg>,
    /// Expires at.
    pub exp: UnixTime,
    /// SHA-256 of the 16-byte secret that reaches the person on a channel of the RA's.
    pub secret: Digest32,
    /// All factors of this earlier registration are lost: it ends when the person enrols anew, and its keys are
    /// destroyed. An RA's to say; the SSA can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<VoucherId>,
    /// Its keys are authorized by a PIN and one-time codes that an application collects (CSC explicit mode). Level 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collected: bool,
    /// Where codes for its keys may be sent, beside those of the person's app (`credentials/sendOTP`). For collected secrets
    /// only, and an RA's to say: the SSA would name an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<CodeAddress>,
    /// Where the person is told of stops, of changed factors and of the end of certificates. An RA's to say, as [`Self::codes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<NoticeAddress>,
    /// Its keys may be handed over to whoever their owner wants: an exception, and level 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exportable: bool,
    /// Its keys are for one act each, and destroyed after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_time: bool,
}

/// A WebAuthn registration whose challenge is the digest of the enrol act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeyRegistration {
    /// Credential id.
    pub id: B64,
    /// `clientDataJSON`.
    #[serde(rename = "clientData")]
    pub client_data: B64,
    /// `attestationObject`.
    pub attestation: B64,
    /// Transports the browser reports, kept for later hints; at most 8 short words.
    pub transports: Vec<String>,
}

/// What is inside `sealed` of an enrolment.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedEnrolment {
    /// Digest of the enrol act.
    pub act: Digest32,
    /// The voucher's secret, base64url of 16 bytes.
    #[serde(with = "secret_text")]
    pub secret: SecretBytes,
    /// New PIN, with method `pin-totp`.
    #[serde(
        default,
        with = "optional_secret_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub pin: Option<SecretBytes>,
    /// First one-time code of the new seed, with method `pin-totp`.
    #[serde(
        default,
        with = "optional_secret_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub otp: Option<SecretBytes>,
}

/// What is inside the answer with the TOTP seed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSeed {
    /// The seed, 20 bytes, base32 without padding as authenticator apps want it (RFC 6238).
    #[serde(with = "secret_text")]
    pub seed: SecretBytes,
    /// `otpauth://` URI for a QR code.
    #[serde(with = "secret_text")]
    pub uri: SecretBytes,
}

/// The SAM's record of an enrolment for one key: what the RA approves. Payload of `natsuin-enrolment+jws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRecord {
    /// Issuing SAM.
    pub sam: String,
    /// Voucher used.
    pub voucher: VoucherId,
    /// Who invited.
    pub by: InvitedBy,
    /// SHA-256 of the canonical invitation (its JSON as stored by the SAM).
    pub invite: Digest32,
    /// Person.
    pub person: PersonId,
    /// Subject data of the invitation.
    pub subject: Subject,
    /// Key.
    pub key: KeyId,
    /// Kind of key.
    pub alg: KeyAlg,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// SHA-256 of the CSR.
    pub csr: Digest32,
    /// Digest of the factor set.
    pub factors: Digest32,
    /// Level of the key.
    pub level: Level,
    /// Where the key was made and how it got here.
    pub origin: OriginCase,
    /// Time of the enrolment.
    pub at: UnixTime,
}

/// The RA's approval of a certificate. Payload of `natsuin-certify+jws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certify {
    /// SHA-256 of the SAM's enrolment JWS that is approved.
    pub enrolment: Digest32,
    /// Subject approved.
    pub subject: Subject,
    /// SHA-256 of the SubjectPublicKeyInfo approved.
    pub spki: Digest32,
    /// Digest of the factor set approved.
    pub factors: Digest32,
    /// Time of the approval.
    pub at: UnixTime,
}

/// Asks the RA to approve and the CA to issue. `POST /ra/certify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifyRequest {
    /// The SAM's current `sam-keys` statement.
    pub statement: String,
    /// The SAM's enrolment JWS.
    pub enrolment: String,
    /// PKCS#10 request, DER.
    pub csr: B64,
}

/// The RA's and CA's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifyResponse {
    /// The RA's approval, JWS.
    pub certify: String,
    /// Certificates in DER, the signer's first, the root not included.
    pub chain: Vec<B64>,
}

/// The public key of an RA that the SAM has registered.
pub type RaKey = Jwk;
