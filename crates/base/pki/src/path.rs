//! Certification path validation (RFC 5280 §6, with the time as an argument).
//!
//! Processed extensions: basicConstraints, keyUsage, extKeyUsage; certificatePolicies and subjectAltName may be
//! critical, because any policy and any name is acceptable here. Every other critical extension, name and policy
//! constraints among them, makes the path invalid: what isn't understood isn't guessed. Revocation is a matter of
//! [`crate::revocation`]. Names chain by identical encoding.

use core_types::UnixTime;

use crate::asn1::DerError;
use crate::cert::{CertSignatureError, Certificate, KeyUsage};
use crate::{name, oid};

/// Longest path that is looked for, anchor included.
const MAX_DEPTH: usize = 8;
/// Signatures verified for one path at most: crossed certificates can make the number of paths explode.
const MAX_STEPS: usize = 64;

/// Extended key usages of a signer's certificate; one of them is enough.
const SIGNING_PURPOSES: [&str; 6] = [
    oid::KP_DOCUMENT_SIGNING,
    oid::KP_MS_DOCUMENT_SIGNING,
    oid::KP_ADOBE_DOCUMENT_SIGNING,
    oid::KP_EMAIL_PROTECTION,
    oid::KP_CLIENT_AUTH,
    oid::KP_ANY,
];

/// What the leaf's key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signs documents: keyUsage, if present, has nonRepudiation or digitalSignature; extKeyUsage, if present, has
    /// a purpose under which people sign (RFC 9336 §3): document signing, e-mail, client authentication, or any.
    Signing,
    /// Proves who opens a TLS connection: keyUsage, if present, has digitalSignature; extKeyUsage has id-kp-clientAuth
    /// (RFC 5280 §4.2.1.12).
    ClientAuthentication,
    /// Signs time-stamps: extKeyUsage is critical and exactly id-kp-timeStamping (RFC 3161 §2.3).
    TimeStamping,
    /// Signs OCSP responses: extKeyUsage has id-kp-OCSPSigning (RFC 6960 §4.2.2.2).
    OcspSigning,
    /// Nothing is demanded of the leaf.
    Any,
}

/// A valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Leaf first, anchor last. One element when the leaf itself is an anchor.
    pub certificates: Vec<Certificate>,
}

impl Path {
    /// The trust anchor.
    pub fn anchor(&self) -> Option<&Certificate> {
        self.certificates.last()
    }

    /// Pairs of a certificate and its issuer, leaf first.
    pub fn links(&self) -> impl Iterator<Item = (&Certificate, &Certificate)> {
        self.certificates
            .iter()
            .zip(self.certificates.iter().skip(1))
    }
}

/// No valid path. Subjects are RFC 4514 text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The leaf can't be parsed.
    #[error("the certificate is malformed: {0}")]
    Malformed(#[from] DerError),
    /// No certificate of the issuer is among intermediates and anchors.
    #[error("no certificate of the issuer {issuer} of {subject} was given")]
    NoIssuer {
        /// Whose issuer is missing.
        subject: String,
        /// The missing issuer.
        issuer: String,
    },
    /// The signature on a certificate isn't by the one that should have issued it.
    #[error("the certificate {subject} is not signed by {issuer}: {cause}")]
    BadSignature {
        /// The certificate.
        subject: String,
        /// Whose key was tried.
        issuer: String,
        /// Why it was refused.
        cause: CertSignatureError,
    },
    /// Validity hasn't begun.
    #[error("the certificate {subject} is valid from {not_before}, the time in question is {at}")]
    NotYetValid {
        /// The certificate.
        subject: String,
        /// First second of validity.
        not_before: UnixTime,
        /// The time in question.
        at: UnixTime,
    },
    /// Validity is over.
    #[error("the certificate {subject} was valid until {not_after}, the time in question is {at}")]
    Expired {
        /// The certificate.
        subject: String,
        /// Last second of validity.
        not_after: UnixTime,
        /// The time in question.
        at: UnixTime,
    },
    /// An issuer isn't allowed to issue.
    #[error("{issuer} issued {subject}, but its certificate is not that of a CA")]
    NotCa {
        /// The issued certificate.
        subject: String,
        /// The issuer.
        issuer: String,
    },
    /// More intermediates than `pathLenConstraint` allows.
    #[error("{issuer} allows {allowed} intermediate certificates below it, there are {found}")]
    PathTooLong {
        /// The CA with the constraint.
        issuer: String,
        /// Its pathLenConstraint.
        allowed: u32,
        /// Non-self-issued intermediates found.
        found: u32,
    },
    /// keyUsage lacks what is needed.
    #[error("the key usage of {subject} does not include {needed}")]
    KeyUsage {
        /// The certificate.
        subject: String,
        /// What is needed.
        needed: &'static str,
    },
    /// extKeyUsage isn't what is needed.
    #[error("the extended key usage of {subject} must be {needed}, it is {found}")]
    ExtKeyUsage {
        /// The certificate.
        subject: String,
        /// What is needed.
        needed: &'static str,
        /// What it has.
        found: String,
    },
    /// A critical extension that isn't processed here.
    #[error(
        "the certificate {subject} has the critical extension {extension}, which is not understood"
    )]
    UnknownCritical {
        /// The certificate.
        subject: String,
        /// The extension's identifier.
        extension: String,
    },
    /// An extension of a certificate in the path is broken.
    #[error("the certificate {subject} is malformed: {cause}")]
    BadExtension {
        /// The certificate.
        subject: String,
        /// Which part.
        cause: DerError,
    },
    /// Too many certificates to try.
    #[error("gave up looking for a path after {0} steps")]
    TooManySteps(usize),
}

impl PathError {
    /// The only fault is the time: the path would be valid at another.
    pub fn is_out_of_bounds(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. })
    }
}

/// Finds and validates a path from the leaf to one of the anchors at a time. Anchors are trusted as they are:
/// neither their signature nor their validity is checked. Intermediates that can't be parsed are skipped.
///
/// # Errors
/// [`PathError`] of the attempt that came furthest.
pub fn validate(
    leaf_der: &[u8],
    intermediates: &[Vec<u8>],
    anchors: &[Vec<u8>],
    at: UnixTime,
    purpose: Purpose,
) -> Result<Path, PathError> {
    let leaf = Certificate::parse(leaf_der)?;
    let parse = |list: &[Vec<u8>]| -> Vec<Certificate> {
        list.iter()
            .filter_map(|der| Certificate::parse(der).ok())
            .collect()
    };
    let search = Search {
        intermediates: parse(intermediates),
        anchors: parse(anchors),
        at,
        steps: 0,
    };
    validate_parsed(leaf, search, purpose)
}

fn validate_parsed(
    leaf: Certificate,
    mut search: Search,
    purpose: Purpose,
) -> Result<Path, PathError> {
    check_purpose(&leaf, purpose)?;
    if search.anchors.contains(&leaf) {
        return Ok(Path {
            certificates: vec![leaf],
        });
    }
    let mut path = vec![leaf];
    search.extend(&mut path).map_err(|(_, error)| error)?;
    Ok(Path { certificates: path })
}

struct Search {
    intermediates: Vec<Certificate>,
    anchors: Vec<Certificate>,
    at: UnixTime,
    steps: usize,
}

/// The length of the path at which an attempt failed, to report the best one.
type Failure = (usize, PathError);

impl Search {
    /// Extends the path, whose last element is unchecked, up to an anchor.
    fn extend(&mut self, path: &mut Vec<Certificate>) -> Result<(), Failure> {
        let depth = path.len();
        let fail = |error| (depth, error);
        let Some(last) = path.last().cloned() else {
            return Ok(());
        };
        if depth >= MAX_DEPTH {
            return Err(fail(PathError::TooManySteps(depth)));
        }
        self.check_alone(&last).map_err(fail)?;
        let mut best = fail(PathError::NoIssuer {
            subject: last.subject_text(),
            issuer: name::to_text(last.issuer()),
        });
        let issues = |c: &&Certificate| c.subject() == last.issuer();
        let anchors: Vec<_> = self.anchors.iter().filter(issues).cloned().collect();
        let others: Vec<_> = self
            .intermediates
            .iter()
            .filter(issues)
            .filter(|c| !path.contains(c))
            .cloned()
            .collect();
        let candidates = anchors
            .into_iter()
            .map(|c| (c, true))
            .chain(others.into_iter().map(|c| (c, false)));
        for (issuer, is_anchor) in candidates {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(fail(PathError::TooManySteps(MAX_STEPS)));
            }
            let attempt = check_issue(path, &issuer).map_err(|error| (depth, error));
            path.push(issuer);
            let attempt = match attempt {
                Ok(()) if is_anchor => return Ok(()),
                Ok(()) => self.extend(path),
                Err(failure) => Err(failure),
            };
            match attempt {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    path.truncate(depth);
                    let first = matches!(best.1, PathError::NoIssuer { .. }) && best.0 == depth;
                    if failure.0 > best.0 || (first && failure.0 == depth) {
                        best = failure;
                    }
                }
            }
        }
        Err(best)
    }

    /// Validity and critical extensions of one certificate below the anchor.
    fn check_alone(&self, cert: &Certificate) -> Result<(), PathError> {
        let processed = [
            oid::BASIC_CONSTRAINTS,
            oid::KEY_USAGE,
            oid::EXT_KEY_USAGE,
            oid::CERT_POLICIES,
            oid::SUBJECT_ALT_NAME,
        ];
        let unknown = cert
            .extensions()
            .iter()
            .find(|e| e.critical && !processed.contains(&e.oid.as_str()));
        if let Some(extension) = unknown {
            return Err(PathError::UnknownCritical {
                subject: cert.subject_text(),
                extension: extension.oid.clone(),
            });
        }
        let at = self.at;
        if at < cert.not_before() {
            let (subject, not_before) = (cert.subject_text(), cert.not_before());
            return Err(PathError::NotYetValid {
                subject,
                not_before,
                at,
            });
        }
        if at > cert.not_after() {
            let (subject, not_after) = (cert.subject_text(), cert.not_after());
            return Err(PathError::Expired {
                subject,
                not_after,
                at,
            });
        }
        Ok(())
    }
}

/// Whether `issuer` may have issued the last certificate of `path`, and did.
fn check_issue(path: &[Certificate], issuer: &Certificate) -> Result<(), PathError> {
    let Some(issued) = path.last() else {
        return Ok(());
    };
    let names = || (issued.subject_text(), issuer.subject_text());
    issued.verify_signed_by(issuer.spki()).map_err(|cause| {
        let (subject, issuer) = names();
        PathError::BadSignature {
            subject,
            issuer,
            cause,
        }
    })?;
    let bad = |cause| PathError::BadExtension {
        subject: issuer.subject_text(),
        cause,
    };
    let constraints = issuer.basic_constraints().map_err(bad)?;
    if !constraints.ca {
        let (subject, issuer) = names();
        return Err(PathError::NotCa { subject, issuer });
    }
    let below = path.iter().skip(1).filter(|c| !c.is_self_issued()).count();
    let found = u32::try_from(below).unwrap_or(u32::MAX);
    if let Some(allowed) = constraints.path_len
        && found > allowed
    {
        return Err(PathError::PathTooLong {
            issuer: issuer.subject_text(),
            allowed,
            found,
        });
    }
    match issuer.key_usage().map_err(bad)? {
        Some(usage) if !usage.intersects(KeyUsage::KEY_CERT_SIGN) => Err(PathError::KeyUsage {
            subject: issuer.subject_text(),
            needed: "keyCertSign",
        }),
        _ => Ok(()),
    }
}

fn check_purpose(leaf: &Certificate, purpose: Purpose) -> Result<(), PathError> {
    let subject = || leaf.subject_text();
    let bad = |cause| PathError::BadExtension {
        subject: subject(),
        cause,
    };
    let usage = leaf.key_usage().map_err(bad)?;
    let extended = leaf.ext_key_usage().map_err(bad)?;
    let wrong = |needed| {
        let found = match &extended {
            None => "absent".to_owned(),
            Some((list, critical)) => {
                format!(
                    "{}{}",
                    list.join(" "),
                    if *critical { " (critical)" } else { "" }
                )
            }
        };
        PathError::ExtKeyUsage {
            subject: subject(),
            needed,
            found,
        }
    };
    let signs = KeyUsage(KeyUsage::DIGITAL_SIGNATURE.0 | KeyUsage::NON_REPUDIATION.0);
    if purpose != Purpose::Any && usage.is_some_and(|u| !u.intersects(signs)) {
        let needed = "digitalSignature or nonRepudiation";
        return Err(PathError::KeyUsage {
            subject: subject(),
            needed,
        });
    }
    let authenticates = usage.is_none_or(|u| u.intersects(KeyUsage::DIGITAL_SIGNATURE));
    if purpose == Purpose::ClientAuthentication && !authenticates {
        return Err(PathError::KeyUsage {
            subject: subject(),
            needed: "digitalSignature",
        });
    }
    match (purpose, &extended) {
        (Purpose::Any, _) | (Purpose::Signing, None) => Ok(()),
        (Purpose::Signing, Some((list, _)))
            if list.iter().any(|p| SIGNING_PURPOSES.contains(&p.as_str())) =>
        {
            Ok(())
        }
        (Purpose::Signing, _) => Err(wrong("one for signing documents")),
        (Purpose::ClientAuthentication, Some((list, _)))
            if list.iter().any(|p| p == oid::KP_CLIENT_AUTH) =>
        {
            Ok(())
        }
        (Purpose::ClientAuthentication, _) => Err(wrong("clientAuth")),
        (Purpose::TimeStamping, Some((list, true))) if *list == [oid::KP_TIME_STAMPING] => Ok(()),
        (Purpose::TimeStamping, _) => Err(wrong("exactly timeStamping and critical")),
        (Purpose::OcspSigning, Some((list, _)))
            if list.iter().any(|p| p == oid::KP_OCSP_SIGNING) =>
        {
            Ok(())
        }
        (Purpose::OcspSigning, _) => Err(wrong("OCSPSigning")),
    }
}
