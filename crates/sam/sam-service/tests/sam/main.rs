//! Tests of the SAM through its flows, on SQLite and on PostgreSQL, with a real CM of the software back end.

mod cm;
mod enrolment;
mod flow;
mod kit;
mod model;
mod once;
mod proof;
mod signing;
mod stores;
