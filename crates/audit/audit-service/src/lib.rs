//! A zone's audit function towards the network: auditors read the log here, and witnesses are asked from here. Beside it, what a
//! daemon does with its log instead of serving, and how its machine's clock is kept.
//!
//! Serves nobody but auditors, and records each reading. Must never know what a zone decides; it sees the log and
//! nothing else of the store.

mod clock;
mod commands;
mod config;
mod follow;
mod question;
mod search;
mod signed;
mod state;
mod tiles;
mod witnesses;

pub use clock::{ClockConfig, ClockReading};
pub use commands::{BringUpLog, DeleteArchived, ExportLog, ForgetPerson, record_reading};
pub use config::{AuditConfig, store_trouble, trouble};
pub use follow::{FOLLOW, FollowAnswer, FollowRequest, Followed};
pub use search::{FoundEntry, SEARCH, SearchAnswer, SearchRequest};
pub use signed::{judge, obey, refused_settings};
pub use state::{LogState, NodeState, STATE, StateAlert, StateAnswer, StateRequest};
pub use tiles::{Reading, router};
pub use witnesses::{MeasureConfig, WitnessConfig, WitnessesConfig, reach};
