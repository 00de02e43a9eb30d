//! Signing a PDF file beside a copy with SHA-256 of the same file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cm_core::backend::Backend as _;
use cm_soft::SoftBackend;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, KeyAlg, Random as _, SigAlg};
use pdf_update::{Builder, Dict};
use serde::Serialize;

use super::measure::{mib, now, peak_kib, reset_peak};
use crate::output::Out;

const MEGABYTES: [usize; 3] = [1, 10, 100];

/// Preparing and embedding, beside a copy with SHA-256 of the same file.
#[derive(Debug, Serialize)]
pub(super) struct Pdf {
    megabytes: usize,
    sign_ms: f64,
    copy_and_hash_ms: f64,
    ratio_to_copy: f64,
    /// Highest memory of the process above what it had before, mebibytes.
    peak_mib: f64,
    copy_peak_mib: f64,
}

/// Measures files of several sizes. First of all, while the process is still small.
pub(super) async fn rows(scratch: &Path, out: Out) -> Result<Vec<Pdf>> {
    let mut rows = Vec::new();
    for megabytes in MEGABYTES {
        let row = row(scratch, megabytes).await?;
        out.say(&format!(
            "PDF {:>4} MB   sign {:>7.1} ms   copy + SHA-256 {:>7.1} ms   ratio {:>5.2}   peak memory {:>5.1} MiB (copy {:.1})",
            row.megabytes, row.sign_ms, row.copy_and_hash_ms, row.ratio_to_copy, row.peak_mib, row.copy_peak_mib
        ));
        rows.push(row);
    }
    Ok(rows)
}

async fn row(dir: &Path, megabytes: usize) -> Result<Pdf> {
    let input = dir.join(format!("{megabytes}.pdf"));
    std::fs::write(&input, big_pdf(megabytes)?)?;
    let made = SoftBackend.generate(KeyAlg::P256)?;
    let private = SoftBackend.load(KeyAlg::P256, &made.material)?;
    let urls = dev_ca::Urls::under("http://localhost:1");
    let ca = dev_ca::DevCa::open(
        &dir.join("ca"),
        urls,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )?;
    let subject = dev_ca::ra::subject_name(&sap::enrol::Subject {
        common_name: "Bench".to_owned(),
        country: "JP".to_owned(),
        organization: None,
        serial_number: "BENCH".to_owned(),
    })?;
    let chain = ca.issue_for_key(&made.spki, &subject, 1)?;
    let certificate = chain.iter().map(|c| c.der().to_vec()).collect();
    let (copy, copy_peak_mib) = with_peak(|| copy_and_hash(&input, &dir.join("copy")))?;
    let alg = SigAlg::Ecdsa(HashAlg::Sha256);
    let request = signing_job::Request {
        input: input.clone(),
        output: dir.join(format!("{megabytes}-signed.pdf")),
        chain: certificate,
        alg,
        signing_time: SystemClock.now(),
        time_stamp: false,
        reason: None,
        location: None,
        field_name: None,
    };
    reset_peak()?;
    let before = peak_kib()?;
    let begun = now();
    let prepared = signing_job::prepare(&request)?;
    let value = private.sign(alg, prepared.hash_to_sign())?;
    prepared.finish(&value.into(), None).await?;
    let elapsed = begun.elapsed();
    let peak_mib = mib(peak_kib()?.saturating_sub(before));
    std::fs::remove_file(&input)?;
    let (sign_ms, copy_and_hash_ms) = (elapsed.as_secs_f64() * 1000.0, copy.as_secs_f64() * 1000.0);
    Ok(Pdf {
        megabytes,
        sign_ms,
        copy_and_hash_ms,
        ratio_to_copy: sign_ms / copy_and_hash_ms.max(1e-9),
        peak_mib,
        copy_peak_mib,
    })
}

/// A one-page file with a stream of so many megabytes that no viewer has to look at.
fn big_pdf(megabytes: usize) -> Result<Vec<u8>> {
    let mut pdf = Builder::new("1.7");
    let mut filler = vec![0; megabytes * 1_000_000];
    SystemRandom.fill(&mut filler);
    let big = pdf.add_stream(Dict::new(), &filler);
    let pages = pdf.reserve();
    let page = pdf.add_object(format!(
        "<< /Type /Page /Parent {} 0 R /MediaBox [0 0 595 842] >>",
        pages.num
    ));
    pdf.set_object(
        pages,
        format!("<< /Type /Pages /Kids [{} 0 R] /Count 1 >>", page.num),
    );
    let root = pdf.add_object(format!(
        "<< /Type /Catalog /Pages {} 0 R /Big {} 0 R >>",
        pages.num, big.num
    ));
    pdf.finish(root, None, [7; 16])
        .context("the file can't be made")
}

fn copy_and_hash(from: &Path, to: &Path) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let (mut input, mut output) = (std::fs::File::open(from)?, std::fs::File::create(to)?);
    let mut context = aws_lc_rs::digest::Context::new(HashAlg::Sha256.aws());
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = input.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        context.update(&chunk[..n]);
        output.write_all(&chunk[..n])?;
    }
    output.sync_all()?;
    std::fs::remove_file(to)?;
    Ok(())
}

fn with_peak(work: impl FnOnce() -> Result<()>) -> Result<(Duration, f64)> {
    reset_peak()?;
    let before = peak_kib()?;
    let begun = now();
    work()?;
    let elapsed = begun.elapsed();
    Ok((elapsed, mib(peak_kib()?.saturating_sub(before))))
}
