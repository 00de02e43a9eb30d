//! Zones that officers look at from their console.

use serde::Deserialize;
use service_kit::daemon::TlsFiles;
use service_kit::http::HttpOptions;
use service_kit::{Client, Trouble};
use sic_gateway::Neighbour;

/// `[[beside]]`: a zone, and its listeners.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BesideEntry {
    name: String,
    clients: Option<String>,
    log: Option<String>,
}

/// The ways there, with this gateway's own certificate.
pub(crate) fn neighbours(
    beside: &[BesideEntry],
    office: bool,
    tls: &TlsFiles,
) -> Result<Vec<Neighbour<Client>>, Trouble> {
    if beside.is_empty() {
        return Ok(Vec::new());
    }
    let options = HttpOptions {
        ca_pem: Some(tls.ca_pem()?),
        identity: Some(tls.identity()?),
        ..HttpOptions::default()
    };
    ways(beside, office, |url| Client::new(url, &options))
}

/// The same as the page knows it: nobody is reached.
pub(crate) fn shown(beside: &[BesideEntry], office: bool) -> Result<Vec<Neighbour<()>>, Trouble> {
    ways(beside, office, |_| Ok(()))
}

fn ways<F>(
    beside: &[BesideEntry],
    office: bool,
    reach: impl Fn(String) -> Result<F, Trouble>,
) -> Result<Vec<Neighbour<F>>, Trouble> {
    let bad = |what: &str| {
        let remedy = "compare with config/natsuin-office.toml";
        Trouble::new("bad-config", format!("beside: {what}"), remedy)
    };
    if !office && !beside.is_empty() {
        return Err(bad("zones are looked at from the officers' gateway only"));
    }
    let way = |url: &Option<String>| {
        let url = url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        url.map(&reach).transpose()
    };
    let mut ways: Vec<Neighbour<F>> = Vec::new();
    for zone in beside {
        if core_types::PeerId::parse(zone.name.as_str()).is_err() {
            return Err(bad(
                "a name is of letters, digits, dot, hyphen and underscore",
            ));
        }
        if ways.iter().any(|known| known.name == zone.name) {
            return Err(bad("two zones have the same name"));
        }
        ways.push(Neighbour {
            name: zone.name.clone(),
            clients: way(&zone.clients)?,
            log: way(&zone.log)?,
        });
    }
    Ok(ways)
}
