//! Decisions about officers (`sap.md` §9, part I 7.1.1): who may hold which roles, what a proposal takes, who may approve it,
//! how a session ends.

pub mod account;
pub mod ceremony;
pub mod ending;
pub mod genesis;
pub mod people;
pub mod proposal;
pub mod roles;
pub mod session;

pub use account::{Account, AccountPhase};
pub use ending::{Ended, Standing, Whole};
pub use genesis::GenesisRecord;
pub use people::{Officer, Reminder, Urgency};
pub use proposal::{Approver, Phase, Proposal, Takes};
pub use roles::{Deed, Roles};
pub use session::{Limits, Session};
