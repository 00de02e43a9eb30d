//! What the PKCS#11 back end reads: blobs of wrapped keys, private keys that come in, answers of a token.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cm_pkcs11::fuzzing::check(data));
