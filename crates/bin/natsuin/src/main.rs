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
    let logs = service_kit::logs::begin(filter);
    service_kit::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match (logs, runtime) {
        (Ok(_), Ok(runtime)) => runtime.block_on(cli::run(cli.command, out)),
        (Err(trouble), _) => Err(trouble.into()),
        (_, Err(error)) => Err(anyhow::Error::from(error).into()),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.exit.into()
        }
    }
}
