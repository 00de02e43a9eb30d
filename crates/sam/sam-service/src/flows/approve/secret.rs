//! Proofs with secrets that can be guessed: the try is counted before anything is compared, and what is wrong isn't told.

use audit_log::Event;
use cm_api::CryptoModule;
use cm_api::rpc::{PinMac, PinMacRequest};
use core_types::{B64, Digest32, FactorId, SecretBytes, sha256};
use sam_api::ssa::{Happened, HistoryEntry};
use sam_core::enrol::{Factor, FactorBody, MAX_FAILS};
use sam_core::state::{MAX_TRIES, Subject};
use sam_core::{ActState, Reason, pin, secrets, sent, totp};
use sap::office::is_account;
use store_kit::transaction;

use super::{Loaded, Success, Wanted};
use crate::failed::Failed;
use crate::rows::{self, Row};
use crate::sam::{Sam, seal_keys};

impl<C: CryptoModule> Sam<C> {
    /// T0: the try is counted and committed before anything is compared (I3).
    pub(crate) async fn count_try(
        &self,
        digest: Digest32,
        wanted: Wanted<'_>,
    ) -> Result<Loaded, Failed> {
        transaction!(self.store, "approve-try", |tx| {
            let epoch = sha256(&[&tx.epoch_source().await?]);
            let mut loaded = self.load(tx, digest, wanted, epoch).await?;
            let body = loaded.factor.body.body.try_secret(loaded.now.time)?;
            let counted = body.guessable().ok_or(Reason::ForeignFactor)?;
            let act = loaded.act.body.try_secret(loaded.now)?;
            let person = act.person.clone();
            let mut events = vec![Event::SapAttempt {
                act: digest,
                person: person.clone(),
                fails: u32::from(counted.fails),
            }];
            if counted.wait_until > loaded.now.time {
                let (factor, until) = (loaded.factor.body.id.clone(), counted.wait_until);
                events.push(Event::FactorLocked {
                    person,
                    factor,
                    until,
                });
            }
            let factor = Factor {
                body,
                ..loaded.factor.body.clone()
            };
            rows::save(tx, &self.sealer, &loaded.act, &act).await?;
            rows::save(tx, &self.sealer, &loaded.factor, &factor).await?;
            // Officers' accounts have no history here; what isn't locked is no news.
            if events.len() > 1 && !is_account(&factor.person) {
                let locked = HistoryEntry {
                    at: loaded.now.time,
                    what: Happened::FactorLocked,
                    key: None,
                    factor: Some(factor.id.clone()),
                    act: None,
                    proposal: None,
                    cause: None,
                };
                self.note(tx, &factor.person, vec![locked]).await?;
            }
            self.audit.append_all(tx, &events, loaded.now.time).await?;
            loaded.act = Row {
                version: loaded.act.version + 1,
                body: act,
                ..loaded.act
            };
            loaded.factor = Row {
                version: loaded.factor.version + 1,
                body: factor,
                ..loaded.factor
            };
            Ok::<_, Failed>(loaded)
        })
    }

    /// PIN and code are checked together and answered together: which was wrong isn't told, not even by time.
    pub(super) async fn check_secrets(
        &self,
        digest: Digest32,
        sealed: &str,
        loaded: &Loaded,
    ) -> Result<Success, Failed> {
        let rings = self.live_rings(loaded.now.epoch, loaded.now.time).await?;
        let given = secrets::open_proof(&seal_keys(&rings), sealed, digest)?;
        self.compare(loaded, given.pin, &given.otp).await
    }

    /// PIN and one-time code against the factor whose try was counted.
    pub(crate) async fn compare(
        &self,
        loaded: &Loaded,
        pin: SecretBytes,
        otp: &SecretBytes,
    ) -> Result<Success, Failed> {
        let FactorBody::PinTotp(factor) = &loaded.factor.body.body else {
            return Err(Reason::ForeignFactor.into());
        };
        let (id, now) = (&loaded.factor.body.id, loaded.now.time);
        let mac = self.pin_mac(id, pin, &factor.salt).await?;
        let pin_right = mac.ct_eq(factor.mac.expose());
        // Which kind it is, its length says, and that is no secret.
        let sent = match &loaded.act.body.subject {
            Subject::Sign { key, client, .. } if otp.len() == sent::DIGITS => {
                factor.sent_code(key, client, now)
            }
            _ => None,
        };
        let code = match sent {
            Some(sent) => {
                let mac = self.pin_mac(id, otp.clone(), &sent.salt).await?;
                let salt = sent.salt.clone();
                mac.ct_eq(sent.mac.expose())
                    .then_some(Success::PinSent { salt })
            }
            None => totp::verify(&factor.seed, otp.expose(), now, factor.last_step)
                .map(|step| Success::PinTotp { step }),
        };
        match (pin_right, code) {
            (true, Some(success)) => Ok(success),
            _ => Err(Reason::SecretWrong {
                tries_left: tries_left(&loaded.act.body, factor.fails),
            }
            .into()),
        }
    }

    /// The PIN of a device key, whose try was counted.
    pub(super) async fn check_pin(
        &self,
        digest: Digest32,
        sealed: &str,
        loaded: &Loaded,
    ) -> Result<(), Failed> {
        let rings = self.live_rings(loaded.now.epoch, loaded.now.time).await?;
        let pin = secrets::open_pin(&seal_keys(&rings), sealed, digest)?;
        let FactorBody::Device(device) = &loaded.factor.body.body else {
            return Err(Reason::ForeignFactor.into());
        };
        let mac = self.pin_mac(&loaded.factor.body.id, pin, &device.salt);
        if mac.await?.ct_eq(device.mac.expose()) {
            return Ok(());
        }
        let tries_left = tries_left(&loaded.act.body, device.fails);
        Err(Reason::SecretWrong { tries_left }.into())
    }

    /// Argon2id on a thread, few at once, then the module's keyed hash.
    pub(crate) async fn pin_mac(
        &self,
        id: &FactorId,
        pin: SecretBytes,
        salt: &B64,
    ) -> Result<SecretBytes, Failed> {
        let permit = self.hashing.acquire().await.map_err(|_| Reason::NotNow)?;
        let salt = salt.clone();
        let hash = self.blocking(move || pin::hash(&pin, &salt.0)).await?;
        drop(permit);
        let request = PinMacRequest {
            factor: id.clone(),
            hash,
        };
        let answer = self
            .module
            .call::<PinMac>(&request)
            .await
            .map_err(|error| {
                tracing::error!(%error, "the module doesn't hash PINs");
                Reason::NotNow
            })?;
        Ok(answer.mac)
    }

    /// After a wrong one: an act whose tries are used up is over.
    pub(crate) async fn after_wrong_secret(
        &self,
        digest: Digest32,
        loaded: &Loaded,
    ) -> Result<(), Failed> {
        transaction!(self.store, "approve-wrong", |tx| {
            let row = rows::get::<ActState>(tx, &self.sealer, &digest.to_string()).await?;
            if let Some(row) = row
                && let Some(next) = row.body.after_failure()
            {
                rows::save(tx, &self.sealer, &row, &next).await?;
                let person = Some(next.person);
                let event = Event::ActEnded {
                    act: digest,
                    person,
                    reason: "too-many-tries".into(),
                };
                self.audit.append(tx, event, loaded.now.time).await?;
            }
            Ok::<_, Failed>(())
        })
    }
}

fn tries_left(act: &ActState, fails: u8) -> u8 {
    let act = MAX_TRIES.saturating_sub(act.tries);
    act.min(MAX_FAILS.saturating_sub(fails))
}
