//! The log in an auditor's words: entries as sentences in Japanese and English, as CSV, and found in an export.
//!
//! Reads what `audit-verify` gives out and what a search answered. Must never know the writer: what it reads may be
//! altered, so every text of it is shown cleaned.

mod csv;
mod entry;
mod search;
mod words;

pub use csv::{csv_header, csv_line};
pub use entry::Entry;
pub use search::{Searched, Wanted, search_export};
pub use words::{json, line, sentence};
