//! `natsuin dev`: the whole service kept running, and a file that tells how to use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use web_ui::Arg;

use crate::output::{Exit, Failure, Out};
use crate::stack::{
    DevClient, DevClientOfficer, DevOfficer, DevSigner, Options, Stack, write_json,
};
use crate::stores::choice;

/// Options of `natsuin dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Write URLs, clients and signers to this file (JSON) when everything answers.
    #[arg(long, value_name = "F")]
    pub ready_file: Option<PathBuf>,
    /// First of five ports; 0 takes free ones.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Directory of the stack.
    #[arg(long, default_value = "natsuin-dev")]
    pub data: PathBuf,
    /// `postgres://…` instead of embedded SQLite files, or `@FILE` with it.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// PKCS#11 module (shared library) in which signers' keys are made and kept, such as SoftHSM2's.
    #[arg(long, value_name = "MODULE")]
    pub pkcs11: Option<PathBuf>,
    /// Add the provider's counter-signature to each signature, which shows where it was made.
    #[arg(long)]
    pub counter_sign: bool,
    /// Port of a mail server on this machine that gets codes and notices to signers; without one they land in files.
    #[arg(long, value_name = "PORT")]
    pub mail_port: Option<u16>,
    /// Serve everything over HTTPS with the development CA.
    #[arg(long)]
    pub tls: bool,
}

/// Contents of the ready file.
#[derive(Serialize)]
struct Ready<'a> {
    schema: &'static str,
    development: &'static str,
    csc_v1: String,
    csc_v2: String,
    oauth2: String,
    portal: String,
    sic: String,
    sca: String,
    /// The officers' page.
    console: String,
    tsa: String,
    ocsp: String,
    crl: String,
    trust_anchors: PathBuf,
    /// Where one-time codes for signers land instead of in their mail, a line of JSON each.
    codes: PathBuf,
    clients: &'a [DevClient],
    signers: &'a [DevSigner],
    /// Officers, each with a file for `natsuin officer --as`.
    officers: &'a [DevOfficer],
    /// The same people, each with a file for `natsuin client --as`.
    client_officers: &'a [DevClientOfficer],
    /// Links with which two people can sign up.
    invitations: Vec<String>,
    /// Where names under `localhost` lie.
    addresses: BTreeMap<String, String>,
}

/// Runs until interrupted.
///
/// # Errors
/// [`Failure`] when a part doesn't start or can't go on.
pub async fn run(args: DevArgs, out: Out) -> Result<Exit, Failure> {
    let options = Options {
        port: args.port,
        store: choice(args.store.as_deref())?,
        tls: args.tls,
        pkcs11: args.pkcs11,
        counter_sign: args.counter_sign,
        mail_port: args.mail_port,
        ..Options::new(args.data)
    };
    let begun = now();
    // An old file must not tell of a stack that isn't there.
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    let mut stack = Stack::start(&options, &|_| {}).await?;
    stack.seed_signers().await?;
    let ready = ready(&stack, stack.invitations().await?)?;
    // Whoever reads that it is ready may end it at once.
    let interrupted = service_kit::daemon::interrupted();
    if let Some(file) = &args.ready_file {
        write_json(file, &ready)?;
    }
    let m = out.m();
    let own = |id: &str, name: &str, value: &str| m.f(id, &[(name, Arg::Own(value))]);
    let seconds = format!("{:.1}", begun.elapsed().as_secs_f64());
    out.note(&m.t("cli-dev-bar"));
    let signers: Vec<&str> = stack.signers().iter().map(|s| s.user.as_str()).collect();
    let data = options.data.display().to_string();
    out.note(&m.f(
        "cli-dev-ready",
        &[("seconds", Arg::Own(&seconds)), ("path", Arg::Own(&data))],
    ));
    out.note(&format!(
        "  {} {}   {} {}   {} {}",
        m.t("cli-dev-portal"),
        stack.ssa_url,
        m.t("cli-dev-approve"),
        stack.sic_url,
        m.t("cli-dev-app"),
        stack.sca_url
    ));
    let secrets = args.ready_file.as_ref().map_or_else(String::new, |f| {
        let path = f.display().to_string();
        format!("; {}", own("cli-dev-secrets", "path", &path))
    });
    out.note(&format!(
        "  CSC v2 {}   {} {}{secrets}",
        ready.csc_v2,
        m.t("cli-dev-signers"),
        signers.join(", ")
    ));
    out.object(&ready);
    let ended = tokio::select! {
        () = interrupted => Ok(Exit::Good),
        why = stack.failed() => Err(Failure::new(
            Exit::Bug,
            "zone-failed",
            format!("a zone stopped because it can't vouch for its work: {why}"),
            "keep the data directory as it is and run `natsuin audit verify` on it",
        )),
    };
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    stack.stop().await;
    ended
}

fn ready(stack: &Stack, invitations: Vec<String>) -> Result<Ready<'_>, Failure> {
    let at = |name: &str| {
        stack
            .ports
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(0, |(_, port)| *port)
    };
    // `localhost` itself is known to every resolver, and several parts answer there.
    let addresses = [("sic.localhost", at("sic"))];
    let anchors = std::path::absolute(stack.ca.trust_anchors_file())
        .map_err(|e| Failure::new(Exit::Unreachable, "data-dir", e.to_string(), "check --data"))?;
    let urls = stack.ca.urls();
    Ok(Ready {
        schema: "natsuin.ready/1",
        development: "Signatures made here have no effect.",
        csc_v1: format!("{}/csc/v1", stack.ssa_url),
        csc_v2: format!("{}/csc/v2", stack.ssa_url),
        oauth2: stack.ssa_url.clone(),
        portal: stack.ssa_url.clone(),
        sic: stack.sic_url.clone(),
        sca: stack.sca_url.clone(),
        console: format!("{}/o", stack.office_url),
        tsa: urls.tsa.clone(),
        ocsp: urls.ocsp.clone(),
        crl: urls.crl.clone(),
        trust_anchors: anchors,
        codes: std::path::absolute(stack.codes_file()).unwrap_or_default(),
        clients: stack.clients(),
        signers: stack.signers(),
        officers: stack.officers(),
        client_officers: &stack.client_officers,
        invitations,
        addresses: addresses
            .into_iter()
            .map(|(n, p)| (n.to_owned(), format!("127.0.0.1:{p}")))
            .collect(),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures the start for the person who waits"
)]
fn now() -> Instant {
    Instant::now()
}
