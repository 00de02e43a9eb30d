//! Certificates by profile (RFC 5280 §4).

use core_types::{Random, UnixTime};
use pki::asn1::{
    self, BIT_STRING, DerError, INTEGER, NULL, SEQUENCE, context, context_constructed,
};
use pki::cert::Certificate;
use pki::crl::{assemble, derive_key_identifier, encode_extension, key_identifier};
use pki::{alg, oid};

use crate::DevCaError;
use crate::authority::Urls;
use crate::key::{DevKey, SIG_ALG};

/// A CA that names it may issue under any policy (RFC 5280 §4.2.1.4).
const ANY_POLICY: &str = "2.5.29.32.0";

/// What a certificate is for; decides its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// A CA with this pathLenConstraint.
    Ca(u8),
    /// A signer: keyUsage is nonRepudiation only.
    Signer,
    /// OCSP responder.
    Ocsp,
    /// Time-stamping authority.
    Tsa,
    /// Proves who a person or a program is, and signs nothing else; under this policy.
    Person(String),
    /// TLS server and client with these DNS names; a name of four numbers is an IPv4 address.
    Service(Vec<String>),
    /// TLS server with these names.
    Server(Vec<String>),
}

/// Everything about a certificate but its key.
#[derive(Debug, Clone)]
pub struct Template {
    /// DER Name.
    pub subject: Vec<u8>,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// Extensions.
    pub profile: Profile,
}

/// Who issues, and where its revocation data is.
pub(crate) struct Issuer<'a> {
    pub(crate) cert: Option<&'a Certificate>,
    pub(crate) key: &'a DevKey,
    pub(crate) ocsp_url: Option<&'a str>,
    pub(crate) crl_url: Option<&'a str>,
    pub(crate) ca_url: Option<&'a str>,
}

impl<'a> Issuer<'a> {
    /// Without any URL.
    pub(crate) fn plain(cert: Option<&'a Certificate>, key: &'a DevKey) -> Self {
        Self {
            cert,
            key,
            ocsp_url: None,
            crl_url: None,
            ca_url: None,
        }
    }

    /// The issuing CA with everything it publishes.
    pub(crate) fn with_urls(cert: &'a Certificate, key: &'a DevKey, urls: &'a Urls) -> Self {
        Self {
            cert: Some(cert),
            key,
            ocsp_url: Some(&urls.ocsp),
            crl_url: Some(&urls.crl),
            ca_url: Some(&urls.ca),
        }
    }
}

/// Issues a certificate for a public key (DER SubjectPublicKeyInfo). Without an issuer's certificate it is
/// self-signed.
pub(crate) fn issue(
    issuer: &Issuer<'_>,
    template: &Template,
    spki: &[u8],
    random: &dyn Random,
) -> Result<Certificate, DevCaError> {
    let mut serial = [0; 16];
    random.fill(&mut serial);
    // Positive, and of constant length.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    let issuer_name = issuer
        .cert
        .map_or(template.subject.as_slice(), Certificate::subject);
    let validity = asn1::sequence(&[
        &asn1::time(template.not_before),
        &asn1::time(template.not_after),
    ]);
    let extensions = extensions(issuer, template, spki)?;
    let parts: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    let tbs = asn1::sequence(&[
        &asn1::tlv(context_constructed(0), &[&asn1::uint(&[2])]),
        &asn1::tlv(INTEGER, &[&serial]),
        &alg::encode_sig_alg(SIG_ALG),
        issuer_name,
        &validity,
        &template.subject,
        spki,
        &asn1::tlv(context_constructed(3), &[&asn1::sequence(&parts)]),
    ]);
    let signature = issuer.key.sign(&tbs)?;
    Ok(Certificate::parse(&assemble(&tbs, SIG_ALG, &signature))?)
}

fn extensions(
    issuer: &Issuer<'_>,
    template: &Template,
    spki: &[u8],
) -> Result<Vec<Vec<u8>>, DerError> {
    let profile = &template.profile;
    let mut out = Vec::new();
    let authority = issuer
        .cert
        .map_or_else(|| derive_key_identifier(issuer.key.spki()), key_identifier);
    let authority = asn1::sequence(&[&asn1::tlv(context(0), &[&authority])]);
    out.push(encode_extension(oid::AUTHORITY_KEY_ID, false, &authority));
    let subject = asn1::octets(&derive_key_identifier(spki));
    out.push(encode_extension(oid::SUBJECT_KEY_ID, false, &subject));
    if let Profile::Ca(path_len) = profile {
        let constraints = asn1::sequence(&[
            &asn1::tlv(asn1::BOOLEAN, &[&[0xff]]),
            &asn1::uint(&[*path_len]),
        ]);
        out.push(encode_extension(oid::BASIC_CONSTRAINTS, true, &constraints));
    }
    // Number of unused bits and the bits: keyCertSign + cRLSign, nonRepudiation, digitalSignature.
    let usage: [u8; 2] = match profile {
        Profile::Ca(_) => [1, 0x06],
        Profile::Signer => [6, 0x40],
        Profile::Ocsp
        | Profile::Tsa
        | Profile::Person(_)
        | Profile::Service(_)
        | Profile::Server(_) => [7, 0x80],
    };
    out.push(encode_extension(
        oid::KEY_USAGE,
        true,
        &asn1::tlv(BIT_STRING, &[&usage]),
    ));
    let (purposes, critical): (&[&str], bool) = match profile {
        Profile::Ca(_) | Profile::Signer => (&[], false),
        Profile::Ocsp => (&[oid::KP_OCSP_SIGNING], false),
        Profile::Tsa => (&[oid::KP_TIME_STAMPING], true),
        Profile::Person(_) => (&[oid::KP_CLIENT_AUTH], false),
        Profile::Service(_) => (&[oid::KP_SERVER_AUTH, oid::KP_CLIENT_AUTH], false),
        Profile::Server(_) => (&[oid::KP_SERVER_AUTH], false),
    };
    if !purposes.is_empty() {
        let purposes = purposes
            .iter()
            .map(|p| asn1::try_oid(p))
            .collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
        out.push(encode_extension(
            oid::EXT_KEY_USAGE,
            critical,
            &asn1::sequence(&parts),
        ));
    }
    let policy = match profile {
        Profile::Person(policy) => Some(policy.as_str()),
        // A CA below another may issue under every policy.
        Profile::Ca(_) if issuer.cert.is_some() => Some(ANY_POLICY),
        _ => None,
    };
    if let Some(policy) = policy {
        let policy = asn1::sequence(&[&asn1::sequence(&[&asn1::try_oid(policy)?])]);
        out.push(encode_extension(oid::CERT_POLICIES, false, &policy));
    }
    if *profile == Profile::Ocsp {
        out.push(encode_extension(oid::OCSP_NO_CHECK, false, &[NULL, 0]));
    }
    if let Profile::Service(names) | Profile::Server(names) = profile {
        let names: Vec<Vec<u8>> = names.iter().map(|n| alternative_name(n)).collect();
        let parts: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        out.push(encode_extension(
            oid::SUBJECT_ALT_NAME,
            false,
            &asn1::sequence(&parts),
        ));
    }
    // The responder itself is not to be checked, so it names nowhere to do so.
    if *profile != Profile::Ocsp {
        out.extend(locations(issuer)?);
    }
    Ok(out)
}

fn alternative_name(name: &str) -> Vec<u8> {
    match name.parse::<std::net::Ipv4Addr>() {
        Ok(address) => asn1::tlv(context(7), &[&address.octets()]),
        Err(_) => asn1::tlv(context(2), &[name.as_bytes()]),
    }
}

fn locations(issuer: &Issuer<'_>) -> Result<Vec<Vec<u8>>, DerError> {
    let mut out = Vec::new();
    let uri = |url: &str| asn1::tlv(context(6), &[url.as_bytes()]);
    let methods = [
        (oid::AD_OCSP, issuer.ocsp_url),
        (oid::AD_CA_ISSUERS, issuer.ca_url),
    ];
    let mut access = Vec::new();
    for (method, url) in methods {
        if let Some(url) = url {
            access.push(asn1::sequence(&[&asn1::try_oid(method)?, &uri(url)]));
        }
    }
    if !access.is_empty() {
        let parts: Vec<&[u8]> = access.iter().map(Vec::as_slice).collect();
        out.push(encode_extension(
            oid::AUTHORITY_INFO,
            false,
            &asn1::sequence(&parts),
        ));
    }
    if let Some(url) = issuer.crl_url {
        let full = asn1::tlv(context_constructed(0), &[&uri(url)]);
        let point = asn1::tlv(SEQUENCE, &[&asn1::tlv(context_constructed(0), &[&full])]);
        out.push(encode_extension(
            oid::CRL_DISTRIBUTION,
            false,
            &asn1::sequence(&[&point]),
        ));
    }
    Ok(out)
}
