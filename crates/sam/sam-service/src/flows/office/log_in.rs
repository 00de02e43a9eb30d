//! Logging in: a proof over an act, as for everything else. The session that begins is short and approves nothing.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, PersonId, SecretBytes, UnixTime, sha256};
use sam_core::act::{OfficerContent, mint_officer};
use sam_core::office::{Session, proposal};
use sam_core::state::Subject;
use sam_core::{ActState, Reason};
use sap::act::Person;
use sap::messages::Empty;
use sap::office::LOG_IN;
use sap::office::calls::{
    LogInOpenRequest, LoggedIn, OfficeAct, OfficeRefusal, ProofRequest, SessionRequest,
};
use sap::{Act, TYP_ACT, act_digest};
use store_kit::{Tx, transaction};

use super::approve::Proved;
use super::{About, session_id};
use crate::failed::Failed;
use crate::flows::open::passkey_hints;
use crate::rows;
use crate::sam::Sam;

/// Random bytes of a session's token.
const TOKEN: usize = 32;

impl<C: CryptoModule> Sam<C> {
    /// Mints the act with which an account logs in.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn log_in_open(&self, request: LogInOpenRequest) -> Result<OfficeAct, OfficeRefusal> {
        let about = About {
            account: Some(request.account.clone()),
            digest: None,
        };
        match self.try_log_in_open(&request.account).await {
            Ok(act) => Ok(act),
            Err(failed) => Err(self.refused_office("log-in/open", about, &failed).await),
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn log_in(&self, request: ProofRequest) -> Result<LoggedIn, OfficeRefusal> {
        let mut about = About::default();
        match self.try_log_in(&request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("log-in", about, &failed).await),
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn log_out(&self, request: SessionRequest) -> Result<Empty, OfficeRefusal> {
        let mut about = About::default();
        match self.try_log_out(&request, &mut about).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => Err(self.refused_office("log-out", about, &failed).await),
        }
    }

    async fn try_log_in_open(&self, account: &PersonId) -> Result<OfficeAct, Failed> {
        self.check_clock()?;
        let epoch = self.epoch().await?;
        let ring = self.ring(epoch, self.clock.now()).await?;
        transaction!(self.store, "log-in-open", |tx| {
            let now = self.now(tx).await?;
            if now.epoch != epoch {
                return Err(Reason::NotNow.into());
            }
            let person = self.person(tx, account).await?;
            person
                .officer
                .body
                .roles(now.time)
                .ok_or(Reason::NotFound)?;
            let factors = self.office_factors(tx, &person.account.body).await?;
            let content = OfficerContent {
                level: self.office_level(),
                person: Person {
                    id: account.clone(),
                    name: person.officer.body.name.clone(),
                },
                what: LOG_IN.to_owned(),
                document: sha256(&[b"natsuin-office-log-in-v1\n", account.as_str().as_bytes()]),
                text: format!("log in to the office of {}", self.config.sam),
                needs: 1,
                since: person.since(),
                return_uri: self.office_return(),
                until: UnixTime(i64::MAX),
            };
            let act = mint_officer(self.issuer(epoch), content, now.time, self.random.as_ref())?;
            let subject = Subject::Officer { proposal: None };
            let (jws, digest) = self
                .put_office_act(tx, Act::Officer(act), subject, &ring.act)
                .await?;
            let event = minted(digest, account.clone(), self.office_level());
            self.audit.append(tx, event, now.time).await?;
            Ok::<_, Failed>(OfficeAct {
                act: jws,
                document: String::new(),
                passkeys: passkey_hints(factors.iter().map(|f| &f.body)),
            })
        })
    }

    /// Signs an officer's act and stores it.
    pub(crate) async fn put_office_act(
        &self,
        tx: &mut Tx,
        act: Act,
        subject: Subject,
        key: &jose::SigningKey,
    ) -> Result<(String, Digest32), Failed> {
        let payload = serde_json::to_vec(&act).map_err(|_| Reason::NotNow)?;
        let jws = key.sign(TYP_ACT, &payload).map_err(|_| Reason::NotNow)?;
        let digest = act_digest(&jws);
        let state = ActState::minted(subject, act.head(), 0);
        self.put_act(tx, digest, &jws, &state).await?;
        Ok((jws, digest))
    }

    async fn try_log_in(
        &self,
        request: &ProofRequest,
        about: &mut About,
    ) -> Result<LoggedIn, Failed> {
        if request.switch.is_some() {
            return Err(Reason::Malformed.into());
        }
        let proved = self.prove_office(&request.proof, about).await?;
        if !matches!(proved.act.body.subject, Subject::Officer { proposal: None }) {
            return Err(Reason::OtherKind.into());
        }
        let mut token = vec![0; TOKEN];
        self.random.fill(&mut token);
        let token = SecretBytes::from(core_types::bytes::b64u(&token));
        let evidence = self.office_evidence(&proved).await?;
        let limits = self.config.office.limits;
        let (officer, session, unconfirmed) = transaction!(self.store, "log-in", |tx| {
            let now = self.now(tx).await?;
            let person = self.person(tx, &proved.act.body.person).await?;
            let who = person.as_approver();
            who.check_held(proposal::ANY, now.time)?;
            let unconfirmed = match person.account.body.check_confirmed() {
                Ok(()) => None,
                Err(_) => Some(self.fingerprint(tx, &person.account.body).await?),
            };
            let mut events = self
                .accept_office(tx, &proved, &evidence, &person, now)
                .await?;
            let account = person.account.body.id.clone();
            let officer = person.officer.body;
            let session = Session::begin(account.clone(), officer.id.clone(), limits, now.time);
            let id = session_id(&token);
            if !rows::insert(tx, &self.sealer, &id.to_string(), &session).await? {
                return Err(Reason::NotNow.into());
            }
            events.push(Event::OfficerLoggedIn {
                account,
                officer: officer.id.clone(),
                act: Proved::digest(&proved),
                session: id,
            });
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>((officer, session, unconfirmed))
        })?;
        Ok(LoggedIn {
            session: token,
            officer: officer.id,
            name: officer.name,
            office: officer.office,
            idle: limits.idle(),
            until: session.until,
            unconfirmed,
        })
    }

    async fn try_log_out(&self, request: &SessionRequest, about: &mut About) -> Result<(), Failed> {
        let present = self.present(&request.session, about).await?;
        transaction!(self.store, "log-out", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<Session>(tx, &self.sealer, &present.session.id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            rows::save(tx, &self.sealer, &row, &row.body.ended()).await?;
            let event = Event::OfficerLoggedOut {
                account: row.body.account.clone(),
                officer: row.body.officer.clone(),
                session: session_id(&request.session),
            };
            self.audit.append(tx, event, now.time).await?;
            Ok::<_, Failed>(())
        })
    }
}

pub(crate) fn minted(act: Digest32, person: PersonId, level: core_types::Level) -> Event {
    Event::ActMinted {
        act,
        what: "officer".into(),
        person,
        key: None,
        items: 0,
        level,
    }
}
