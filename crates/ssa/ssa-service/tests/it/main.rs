//! The SSA from outside: HTTP requests to its router, a SAM that stands in, both stores.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod bad_input;
mod certificates;
mod coverage;
mod coverage_errors;
mod coverage_oauth;
mod coverage_oauth_errors;
mod coverage_portal;
mod create;
mod csc;
mod delete;
mod device;
mod elsewhere;
mod explicit;
mod extend;
mod fake;
mod flows;
mod flows_v1;
mod forget;
mod grants;
mod headers;
mod later;
mod leaks;
mod limits;
mod login;
mod login_call;
mod manage;
mod moving;
mod mutual;
mod notices;
mod oauth;
mod openapi;
mod passkeys;
mod portal;
mod providers;
mod quirks;
mod registration;
mod scripts;
mod sign_doc;
mod sign_open;
mod signing;
mod timestamp;
mod watch;
mod web;
