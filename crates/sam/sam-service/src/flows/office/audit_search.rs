//! The audit log for auditors who are logged in. What isn't recorded isn't handed out.

use audit_log::{Event, Outcome, Query, search};
use cm_api::CryptoModule;
use core_types::rpc::Empty;
use core_types::{PeerId, UnixTime, sha256};
use sam_core::Reason;
use sam_core::office::Deed;
use sap::office::calls::{
    AuditAnswer, AuditEntry, AuditRequest, BesideRequest, InArchive, Looked, MAX_KINDS,
    OfficeRefusal,
};
use store_kit::transaction;

use super::About;
use super::proposals::check_deed;
use crate::failed::Failed;
use crate::sam::Sam;

/// Entries of one answer.
const PAGE: usize = 50;

impl<C: CryptoModule> Sam<C> {
    /// Searches this zone's audit log.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn audit_search(&self, request: AuditRequest) -> Result<AuditAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_audit_search(request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("audit", about, &failed).await),
        }
    }

    /// Whether an account may look at what another zone shows. Recorded before the answer leaves.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn beside(&self, request: BesideRequest) -> Result<Empty, OfficeRefusal> {
        let mut about = About::default();
        match self.try_beside(&request, &mut about).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => Err(self.refused_office("beside", about, &failed).await),
        }
    }

    async fn try_beside(&self, request: &BesideRequest, about: &mut About) -> Result<(), Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        let (deed, what) = match request.what {
            Looked::Clients => (Deed::SeeClients, "clients"),
            Looked::Log => (Deed::ReadAudit, "log"),
            Looked::State => (Deed::SeeState, "state"),
        };
        check_deed(&present.person, deed, now)?;
        let looked = Event::OfficerLooked {
            account: present.person.account.body.id.clone(),
            what: what.into(),
            zone: request.zone.clone(),
            query: sha256(&[request.search.as_bytes()]),
        };
        transaction!(self.store, "beside", |tx| {
            self.audit.append(tx, looked.clone(), now).await?;
            Ok::<_, Failed>(())
        })
    }

    async fn try_audit_search(
        &self,
        request: AuditRequest,
        about: &mut About,
    ) -> Result<AuditAnswer, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::ReadAudit, now)?;
        let account = &present.person.account.body.id;
        let reader = PeerId::parse(account.as_str()).map_err(|_| Reason::Invalid("account"))?;
        let query = query(request)?;
        let found = search(&self.store, &query).await?;
        let entries = u32::try_from(found.entries.len()).unwrap_or(u32::MAX);
        transaction!(self.store, "audit-read", |tx| {
            let read = Event::AuditRead {
                reader: reader.clone(),
                what: "search".into(),
                query: query.digest(),
                entries,
            };
            self.audit.append(tx, read, now).await?;
            Ok::<_, Failed>(())
        })?;
        let entries = found.entries.into_iter().map(|found| AuditEntry {
            seq: found.entry.seq,
            person: found.person,
            body: found.entry.body,
        });
        let archived = found.archived.iter().map(|part| InArchive {
            archive: part.archive,
            last: part.last,
        });
        Ok(AuditAnswer {
            entries: entries.collect(),
            next: found.next.map(|next| next.to_string()),
            archived: archived.collect(),
        })
    }
}

fn query(request: AuditRequest) -> Result<Query, Reason> {
    let known = |kind: &String| {
        let begins = |k: &&str| kind.ends_with('.') && k.starts_with(kind.as_str());
        Event::KINDS.iter().any(|k| k == kind || begins(k))
    };
    if request.kinds.len() > MAX_KINDS || !request.kinds.iter().all(known) {
        return Err(Reason::Invalid("kinds"));
    }
    let outcome = request.outcome.as_deref();
    let outcome = outcome.map(|name| Outcome::parse(name).ok_or(Reason::Invalid("outcome")));
    let after = request.after.map(|text| text.parse());
    Ok(Query {
        from: request.from.unwrap_or(UnixTime(0)),
        until: request.until.unwrap_or(UnixTime(i64::MAX)),
        kinds: request.kinds,
        person: request.person,
        key: request.key,
        outcome: outcome.transpose()?,
        class: None,
        after: after.transpose().map_err(|_| Reason::Invalid("after"))?,
        limit: PAGE,
    })
}
