//! The SIC gateway as a daemon: the signer's page, and the way from it to the SAM. No database, no secret but its keys.

mod beside;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use core_types::SecretBytes;
use core_types::clock::SystemClock;
use jose::Jwk;
use serde::Deserialize;
use service_kit::daemon::{self, CHECK, TlsFiles};
use service_kit::{Client, Identity, Rate, Shutdown, Trouble, bind, serve, tls};
use sic_gateway::GatewayConfig;

#[derive(Parser)]
#[command(version, about = "Natsuin's gateway for the signer's side")]
struct Args {
    /// Configuration file; see config/natsuin-sic.toml, and config/natsuin-office.toml for officers.
    #[arg(long, default_value = "/etc/natsuin/sic.toml")]
    config: PathBuf,
    /// Something else instead of serving.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print what this configuration serves to browsers: path and SHA-256 of every file. Needs no keys; do it where the release was
    /// built and checked, and not on the host that serves.
    Digests,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    origin: String,
    roots: PathBuf,
    help: Option<String>,
    /// For officers instead of signers.
    #[serde(default)]
    office: bool,
    /// How often one address may call.
    rate: Option<Rate>,
    public_chain: PathBuf,
    public_key: PathBuf,
    sam_url: String,
    /// Zones that officers look at from their console.
    #[serde(default)]
    beside: Vec<beside::BesideEntry>,
    tls: TlsFiles,
}

fn main() -> ExitCode {
    daemon::main(false, run(Args::parse()))
}

async fn run(args: Args) -> Result<(), Trouble> {
    let config: Config = daemon::load(&args.config)?;
    let roots: Vec<Jwk> = serde_json::from_str(&daemon::text(&config.roots)?).map_err(|e| {
        Trouble::new(
            "config-file",
            format!("{}: {e}", config.roots.display()),
            CHECK,
        )
    })?;
    let mut gateway = GatewayConfig::new(roots, config.origin)
        .map_err(|e| Trouble::new("bad-config", e.to_string(), CHECK))?;
    gateway.help = config.help;
    gateway.office = config.office;
    if let Some(rate) = config.rate {
        gateway.rate = rate;
    }
    if let Some(Command::Digests) = args.command {
        let shown = beside::shown(&config.beside, config.office)?;
        let digests = sic_gateway::digests(gateway, &shown);
        let text = serde_json::to_string_pretty(&digests)
            .map_err(|e| Trouble::new("bad-config", e.to_string(), CHECK))?;
        say(&text);
        return Ok(());
    }
    let beside = beside::neighbours(&config.beside, config.office, &config.tls)?;
    let sam = Client::new(config.sam_url, &config.tls.caller()?)?;
    let public = Identity {
        chain_pem: daemon::text(&config.public_chain)?,
        key_pem: SecretBytes::from(daemon::text(&config.public_key)?),
    };
    let router = sic_gateway::router_beside(gateway, sam, beside, Arc::new(SystemClock));
    let (stop, shutdown) = Shutdown::new();
    let interrupted = daemon::interrupted();
    let running = serve(
        bind(config.listen).await?,
        router,
        Some(tls::public_server(&public)?),
        shutdown,
    )?;
    interrupted.await;
    drop(stop);
    running.stopped().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one place that answers")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_configurations_are_read() {
        for (name, office) in [("sic", false), ("office", true)] {
            let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../../../config/natsuin-{name}.toml"));
            let config: Config = daemon::load(&sample).unwrap();
            assert!(config.origin.starts_with("https://"));
            assert_eq!(config.office, office);
        }
    }

    #[test]
    fn no_two_arguments_or_commands_have_one_name() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
