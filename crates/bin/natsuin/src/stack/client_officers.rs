//! Officers of a development stack who manage clients: certificates for the SSA's listener for officers, made at each start.

use std::path::PathBuf;

use core_types::{OfficerId, PeerId};
use sap::office::Role;
use serde::Serialize;
use service_kit::Trouble;
use ssa_service::{ClientOfficer, Ssa};

use super::officers::OFFICERS;
use super::zones::{Kit, NAME_GUARD, NAME_OFFICE, NAME_SSA};
use crate::client::{CLIENT_OFFICER_FILE, ClientOfficerFile};

/// An officer who manages clients, as the ready file shows them.
#[derive(Debug, Clone, Serialize)]
pub struct DevClientOfficer {
    /// Person.
    pub officer: OfficerId,
    /// Role.
    pub role: Role,
    /// File for `natsuin client --as`.
    pub file: PathBuf,
}

/// Starts the listener; answers its base URL and everybody's file. The auditor has one too, and is refused.
pub(super) async fn start(
    kit: &mut Kit,
    ssa: &Ssa,
) -> Result<(String, Vec<DevClientOfficer>), Trouble> {
    let failed = |e: &dyn std::fmt::Display| {
        Trouble::new(
            "dev-seed",
            format!("no officer can manage clients: {e}"),
            "start with an empty --data directory",
        )
    };
    let mut officers = Vec::new();
    for (id, _, role) in OFFICERS {
        officers.push(ClientOfficer {
            peer: PeerId::parse(format!("{id}.office.natsuin.internal")).map_err(|e| failed(&e))?,
            officer: OfficerId::parse(id).map_err(|e| failed(&e))?,
            role,
        });
    }
    let guard = PeerId::parse(NAME_GUARD).map_err(|e| failed(&e))?;
    let viewer = PeerId::parse(NAME_OFFICE).map_err(|e| failed(&e))?;
    let router = ssa.officers_router_seen_by(officers.clone(), vec![guard], vec![viewer])?;
    let url = kit.mutual(NAME_SSA, router).await?;
    kit.data
        .keep("office/clients-trust.pem", &kit.internal_ca)?;
    let mut shown = Vec::new();
    for by in officers {
        let identity = kit.identity(by.peer.as_str())?;
        let name = |ending: &str| format!("clients-{}.{ending}", by.officer);
        let key = String::from_utf8_lossy(identity.key_pem.expose()).into_owned();
        kit.data
            .keep(&format!("office/{}", name("crt")), &identity.chain_pem)?;
        kit.data.keep(&format!("office/{}", name("key")), &key)?;
        let file = format!("office/{}", name("json"));
        kit.data.save(
            &file,
            &ClientOfficerFile {
                schema: CLIENT_OFFICER_FILE.to_owned(),
                url: url.clone(),
                trust: "clients-trust.pem".into(),
                certificate: name("crt").into(),
                key: name("key").into(),
            },
        )?;
        shown.push(DevClientOfficer {
            officer: by.officer,
            role: by.role,
            file: std::path::absolute(kit.data.join(&file)).map_err(|e| failed(&e))?,
        });
    }
    Ok((url, shown))
}
