//! Opening what the signer's side sealed for the SAM.

use core_types::{Digest32, SecretBytes};
use jose::{JweContext, SealKey};
use sap::enrol::SealedEnrolment;
use sap::{SealedFactor, SealedPin, SealedProof, TYP_SEALED};
use serde::de::DeserializeOwned;

use crate::Reason;

/// Opens the secrets of a proof for the act with this digest.
///
/// # Errors
/// [`Reason::SealedWrong`] when none of the keys opens it or it is for another act.
pub fn open_proof(keys: &[&SealKey], jwe: &str, act: Digest32) -> Result<SealedProof, Reason> {
    let proof: SealedProof = open(keys, jwe, act)?;
    if proof.act.ct_eq(&act) {
        Ok(proof)
    } else {
        Err(Reason::SealedWrong)
    }
}

/// Opens the PIN of a proof with a device key for the act with this digest.
///
/// # Errors
/// [`Reason::SealedWrong`] as [`open_proof`].
pub fn open_pin(keys: &[&SealKey], jwe: &str, act: Digest32) -> Result<SecretBytes, Reason> {
    let sealed: SealedPin = open(keys, jwe, act)?;
    if sealed.act.ct_eq(&act) {
        Ok(sealed.pin)
    } else {
        Err(Reason::SealedWrong)
    }
}

/// Opens the secrets of an enrolment for the act with this digest.
///
/// # Errors
/// [`Reason::SealedWrong`] as [`open_proof`].
pub fn open_enrolment(
    keys: &[&SealKey],
    jwe: &str,
    act: Digest32,
) -> Result<SealedEnrolment, Reason> {
    let enrolment: SealedEnrolment = open(keys, jwe, act)?;
    if enrolment.act.ct_eq(&act) {
        Ok(enrolment)
    } else {
        Err(Reason::SealedWrong)
    }
}

/// Opens the secrets of a new factor for the act with this digest.
///
/// # Errors
/// [`Reason::SealedWrong`] as [`open_proof`].
pub fn open_factor(keys: &[&SealKey], jwe: &str, act: Digest32) -> Result<SealedFactor, Reason> {
    let factor: SealedFactor = open(keys, jwe, act)?;
    if factor.act.ct_eq(&act) {
        Ok(factor)
    } else {
        Err(Reason::SealedWrong)
    }
}

fn open<T: DeserializeOwned>(keys: &[&SealKey], jwe: &str, apu: Digest32) -> Result<T, Reason> {
    let context = JweContext {
        typ: TYP_SEALED,
        apu,
    };
    let plain = keys.iter().find_map(|key| key.open(jwe, context).ok());
    let plain = plain.ok_or(Reason::SealedWrong)?;
    serde_json::from_slice(plain.expose()).map_err(|_| Reason::SealedWrong)
}
