//! The authority itself: opened from a directory, made there on the first start.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use core_types::bytes::hex;
use core_types::{Clock, Random};
use pki::csr::Csr;
use pki::{Certificate, name, oid};
use service_kit::Identity;

use crate::DevCaError;
use crate::issue::{Issuer, Profile, Template, issue};
use crate::key::{DevKey, io, write};
use crate::store::{Issued, Register};

const DAY: i64 = 86_400;
/// Certificates begin a little earlier, for clocks that are behind.
const BACKDATE: i64 = 300;
const ORGANIZATION: &str = "Natsuin development, no legal effect";

/// Where the authority's answers can be had; written into certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// OCSP responder.
    pub ocsp: String,
    /// CRL of the issuing CA.
    pub crl: String,
    /// CRL of the root.
    pub root_crl: String,
    /// The issuing CA's certificate, DER.
    pub ca: String,
    /// Time-stamping.
    pub tsa: String,
}

impl Urls {
    /// The paths of [`crate::routes::public`] under a base URL without trailing slash.
    pub fn under(base: &str) -> Self {
        Self {
            ocsp: format!("{base}/ocsp"),
            crl: format!("{base}/crl"),
            root_crl: format!("{base}/crl/root"),
            ca: format!("{base}/ca"),
            tsa: format!("{base}/tsa"),
        }
    }
}

/// The development CA.
pub struct DevCa {
    pub(crate) urls: Urls,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) root: Pair,
    pub(crate) issuing: Pair,
    pub(crate) ocsp: Pair,
    pub(crate) tsa: Pair,
    internal: Pair,
    ra: DevKey,
    dir: PathBuf,
    register: Mutex<Register>,
}

/// A key and its certificate.
pub(crate) struct Pair {
    pub(crate) key: DevKey,
    pub(crate) cert: Certificate,
}

/// Policy of [`DevCa::person_cert`], below the enterprise number for examples (RFC 5612).
pub const PERSON_POLICY: &str = "1.3.6.1.4.1.32473.8705";

impl DevCa {
    /// Opens the authority in a directory; makes directory, keys and certificates where missing.
    ///
    /// Certificates of the OCSP responder and the TSA are made anew when the URLs have changed.
    ///
    /// # Errors
    /// [`DevCaError`] when the directory can't be used or its content is damaged.
    pub fn open(
        dir: &Path,
        urls: Urls,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, DevCaError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| io(dir, e))?;
        let make = Maker {
            dir,
            clock: &*clock,
            random: &*random,
        };
        let root = make.pair("root", "Root CA", Profile::Ca(1), 3650, None, None)?;
        let by_root = Issuer {
            crl_url: Some(&urls.root_crl),
            ..Issuer::plain(Some(&root.cert), &root.key)
        };
        let issuing = make.pair(
            "ca",
            "Issuing CA",
            Profile::Ca(0),
            1825,
            Some(&by_root),
            Some(&urls.root_crl),
        )?;
        let by_ca = Issuer::with_urls(&issuing.cert, &issuing.key, &urls);
        let ocsp = make.pair(
            "ocsp",
            "OCSP responder",
            Profile::Ocsp,
            1820,
            Some(&by_ca),
            None,
        )?;
        let tsa = make.pair(
            "tsa",
            "Time-Stamping Authority",
            Profile::Tsa,
            1820,
            Some(&by_ca),
            Some(&urls.crl),
        )?;
        let internal = make.pair("internal", "Internal CA", Profile::Ca(0), 3650, None, None)?;
        let mut register = Register::open(dir)?;
        for cert in [&ocsp.cert, &tsa.cert] {
            enter(&mut register, cert);
        }
        register.save()?;
        write(&dir.join("trust-anchors.pem"), root.cert.pem().as_bytes())?;
        Ok(Self {
            ra: DevKey::open(dir, "ra")?,
            dir: dir.to_owned(),
            register: Mutex::new(register),
            urls,
            clock,
            random,
            root,
            issuing,
            ocsp,
            tsa,
            internal,
        })
    }

    /// The root: trust anchor for signers, time-stamps and the TLS of `localhost`.
    pub fn root(&self) -> &Certificate {
        &self.root.cert
    }

    /// The CA that issues to signers.
    pub fn issuing_ca(&self) -> &Certificate {
        &self.issuing.cert
    }

    /// The time-stamping authority's certificate.
    pub fn tsa_certificate(&self) -> &Certificate {
        &self.tsa.cert
    }

    /// PEM file with the root.
    pub fn trust_anchors_file(&self) -> PathBuf {
        self.dir.join("trust-anchors.pem")
    }

    /// PEM of the CA of service certificates: the trust anchor between zones, and nowhere else.
    pub fn internal_ca_pem(&self) -> String {
        self.internal.cert.pem()
    }

    /// Where the answers can be had.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The RA's key, PKCS#8.
    pub(crate) fn ra_key(&self) -> &DevKey {
        &self.ra
    }

    /// Issues a signer's certificate for a verified request; valid for a year. The subject is the RA's word, not
    /// the request's. Answers the chain without the root, the signer's certificate first.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn issue_signer(&self, csr: &Csr, subject: &[u8]) -> Result<Vec<Certificate>, DevCaError> {
        self.issue_for_key(&csr.spki, subject, 365)
    }

    /// Issues a signer's certificate for a public key whose possession was proved otherwise; for tests.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn issue_for_key(
        &self,
        spki: &[u8],
        subject: &[u8],
        days: i64,
    ) -> Result<Vec<Certificate>, DevCaError> {
        let now = self.clock.now();
        let template = Template {
            subject: subject.to_vec(),
            not_before: now.plus(-BACKDATE),
            not_after: now.plus(days * DAY).min(self.issuing.cert.not_after()),
            profile: Profile::Signer,
        };
        let issuer = Issuer::with_urls(&self.issuing.cert, &self.issuing.key, &self.urls);
        let cert = issue(&issuer, &template, spki, &*self.random)?;
        let mut register = self.register();
        enter(&mut register, &cert);
        register.save()?;
        Ok(vec![cert, self.issuing.cert.clone()])
    }

    /// Revokes a certificate of the issuing CA from now on; again is harmless. The serial number is lower-case
    /// hexadecimal as in [`pki::CertInfo`], `reason` a CRLReason (RFC 5280 §5.3.1).
    ///
    /// # Errors
    /// [`DevCaError::NotIssued`] for an unknown serial number.
    pub fn revoke(&self, serial: &str, reason: u32) -> Result<(), DevCaError> {
        let now = self.clock.now();
        let mut register = self.register();
        let issued = register.issued.get_mut(serial);
        let issued = issued.ok_or_else(|| DevCaError::NotIssued(serial.to_owned()))?;
        if issued.revoked.is_none() {
            issued.revoked = Some((now, reason));
            register.crl_number += 1;
            register.save()?;
        }
        Ok(())
    }

    /// Ends a hold: the certificate counts again. Nothing else is taken back.
    ///
    /// # Errors
    /// [`DevCaError::NotIssued`] for an unknown serial number.
    pub fn release(&self, serial: &str) -> Result<(), DevCaError> {
        const HOLD: u32 = 6;
        let mut register = self.register();
        let issued = register.issued.get_mut(serial);
        let issued = issued.ok_or_else(|| DevCaError::NotIssued(serial.to_owned()))?;
        if matches!(issued.revoked, Some((_, HOLD))) {
            issued.revoked = None;
            register.crl_number += 1;
            register.save()?;
        }
        Ok(())
    }

    /// A certificate and key for mutual TLS between zones. The first DNS name is the caller's identity.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn service_cert(&self, name: &str, dns_names: &[&str]) -> Result<Identity, DevCaError> {
        let names = dns_names.iter().map(|n| (*n).to_owned()).collect();
        let issuer = Issuer::plain(Some(&self.internal.cert), &self.internal.key);
        self.tls(name, Profile::Service(names), &issuer)
    }

    /// A server certificate by the root for `localhost`, 127.0.0.1, and names below `localhost` such as
    /// `sic.localhost`. They are listed one by one, because a wildcard directly below a top-level name is not
    /// honoured by TLS clients.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn localhost_cert(&self, names: &[&str]) -> Result<Identity, DevCaError> {
        let names = ["localhost", "127.0.0.1"].iter().chain(names);
        let names = names.map(|n| (*n).to_owned()).collect();
        let issuer = Issuer::plain(Some(&self.root.cert), &self.root.key);
        self.tls("localhost", Profile::Server(names), &issuer)
    }

    /// A certificate and key with which a person or a program proves who it is, by the CA of signers, under
    /// [`PERSON_POLICY`]; it can be revoked. The chain has the issuing CA.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn person_cert(&self, name: &str) -> Result<Identity, DevCaError> {
        let issuer = Issuer::with_urls(&self.issuing.cert, &self.issuing.key, &self.urls);
        let made = self.tls(name, Profile::Person(PERSON_POLICY.to_owned()), &issuer)?;
        let mut register = self.register();
        for cert in Certificate::parse_pem(&made.chain_pem)? {
            enter(&mut register, &cert);
        }
        register.save()?;
        Ok(Identity {
            chain_pem: made.chain_pem + &self.issuing.cert.pem(),
            key_pem: made.key_pem,
        })
    }

    fn tls(
        &self,
        name: &str,
        profile: Profile,
        issuer: &Issuer<'_>,
    ) -> Result<Identity, DevCaError> {
        let now = self.clock.now();
        let key = DevKey::generate()?;
        let template = Template {
            subject: subject(name)?,
            not_before: now.plus(-BACKDATE),
            not_after: now.plus(397 * DAY),
            profile,
        };
        let cert = issue(issuer, &template, key.spki(), &*self.random)?;
        Ok(Identity {
            chain_pem: cert.pem(),
            key_pem: key.pem(),
        })
    }

    pub(crate) fn register(&self) -> MutexGuard<'_, Register> {
        // A panic between two statements leaves the register as it was saved or one entry ahead: both are usable.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enter(register: &mut Register, cert: &Certificate) {
    let entry = Issued {
        subject: cert.subject_text(),
        not_after: cert.not_after(),
        revoked: None,
    };
    register.issued.entry(hex(cert.serial())).or_insert(entry);
}

fn subject(common_name: &str) -> Result<Vec<u8>, DevCaError> {
    let names = [
        (oid::COUNTRY, "JP"),
        (oid::ORGANIZATION, ORGANIZATION),
        (oid::COMMON_NAME, common_name),
    ];
    Ok(name::encode(&names)?)
}

struct Maker<'a> {
    dir: &'a Path,
    clock: &'a dyn Clock,
    random: &'a dyn Random,
}

impl Maker<'_> {
    /// Reads key and certificate of this name, or makes what is missing. A certificate that names another CRL than
    /// `crl_url`, or was issued by another CA, or has expired, is made anew for the same key.
    fn pair(
        &self,
        file: &str,
        common_name: &str,
        profile: Profile,
        days: i64,
        issuer: Option<&Issuer<'_>>,
        crl_url: Option<&String>,
    ) -> Result<Pair, DevCaError> {
        let key = DevKey::open(self.dir, file)?;
        let path = self.dir.join(format!("{file}.cert.pem"));
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(|e| io(&path, e))?;
            let certs = Certificate::parse_pem(&text).unwrap_or_default();
            let cert = certs.into_iter().next();
            let cert = cert.ok_or_else(|| DevCaError::Damaged(path.display().to_string()))?;
            let issuer_key = issuer.map_or(key.spki(), |i| i.key.spki());
            let same_url = crl_url.is_none_or(|url| cert.crl_urls() == [url.as_str()]);
            if cert.spki() == key.spki()
                && same_url
                && cert.not_after() > self.clock.now()
                && cert.verify_signed_by(issuer_key).is_ok()
            {
                return Ok(Pair { key, cert });
            }
        }
        let now = self.clock.now();
        let template = Template {
            subject: subject(&format!("Natsuin Development {common_name}"))?,
            not_before: now.plus(-BACKDATE),
            not_after: now.plus(days * DAY),
            profile,
        };
        let own = Issuer::plain(None, &key);
        let cert = issue(issuer.unwrap_or(&own), &template, key.spki(), self.random)?;
        write(&path, cert.pem().as_bytes())?;
        Ok(Pair { key, cert })
    }
}
