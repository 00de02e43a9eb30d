//! The whole service on one machine: every zone in this process, each behind its own socket, with mutual TLS between
//! SSA, gateway, SAM and CM. The same code paths as in production; what differs is the CA, the keys' protection and
//! the file that remembers everybody's secrets.

mod assured;
mod beside;
mod client_officers;
mod counter;
mod device;
mod files;
mod officers;
mod providers;
mod seed;
mod sic;
mod start;
mod state;
mod zones;

pub use assured::Assurance;
pub use client_officers::DevClientOfficer;
pub use device::Device;
pub use files::write_json;
pub use officers::{DevOffice, DevOfficer};
pub use seed::NewSigner;
pub use sic::{AtProvider, Factors, NewFactors, Refused, Sic};
pub use start::{Inner, Options, Stack, StoreChoice};
pub use state::{DevClient, DevCredential, DevSigner};
pub use zones::{NAME_CM, NAME_GUARD, NAME_OFFICE, NAME_SAM, NAME_SIC, NAME_SSA, SAM, log_key};
