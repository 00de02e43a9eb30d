//! What every daemon of Natsuin needs around its own work: listeners, mutual TLS, calls between zones, trouble
//! at start-up told in a pair of sentences.
//!
//! Knows no zone and no message. Which names may call what is decided by the zone that serves.

mod answer;
mod crowd;
pub mod daemon;
pub mod http;
pub mod limits;
mod listen;
pub mod logs;
pub mod peer;
mod protect;
pub mod rate;
mod room;
pub mod rpc;
pub mod tls;
pub mod trouble;

pub use answer::Answer;
pub use listen::{Running, Shutdown, bind, serve};
pub use peer::{Peer, PeerCertificates};
pub use protect::{harden, harden_command};
pub use rate::{HourlyLimit, HourlyRate, Rate, RateLimit};
pub use room::{Room, Rooms, is_no_room};
pub use rpc::{CallError, Client, Routes};
pub use tls::Identity;
pub use trouble::Trouble;

/// Cores that this process may use; asked once, since the answer is read from several files.
pub fn cores() -> usize {
    static CORES: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *CORES
}
