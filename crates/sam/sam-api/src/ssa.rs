//! Methods for the SSA: `POST /sam/v1/…`.

pub use core_types::rpc::Empty;
use core_types::{
    B64, ClientId, Digest32, HashAlg, KeyAlg, KeyId, Level, OriginCase, PersonId, SecretBytes,
    SigAlg, TenantId, UnixTime, VoucherId, sha256,
};
use sap::enrol::{Invite, Subject};
use serde::{Deserialize, Serialize};

use crate::Refusal;
pub use crate::life::*;
pub use crate::revocation::*;

core_types::methods! {
    refusal = Refusal;
    /// What this SAM is and can do.
    About: "/sam/v1/about", Empty => AboutAnswer;
    /// Stores a request to sign. It has no power.
    Prepare: "/sam/v1/prepare", PrepareRequest => PrepareAnswer;
    /// State of a request.
    Status: "/sam/v1/status", StatusRequest => StatusAnswer;
    /// Binds the one token that may use an approved act.
    Bind: "/sam/v1/bind", BindRequest => BindAnswer;
    /// Authorizes by PIN and one-time code that an application collected, for keys made for that, at level 1.
    Explicit: "/sam/v1/explicit", ExplicitRequest => BindAnswer;
    /// Has a one-time code sent to the owner of such a key, by the SAM's own courier. The SSA never sees it.
    SendCode: "/sam/v1/send-code", SendCodeRequest => Empty;
    /// Signs items of the approved act, once; with an idempotency key the stored values come again.
    Sign: "/sam/v1/sign", SignRequest => SignAnswer;
    /// Puts a new token in the place of the current one, for items that are left.
    Renew: "/sam/v1/renew", RenewRequest => BindAnswer;
    /// Registers a voucher.
    Voucher: "/sam/v1/voucher", VoucherRequest => VoucherAnswer;
    /// State of an enrolment; makes the keys of the enrol act that are still missing.
    Enrolment: "/sam/v1/enrolment", EnrolmentRequest => EnrolmentAnswer;
    /// Hands over a certificate with the RA's approval.
    Certificate: "/sam/v1/certificate", CertificateRequest => Empty;
    /// Keys of a person.
    Keys: "/sam/v1/keys", KeysRequest => KeysAnswer;
    /// Stores a request to change a key's state, factors or a registration. It has no power.
    Ask: "/sam/v1/ask", AskRequest => PrepareAnswer;
    /// Stops a key on the word of the SSA that its owner is logged in. Resuming takes a proof.
    Stop: "/sam/v1/stop", StopRequest => Empty;
    /// Hands over a registration authority's notice about a certificate.
    Notice: "/sam/v1/notice", NoticeRequest => Empty;
    /// Certificates of keys, for whoever looks what their CAs publish about them.
    Watched: "/sam/v1/watched", WatchedRequest => WatchedAnswer;
    /// Hands over what a CA published about the certificate of a key: revoked ends the key, a hold stops it, and its end lifts that.
    Revocation: "/sam/v1/revocation", RevocationRequest => Empty;
    /// Factors of a person.
    Factors: "/sam/v1/factors", FactorsRequest => FactorsAnswer;
    /// The latest signatures of a person.
    Signatures: "/sam/v1/signatures", SignaturesRequest => SignaturesAnswer;
    /// The evidence of an act of a person, for them to keep.
    Receipt: "/sam/v1/receipt", ReceiptRequest => ReceiptAnswer;
    /// The same of a signature value, for the client that got it.
    ReceiptOf: "/sam/v1/receipt-of", ReceiptOfRequest => ReceiptAnswer;
    /// A key that its owner had handed over, sealed to the receiver.
    HandedOver: "/sam/v1/handed-over", HandedOverRequest => HandedOverAnswer;
    /// What happened to a person's keys and factors lately.
    History: "/sam/v1/history", HistoryRequest => HistoryAnswer;
}

/// Answer of [`About`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutAnswer {
    /// Name of the SAM.
    pub sam: String,
    /// Whose the service is that asks.
    pub tenant: TenantInfo,
    /// Current `sam-keys` statement.
    pub statement: String,
    /// Highest level of the service.
    pub ceiling: Level,
    /// What of it rests on the operator's word.
    pub declared: Vec<Declared>,
    /// Accounts at identity providers can be factors.
    #[serde(default)]
    pub providers: bool,
    /// Most items in one act.
    pub max_items: u32,
    /// Most signatures over what nobody was shown, with keys of level 1; 0: none are made.
    #[serde(default)]
    pub max_open: u32,
    /// What is declared of its clock, and what is so.
    pub clock: ClockInfo,
}

/// Whose a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantInfo {
    /// The tenant.
    pub name: TenantId,
    /// Whether it is the provider's own: its persons are named without it where those of all tenants stand side by side.
    pub own: bool,
}

/// The clock of a SAM, for whoever asks how exact its times are (`I-7.1.1.12-accuracy-declared`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockInfo {
    /// `synchronised`, `unsynchronised` (nothing is declared), `beyond-bound` or `stepped`.
    pub state: String,
    /// The largest error that is declared, in milliseconds; nothing: unsynchronised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_ms: Option<u32>,
    /// The largest error that is possible by the last estimate, in milliseconds; nothing while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ms: Option<u32>,
}

/// Request of [`Prepare`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareRequest {
    /// Owner of the key, as logged in at the SSA.
    pub person: PersonId,
    /// Key.
    pub key: KeyId,
    /// Client that asks.
    pub client: ClientId,
    /// Name of the client as the SSA has it; shown as the SSA's word unless the SAM knows the client itself.
    pub client_name: String,
    /// The client's signed request object (RFC 9101), as it came: the SAM compares it with everything here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_jws: Option<String>,
    /// What is to be signed, in order; nothing with `open`.
    pub items: Vec<PrepareItem>,
    /// Instead of items: so many signatures over what the client will ask for (`sign-open`, level 1 only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u32>,
    /// Seconds from the approval page for which the rest may be signed with renewed tokens, at most 3600; 0 for none.
    pub renew: i64,
    /// Where the page goes afterwards; must be one of the URIs registered for the SSA (prefix match on origin and path).
    #[serde(rename = "return")]
    pub return_uri: String,
    /// Life of the request in seconds, at most 24 h.
    pub ttl: i64,
}

/// One item of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareItem {
    /// Hash algorithm.
    pub ha: HashAlg,
    /// Hash to sign, or hash of the document when `doc` is there.
    pub h: B64,
    /// What the client calls it.
    pub label: String,
    /// Present: `h` is the document's hash, and the SAM checks or builds the signedAttrs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<DocItem>,
}

/// How a document hash becomes what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocItem {
    /// DER of the signedAttrs (SET OF), or nothing: then the SAM builds the minimal set.
    pub signed_attrs: Option<B64>,
    /// ByteRange of the prepared file, a hint for the page.
    pub ranges: Option<[u64; 4]>,
}

/// Answer of [`Prepare`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareAnswer {
    /// Capability of the request; goes into the fragment of the SIC page's URL.
    pub rid: Digest32,
    /// Expires at.
    pub exp: UnixTime,
}

/// The name of a request in the SAM's store and in the logs of SAM and SSA, by which an auditor finds it in both. The request itself
/// is a capability and stands in neither.
pub fn request_id(rid: Digest32) -> Digest32 {
    sha256(&[b"natsuin-request-v1\n", &rid.0])
}

/// Request of [`Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// The request.
    pub rid: Digest32,
}

/// Answer of [`Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusAnswer {
    /// State.
    pub state: RequestState,
}

/// State of a request as the SSA may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// Nobody decided.
    Open,
    /// The signer approved.
    Approved,
    /// The signer refused.
    Refused,
    /// Too late, or withdrawn.
    Expired,
}

/// Request of [`Bind`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindRequest {
    /// The request.
    pub rid: Digest32,
    /// SHA-256 of the token's text.
    pub grant: Digest32,
}

/// Answer of [`Bind`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindAnswer {
    /// The token's right ends here.
    pub sign_until: UnixTime,
    /// Key of the act.
    pub key: KeyId,
    /// Items of the act; of a renewed token, those that are left.
    pub count: u32,
    /// Its items are bare hashes, and none is of a document.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
}

/// Request of [`Explicit`]: prepare, mint, check and bind in one call, for a key whose PIN and codes an application
/// collects (`sap.md` §10). Level 1 only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplicitRequest {
    /// Owner of the key.
    pub person: PersonId,
    /// Key.
    pub key: KeyId,
    /// Client that collected the secrets.
    pub client: ClientId,
    /// Name of the client as the SSA has it.
    pub client_name: String,
    /// What is to be signed, in order.
    pub items: Vec<PrepareItem>,
    /// Seconds for which the rest may be signed with renewed tokens, at most 3600; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub renew: i64,
    /// PIN.
    pub pin: SecretBytes,
    /// One-time code.
    pub otp: SecretBytes,
    /// SHA-256 of the text of the token that may use the act.
    pub grant: Digest32,
}

fn is_zero(seconds: &i64) -> bool {
    *seconds == 0
}

impl std::fmt::Debug for ExplicitRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ExplicitRequest({}, {} items)",
            self.key,
            self.items.len()
        )
    }
}

/// Request of [`SendCode`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendCodeRequest {
    /// Owner of the key.
    pub person: PersonId,
    /// Key that the code will count for.
    pub key: KeyId,
    /// Client that it will count for.
    pub client: ClientId,
}

/// Request of [`Sign`]. The token itself travels: a copy of the SSA's database signs nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// Text of the token.
    pub token: SecretBytes,
    /// Client that presented it.
    pub client: ClientId,
    /// Key.
    pub key: KeyId,
    /// Algorithm.
    pub alg: SigAlg,
    /// Hashes asked for, a sub-multiset of the act's.
    pub hashes: Vec<B64>,
    /// The client's `Idempotency-Key`, 1 to 128 visible ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Request of [`Renew`]. The current token itself travels, of the new one its digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Text of the current token.
    pub token: SecretBytes,
    /// Client that presented it.
    pub client: ClientId,
    /// Key.
    pub key: KeyId,
    /// Hashes that will be asked for next, or none.
    pub hashes: Vec<B64>,
    /// SHA-256 of the new token's text.
    pub grant: Digest32,
}

/// Answer of [`Sign`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignAnswer {
    /// Values in the order of the hashes.
    pub signatures: Vec<B64>,
    /// The provider's counter-signatures, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<CounterSignatures>,
}

/// The provider's counter-signatures over the values of one call (`III-A1.8-rssp-counter-signature`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterSignatures {
    /// SignerInfo (RFC 5652 §11.4, DER) in the order of the values.
    pub infos: Vec<B64>,
    /// The provider's certificate and those above it, DER.
    pub chain: Vec<B64>,
}

/// Request of [`Voucher`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoucherRequest {
    /// An RA's invitation, compact JWS (`natsuin-invite+jws`).
    Ra {
        /// The JWS.
        invite: String,
        /// Where the SIC page goes after enrolment.
        #[serde(rename = "return")]
        return_uri: String,
    },
    /// The SSA's own; capped at level 1 and marked so.
    Ssa {
        /// The invitation.
        invite: Box<Invite>,
        /// Where the SIC page goes after enrolment.
        #[serde(rename = "return")]
        return_uri: String,
    },
}

/// Answer of [`Voucher`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoucherAnswer {
    /// The voucher.
    pub voucher: VoucherId,
    /// The person.
    pub person: PersonId,
    /// Expires at.
    pub exp: UnixTime,
}

/// Request of [`Enrolment`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The voucher.
    pub voucher: VoucherId,
}

/// Answer of [`Enrolment`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EnrolmentAnswer {
    /// The person has not enrolled yet.
    Open {},
    /// The voucher expired or died.
    Dead {},
    /// Factors are enrolled; these keys wait for certificates or have them.
    Enrolled {
        /// The person.
        person: PersonId,
        /// The current `sam-keys` statement, for the RA.
        statement: String,
        /// Keys of this enrolment.
        keys: Vec<EnrolledKey>,
    },
}

/// A key of an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKey {
    /// Key.
    pub key: KeyId,
    /// Whether it has its certificate.
    pub certified: bool,
    /// The SAM's record for the RA (`natsuin-enrolment+jws`).
    pub enrolment: String,
    /// PKCS#10 request, DER.
    pub csr: B64,
}

/// Request of [`Certificate`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// Key.
    pub key: KeyId,
    /// The RA's approval (`natsuin-certify+jws`).
    pub certify: String,
    /// Certificates in DER, the signer's first.
    pub chain: Vec<B64>,
}

/// Request of [`Keys`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {
    /// The person.
    pub person: PersonId,
}

/// Answer of [`Keys`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysAnswer {
    /// Keys of the person, oldest first.
    pub keys: Vec<KeyInfo>,
}

/// A key as the SSA may know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInfo {
    /// Id; the CSC `credentialID`.
    pub key: KeyId,
    /// Kind.
    pub alg: KeyAlg,
    /// State.
    pub state: KeyState,
    /// Subject data.
    pub subject: Subject,
    /// SubjectPublicKeyInfo, DER.
    pub spki: B64,
    /// Certificates in DER, the signer's first; empty before certification.
    pub chain: Vec<B64>,
    /// Level as computed, and why it isn't higher.
    pub level: KeyLevel,
    /// Back end of the CM that holds it, such as `software`.
    pub origin: String,
    /// Where it was made and how it got here (`III-A1.8-origin-cases`).
    pub origin_case: OriginCase,
    /// Statement of origin, a JWS by the CM's root key, for signers and verifiers.
    pub origin_statement: String,
    /// Made at.
    pub created: UnixTime,
    /// Its PIN and one-time codes are collected by applications (explicit mode); no page approves for it.
    #[serde(default)]
    pub collected: bool,
    /// Codes for it can be sent to its owner ([`SendCode`]), beside those of their app.
    #[serde(default)]
    pub codes: bool,
    /// Its owner may have it handed over.
    #[serde(default)]
    pub exportable: bool,
    /// It is for one act, and destroyed after it.
    #[serde(default)]
    pub one_time: bool,
    /// Registration it belongs to, by the voucher that began it.
    pub registration: VoucherId,
    /// End of the certificate; nothing before certification.
    pub until: Option<UnixTime>,
    /// How often its state changed; a call to stop it names this number, so that an old one changes nothing.
    pub changes: u32,
    /// Why it is stopped or gone.
    pub stop: Option<StopInfo>,
}

/// A key's level: the lowest of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLevel {
    /// The level.
    pub level: Level,
    /// The first part that holds it down.
    pub because: LevelPart,
    /// Requirements that the next level would need met, one for each part that holds it down.
    pub needs: Vec<String>,
    /// What of it rests on the operator's word.
    pub declared: Vec<Declared>,
}

/// What only a certificate can prove, as the operator declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Part of the matrix that rests on it.
    pub part: LevelPart,
    /// Level it is declared good for.
    pub level: Level,
    /// The evaluation, as the operator names it.
    pub reference: String,
}

/// A part of the level matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelPart {
    /// `I-3.5.1-keygen-*`
    Generation,
    /// `I-3.5.1-import-*`
    Import,
    /// `I-3.5.1-retention-*`
    Retention,
    /// `I-3.5.1-keyauth-*`
    Authorization,
    /// The voucher's ceiling (identity proofing).
    Enrolment,
    /// The ceiling of the service.
    Service,
}

/// State of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Made, waits for its certificate.
    Pending,
    /// Can be used.
    Active,
    /// Stopped; can be resumed.
    Suspended,
    /// Gone for good.
    Destroyed,
}
