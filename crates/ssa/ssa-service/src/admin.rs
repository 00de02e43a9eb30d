//! What operators and the development stack do from Rust: clients, accounts, invitations.

use audit_log::Event;
use core_types::bytes::from_b64u;
use core_types::{KeyAlg, Level, PersonId, SecretBytes, UnixTime, VoucherId, sha256};
use csc_types::SecretText;
use sam_api::Refusal;
use sam_api::ssa::{VoucherAnswer, VoucherRequest};
use sap::enrol::{Invite, Subject};
use service_kit::CallError;
use store_kit::{StoreError, transaction};

use crate::clients::{self, NewClient, State};
use crate::enrol::{self, Invitation, SignUp};
use crate::{Ssa, crypt, users};

/// Why something could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A setting is wrong; says which. The caller's fault.
    #[error("{0} can't be used")]
    Invalid(&'static str),
    /// The id, name or person is taken. The caller's fault.
    #[error("{0} is taken already")]
    Taken(&'static str),
    /// The SAM refused the voucher or gave no answer.
    #[error("the SAM did not take the voucher: {0}")]
    Sam(#[from] CallError<Refusal>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A registered client.
#[derive(Debug, Clone)]
pub struct CreatedClient {
    /// Its secret, shown once; `None` for a public client.
    pub secret: Option<SecretText>,
}

/// An account to make without an invitation.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Login name, `a-z 0-9 . _ - @`, 1 to 64.
    pub login: String,
    /// Name of the person.
    pub name: String,
    /// Password, 8 to 128 characters.
    pub password: SecretBytes,
}

/// A new account.
#[derive(Debug, Clone)]
pub struct CreatedUser {
    /// Its person.
    pub person: PersonId,
    /// Login seed in base32, for an authenticator app; shown once.
    pub totp_secret: SecretText,
}

/// An invitation by the SSA itself; keys made with it reach level 1.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// The person, if there is an account already; otherwise one is signed up.
    pub person: Option<PersonId>,
    /// Subject of the certificates.
    pub subject: Subject,
    /// Keys to make.
    pub keys: Vec<KeyAlg>,
    /// Life in seconds.
    pub life: i64,
}

/// An invitation that was registered at the SAM.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The voucher.
    pub voucher: VoucherId,
    /// The person.
    pub person: PersonId,
    /// Expires at.
    pub exp: UnixTime,
    /// Link into the portal, to sign up.
    pub link: SecretText,
    /// Secret of the voucher, 16 bytes, if the SSA made it. An RA's reaches the person another way.
    pub secret: Option<SecretBytes>,
}

impl Ssa {
    /// Registers an OAuth client.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] or [`AdminError::Taken`] with the member, or [`AdminError::Store`].
    pub async fn create_client(&self, new: &NewClient) -> Result<CreatedClient, AdminError> {
        if let Some(fault) = new.fault() {
            return Err(AdminError::Invalid(fault));
        }
        let settings = &new.settings;
        let proves = !settings.keys.is_empty() || settings.certificate.is_some();
        if new.public && proves || settings.lacks_keys(self.config().fapi) {
            return Err(AdminError::Invalid("the client's way to authenticate"));
        }
        let has_secret = !new.public && !proves;
        let secret = has_secret.then(|| crypt::draw(self.random()));
        let now = self.now();
        let done = transaction!(self.store(), "create-client", |tx| {
            let text = secret.as_ref().map(SecretText::expose);
            clients::insert(tx, new, text, State::Active, now).await
        })?;
        if done {
            Ok(CreatedClient { secret })
        } else {
            Err(AdminError::Taken("the client's id"))
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] or [`AdminError::Taken`] with the member, or [`AdminError::Store`].
    pub async fn create_user(&self, new: NewUser) -> Result<CreatedUser, AdminError> {
        if !users::is_login(&new.login) {
            return Err(AdminError::Invalid("the login name"));
        }
        if !users::acceptable(&new.password, &new.login) {
            return Err(AdminError::Invalid("the password"));
        }
        let person = PersonId::random(self.random());
        let (seed, sealed) = self
            .new_seed(&person)
            .ok_or(AdminError::Invalid("the SSA's key"))?;
        let password = self.hash_password(new.password).await;
        let password = password.ok_or(AdminError::Invalid("the cost of passwords"))?;
        let now = self.now();
        let done = transaction!(self.store(), "create-user", |tx| {
            let user = users::NewUser {
                person: &person,
                login: &new.login,
                name: &new.name,
                password: &password,
                seed: &sealed,
                last_step: 0,
            };
            let done = users::insert(tx, &user, now).await?;
            if done {
                let event = Event::AccountMade {
                    person: person.clone(),
                };
                self.audit().append(tx, event, now).await?;
            }
            Ok::<_, StoreError>(done)
        })?;
        if !done {
            return Err(AdminError::Taken("the login name"));
        }
        let totp_secret =
            SecretText::new(String::from_utf8_lossy(otp::base32(&seed).expose()).into_owned());
        Ok(CreatedUser {
            person,
            totp_secret,
        })
    }

    /// Invites a person at level 1: the SSA makes voucher and secret.
    ///
    /// # Errors
    /// [`AdminError::Sam`] or [`AdminError::Store`].
    pub async fn invite(&self, new: NewInvitation) -> Result<Invited, AdminError> {
        let back = |voucher: &VoucherId| self.enrolled_uri(voucher);
        self.invite_and_return(new, back).await
    }

    /// The same; the SIC page goes `back` there afterwards.
    pub(crate) async fn invite_and_return(
        &self,
        new: NewInvitation,
        back: impl FnOnce(&VoucherId) -> String,
    ) -> Result<Invited, AdminError> {
        let mut secret = vec![0; 16];
        self.random().fill(&mut secret);
        let secret = SecretBytes::new(secret);
        let voucher = VoucherId::random(self.random());
        let name = new.subject.common_name.clone();
        let request = VoucherRequest::Ssa {
            return_uri: back(&voucher),
            invite: Box::new(Invite {
                voucher: voucher.clone(),
                tenant: self.config().tenant.clone(),
                person: new
                    .person
                    .unwrap_or_else(|| PersonId::random(self.random())),
                subject: new.subject,
                assurance: "mail-only".to_owned(),
                ceiling: Level::One,
                keys: new.keys,
                exp: self.now().plus(new.life),
                secret: sha256(&[secret.expose()]),
                replaces: None,
                collected: false,
                codes: None,
                notices: None,
                exportable: false,
                one_time: false,
            }),
        };
        let answer = self.sam().voucher(&request).await?;
        if answer.voucher != voucher {
            return Err(AdminError::Invalid("the SAM's answer"));
        }
        self.invited(answer, name, Some(secret)).await
    }

    /// Registers an RA's invitation (`natsuin-invite+jws`), which the SAM verifies. Its secret never comes here.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] when it can't be read, [`AdminError::Sam`] or [`AdminError::Store`].
    pub async fn register_ra_invite(&self, jws: &str) -> Result<Invited, AdminError> {
        let unreadable = AdminError::Invalid("the RA's invitation");
        let payload = jws.split('.').nth(1).and_then(|part| from_b64u(part).ok());
        let invite = payload.and_then(|json| serde_json::from_slice::<Invite>(&json).ok());
        let invite = invite.ok_or(unreadable)?;
        let request = VoucherRequest::Ra {
            return_uri: self.enrolled_uri(&invite.voucher),
            invite: jws.to_owned(),
        };
        let answer = self.sam().voucher(&request).await?;
        self.invited(answer, invite.subject.common_name, None).await
    }

    fn enrolled_uri(&self, voucher: &VoucherId) -> String {
        format!("{}/enrolled/{voucher}", self.config().base_url)
    }

    async fn invited(
        &self,
        answer: VoucherAnswer,
        name: String,
        secret: Option<SecretBytes>,
    ) -> Result<Invited, AdminError> {
        let code = crypt::draw(self.random());
        let place = enrol::secret_place(&answer.voucher);
        let sealed = match &secret {
            Some(secret) => {
                let sealed = self.sealer().seal(self.random(), &place, secret.expose());
                Some(sealed.ok_or(AdminError::Invalid("the SSA's key"))?)
            }
            None => None,
        };
        let invitation = Invitation {
            id: crypt::digest(code.expose()),
            voucher: answer.voucher.clone(),
            person: answer.person.clone(),
            name,
            secret: sealed,
            state: SignUp::Open,
            login: None,
            password: None,
            seed: None,
            browser: None,
            exp: answer.exp,
            version: 0,
        };
        let fresh = transaction!(self.store(), "invite", |tx| {
            // The SAM takes the same invitation again; a second link for it would be somebody else's.
            let voucher = invitation.voucher.as_str();
            if enrol::find_by_voucher(tx, voucher).await?.is_some() {
                return Ok(false);
            }
            enrol::insert(tx, &invitation).await?;
            Ok::<_, StoreError>(true)
        })?;
        if !fresh {
            return Err(AdminError::Taken("the voucher"));
        }
        let link = format!("{}/i/{}", self.config().base_url, code.expose());
        Ok(Invited {
            voucher: answer.voucher,
            person: answer.person,
            exp: answer.exp,
            link: SecretText::new(link),
            secret,
        })
    }

    /// Where the person of an [`Ssa::invite`] enrols on the SIC page; its fragment is `voucher.secret`.
    pub fn enrolment_link(&self, invited: &Invited) -> Option<SecretText> {
        let secret = invited.secret.as_ref()?;
        Some(SecretText::new(
            self.sic_link_with(&invited.voucher, secret),
        ))
    }
}
