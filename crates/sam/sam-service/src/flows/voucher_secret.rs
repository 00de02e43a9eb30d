//! The secret of a voucher: counted before it is compared, and what it opens before the enrolment itself.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::Digest32;
use sam_core::enrol::{MAX_VOUCHER_TRIES, Seed, Voucher};
use sam_core::state::{Now, Subject};
use sam_core::{ActState, FactorKind, Reason, secrets};
use sap::enrol::SealedEnrolment;
use sap::messages::{EnrolSeedAnswer, EnrolSeedRequest};
use store_kit::{Tx, transaction};

use super::office::Door;
use crate::failed::Failed;
use crate::rows::{self, Row};
use crate::sam::{Sam, seal_keys};

/// An enrol act and its voucher.
pub(super) struct Loaded {
    pub(super) act: Row<ActState>,
    pub(super) voucher: Row<Voucher>,
    pub(super) now: Now,
}

impl<C: CryptoModule> Sam<C> {
    pub(super) async fn try_enrol_seed(
        &self,
        request: &EnrolSeedRequest,
    ) -> Result<EnrolSeedAnswer, Failed> {
        let loaded = self.count_voucher_try(Door::Signers, request.act).await?;
        self.open_secret(request.act, &request.sealed, &loaded)
            .await?;
        let ceiling = loaded.voucher.body.ceiling();
        let policy = &self.config.policy;
        let admitted = policy.check(ceiling, FactorKind::PinTotp);
        let seed = self.draw_seed();
        let person = loaded.voucher.body.invite.person.clone();
        let sealed = self.seal_seed(&seed, &person, request.act, &request.key)?;
        transaction!(self.store, "enrol-seed", |tx| {
            let now = self.now(tx).await?;
            let current = self.load_enrolment(tx, request.act, now).await?;
            // The secret was right, so the try is taken back whatever follows.
            let mut next = Voucher {
                tries: 0,
                ..current.voucher.body.clone()
            };
            let fresh = admitted.is_ok() && next.seed.as_ref().is_none_or(|s| s.act != request.act);
            if fresh {
                next.seed = Some(Seed {
                    act: request.act,
                    seed: seed.clone(),
                });
            }
            rows::save(tx, &self.sealer, &current.voucher, &next).await?;
            self.rows_changed(tx, "seed-asked").await?;
            Ok::<_, Failed>(fresh)
        })
        .and_then(|fresh| match (admitted, fresh) {
            (Err(reason), _) => Err(reason.into()),
            (Ok(()), false) => Err(Reason::Used.into()),
            (Ok(()), true) => Ok(EnrolSeedAnswer { sealed }),
        })
    }

    pub(super) async fn load_enrolment(
        &self,
        tx: &mut Tx,
        digest: Digest32,
        now: Now,
    ) -> Result<Loaded, Failed> {
        let act = rows::get::<ActState>(tx, &self.sealer, &digest.to_string())
            .await?
            .ok_or(Reason::NotFound)?;
        let Subject::Enrol { voucher, .. } = &act.body.subject else {
            return Err(Reason::OtherKind.into());
        };
        let voucher = rows::get::<Voucher>(tx, &self.sealer, voucher.as_str())
            .await?
            .ok_or(Reason::NotFound)?;
        act.body.check_open(now)?;
        voucher.body.check_open(now.time)?;
        Ok(Loaded { act, voucher, now })
    }

    /// T0 of an enrolment: the try with the secret is counted before it is compared (I3).
    pub(super) async fn count_voucher_try(
        &self,
        door: Door,
        act: Digest32,
    ) -> Result<Loaded, Failed> {
        transaction!(self.store, "enrol-try", |tx| {
            let now = self.now(tx).await?;
            let loaded = self.load_enrolment(tx, act, now).await?;
            door.check(&loaded.voucher.body)?;
            let next = loaded.voucher.body.try_secret(now.time)?;
            rows::save(tx, &self.sealer, &loaded.voucher, &next).await?;
            let person = next.invite.person.clone();
            let event = Event::SapAttempt {
                act,
                person,
                fails: u32::from(next.tries),
            };
            self.audit.append(tx, event, now.time).await?;
            let voucher = Row {
                version: loaded.voucher.version + 1,
                body: next,
                ..loaded.voucher
            };
            Ok::<_, Failed>(Loaded { voucher, ..loaded })
        })
    }

    /// Opens what was sealed and compares the voucher's secret. A wrong one may be the voucher's last.
    pub(super) async fn open_secret(
        &self,
        act: Digest32,
        sealed: &str,
        loaded: &Loaded,
    ) -> Result<SealedEnrolment, Failed> {
        let rings = self.live_rings(loaded.now.epoch, loaded.now.time).await?;
        let opened = secrets::open_enrolment(&seal_keys(&rings), sealed, act);
        let matching = opened.and_then(|s| {
            if loaded.voucher.body.secret_matches(&s.secret) {
                return Ok(s);
            }
            let left = MAX_VOUCHER_TRIES.saturating_sub(loaded.voucher.body.tries);
            Err(Reason::SecretWrong { tries_left: left })
        });
        let reason = match matching {
            Ok(secrets) => return Ok(secrets),
            Err(reason) => reason,
        };
        transaction!(self.store, "enrol-wrong", |tx| {
            let id = loaded.voucher.body.invite.voucher.as_str();
            let row = rows::get::<Voucher>(tx, &self.sealer, id).await?;
            if let Some(row) = row
                && let Some(next) = row.body.after_failure()
            {
                rows::save(tx, &self.sealer, &row, &next).await?;
                let voucher = Some(next.invite.voucher);
                let event = Event::VoucherRefused {
                    voucher,
                    reason: "too-many-tries".into(),
                };
                self.audit.append(tx, event, loaded.now.time).await?;
            }
            Ok::<_, Failed>(())
        })?;
        Err(reason.into())
    }

    pub(super) async fn forget_voucher_try(&self, act: Digest32) -> Result<(), Failed> {
        transaction!(self.store, "enrol-forget", |tx| {
            let now = self.now(tx).await?;
            match self.load_enrolment(tx, act, now).await {
                Ok(loaded) => {
                    let next = Voucher {
                        tries: 0,
                        ..loaded.voucher.body.clone()
                    };
                    rows::save(tx, &self.sealer, &loaded.voucher, &next).await?;
                    Ok(self.rows_changed(tx, "try-forgiven").await?)
                }
                Err(Failed::No(_)) => Ok(()),
                Err(failed) => Err(failed),
            }
        })
    }
}
