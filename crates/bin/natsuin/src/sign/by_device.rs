//! Approval by a device key: the files are put before their signer here, and not in a browser.

use core_types::SigAlg;
use csc_client::Asked;
use csc_types::{Credential, CredentialAuthorizeResponse, SecretText};

use super::{Job, after_approval, bug, declined, input, service};
use crate::browser::Session;
use crate::device::{Device, Wanted};
use crate::output::Failure;

/// Puts the files before their signer, who is here, and not in a browser. Returns the right to sign.
pub(super) async fn by_device(
    session: &Session<'_>,
    device: &Device,
    token: &SecretText,
    credential: &Credential,
    alg: SigAlg,
    jobs: &[Job],
) -> Result<SecretText, Failure> {
    let id = credential.credential_id.clone().unwrap_or_default();
    let files: Vec<(String, Vec<u8>)> = jobs
        .iter()
        .map(|job| {
            (
                job.names.object.clone(),
                job.prepared.hash_to_sign().to_vec(),
            )
        })
        .collect();
    let hashes: Vec<Vec<u8>> = files.iter().map(|(_, hash)| hash.clone()).collect();
    let asked = Asked {
        credential,
        hashes: &hashes,
        hash_algorithm: alg.hash(),
        description: "natsuin sign",
        pin: None,
        otp: None,
    };
    let client = session.client;
    let answer = client.ask(token, &asked).await.map_err(|e| service(&e))?;
    let CredentialAuthorizeResponse::Pending(pending) = answer else {
        return Err(bug());
    };
    let rid = pending.sic_request.as_ref().ok_or_else(|| {
        input(
            "client",
            "the service doesn't let this client approve here",
            "ask the service's operator for a client of your own (own_sic), or leave --device-key out",
        )
    })?;
    let certificate = credential.cert.der().unwrap_or_default();
    let wanted = Wanted {
        credential: &id,
        certificate: Some(certificate.first().map_or(&[], Vec::as_slice)),
        hash: alg.hash(),
        files: &files,
    };
    device.approve(rid.expose(), &wanted, session.out).await?;
    let answer = client.asked(token, &pending.handle).await;
    match answer.map_err(|e| after_approval(&e))? {
        CredentialAuthorizeResponse::Granted(granted) => Ok(granted.sad),
        CredentialAuthorizeResponse::Pending(_) => {
            Err(declined("the service doesn't know of the approval"))
        }
    }
}
