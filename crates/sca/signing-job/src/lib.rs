//! One signature from file to signed file, for every program that drives it (web application, command line):
//! look, prepare, hash to be signed out, value in, time-stamp, embed, check, Table A-1.
//!
//! Must never know who makes the value, how the signer approves, or any user interface.

mod check;
mod job;
mod outcome;

pub use cades::Verdict;
pub use check::{Checked, Names, Signer, Trust, check};
pub use http_fetch::HttpFetch;
pub use job::{Found, JobError, Prepared, Request, Signed, TimeStamping, look, prepare};
pub use outcome::{Outcome, TimeSource, Verification};
