//! Where a call came from. An address is personal data: an entry has a commitment to it, with the salt of the person whom the entry
//! is about; the address stands in a table beside, and goes when the person is forgotten.

use std::net::IpAddr;

use core_types::{Digest32, sha256};
use serde::{Serialize, Serializer};
use store_kit::{StoreError, Tx, sql};

use crate::person::Opening;

/// The address that a call came from, as the zone at whose door it came knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Another zone asks, or nobody saw.
    Unknown,
    /// The address; networks of IPv6 by their first. Stands in no text: without a person there is no salt, and nothing is written.
    Address(IpAddr),
    /// As an entry names it.
    Named(Digest32),
}

impl Place {
    /// The address, if it is known.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Unknown | Self::Named(_) => None,
        }
    }

    /// As entries about this person name it.
    pub(crate) fn named(self, of: &Opening) -> Self {
        match self {
            Self::Address(address) => Self::Named(name(&of.salt, &address.to_string())),
            other => other,
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => name.serialize(serializer),
            Self::Unknown | Self::Address(_) => serializer.serialize_none(),
        }
    }
}

/// The name in entries: base64url(SHA-256("natsuin-audit-address\n" ‖ salt of the person ‖ address)).
fn name(salt: &[u8], address: &str) -> Digest32 {
    sha256(&[b"natsuin-audit-address\n", salt, address.as_bytes()])
}

/// Keeps what the name stands for, as long as the person is known: another node may have forgotten them.
pub(crate) async fn keep(tx: &mut Tx, of: &Opening, address: IpAddr) -> Result<(), StoreError> {
    let address = address.to_string();
    let insert = "INSERT INTO audit_address (alias, name, address) SELECT alias, $1, $2 FROM audit_person \
                  WHERE alias = $3 ON CONFLICT (alias, name) DO NOTHING";
    let insert = sql(insert).bind(name(&of.salt, &address).to_string());
    let insert = insert.bind(address).bind(of.alias.as_str());
    tx.execute(insert).await.map(drop)
}

/// Forgets where a person came from.
pub(crate) async fn forget(tx: &mut Tx, of: &Opening) -> Result<(), StoreError> {
    let delete = sql("DELETE FROM audit_address WHERE alias = $1").bind(of.alias.as_str());
    tx.execute(delete).await.map(drop)
}

/// The address that an entry's text names, unless it was forgotten. One that doesn't fit its name isn't told.
pub(crate) async fn of_entry(tx: &mut Tx, body: &str) -> Result<Option<String>, StoreError> {
    // Few types of entries have one.
    if !body.contains("\"from\":\"") {
        return Ok(None);
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let detail = &body["detail"];
    let (Some(alias), Some(named)) = (detail["person"].as_str(), detail["from"].as_str()) else {
        return Ok(None);
    };
    let select = "SELECT a.address, p.salt FROM audit_address a JOIN audit_person p ON p.alias = a.alias \
                  WHERE a.alias = $1 AND a.name = $2";
    let row = tx.fetch_optional(sql(select).bind(alias).bind(named));
    let Some(row) = row.await? else {
        return Ok(None);
    };
    let (address, salt) = (row.text("address")?, row.blob("salt")?);
    Ok((name(&salt, &address).to_string() == named).then_some(address))
}
