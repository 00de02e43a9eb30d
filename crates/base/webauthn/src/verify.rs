//! Verification of registrations and assertions over a challenge of 32 bytes.

use core_types::{B64, Digest32, sha256};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::attestation::{self, About, Format, Statement};
use crate::cbor::Cbor;
use crate::cose::CoseKey;
use crate::strict_json::Json;

/// The relying party: one origin, and its host alone as RP ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    /// Scheme, host and port as the browser writes them, without a path.
    pub origin: String,
    /// The host of the origin.
    pub rp_id: String,
}

/// A registered passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    /// Credential id.
    pub id: B64,
    /// Public key; fixes the algorithm.
    pub key: CoseKey,
    /// Model of the authenticator, zeros when it doesn't say.
    pub aaguid: B64,
    /// Last signature counter seen.
    pub counter: u32,
    /// It may be copied to other devices.
    pub backup_eligible: bool,
    /// Where it lies, as the browser said.
    pub transports: Vec<String>,
    /// Form of its attestation.
    pub attestation: Attestation,
}

/// Form of an attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// None.
    None,
    /// `packed`, signed by the credential's own key.
    Own,
    /// With certificates that signed it; kept as evidence, their path isn't judged.
    Certified,
    /// As [`Self::Certified`], and the relying party's policy vouches for the model. Set by the relying party.
    Vouched,
}

/// A registration as it arrives.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// Credential id.
    pub id: &'a [u8],
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// `attestationObject`.
    pub attestation: &'a [u8],
    /// What `getTransports` said, at most 8 short words.
    pub transports: &'a [String],
}

/// An assertion as it arrives.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// Credential id.
    pub id: &'a [u8],
    /// `authenticatorData`.
    pub auth_data: &'a [u8],
    /// `clientDataJSON`.
    pub client_data: &'a [u8],
    /// Signature.
    pub sig: &'a [u8],
}

/// What an accepted assertion says beside *yes*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asserted {
    /// New value of the counter.
    pub counter: u32,
    /// The counter didn't advance although it is in use: perhaps a copy of the key exists. An alert, not a refusal.
    pub counter_went_back: bool,
}

/// Which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyError {
    /// `clientDataJSON` isn't JSON without doubled members.
    #[error("client data malformed")]
    ClientData,
    /// `type` is wrong.
    #[error("other type of ceremony")]
    Type,
    /// `challenge` is another one.
    #[error("other challenge")]
    Challenge,
    /// Not the relying party's origin.
    #[error("other origin")]
    Origin,
    /// Made inside a frame of another origin.
    #[error("cross-origin frame")]
    CrossOrigin,
    /// `authenticatorData` has another form or something behind it.
    #[error("authenticator data malformed")]
    AuthData,
    /// For another RP ID.
    #[error("other RP ID")]
    RpId,
    /// User not present or not verified.
    #[error("user not verified")]
    NotVerified,
    /// Backup flags contradict each other or the registration.
    #[error("backup flags contradict")]
    BackupFlags,
    /// Another credential.
    #[error("other credential")]
    Credential,
    /// Public key of an algorithm that isn't registered.
    #[error("public key not acceptable")]
    Key,
    /// Attestation malformed, of an unknown format or wrong.
    #[error("attestation not acceptable")]
    Attestation,
    /// Attestation of a format that isn't verified here; the word for the audit log names it.
    #[error("attestation of a format that isn't verified ({0})")]
    Format(&'static str),
    /// Signature wrong.
    #[error("signature wrong")]
    Signature,
}

impl PasskeyError {
    /// The fixed word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::ClientData => "passkey-client-data",
            Self::Type => "passkey-type",
            Self::Challenge => "passkey-challenge",
            Self::Origin => "passkey-origin",
            Self::CrossOrigin => "passkey-cross-origin",
            Self::AuthData => "passkey-auth-data",
            Self::RpId => "passkey-rp-id",
            Self::NotVerified => "passkey-not-verified",
            Self::BackupFlags => "passkey-backup-flags",
            Self::Credential => "passkey-credential",
            Self::Key => "passkey-key",
            Self::Attestation => "passkey-attestation",
            Self::Format(word) => word,
            Self::Signature => "passkey-signature",
        }
    }
}

/// Checks an assertion with `passkey` over `challenge`.
///
/// # Errors
/// [`PasskeyError`].
pub fn verify_assertion(
    rp: &RelyingParty,
    challenge: Digest32,
    passkey: &Passkey,
    assertion: Assertion<'_>,
) -> Result<Asserted, PasskeyError> {
    if assertion.id != passkey.id.0 {
        return Err(PasskeyError::Credential);
    }
    check_client_data(rp, "webauthn.get", challenge, assertion.client_data)?;
    let data = AuthData::parse(rp, assertion.auth_data)?;
    if data.credential.is_some() {
        return Err(PasskeyError::AuthData);
    }
    if data.backup_eligible != passkey.backup_eligible {
        return Err(PasskeyError::BackupFlags);
    }
    let signed = signed_bytes(assertion.auth_data, assertion.client_data);
    if !passkey.key.verifies(&signed, assertion.sig) {
        return Err(PasskeyError::Signature);
    }
    let in_use = data.counter != 0 || passkey.counter != 0;
    Ok(Asserted {
        counter: data.counter,
        counter_went_back: in_use && data.counter <= passkey.counter,
    })
}

/// Checks a registration over `challenge`.
///
/// # Errors
/// [`PasskeyError`].
pub fn verify_registration(
    rp: &RelyingParty,
    challenge: Digest32,
    registration: Registration<'_>,
) -> Result<Passkey, PasskeyError> {
    verify_attested(rp, challenge, registration).map(|(passkey, _)| passkey)
}

/// As [`verify_registration`], with the attestation statement for whoever judges models of authenticators.
///
/// # Errors
/// [`PasskeyError`].
pub fn verify_attested(
    rp: &RelyingParty,
    challenge: Digest32,
    registration: Registration<'_>,
) -> Result<(Passkey, Statement), PasskeyError> {
    check_client_data(rp, "webauthn.create", challenge, registration.client_data)?;
    let object =
        Cbor::read_whole(registration.attestation).map_err(|_| PasskeyError::Attestation)?;
    let members = object.map().ok_or(PasskeyError::Attestation)?;
    let auth_data = object.get("authData").and_then(Cbor::bytes);
    let (Some(auth_data), 3) = (auth_data, members.len()) else {
        return Err(PasskeyError::Attestation);
    };
    let data = AuthData::parse(rp, auth_data)?;
    let credential = data.credential.ok_or(PasskeyError::AuthData)?;
    if credential.id != registration.id || !(1..=1023).contains(&credential.id.len()) {
        return Err(PasskeyError::Credential);
    }
    let key = CoseKey::from_cbor(&credential.key).ok_or(PasskeyError::Key)?;
    let signed = signed_bytes(auth_data, registration.client_data);
    let about = About {
        rp_id_hash: auth_data.get(..32).unwrap_or_default(),
        aaguid: &credential.aaguid,
        id: &credential.id,
        key: &key,
        signed: &signed,
    };
    let statement = attestation::check(&object, &about)?;
    let attestation = match statement.format {
        Format::None => Attestation::None,
        _ if statement.chain.is_empty() => Attestation::Own,
        _ => Attestation::Certified,
    };
    let word = |t: &String| (1..=32).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
    if registration.transports.len() > 8 || !registration.transports.iter().all(word) {
        return Err(PasskeyError::ClientData);
    }
    let passkey = Passkey {
        id: B64(credential.id),
        key,
        aaguid: B64(credential.aaguid),
        counter: data.counter,
        backup_eligible: data.backup_eligible,
        transports: registration.transports.to_vec(),
        attestation,
    };
    Ok((passkey, statement))
}

fn signed_bytes(auth_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    let mut signed = auth_data.to_vec();
    signed.extend_from_slice(&sha256(&[client_data]).0);
    signed
}

fn check_client_data(
    rp: &RelyingParty,
    kind: &str,
    challenge: Digest32,
    json: &[u8],
) -> Result<(), PasskeyError> {
    let data = Json::parse(json).ok_or(PasskeyError::ClientData)?;
    let text = |name| data.get(name).and_then(Json::text);
    if text("type") != Some(kind) {
        return Err(PasskeyError::Type);
    }
    let given = text("challenge").ok_or(PasskeyError::Challenge)?;
    let expected = challenge.to_string();
    if !bool::from(given.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(PasskeyError::Challenge);
    }
    if text("origin") != Some(rp.origin.as_str()) {
        return Err(PasskeyError::Origin);
    }
    let framed = !matches!(data.get("crossOrigin"), None | Some(Json::Bool(false)));
    if framed || data.get("topOrigin").is_some() {
        return Err(PasskeyError::CrossOrigin);
    }
    Ok(())
}

struct AuthData {
    counter: u32,
    backup_eligible: bool,
    credential: Option<AttestedCredential>,
}

struct AttestedCredential {
    aaguid: Vec<u8>,
    id: Vec<u8>,
    key: Cbor,
}

impl AuthData {
    fn parse(rp: &RelyingParty, bytes: &[u8]) -> Result<Self, PasskeyError> {
        const BAD: PasskeyError = PasskeyError::AuthData;
        let (rp_id_hash, rest) = bytes.split_at_checked(32).ok_or(BAD)?;
        if rp_id_hash != sha256(&[rp.rp_id.as_bytes()]).0 {
            return Err(PasskeyError::RpId);
        }
        let (flags, rest) = rest.split_first().ok_or(BAD)?;
        let flag = |bit: u8| flags >> bit & 1 == 1;
        if !flag(0) || !flag(2) {
            return Err(PasskeyError::NotVerified);
        }
        let backup_eligible = flag(3);
        if flag(4) && !backup_eligible {
            return Err(PasskeyError::BackupFlags);
        }
        let (counter, mut rest) = rest.split_first_chunk::<4>().ok_or(BAD)?;
        let mut credential = None;
        if flag(6) {
            let (aaguid, more) = rest.split_at_checked(16).ok_or(BAD)?;
            let (length, more) = more.split_first_chunk::<2>().ok_or(BAD)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (id, more) = more.split_at_checked(length).ok_or(BAD)?;
            let (key, more) = Cbor::read(more).map_err(|_| BAD)?;
            credential = Some(AttestedCredential {
                aaguid: aaguid.to_vec(),
                id: id.to_vec(),
                key,
            });
            rest = more;
        }
        if flag(7) {
            // Nobody asked for extensions; authenticators may answer some anyway.
            let (extensions, more) = Cbor::read(rest).map_err(|_| BAD)?;
            extensions.map().ok_or(BAD)?;
            rest = more;
        }
        if !rest.is_empty() {
            return Err(BAD);
        }
        Ok(Self {
            counter: u32::from_be_bytes(*counter),
            backup_eligible,
            credential,
        })
    }
}
