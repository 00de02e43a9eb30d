//! Vouchers, and the way from an enrolment to certificates (`sap.md` §8). The SSA carries papers between SAM, RA and
//! CA; it makes none of them above level 1 and can't change one.

use core_types::bytes::b64u;
use core_types::{KeyId, PersonId, SecretBytes, UnixTime, VoucherId};
use sam_api::Refusal;
use sam_api::ssa::{CertificateRequest, EnrolledKey, EnrolmentAnswer, EnrolmentRequest};
use sap::enrol::CertifyRequest;
use service_kit::CallError;
use store_kit::{Row, StoreError, Tx, sql};

use crate::Ssa;
use crate::port::CertifyError;

/// State of an enrolment after [`Ssa::complete_enrolment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The person hasn't been on the SIC page yet.
    Open,
    /// The voucher is dead.
    Dead,
    /// Factors and keys are there, every key with its certificate.
    Done {
        /// The person.
        person: PersonId,
        /// The keys.
        keys: Vec<KeyId>,
    },
}

/// Why an enrolment could not be completed. Asking again goes on where it ended.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The SAM refused or gave no answer.
    #[error("the SAM did not go along: {0}")]
    Sam(#[from] CallError<Refusal>),
    /// RA or CA refused or gave no answer.
    #[error(transparent)]
    Certify(#[from] CertifyError),
}

impl Ssa {
    /// Gets certificates for the keys of an enrolment that have none yet, and hands them to the SAM.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing is lost, call again.
    pub async fn complete_enrolment(&self, voucher: &VoucherId) -> Result<Enrolled, EnrolError> {
        let request = EnrolmentRequest {
            voucher: voucher.clone(),
        };
        let (person, statement, keys) = match self.sam().enrolment(&request).await? {
            EnrolmentAnswer::Open {} => return Ok(Enrolled::Open),
            EnrolmentAnswer::Dead {} => return Ok(Enrolled::Dead),
            EnrolmentAnswer::Enrolled {
                person,
                statement,
                keys,
            } => (person, statement, keys),
        };
        for key in keys.iter().filter(|key| !key.certified) {
            self.certify(&statement, key).await?;
        }
        let keys = keys.into_iter().map(|key| key.key).collect();
        Ok(Enrolled::Done { person, keys })
    }

    async fn certify(&self, statement: &str, key: &EnrolledKey) -> Result<(), EnrolError> {
        let request = CertifyRequest {
            statement: statement.to_owned(),
            enrolment: key.enrolment.clone(),
            csr: key.csr.clone(),
        };
        let answer = self.certifier().certify(&request).await?;
        let certificate = CertificateRequest {
            key: key.key.clone(),
            certify: answer.certify,
            chain: answer.chain,
        };
        match self.sam().certificate(&certificate).await {
            // Somebody was faster: the key has its certificate.
            Ok(_) | Err(CallError::Refused(Refusal::Used)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a person enrols with an invitation whose secret the SSA has; `None` if it reaches them another way.
    pub(crate) fn sic_link(&self, invitation: &Invitation) -> Option<String> {
        let place = secret_place(&invitation.voucher);
        let secret = self.sealer().open(&place, invitation.secret.as_ref()?)?;
        Some(self.sic_link_with(&invitation.voucher, &secret))
    }

    pub(crate) fn sic_link_with(&self, voucher: &VoucherId, secret: &SecretBytes) -> String {
        let secret = b64u(secret.expose());
        format!("{}/e#{voucher}.{secret}", self.config().sic_url)
    }
}

/// What the secret of an invitation is bound to in the store.
pub(crate) fn secret_place(voucher: &VoucherId) -> String {
    format!("ssa_invitation/secret/{voucher}")
}

/// How far a sign-up is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignUp {
    /// Nobody used the link yet.
    Open,
    /// Name and password are chosen; the app has to be confirmed.
    Chosen,
    /// The account exists.
    Done,
}

impl SignUp {
    const ALL: [Self; 3] = [Self::Open, Self::Chosen, Self::Done];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Chosen => "chosen",
            Self::Done => "done",
        }
    }
}

/// An invitation as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Invitation {
    pub(crate) id: String,
    pub(crate) voucher: VoucherId,
    pub(crate) person: PersonId,
    pub(crate) name: String,
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) state: SignUp,
    pub(crate) login: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) seed: Option<Vec<u8>>,
    /// The browser that chose name and password.
    pub(crate) browser: Option<String>,
    pub(crate) exp: UnixTime,
    pub(crate) version: i64,
}

const COLUMNS: &str = "SELECT id, voucher, person, name, secret, state, login, password, seed, browser, exp, version FROM ssa_invitation WHERE id = $1";
const BY_VOUCHER: &str = "SELECT id, voucher, person, name, secret, state, login, password, seed, browser, exp, version FROM ssa_invitation WHERE voucher = $1";

/// The invitation with this id (digest of the code in its link).
pub(crate) async fn find(tx: &mut Tx, id: &str) -> Result<Option<Invitation>, StoreError> {
    let row = tx.fetch_optional(sql(COLUMNS).bind(id)).await?;
    row.map(|row| read(&row)).transpose()
}

/// The invitation with this voucher.
pub(crate) async fn find_by_voucher(
    tx: &mut Tx,
    voucher: &str,
) -> Result<Option<Invitation>, StoreError> {
    let row = tx.fetch_optional(sql(BY_VOUCHER).bind(voucher)).await?;
    row.map(|row| read(&row)).transpose()
}

/// Vouchers of a person, for keys that wait for their certificate.
pub(crate) async fn vouchers_of(tx: &mut Tx, person: &PersonId) -> Result<Vec<String>, StoreError> {
    let query = "SELECT voucher FROM ssa_invitation WHERE person = $1 ORDER BY exp DESC LIMIT 20";
    let rows = tx.fetch_all(sql(query).bind(person.as_str())).await?;
    rows.iter().map(|row| row.text("voucher")).collect()
}

fn read(row: &Row) -> Result<Invitation, StoreError> {
    let state = row.text("state")?;
    let state = SignUp::ALL.into_iter().find(|s| s.name() == state);
    Ok(Invitation {
        id: row.text("id")?,
        voucher: VoucherId::parse(row.text("voucher")?)
            .map_err(|_| StoreError::Column("voucher"))?,
        person: PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?,
        name: row.text("name")?,
        secret: row.maybe_blob("secret")?,
        state: state.ok_or(StoreError::Column("state"))?,
        login: row.maybe_text("login")?,
        password: row.maybe_text("password")?,
        seed: row.maybe_blob("seed")?,
        browser: row.maybe_text("browser")?,
        exp: UnixTime(row.int("exp")?),
        version: row.int("version")?,
    })
}

/// Stores a new invitation.
pub(crate) async fn insert(tx: &mut Tx, new: &Invitation) -> Result<(), StoreError> {
    let insert = "INSERT INTO ssa_invitation (id, voucher, person, name, secret, state, exp, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, 0)";
    let insert = sql(insert)
        .bind(&new.id)
        .bind(new.voucher.as_str())
        .bind(new.person.as_str())
        .bind(&new.name)
        .bind(new.secret.as_deref())
        .bind(new.state.name())
        .bind(new.exp.0);
    tx.execute(insert).await.map(drop)
}

/// Writes how far the sign-up is, if nobody was faster.
pub(crate) async fn update(tx: &mut Tx, invitation: &Invitation) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_invitation SET state = $1, login = $2, password = $3, seed = $4, browser = $5, version = $6 \
                  WHERE id = $7 AND version = $8";
    let update = sql(update)
        .bind(invitation.state.name())
        .bind(invitation.login.as_deref())
        .bind(invitation.password.as_deref())
        .bind(invitation.seed.as_deref())
        .bind(invitation.browser.as_deref())
        .bind(invitation.version + 1)
        .bind(&invitation.id)
        .bind(invitation.version);
    Ok(tx.execute(update).await? == 1)
}
