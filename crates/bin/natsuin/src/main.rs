//! Natsuin: remote signatures that only their signers can make.

use std::process::ExitCode;

use clap::Parser as _;
use natsuin::{cli, output};
use web_ui::Lang;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let locales = ["LC_ALL", "LC_MESSAGES", "LANG"].map(|v| std::env::var(v).unwrap_or_default());
    let told = || Lang::from_locales(locales.iter().map(String::as_str));
    let out = output::Out {
        json: cli.json,
        lang: cli.lang.map_or_else(told, Lang::from),
    };
    // The binding to PKCS#11 calls each mechanism that it doesn't know an error.
    let usual = "warn,cryptoki::mechanism=off";
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // The library prints what it could not print, and panics: a lost reader of the log must cost no request.
        .log_internal_errors(false)
        .init();
    service_kit::tls::install_provider();
    let outcome = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(cli::run(cli.command, out)),
        Err(error) => Err(anyhow::Error::from(error).into()),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.exit.into()
        }
    }
}
