//! Every event there is: type, outcome, who is responsible, whom it is about, and its members. Each file holds a part of
//! them; the parts are handed on from one to the next and make one type in the end.

use core_types::{
    ClientId, Digest32, FactorId, KeyAlg, KeyId, Level, OfficerId, PeerId, PersonId, SigAlg,
    UnixTime, VoucherId,
};
use serde::Serialize;

use super::{Class, Code, IpAddr, Member as _, Opening, Outcome, Place, Subject, class_of};

#[macro_use]
mod service;
#[macro_use]
mod module;
#[macro_use]
mod request;
#[macro_use]
mod signature;
#[macro_use]
mod enrolment;
#[macro_use]
mod office;
#[macro_use]
mod access;

service_events! { module_events request_events signature_events enrolment_events office_events access_events events; }
