//! A SAM and an RA with a CA that remember what they were asked. The SAM keeps the rules that the SSA relies on.

mod beside;
mod sam;

use core_types::{B64, ClientId};

pub use beside::{FakeNet, FakeRa, FakeWorker};
pub use sam::{FakeSam, MAX_OPEN, key_info};

/// A certificate that is valid from 2000 to 2100, issued under [`crate::create::POLICY`].
pub fn certificate(name: &str) -> B64 {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CountryName, "JP");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let policies = rcgen::CustomExtension::from_oid_content(
        &[2, 5, 29, 32],
        vec![
            0x30, 13, 0x30, 11, 6, 9, 0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1,
        ],
    );
    params.custom_extensions.push(policies);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    B64(params.self_signed(&key).unwrap().der().to_vec())
}

pub fn client_id(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}
