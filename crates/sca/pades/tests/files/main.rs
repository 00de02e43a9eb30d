//! Whole files: signing them, and what was done to signed ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap like tests")]

mod attacks;
mod common;
mod report;
mod signing;
