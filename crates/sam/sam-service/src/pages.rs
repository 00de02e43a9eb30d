//! What the pages of signers and officers consist of, as the settings have it: whoever takes over the host that serves them can
//! serve what they like, digests included, but not what officers have signed and the log has said.

use std::collections::BTreeMap;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, sha256};
use store_kit::transaction;

use crate::failed::Failed;
use crate::sam::Sam;
use crate::start_error::StartError;

/// Whose page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The signers'.
    Signers,
    /// The officers'.
    Officers,
}

/// Digests of a page's files, as `natsuin-sic digests` prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPages {
    whose: Whose,
    text: String,
    files: u32,
}

impl DeclaredPages {
    /// Reads the list; nothing, if it isn't one.
    pub fn read(whose: Whose, text: String) -> Option<Self> {
        let files: BTreeMap<String, Digest32> = serde_json::from_str(&text).ok()?;
        let paths = files.keys().all(|path| path.starts_with('/'));
        let files = u32::try_from(files.len()).ok()?;
        (paths && files > 0).then_some(Self { whose, text, files })
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Records at the start what the pages consist of, so that a monitor can hold what is served against the log.
    pub(crate) async fn declare_pages(&self) -> Result<(), StartError> {
        let declared = &self.config.pages;
        if declared.is_empty() || self.config.beside {
            return Ok(());
        }
        let now = self.clock.now();
        let done: Result<(), Failed> = transaction!(self.store, "pages", |tx| {
            let mut events = Vec::new();
            for one in declared {
                let evidence = sha256(&[one.text.as_bytes()]);
                self.put_evidence(tx, evidence, one.text.as_bytes()).await?;
                events.push(Event::PagesDeclared {
                    whose: match one.whose {
                        Whose::Signers => "signers".into(),
                        Whose::Officers => "officers".into(),
                    },
                    evidence,
                    files: one.files,
                });
            }
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        });
        match done {
            Ok(()) => Ok(()),
            Err(Failed::Store(error)) => Err(error.into()),
            Err(_) => Err(StartError::Unusable("its pages can't be recorded")),
        }
    }
}
