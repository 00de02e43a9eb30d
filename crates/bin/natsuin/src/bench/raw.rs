//! What the machine and the library alone can do: the measure that everything else is compared with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use cm_core::backend::{Backend as _, PrivateKey};
use cm_soft::SoftBackend;
use core_types::{HashAlg, KeyAlg, SigAlg};
use serde::Serialize;

use super::measure::{Cpu, f64_of, millis, now, per_second};
use crate::output::Out;

/// Keys that are measured, with the algorithm used.
pub(super) const KEYS: [(KeyAlg, SigAlg); 2] = [
    (KeyAlg::Rsa3072, SigAlg::RsaPkcs1(HashAlg::Sha256)),
    (KeyAlg::P256, SigAlg::Ecdsa(HashAlg::Sha256)),
];

/// The library alone, on all cores: one signature and its verification, as the service does both.
#[derive(Debug, Serialize)]
pub(super) struct Raw {
    pub(super) key: KeyAlg,
    pub(super) sign_per_second: f64,
    pub(super) sign_verify_per_second: f64,
    /// CPU of one signature and its verification, milliseconds.
    pub(super) cpu_ms: f64,
}

/// Measures all of [`KEYS`].
pub(super) fn rows(span: Duration, cores: usize, out: Out) -> Result<Vec<Raw>> {
    let mut rows = Vec::new();
    for (key, alg) in KEYS {
        let row = row(key, alg, span, cores)?;
        out.say(&format!(
            "raw {key:<9} sign {:>9.0}/s   sign + verify {:>9.0}/s   CPU {:>6.3} ms",
            row.sign_per_second, row.sign_verify_per_second, row.cpu_ms
        ));
        rows.push(row);
    }
    Ok(rows)
}

fn row(key: KeyAlg, alg: SigAlg, span: Duration, cores: usize) -> Result<Raw> {
    let made = SoftBackend.generate(key)?;
    let private: Arc<dyn PrivateKey> = Arc::from(SoftBackend.load(key, &made.material)?);
    let public = pki::Verifier::new(&made.spki, alg)?;
    let rate = |verify: bool| -> (usize, Duration) {
        let begun = now();
        let threads: Vec<_> = (0..cores)
            .map(|thread| {
                let (private, key) = (private.clone(), public.clone());
                std::thread::spawn(move || {
                    let mut count = 0_usize;
                    while begun.elapsed() < span {
                        let name = [thread.to_be_bytes(), count.to_be_bytes()].concat();
                        let digest = alg.hash().digest(&name);
                        let value = private.sign(alg, &digest).ok()?;
                        if verify {
                            key.verify(pki::Signed::Digest(&digest), &value).ok()?;
                        }
                        count += 1;
                    }
                    Some(count)
                })
            })
            .collect();
        let done = threads
            .into_iter()
            .filter_map(|thread| thread.join().ok().flatten());
        (done.sum(), begun.elapsed())
    };
    let (signed, alone) = rate(false);
    let before = Cpu::so_far()?;
    let (verified, both) = rate(true);
    let cpu = Cpu::so_far()?.since(before).service;
    if signed == 0 || verified == 0 {
        bail!("the library signs nothing with {key}");
    }
    Ok(Raw {
        key,
        sign_per_second: per_second(signed, alone),
        sign_verify_per_second: per_second(verified, both),
        cpu_ms: millis(cpu) / f64_of(verified),
    })
}
