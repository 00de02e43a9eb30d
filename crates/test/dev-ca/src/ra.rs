//! The registration authority's side of enrolment (`sap.md` §8): invitations with a secret on a channel of its
//! own, and the approval of a certificate for a key that the SAM recorded.

use std::sync::Arc;

use core_types::{
    Digest32, KeyAlg, Level, PersonId, SecretBytes, TenantId, UnixTime, VoucherId, sha256,
};
use jose::{JoseError, Jwk, SigningKey};
use pki::csr::{Csr, CsrError};
use pki::{name, oid};
use sap::enrol::{
    Certify, CertifyRequest, CertifyResponse, CodeAddress, EnrolmentRecord, Invite, NoticeAddress,
    Subject,
};
use sap::{RevocationNotice, SamKeys, StatementError};

use crate::{DevCa, DevCaError};

/// Whom an invitation is for.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Tenant.
    pub tenant: TenantId,
    /// Person at the SSA and the SAM.
    pub person: PersonId,
    /// Subject data.
    pub subject: Subject,
    /// How the identity was proved.
    pub assurance: String,
    /// Highest level of keys.
    pub ceiling: Level,
    /// Keys to make.
    pub keys: Vec<KeyAlg>,
    /// Expires at.
    pub exp: UnixTime,
    /// Earlier registration whose factors are all lost, and which ends with this one.
    pub replaces: Option<VoucherId>,
    /// PIN and one-time codes will be collected by applications.
    pub collected: bool,
    /// Where the SAM may send such codes.
    pub codes: Option<CodeAddress>,
    /// Where the SAM may tell the person what happened.
    pub notices: Option<NoticeAddress>,
    /// The keys may be handed over to whoever their owner wants.
    pub exportable: bool,
    /// They are for one act each.
    pub one_time: bool,
}

/// The registration authority.
pub struct Ra {
    ca: Arc<DevCa>,
    key: SigningKey,
    sam: String,
    roots: Vec<Jwk>,
}

impl Ra {
    /// With the SAM's name and its pinned root keys (`K_root`).
    ///
    /// # Errors
    /// [`RaError::Jose`] when the RA's own key can't be used.
    pub fn new(ca: Arc<DevCa>, sam: impl Into<String>, roots: Vec<Jwk>) -> Result<Self, RaError> {
        let key = SigningKey::from_pkcs8(ca.ra_key().pkcs8())?;
        Ok(Self {
            ca,
            key,
            sam: sam.into(),
            roots,
        })
    }

    /// Its public key, to be registered at the SAM.
    pub fn public_key(&self) -> &Jwk {
        self.key.public()
    }

    /// Approves an invitation: the JWS (`natsuin-invite+jws`) for the SAM and the 16-byte secret for the person,
    /// to be sent on a channel that the SSA doesn't have.
    ///
    /// # Errors
    /// [`RaError::Jose`] when it can't be signed.
    pub fn invite(
        &self,
        invitation: Invitation,
    ) -> Result<(String, VoucherId, SecretBytes), RaError> {
        let mut secret = vec![0; 16];
        self.ca.random.fill(&mut secret);
        let secret = SecretBytes::new(secret);
        let invite = Invite {
            voucher: VoucherId::random(&*self.ca.random),
            tenant: invitation.tenant,
            person: invitation.person,
            subject: invitation.subject,
            assurance: invitation.assurance,
            ceiling: invitation.ceiling,
            keys: invitation.keys,
            exp: invitation.exp,
            secret: sha256(&[secret.expose()]),
            replaces: invitation.replaces,
            collected: invitation.collected,
            codes: invitation.codes,
            notices: invitation.notices,
            exportable: invitation.exportable,
            one_time: invitation.one_time,
        };
        let payload = serde_json::to_vec(&invite).map_err(|_| RaError::Malformed)?;
        Ok((
            self.key.sign(sap::TYP_INVITE, &payload)?,
            invite.voucher,
            secret,
        ))
    }

    /// Tells the SAM what became of a certificate (`natsuin-notice+jws`). To be sent both by the SSA and by the gateway.
    ///
    /// # Errors
    /// [`RaError::Jose`] when it can't be signed.
    pub fn notice(&self, notice: &RevocationNotice) -> Result<String, RaError> {
        let payload = serde_json::to_vec(notice).map_err(|_| RaError::Malformed)?;
        Ok(self.key.sign(sap::TYP_NOTICE, &payload)?)
    }

    /// Approves a certificate and has it issued: the statement must be by a pinned root and current, the record by
    /// the SAM of that statement, the request the one that the record names, by the key and for the subject there.
    ///
    /// # Errors
    /// [`RaError`], saying which check failed.
    pub fn certify(&self, request: &CertifyRequest) -> Result<CertifyResponse, RaError> {
        let now = self.ca.clock.now();
        let keys = SamKeys::verify(&request.statement, &self.roots, now)?;
        let payload = jose::verify(&request.enrolment, sap::TYP_ENROLMENT, &keys.act)?;
        let record: EnrolmentRecord =
            serde_json::from_slice(&payload).map_err(|_| RaError::Malformed)?;
        if keys.sam != self.sam || record.sam != self.sam {
            return Err(RaError::OtherSam {
                expected: self.sam.clone(),
                found: record.sam,
            });
        }
        check(record.csr, sha256(&[&request.csr.0]), "request")?;
        let csr = Csr::verify(&request.csr.0)?;
        check(record.spki, sha256(&[&csr.spki]), "public key")?;
        if pki::key_alg(&csr.spki) != Some(record.alg) {
            return Err(RaError::KeyAlg(record.alg));
        }
        let subject = subject_name(&record.subject).map_err(DevCaError::from)?;
        if csr.subject != subject {
            return Err(RaError::Subject {
                recorded: name::to_text(&subject),
                requested: name::to_text(&csr.subject),
            });
        }
        let chain = self.ca.issue_signer(&csr, &subject)?;
        let approval = Certify {
            enrolment: sha256(&[request.enrolment.as_bytes()]),
            subject: record.subject,
            spki: record.spki,
            factors: record.factors,
            at: now,
        };
        let payload = serde_json::to_vec(&approval).map_err(|_| RaError::Malformed)?;
        Ok(CertifyResponse {
            certify: self.key.sign(sap::TYP_CERTIFY, &payload)?,
            chain: chain.iter().map(|c| c.der().to_vec().into()).collect(),
        })
    }
}

fn check(recorded: Digest32, found: Digest32, what: &'static str) -> Result<(), RaError> {
    if recorded == found {
        Ok(())
    } else {
        Err(RaError::Differs {
            what,
            recorded,
            found,
        })
    }
}

/// DER Name of subject data: C, O (if any), CN, serialNumber, each its own RDN in this order.
///
/// # Errors
/// [`pki::DerError`] when a value can't be encoded.
pub fn subject_name(subject: &Subject) -> Result<Vec<u8>, pki::DerError> {
    let mut names = vec![(oid::COUNTRY, subject.country.as_str())];
    names.extend(
        subject
            .organization
            .as_deref()
            .map(|o| (oid::ORGANIZATION, o)),
    );
    names.push((oid::COMMON_NAME, &subject.common_name));
    names.push((oid::SERIAL_NUMBER, &subject.serial_number));
    name::encode(&names)
}

/// The RA refused. The fault is the asking SAM's unless it is the CA's.
#[derive(Debug, thiserror::Error)]
pub enum RaError {
    /// The statement isn't acceptable.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A JWS isn't authentic.
    #[error(transparent)]
    Jose(#[from] JoseError),
    /// A payload isn't as prescribed.
    #[error("the enrolment record is malformed")]
    Malformed,
    /// Another SAM's record.
    #[error("the record is of the SAM {found}, expected {expected}")]
    OtherSam {
        /// Whom this RA serves.
        expected: String,
        /// Whom the record names.
        found: String,
    },
    /// Request and record don't belong together.
    #[error("the {what} has the hash {found}, the record says {recorded}")]
    Differs {
        /// Which part.
        what: &'static str,
        /// In the record.
        recorded: Digest32,
        /// In the request.
        found: Digest32,
    },
    /// The key is of another kind.
    #[error("the requested key is not {0} as recorded")]
    KeyAlg(KeyAlg),
    /// The request names another subject.
    #[error("the request is for {requested}, the record for {recorded}")]
    Subject {
        /// In the record.
        recorded: String,
        /// In the request.
        requested: String,
    },
    /// The request isn't acceptable.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The CA failed.
    #[error(transparent)]
    Ca(#[from] DevCaError),
}
