//! `natsuin bench`: what the service costs beside the bare library, measured in one run on one machine.
//!
//! Everything runs in this process: signer's side, client, SSA, gateway, SAM and CM, over loopback with mutual TLS and
//! durable commits; only clients that do nothing are another. One file a measurement; [`raw`] is the baseline of all.

mod audit;
mod cm;
mod csc;
mod idle;
mod measure;
mod pdf;
mod raw;
mod sam;
mod service;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::output::{Exit, Failure, Out};
use crate::stack::{Options, Stack};

/// What to measure, and how.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Seconds for each measurement.
    #[arg(long, global = true, default_value_t = 3)]
    pub seconds: u64,
    /// Keep the stack's directory here instead of a temporary one.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// One part alone.
    #[command(subcommand)]
    pub part: Option<BenchPart>,
}

/// Parts that are measured by themselves.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum BenchPart {
    /// What the SAM's decisions cost: a passkey's proof, acts of 1, 100 and 10,000 hashes.
    Sam,
    /// The CSC API: single calls and whole signatures at 1, 16 and 256 connections, memory of an idle one.
    Csc(csc::CscArgs),
    /// The audit log: appends beside a bare insert, proofs and searches in a large log, its check, backup and restore.
    Audit(audit::AuditArgs),
    /// What the cryptographic module costs beside its back end alone: software, and a token if one is named.
    Cm(cm::CmArgs),
    /// The clients of `csc --idle`: opens connections and keeps them, step by step as its input says.
    #[command(hide = true)]
    Hold(idle::HoldArgs),
}

#[derive(Debug, Serialize)]
struct Results {
    schema: &'static str,
    cores: usize,
    raw: Vec<raw::Raw>,
    service: Vec<service::Service>,
    pdf: Vec<pdf::Pdf>,
}

/// Runs the measurements.
///
/// # Errors
/// [`Failure`] when something can't be measured.
pub async fn run(args: BenchArgs, out: Out) -> Result<Exit, Failure> {
    let span = Duration::from_secs(args.seconds.max(1));
    match args.part {
        None => out.object(&whole(span, args.data, out).await?),
        Some(BenchPart::Sam) => out.object(&sam::run(span, out)?),
        Some(BenchPart::Csc(csc)) => match csc.idle {
            Some(connections) => {
                let connections = usize::try_from(connections).unwrap_or(usize::MAX);
                out.object(&kept(connections, args.data, out).await?);
            }
            None => out.object(&api(&csc, span, args.data, out).await?),
        },
        Some(BenchPart::Audit(audit)) => {
            let scratch = tempfile::Builder::new()
                .prefix("natsuin-bench-")
                .tempdir_in(args.data.unwrap_or_else(std::env::temp_dir))
                .map_err(anyhow::Error::from)?;
            out.object(&audit::run(span, audit, scratch.path(), out).await?);
        }
        Some(BenchPart::Cm(cm)) => out.object(&cm::run(span, cm, out).await?),
        Some(BenchPart::Hold(hold)) => {
            let held = tokio::task::spawn_blocking(move || idle::hold(&hold)).await;
            held.map_err(anyhow::Error::from)??;
        }
    }
    Ok(Exit::Good)
}

/// The CSC API.
async fn api(
    args: &csc::CscArgs,
    span: Duration,
    data: Option<PathBuf>,
    out: Out,
) -> Result<csc::Csc> {
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    let data = data.unwrap_or_else(|| scratch.path().join("stack"));
    let stack = Stack::start(&load(data), &|_| {}).await?;
    let measured = csc::run(&stack, args, span, out).await;
    stack.stop().await;
    measured
}

/// What connections hold that are kept and say nothing.
async fn kept(connections: usize, data: Option<PathBuf>, out: Out) -> Result<idle::Idle> {
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    let data = data.unwrap_or_else(|| scratch.path().join("stack"));
    let stack = Stack::start(&load(data), &|_| {}).await?;
    let measured = idle::measure(&stack, connections, out).await;
    stack.stop().await;
    measured
}

fn load(data: PathBuf) -> Options {
    Options {
        load: true,
        ..Options::new(data)
    }
}

/// Library, service and PDF.
async fn whole(span: Duration, data: Option<PathBuf>, out: Out) -> Result<Results> {
    let cores = service_kit::cores();
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    out.say(&format!("{cores} cores; raw: AWS-LC, all cores; service: this process over loopback, SQLite, durable commits"));
    let pdf = pdf::rows(scratch.path(), out).await?;
    let raw = raw::rows(span, cores, out)?;
    let options = load(data.unwrap_or_else(|| scratch.path().join("stack")));
    let stack = Stack::start(&options, &|_| {}).await?;
    let service = service::rows(&stack, &raw, span, cores, out).await;
    stack.stop().await;
    Ok(Results {
        schema: "natsuin.bench/2",
        cores,
        raw,
        service: service?,
        pdf,
    })
}
