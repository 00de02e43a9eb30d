//! Verify-after-sign (I4): no value leaves that the signer's public key doesn't accept.

use std::sync::Arc;

use cm_api::Dtbs;
use core_types::{B64, SigAlg};
use pki::{Signed, Verifier};

/// Up to so many values are verified where they are, which takes less than handing them over.
const FEW: usize = 2;
/// Below this number of values the work isn't worth spreading.
const SPREAD: usize = 8;

/// Whether every value is the key's signature over what stands in its place. More than a few run on threads for blocking
/// work.
pub(crate) async fn all_verify(
    spki: &B64,
    alg: SigAlg,
    dtbs: Arc<Vec<Dtbs>>,
    values: Arc<Vec<B64>>,
) -> bool {
    if dtbs.len() != values.len() {
        return false;
    }
    if values.len() <= FEW {
        return verify(spki, alg, &dtbs, &values);
    }
    let parts = if values.len() < SPREAD {
        1
    } else {
        service_kit::cores()
    };
    let share = values.len().div_ceil(parts).max(1);
    let threads: Vec<_> = (0..values.len())
        .step_by(share)
        .map(|start| {
            let (spki, dtbs, values) = (spki.clone(), dtbs.clone(), values.clone());
            tokio::task::spawn_blocking(move || {
                let end = (start + share).min(values.len());
                verify(&spki, alg, &dtbs[start..end], &values[start..end])
            })
        })
        .collect();
    let mut good = true;
    for thread in threads {
        good &= thread.await.unwrap_or(false);
    }
    good
}

/// Both lists have one length.
fn verify(spki: &B64, alg: SigAlg, dtbs: &[Dtbs], values: &[B64]) -> bool {
    let Ok(key) = Verifier::new(&spki.0, alg) else {
        return false;
    };
    dtbs.iter().zip(values).all(|(dtbs, value)| {
        let signed = match dtbs {
            Dtbs::Digest(digest) => Signed::Digest(&digest.0),
            Dtbs::Message(message) => Signed::Message(&message.0),
        };
        key.verify(signed, &value.0).is_ok()
    })
}
