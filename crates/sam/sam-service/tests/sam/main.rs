//! Tests of the SAM through its flows, on SQLite and on PostgreSQL, with a real CM of the software back end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod attacks;
mod attest;
mod clock;
mod cm;
mod days;
mod device;
mod enrolment;
mod envelopes;
mod evidence;
mod explicit;
mod factors;
mod flow;
mod guard;
mod kit;
mod levels;
mod life;
mod messages;
mod model;
mod moving;
mod office;
mod office_audit;
mod office_kit;
mod office_measures;
mod once;
mod patterns;
mod pins;
mod proof;
mod random;
mod renewal;
mod scrub;
mod sent_codes;
mod settings;
mod signed_requests;
mod signing;
mod stores;
