//! Hostile bodies and parameters at the CSC and OAuth doors.
#![no_main]

use csc_types::{
    AuthorizeRequest, InfoQuery, InfoRequest, ListRequest, Params, SignHashRequest,
    SignatureAuthorization, TokenRequest,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = InfoQuery::parse(data);
    let _ = ListRequest::parse(data);
    let _ = InfoRequest::parse(data);
    let _ = SignHashRequest::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = SignatureAuthorization::parse(text);
    // One parameter a line; an undecoded form is enough, for decoding isn't ours.
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    if let Ok(params) = Params::from_pairs(pairs) {
        let _ = AuthorizeRequest::parse(&params);
        let _ = TokenRequest::parse(&params);
    }
});
