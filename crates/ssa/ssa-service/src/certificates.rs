//! Certificates that are shown in a TLS handshake: by people who log in, and by clients (RFC 8705). The listener has made
//! sure that the caller holds the key; what the certificate is worth is judged here, and whatever can't be found out is no.

use std::collections::HashMap;
use std::sync::Mutex;

use core_types::{Digest32, UnixTime, sha256};
use pki::path::{self, PathError, Purpose};
use pki::revocation::{self, State};
use pki::{Certificate, Path};

use crate::Ssa;

/// How long it counts for clients that a certificate wasn't revoked, in seconds. People's are asked about at each login.
const KNOWN_GOOD: i64 = 300;
/// Most certificates that are remembered; beyond it all are asked about anew.
const MOST_KNOWN: usize = 10_000;

/// A CA that names it may issue under any (RFC 5280 §4.2.1.4).
const ANY_POLICY: &str = "2.5.29.32.0";

/// The listener that asks for client certificates, and which of them count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Its origin. It is made with [`service_kit::tls::asking_server`], serves [`Ssa::certificate_router`], and has no proxy
    /// before it that ends TLS.
    pub url: String,
    /// Certificates with which people log in; none, and nobody does.
    pub login: Option<CertificateRule>,
    /// Certificates of clients of kind `tls_client_auth`; none, and only clients with certificates named one by one can use
    /// them.
    pub clients: Option<CertificateRule>,
}

/// Which certificates count. All have to be for client authentication (`extKeyUsage`), and not revoked: who can't be asked
/// about it leaves it at no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRule {
    /// Certificates (DER) of CAs to which a path has to lead.
    pub anchors: Vec<Vec<u8>>,
    /// Certificates (DER) between, for cards that don't send them.
    pub intermediates: Vec<Vec<u8>>,
    /// Policies (dotted), one of which the certificate has to name, and each CA below the anchor too, or any policy; empty: any or
    /// none.
    pub policies: Vec<String>,
}

/// Why a certificate doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    /// None was shown.
    Missing,
    /// It leads to no CA that counts, or is damaged.
    Untrusted,
    /// It isn't valid yet, or any more.
    Time,
    /// It is for something else.
    Purpose,
    /// It was revoked.
    Revoked,
    /// Nobody says whether it was revoked.
    Unclear,
}

impl CertificateFault {
    pub(crate) const ALL: [Self; 6] = [
        Self::Missing,
        Self::Untrusted,
        Self::Time,
        Self::Purpose,
        Self::Revoked,
        Self::Unclear,
    ];

    /// As the audit log and the texts for people call it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Missing => "certificate-missing",
            Self::Untrusted => "certificate-untrusted",
            Self::Time => "certificate-time",
            Self::Purpose => "certificate-purpose",
            Self::Revoked => "certificate-revoked",
            Self::Unclear => "certificate-unclear",
        }
    }
}

/// Certificates of which it was found out lately that they aren't revoked.
#[derive(Debug, Default)]
pub(crate) struct KnownGood(Mutex<HashMap<Digest32, UnixTime>>);

impl KnownGood {
    fn has(&self, certificate: Digest32, now: UnixTime) -> bool {
        let known = self.0.lock().ok();
        known.is_some_and(|known| known.get(&certificate).is_some_and(|until| now < *until))
    }

    fn put(&self, certificate: Digest32, now: UnixTime) {
        if let Ok(mut known) = self.0.lock() {
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(certificate, now.plus(KNOWN_GOOD));
        }
    }
}

/// `x5t#S256` (RFC 8705 §3.1).
pub(crate) fn thumbprint(der: &[u8]) -> Digest32 {
    sha256(&[der])
}

/// What names a certificate for good: its issuer and serial number.
pub(crate) fn stable_id(certificate: &Certificate) -> Digest32 {
    let (issuer, serial) = (certificate.issuer(), certificate.serial());
    let length = u32::try_from(issuer.len()).unwrap_or(u32::MAX);
    sha256(&[
        b"natsuin-login-certificate-v1\n",
        &length.to_be_bytes(),
        issuer,
        serial,
    ])
}

impl Ssa {
    /// Judges a certificate that somebody shows to log in.
    pub(crate) async fn judge_login_certificate(
        &self,
        shown: &[Vec<u8>],
    ) -> Result<Certificate, CertificateFault> {
        let certificates = self.config().certificates.as_ref();
        let rule = certificates.and_then(|certificates| certificates.login.as_ref());
        let rule = rule.ok_or(CertificateFault::Untrusted)?;
        let path = self.path_of(rule, shown)?;
        self.not_revoked(&path).await?;
        leaf(&path)
    }

    /// Judges the certificate of a client of kind `tls_client_auth`.
    pub(crate) async fn judge_client_certificate(
        &self,
        shown: &[Vec<u8>],
    ) -> Result<Certificate, CertificateFault> {
        let certificates = self.config().certificates.as_ref();
        let rule = certificates.and_then(|certificates| certificates.clients.as_ref());
        let rule = rule.ok_or(CertificateFault::Untrusted)?;
        let path = self.path_of(rule, shown)?;
        let now = self.now();
        let certificate = leaf(&path)?;
        let name = thumbprint(certificate.der());
        if !self.known_good().has(name, now) {
            self.not_revoked(&path).await?;
            self.known_good().put(name, now);
        }
        Ok(certificate)
    }

    fn path_of(&self, rule: &CertificateRule, shown: &[Vec<u8>]) -> Result<Path, CertificateFault> {
        let (own, sent) = shown.split_first().ok_or(CertificateFault::Missing)?;
        let between = [sent, &rule.intermediates].concat();
        let purpose = Purpose::ClientAuthentication;
        let path = path::validate(own, &between, &rule.anchors, self.now(), purpose);
        let path = path.map_err(|error| {
            let fault = match error {
                PathError::ExtKeyUsage { .. } | PathError::KeyUsage { .. } => {
                    CertificateFault::Purpose
                }
                error if error.is_out_of_bounds() => CertificateFault::Time,
                _ => CertificateFault::Untrusted,
            };
            // The error itself names subjects, who may be people.
            let (certificate, reason) = (thumbprint(own), fault.code());
            tracing::info!(%certificate, reason, "a certificate was not accepted");
            fault
        })?;
        // A CA's own certificate is nobody's.
        let [below @ .., _] = path.certificates.as_slice() else {
            return Err(CertificateFault::Untrusted);
        };
        if below.is_empty() {
            return Err(CertificateFault::Untrusted);
        }
        let fits = rule.policies.is_empty() || has_policy(below, &rule.policies)?;
        fits.then_some(path).ok_or(CertificateFault::Purpose)
    }

    /// Asks about each certificate below the anchor. The path is valid, so the addresses are those of CAs that count.
    async fn not_revoked(&self, path: &Path) -> Result<(), CertificateFault> {
        let now = self.now();
        for (certificate, issuer) in path.links() {
            let evidence = revocation::gather(certificate, issuer, now, self.fetch()).await;
            match revocation::state(certificate, issuer, &evidence, now) {
                State::Good { .. } => {}
                State::Revoked { .. } => return Err(CertificateFault::Revoked),
                State::Unknown(why) => {
                    let certificate = thumbprint(certificate.der());
                    tracing::error!(%certificate, ?why, "nobody says whether it was revoked");
                    return Err(CertificateFault::Unclear);
                }
            }
        }
        Ok(())
    }
}

/// Whether the first certificate, a leaf, names one of these policies and each CA between it and the anchor may issue under it
/// (RFC 5280 §6.1). Mappings between policies aren't followed.
fn has_policy(path: &[Certificate], wanted: &[String]) -> Result<bool, CertificateFault> {
    let named = path.iter().map(Certificate::policies);
    let named = named.collect::<Result<Vec<_>, _>>();
    let named = named.map_err(|_| CertificateFault::Untrusted)?;
    let Some((own, between)) = named.split_first() else {
        return Ok(false);
    };
    let may = |ca: &Vec<String>, policy: &String| ca.iter().any(|p| p == policy || p == ANY_POLICY);
    let good = |policy: &&String| own.contains(policy) && between.iter().all(|ca| may(ca, policy));
    Ok(wanted.iter().any(|policy| good(&policy)))
}

fn leaf(path: &Path) -> Result<Certificate, CertificateFault> {
    let own = path.certificates.first().cloned();
    own.ok_or(CertificateFault::Untrusted)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// A certificate that names these policies, of which each is the last arc of an identifier.
    fn naming(policies: &[&[u8]]) -> Certificate {
        let list: Vec<u8> = policies
            .iter()
            .flat_map(|oid| {
                let n = u8::try_from(oid.len()).unwrap();
                [&[0x30, n + 2, 6, n][..], oid].concat()
            })
            .collect();
        let value = [&[0x30, u8::try_from(list.len()).unwrap()][..], &list].concat();
        let mut params = CertificateParams::new(vec!["x".to_owned()]).unwrap();
        if !policies.is_empty() {
            let extension = CustomExtension::from_oid_content(&[2, 5, 29, 32], value);
            params.custom_extensions.push(extension);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::parse(made.der()).unwrap()
    }

    // shows: T-USE-CRED-FORGE
    #[test]
    fn a_policy_counts_if_every_ca_on_the_way_may_issue_under_it() {
        let (good, other, any): (&[u8], &[u8], &[u8]) =
            (&[42, 3, 4], &[42, 3, 5], &[0x55, 0x1d, 0x20, 0]);
        let wanted = ["1.2.3.4".to_owned(), "1.2.3.6".to_owned()];
        let fits = |path: &[&[&[u8]]]| {
            let path: Vec<Certificate> = path.iter().map(|policies| naming(policies)).collect();
            has_policy(&path, &wanted).unwrap()
        };
        assert!(fits(&[&[good]]) && fits(&[&[other, good], &[any], &[other, good]]));
        let bad: [&[&[&[u8]]]; 7] = [
            &[],
            &[&[]],
            &[&[other]],
            // Whoever has no right to a policy can't give it away, at any place.
            &[&[good], &[]],
            &[&[good], &[other]],
            &[&[good], &[any], &[]],
            // Nor is any policy of a leaf one that was wanted.
            &[&[any], &[good]],
        ];
        for bad in bad {
            assert!(!fits(bad), "{bad:?}");
        }
    }
}
