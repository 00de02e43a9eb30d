//! The SSA from outside: HTTP requests to its router, a SAM that stands in, both stores.

mod csc;
mod fake;
mod flows;
mod grants;
mod login;
mod portal;
mod web;
