//! `send-code` (`sap.md` §10, explicit mode): a one-time code that the SAM draws, keeps as a keyed hash, and has its own courier
//! bring to the owner of a key. It counts for that key and the client that asked, once, for minutes; and only together with
//! the PIN, counted like every other try.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::B64;
use sam_api::Refusal;
use sam_api::delivery::DeliverRequest;
use sam_api::ssa::{Empty, SendCodeRequest};
use sam_core::enrol::{Factor, FactorBody, PinTotp};
use sam_core::sent::{self, SentCode, Wish};
use sam_core::{FactorKind, Reason, pin};
use sap::enrol::CodeAddress;
use store_kit::{Tx, transaction};

use crate::audit;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, Row};
use crate::sam::Sam;

/// The factor that a code is for, and where it goes.
struct Wanted {
    row: Row<Factor>,
    secrets: PinTotp,
    to: CodeAddress,
}

impl<C: CryptoModule> Sam<C> {
    /// Sends a code to the owner of a key whose secrets applications collect.
    ///
    /// # Errors
    /// [`Refusal`]: not such a key, or no address of its owner; locked, too soon or too often; not delivered.
    pub async fn send_code(
        &self,
        service: &str,
        request: SendCodeRequest,
    ) -> Result<Empty, Refusal> {
        match self.try_send_code(service, &request).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.record(Event::RequestRefused {
                    client: Some(request.client),
                    person: Some(request.person),
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    async fn try_send_code(&self, service: &str, request: &SendCodeRequest) -> Result<(), Failed> {
        let mut tx = self.store.read("send-code-read").await?;
        let wanted = self.wanted_code(&mut tx, service, request).await?;
        drop(tx);
        let courier = self.courier.get().ok_or(Reason::ForeignFactor)?.clone();
        let (key, client) = (&request.key, &request.client);
        if wanted.secrets.may_send(key, client, self.clock.now())? == Wish::OnItsWay {
            return Ok(());
        }
        let code = sent::draw(self.random.as_ref());
        let mut salt = vec![0; pin::SALT];
        self.random.fill(&mut salt);
        let salt = B64(salt);
        let mac = self
            .pin_mac(&wanted.row.body.id, code.clone(), &salt)
            .await?;
        let to = transaction!(self.store, "send-code", |tx| {
            let now = self.clock.now();
            let wanted = self.wanted_code(tx, service, request).await?;
            // Another node may have been faster.
            if wanted.secrets.may_send(key, client, now)? == Wish::OnItsWay {
                return Ok(None);
            }
            let kept = SentCode {
                key: request.key.clone(),
                client: request.client.clone(),
                salt: salt.clone(),
                mac: mac.clone(),
            };
            let next = Factor {
                body: FactorBody::PinTotp(wanted.secrets.with_sent(kept, now)?),
                ..wanted.row.body.clone()
            };
            rows::save(tx, &self.sealer, &wanted.row, &next).await?;
            let event = Event::CodeSent {
                person: request.person.clone(),
                key: request.key.clone(),
                client: request.client.clone(),
                way: match &wanted.to {
                    CodeAddress::Mail(_) => "mail".into(),
                    CodeAddress::Phone(_) => "phone".into(),
                },
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(Some(wanted.to))
        })?;
        let Some(to) = to else {
            return Ok(());
        };
        let known = self.config.clients.get(&request.client);
        let letter = DeliverRequest {
            to,
            code,
            life: sent::LIFE,
            client: known.map_or_else(|| request.client.to_string(), |known| known.name.clone()),
        };
        if courier.deliver(&letter).await.is_ok() {
            return Ok(());
        }
        let noted: Result<(), Failed> = transaction!(self.store, "code-lost", |tx| {
            let wanted = self.wanted_code(tx, service, request).await?;
            let Some(next) = wanted.secrets.undelivered(&salt) else {
                return Ok(());
            };
            let next = Factor {
                body: FactorBody::PinTotp(next),
                ..wanted.row.body.clone()
            };
            rows::save(tx, &self.sealer, &wanted.row, &next).await?;
            let event = Event::CodeNotSent {
                person: request.person.clone(),
                key: request.key.clone(),
                client: request.client.clone(),
            };
            self.audit.append(tx, event, self.clock.now()).await?;
            Ok::<_, Failed>(())
        });
        if let Err(error) = noted {
            tracing::warn!(?error, "that a code wasn't delivered couldn't be written");
        }
        Err(Reason::NotNow.into())
    }

    async fn wanted_code(
        &self,
        tx: &mut Tx,
        service: &str,
        request: &SendCodeRequest,
    ) -> Result<Wanted, Failed> {
        let key = rows::get::<KeyRecord>(tx, &self.sealer, request.key.as_str()).await?;
        let key = key.filter(|k| k.body.owner == request.person && k.body.service == service);
        let key = key.ok_or(Reason::NotFound)?.body;
        if !key.is_active(self.clock.now()) {
            return Err(Reason::KeyNotActive.into());
        }
        let policy = &self.config.policy;
        policy.check(key.level(), FactorKind::Collected)?;
        let to = key.codes.clone().ok_or(Reason::ForeignFactor)?;
        let of = self.registration(tx, &key.owner, &key.voucher).await?;
        let collected = of.factors.into_iter().find_map(|row| match &row.body.body {
            FactorBody::PinTotp(secrets) if secrets.collected => Some((secrets.clone(), row)),
            _ => None,
        });
        let (secrets, row) = collected.ok_or(Reason::ForeignFactor)?;
        Ok(Wanted { row, secrets, to })
    }
}
