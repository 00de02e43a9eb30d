//! Requests: `prepare`, `status`, `bind` (`sap.md` §5, messages 1, 8, 9). A request has no power.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, DtbsForm, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{
    BindAnswer, BindRequest, PrepareAnswer, PrepareRequest, RequestState, StatusAnswer,
    StatusRequest, request_id,
};
use sam_core::act::{MAX_RENEW, MAX_REQUEST_LIFE, check_items, return_uri_allowed};
use sam_core::client_jws::{self, Claimed};
use sam_core::state::Subject;
use sam_core::{ActState, Reason, certificate};
use sap::Item;
use store_kit::{Tx, sql, transaction};

use crate::audit;
use crate::failed::Failed;
use crate::records::{KeyRecord, RequestBody, RequestPhase, RequestRecord, SignBody};
use crate::rows::{self, Noun as _, Row};
use crate::sam::Sam;

/// Whether there are items, and none of them is a document.
pub(super) fn is_bare(items: &[Item]) -> bool {
    let bare = |item: &Item| matches!(item, Item::Hash { .. });
    !items.is_empty() && items.iter().all(bare)
}

/// Most unapproved requests of one person and client.
const MAX_OPEN: i64 = 64;

impl<C: CryptoModule> Sam<C> {
    /// Stores a request of `service`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn prepare(
        &self,
        service: &str,
        request: PrepareRequest,
    ) -> Result<PrepareAnswer, Refusal> {
        self.prepare_for(service, request, false).await
    }

    /// As [`Self::prepare`]; `collected`: for a key whose secrets applications collect, and for no other.
    pub(crate) async fn prepare_for(
        &self,
        service: &str,
        request: PrepareRequest,
        collected: bool,
    ) -> Result<PrepareAnswer, Refusal> {
        let (client, person) = (request.client.clone(), request.person.clone());
        match self.try_prepare(service, request, collected).await {
            Ok(answer) => Ok(answer),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                let (client, person) = (Some(client), Some(person));
                self.record(Event::RequestRefused {
                    client,
                    person,
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    /// State of a request of `service`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn status(
        &self,
        service: &str,
        request: StatusRequest,
    ) -> Result<StatusAnswer, Refusal> {
        match self.try_status(service, request).await {
            Ok(state) => Ok(StatusAnswer { state }),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    /// Binds the one token that may use the approved act of a request.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn bind(&self, service: &str, request: BindRequest) -> Result<BindAnswer, Refusal> {
        let bound: Result<BindAnswer, Failed> = transaction!(self.store, "bind", |tx| {
            let now = self.now(tx).await?;
            let (owner, act) = self.own_request(tx, service, request.rid).await?;
            let digest = owner.body.act.ok_or(Reason::NotApproved)?;
            let row = act.ok_or(Reason::NotApproved)?;
            let next = row.body.bind(request.grant, now)?;
            let sign_until = next.check_right(now)?.sign_until;
            let Subject::Sign { key, client, .. } = &next.subject else {
                return Err(Reason::OtherKind.into());
            };
            let RequestBody::Sign(asked) = &owner.body.body else {
                return Err(Reason::OtherKind.into());
            };
            let count = u32::try_from(next.items.len()).unwrap_or(u32::MAX);
            let answer = BindAnswer {
                sign_until,
                key: key.clone(),
                count,
                bare: is_bare(&asked.items),
            };
            if next != row.body {
                let event = Event::SadBound {
                    act: digest,
                    client: client.clone(),
                    person: next.person.clone(),
                    grant: request.grant,
                };
                rows::save(tx, &self.sealer, &row, &next).await?;
                self.audit.append(tx, event, now.time).await?;
            }
            Ok::<_, Failed>(answer)
        });
        match bound {
            Ok(answer) => Ok(answer),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                let event = Event::SadRefused {
                    act: None,
                    client: None,
                    person: None,
                    reason: audit::reason(&reason),
                };
                self.record(event).await;
                Err(reason.to_ssa())
            }
        }
    }

    async fn try_prepare(
        &self,
        service: &str,
        request: PrepareRequest,
        collected: bool,
    ) -> Result<PrepareAnswer, Failed> {
        let now = self.clock.now();
        if !(1..=MAX_REQUEST_LIFE).contains(&request.ttl) {
            return Err(Reason::Invalid("ttl").into());
        }
        if !(0..=MAX_RENEW).contains(&request.renew) {
            return Err(Reason::Invalid("renew").into());
        }
        if !return_uri_allowed(&request.return_uri, &self.config.return_prefixes) {
            return Err(Reason::Invalid("return").into());
        }
        let mut tx = self.store.read("prepare-read").await?;
        let key = rows::get::<KeyRecord>(&mut tx, &self.sealer, request.key.as_str()).await?;
        let goes_on = self.goes_on(&mut tx).await;
        drop(tx);
        let key = key
            .filter(|k| k.body.owner == request.person)
            .ok_or(Reason::NotFound)?
            .body;
        goes_on?;
        if !key.is_active(now) {
            return Err(Reason::KeyNotActive.into());
        }
        if key.one_time && request.renew != 0 {
            return Err(Reason::Invalid("renew").into());
        }
        if key.collected != collected {
            return Err(Reason::ForeignFactor.into());
        }
        self.service.vouch(key.facts.level().0)?;
        let certificate = key.chain.first().cloned().unwrap_or_default();
        let count = request.items.len();
        let sam = self.clone();
        let (mut request, asked) = self
            .by_size(count, move || {
                let mut request = request;
                sam.check_client(&mut request, now)?;
                let asked = std::mem::take(&mut request.items);
                Ok((request, asked))
            })
            .await?;
        let policy = &self.config.policy;
        let checked = match request.open {
            Some(count) => {
                policy.check_open(key.alg, key.level(), count)?;
                // One call, of a key that goes on afterwards, and nothing that would be shown beside.
                if !asked.is_empty() || request.renew != 0 || key.one_time {
                    return Err(Reason::Invalid("open").into());
                }
                Vec::new()
            }
            None => {
                let work = move || {
                    check_items(asked, |item, given| {
                        certificate::signed_attrs(&item.h.0, given, &certificate.0, now)
                    })
                };
                self.by_size(count, work).await?
            }
        };
        let (items, attrs): (Vec<_>, Vec<_>) =
            checked.into_iter().map(|c| (c.item, c.attrs)).unzip();
        if request.open.is_none() {
            policy.check_items(key.alg, key.level(), &items)?;
        }
        let messages = match key.alg.form() {
            DtbsForm::Digest => Vec::new(),
            DtbsForm::Message => attrs.into_iter().flatten().collect(),
        };
        if !items
            .iter()
            .all(|i| key.alg.sig_algs().iter().any(|a| a.hash() == i.hash_alg()))
        {
            return Err(Reason::AlgorithmNotApproved.into());
        }
        let rid = self.random.digest32();
        let id = request_id(rid);
        let exp = now.plus(request.ttl);
        let named = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let count = request.open.unwrap_or(named);
        let prepared = Event::RequestPrepared {
            request: id,
            client: request.client.clone(),
            person: request.person.clone(),
            key: request.key.clone(),
            items: count,
        };
        let record = RequestRecord {
            phase: RequestPhase::Open,
            service: service.to_owned(),
            person: request.person,
            body: RequestBody::Sign(SignBody {
                key: request.key,
                client: request.client,
                client_name: request.client_name,
                client_jws: request.client_jws.take(),
                items,
                messages,
                renew: request.renew,
                open: request.open,
            }),
            return_uri: request.return_uri,
            created: now,
            exp,
            act: None,
        };
        self.store_request(id, record, prepared).await?;
        Ok(PrepareAnswer { rid, exp })
    }

    /// A client with registered keys must have signed exactly this; its names are taken from what it signed. Of any
    /// other client a signature can't be judged, so that the act says that it isn't signed.
    fn check_client(&self, request: &mut PrepareRequest, now: UnixTime) -> Result<(), Reason> {
        let known = self.config.clients.get(&request.client);
        let keys = known.map_or(&[][..], |c| &c.keys);
        if keys.is_empty() {
            request.client_jws = None;
            return Ok(());
        }
        let jws = request.client_jws.as_deref();
        let claimed = Claimed {
            client: &request.client,
            key: &request.key,
            items: &request.items,
            open: request.open,
        };
        let prefixes = &self.config.return_prefixes;
        let ours = |audience: &str| {
            return_uri_allowed(audience, prefixes)
                || return_uri_allowed(&format!("{audience}/"), prefixes)
        };
        let jws = jws.ok_or(Reason::Invalid("client_jws"))?;
        let labels = client_jws::check(jws, keys, claimed, ours, now)?;
        for (item, label) in request.items.iter_mut().zip(labels) {
            item.label = label;
        }
        Ok(())
    }

    /// Stores a request; the oldest of its kind give way.
    pub(crate) async fn store_request(
        &self,
        id: Digest32,
        record: RequestRecord,
        prepared: Event,
    ) -> Result<(), Failed> {
        let now = record.created;
        transaction!(self.store, "prepare", |tx| {
            let mut events = self.make_room(tx, &record).await?;
            rows::insert(tx, &self.sealer, &id.to_string(), &record).await?;
            events.push(prepared.clone());
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// The oldest unapproved requests give way (`sap.md` §5).
    async fn make_room(&self, tx: &mut Tx, record: &RequestRecord) -> Result<Vec<Event>, Failed> {
        let mut events = Vec::new();
        let select = sql(
            "SELECT id FROM request WHERE owner = $1 AND link = $2 AND state = $3 \
                          ORDER BY stamp DESC, id LIMIT 200",
        );
        let columns = record.columns().of(&self.sealer);
        let open = select.bind(columns.owner).bind(columns.link).bind("open");
        let open = tx.fetch_all(open).await?;
        for old in open.iter().skip(usize::try_from(MAX_OPEN - 1).unwrap_or(0)) {
            let id = old.text("id")?;
            let Some(row) = rows::get::<RequestRecord>(tx, &self.sealer, &id).await? else {
                continue;
            };
            let next = RequestRecord {
                phase: RequestPhase::Withdrawn,
                ..row.body.clone()
            };
            rows::save(tx, &self.sealer, &row, &next).await?;
            events.extend(self.end_act(tx, row.body.act, "request-gave-way").await?);
        }
        Ok(events)
    }

    /// Supersedes an act that is still open. The event is recorded at the end of the transaction, because the
    /// log's head is the row that all writers share and must be locked last.
    pub(crate) async fn end_act(
        &self,
        tx: &mut Tx,
        act: Option<Digest32>,
        reason: &'static str,
    ) -> Result<Option<Event>, Failed> {
        let Some(digest) = act else { return Ok(None) };
        let row = rows::get::<ActState>(tx, &self.sealer, &digest.to_string()).await?;
        let Some(row) = row else { return Ok(None) };
        let Some(next) = row.body.supersede() else {
            return Ok(None);
        };
        rows::save(tx, &self.sealer, &row, &next).await?;
        Ok(Some(Event::ActEnded {
            act: digest,
            person: Some(next.person),
            reason: reason.into(),
        }))
    }

    async fn try_status(
        &self,
        service: &str,
        request: StatusRequest,
    ) -> Result<RequestState, Failed> {
        let mut tx = self.store.read("status").await?;
        let (row, _) = self.own_request(&mut tx, service, request.rid).await?;
        Ok(match row.body.phase {
            RequestPhase::Open if self.clock.now() < row.body.exp => RequestState::Open,
            RequestPhase::Open | RequestPhase::Withdrawn => RequestState::Expired,
            RequestPhase::Approved => RequestState::Approved,
            RequestPhase::Refused => RequestState::Refused,
        })
    }

    /// A request that this very service prepared, and its act.
    async fn own_request(
        &self,
        tx: &mut Tx,
        service: &str,
        rid: Digest32,
    ) -> Result<(Row<RequestRecord>, Option<Row<ActState>>), Failed> {
        let id = request_id(rid).to_string();
        let row = rows::get::<RequestRecord>(tx, &self.sealer, &id).await?;
        let row = row
            .filter(|r| r.body.service == service)
            .ok_or(Reason::NotFound)?;
        let act = match row.body.act {
            Some(digest) => rows::get::<ActState>(tx, &self.sealer, &digest.to_string()).await?,
            None => None,
        };
        Ok((row, act))
    }
}
