//! How far the machine's clock is off, by what several NTP servers say (RFC 5905): asks them, finds out which of them
//! agree, and names those that don't.
//!
//! Nothing here sets a clock. No server is believed alone: what counts is what more than half of **all configured** sources
//! agree on, so that silencing the others gives one liar nothing. NTP is not authenticated here; whoever sits on the way to
//! more than half of the sources can lie. Where that matters, let chrony ask with NTS, and take its estimate.

mod agree;
mod ask;
mod machine;
mod packet;

pub use agree::{Bound, agree};
pub use ask::{Asked, Source, Sources};
pub use machine::{FineClock, MachineClock};
pub use packet::{NoAnswer, PACKET, Sample, read, request};
