//! Why a flow ended without its effect.

use sam_core::Reason;
use store_kit::StoreError;

/// Why a flow ended without its effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// A decision.
    #[error(transparent)]
    No(#[from] Reason),
    /// The store, its audit log included. Nothing happened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed row doesn't open: edited, swapped or moved.
    #[error("a row of {0} doesn't open: it was edited, moved or exchanged")]
    Tampered(&'static str),
    /// A sealed row is older than one this node has seen: somebody put a copy back.
    #[error("a row of {0} is older than one that was seen before")]
    SetBack(&'static str),
    /// What was read for a slow computation has changed meanwhile; start again.
    #[error("changed meanwhile")]
    Changed,
}

impl Failed {
    /// The reason to be told and recorded.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::No(reason) => reason.clone(),
            Self::Store(_) | Self::Tampered(_) | Self::SetBack(_) | Self::Changed => Reason::NotNow,
        }
    }

    /// The alarm that it is: somebody wrote to the store. The row is refused, now and later.
    pub(crate) fn alarm(&self) -> Option<&'static str> {
        match self {
            Self::Tampered(_) => Some("sealed-row-tampered"),
            Self::SetBack(_) => Some("sealed-row-set-back"),
            Self::No(_) | Self::Store(_) | Self::Changed => None,
        }
    }
}

/// What was read; nothing where the row is refused. For looking at many rows, none of which may stand in the way of others.
pub(crate) fn readable<T>(read: Result<T, Failed>) -> Result<Option<T>, Failed> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(failed) if failed.alarm().is_some() => Ok(None),
        Err(failed) => Err(failed),
    }
}
