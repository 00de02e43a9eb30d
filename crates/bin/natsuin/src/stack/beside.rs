//! What the console shows of other zones: their listeners, and the ways there.

use audit_service::Reading;
use core_types::PeerId;
use service_kit::{Client, Trouble};
use sic_gateway::Neighbour;

use super::zones::{Kit, NAME_CM, NAME_OFFICE, NAME_SSA, bug};

/// The module's log, the SSA's log, and the SSA's clients at its listener for officers.
pub(super) async fn neighbours(
    kit: &mut Kit,
    ssa_for_officers: &str,
) -> Result<Vec<Neighbour<Client>>, Trouble> {
    let mut found = Vec::new();
    for zone in kit.zones.clone() {
        let owner = match zone.name {
            "cm" => NAME_CM,
            "ssa" => NAME_SSA,
            _ => continue,
        };
        let reading = Reading {
            log: zone.audit.clone(),
            store: zone.store.clone(),
            public: zone.sequencer.public(),
            auditors: vec![PeerId::parse(NAME_OFFICE).map_err(|_| bug("name of a gateway"))?],
            clock: kit.clock.clone(),
        };
        let url = kit.mutual(owner, audit_service::router(reading)).await?;
        let clients = match zone.name {
            "ssa" => Some(kit.client(ssa_for_officers, NAME_OFFICE)?),
            _ => None,
        };
        found.push(Neighbour {
            name: zone.name.to_owned(),
            clients,
            log: Some(kit.client(&url, NAME_OFFICE)?),
        });
    }
    Ok(found)
}
