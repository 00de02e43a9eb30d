//! What was issued and revoked, in one JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use core_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::DevCaError;
use crate::key::{io, write};

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    pub(crate) subject: String,
    pub(crate) not_after: UnixTime,
    /// Time and CRLReason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<(UnixTime, u32)>,
}

/// The register of the issuing CA. Keys are serial numbers in lower-case hexadecimal.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    pub(crate) crl_number: u64,
    pub(crate) issued: BTreeMap<String, Issued>,
    #[serde(skip)]
    path: PathBuf,
}

impl Register {
    pub(crate) fn open(dir: &Path) -> Result<Self, DevCaError> {
        let path = dir.join("register.json");
        let mut register: Self = if path.exists() {
            let text = fs::read(&path).map_err(|e| io(&path, e))?;
            serde_json::from_slice(&text)
                .map_err(|_| DevCaError::Damaged(path.display().to_string()))?
        } else {
            Self::default()
        };
        register.path = path;
        Ok(register)
    }

    pub(crate) fn save(&self) -> Result<(), DevCaError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|_| DevCaError::Damaged(self.path.display().to_string()))?;
        write(&self.path, &text)
    }
}
