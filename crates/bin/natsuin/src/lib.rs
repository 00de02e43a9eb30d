//! The command line of Natsuin and its development stack. The only crate where all zones meet; each still behind its
//! socket. Holds no decision of any zone: it reads options, connects parts and prints.

pub mod agent;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod bench;
mod browser;
pub mod cli;
pub mod client;
pub mod config;
pub mod courier;
pub mod csc;
pub mod demo;
pub mod dev;
pub mod device;
pub mod evidence;
pub mod key;
pub mod office;
pub mod officer;
mod outgoing;
pub mod output;
pub mod proofs;
pub mod sample;
pub mod sign;
pub mod stack;
pub mod statement;
mod stores;
pub mod verify;
pub mod worker;
