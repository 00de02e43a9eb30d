//! Clients managed by officers, on a listener of its own: who calls is known by the name in the certificate, and what an office
//! may is the guideline's split of duties: administrators configure, security officers manage what is secret, everybody who runs
//! the service can stop a client. Each change is in the audit log, in the transaction of its effect; so is each refusal.

pub mod calls;
mod separation;

use std::sync::Arc;

use audit_log::Event;
use axum::Router;
use core_types::{ClientId, Digest32, OfficerId, PeerId, UnixTime, sha256};
use csc_types::SecretText;
use sap::office::Role;
use service_kit::{HourlyLimit, HourlyRate, Peer, Routes, Trouble};
use store_kit::{StoreError, Tx, transaction};

use crate::clients::{self, NewClient, Record, State};
use crate::{Ssa, contract, crypt, notices};
pub use separation::check as check_separation;

use calls::{
    AddRequest, ClientAdd, ClientInfo, ClientList, ClientProof, ClientRefusal, ClientRequest,
    ClientResponseSecret, ClientResume, ClientRotate, ClientSet, ClientShow, ClientState,
    ClientSuspend, Contract, ListAnswer, ResponseSecretAnswer, RotateAnswer, RotateRequest,
    SetRequest,
};

/// Longest request in bytes.
const LIMIT: usize = 1 << 20;
/// Longest time for which a secret counts beside the next one, in seconds.
const OVERLAP: i64 = 30 * 24 * 60 * 60;

/// Somebody who may manage clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOfficer {
    /// Name in the certificate with which they call.
    pub peer: PeerId,
    /// Person.
    pub officer: OfficerId,
    /// Office in which they do it.
    pub role: Role,
}

/// How much a guard may stop: five clients at once, and five more in an hour.
const GUARD: HourlyRate = HourlyRate {
    burst: 5,
    per_hour: 5,
};
/// As whom guards are recorded, beside the name in their certificate.
const GUARD_NAME: &str = "guard";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// See what is agreed.
    Look,
    /// Fix what is agreed.
    Configure,
    /// Hand out what a client proves itself with.
    Secret,
    /// Stop a client, or let it go on.
    Stop,
}

impl Want {
    /// Whether it belongs to this office (part I §7.1.1.2). Auditors read the log instead.
    fn fits(self, role: Role) -> bool {
        match self {
            Self::Look | Self::Stop => role != Role::SystemAuditor,
            Self::Configure => role == Role::SystemAdministrator,
            Self::Secret => role == Role::SecurityOfficer,
        }
    }
}

struct Desk {
    ssa: Ssa,
    officers: Vec<ClientOfficer>,
    /// Programs that watch the logs: they suspend clients, a few at a time, and do nothing else.
    guards: Vec<ClientOfficer>,
    stopped: HourlyLimit<PeerId>,
    /// Gateways of officers: they list clients for whom the SAM lets look, and do nothing else.
    viewers: Vec<PeerId>,
}

impl Ssa {
    /// What officers call; for a listener with [`service_kit::tls::mutual_server`]. `guards`: names in the certificates of
    /// programs that watch the logs and may suspend clients, and nothing else.
    ///
    /// # Errors
    /// [`Trouble`] when a certificate names two of them, or a person has roles that exclude each other.
    pub fn officers_router(
        &self,
        officers: Vec<ClientOfficer>,
        guards: Vec<PeerId>,
    ) -> Result<Router, Trouble> {
        self.officers_router_seen_by(officers, guards, Vec::new())
    }

    /// The same. `viewers`: names in the certificates of officers' gateways, which list clients and do nothing else.
    ///
    /// # Errors
    /// As [`Self::officers_router`].
    pub fn officers_router_seen_by(
        &self,
        officers: Vec<ClientOfficer>,
        guards: Vec<PeerId>,
        viewers: Vec<PeerId>,
    ) -> Result<Router, Trouble> {
        let others = guards.iter().chain(&viewers);
        let mut names: Vec<&PeerId> = officers.iter().map(|o| &o.peer).chain(others).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return Err(Trouble::new(
                "bad-config",
                format!("the certificate {} stands for two officers", twice[0]),
                "give every officer, and every guard, a certificate of their own",
            ));
        }
        separation::check(&officers, &[])?;
        let name = OfficerId::parse(GUARD_NAME)
            .map_err(|e| Trouble::new("bug", e.to_string(), "report this with the output above"))?;
        let guard = |peer| ClientOfficer {
            peer,
            officer: name.clone(),
            role: Role::SystemOperator,
        };
        let desk = Desk {
            ssa: self.clone(),
            officers,
            guards: guards.into_iter().map(guard).collect(),
            stopped: HourlyLimit::default(),
            viewers,
        };
        Ok(Routes::new(Arc::new(desk), LIMIT)
            .method::<ClientList, _, _>(|d, p, _| async move { d.list(&p).await })
            .method::<ClientShow, _, _>(|d, p, r| async move { d.show(&p, &r.client).await })
            .method::<ClientAdd, _, _>(|d, p, r| async move { d.add(&p, r).await })
            .method::<ClientSet, _, _>(|d, p, r| async move { d.set(&p, r).await })
            .method::<ClientRotate, _, _>(|d, p, r| async move { d.rotate(&p, r).await })
            .method::<ClientResponseSecret, _, _>(|d, p, r| async move {
                d.response_secret(&p, &r.client).await
            })
            .method::<ClientSuspend, _, _>(|d, p, r| async move {
                let by = d.enter_to_stop(&p).await?;
                d.switch(by, &r, State::Suspended).await
            })
            .method::<ClientResume, _, _>(|d, p, r| async move {
                let by = d.enter(&p, Want::Stop).await?;
                d.switch(by, &r, State::Active).await
            })
            .into_router())
    }
}

/// Why something wasn't done; nothing of its transaction stays.
enum Stop {
    Refused(ClientRefusal),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ClientRefusal> for Stop {
    fn from(refusal: ClientRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Stop> for ClientRefusal {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Store(error) => {
                tracing::error!(%error, "the store failed an officer's request");
                Self::NotNow
            }
        }
    }
}

fn invalid(member: &str) -> ClientRefusal {
    ClientRefusal::Invalid {
        member: member.to_owned(),
    }
}

impl Desk {
    /// Who is calling, if this belongs to their office. Everybody else is recorded.
    async fn enter(&self, peer: &Peer, want: Want) -> Result<&ClientOfficer, ClientRefusal> {
        let known = self
            .officers
            .iter()
            .find(|known| known.peer.as_str() == peer.name);
        if let Some(officer) = known
            && want.fits(officer.role)
        {
            return Ok(officer);
        }
        self.refused_at_the_door(peer).await?;
        Err(ClientRefusal::NotAllowed)
    }

    /// Records that somebody wanted what isn't theirs to do.
    async fn refused_at_the_door(&self, peer: &Peer) -> Result<(), ClientRefusal> {
        if let Ok(peer) = PeerId::parse(peer.name.as_str()) {
            self.refused(&peer).await?;
        }
        Ok(())
    }

    /// Records that somebody was refused.
    async fn refused(&self, peer: &PeerId) -> Result<(), Stop> {
        let (ssa, now) = (&self.ssa, self.ssa.now());
        transaction!(ssa.store(), "officer-refused", |tx| {
            let event = Event::ClientChangeRefused { peer: peer.clone() };
            ssa.audit().append(tx, event, now).await?;
            Ok(())
        })
    }

    /// The same for whoever stops a client: a guard may, too.
    async fn enter_to_stop(&self, peer: &Peer) -> Result<&ClientOfficer, ClientRefusal> {
        let guard = self.guards.iter().find(|g| g.peer.as_str() == peer.name);
        let Some(guard) = guard else {
            return self.enter(peer, Want::Stop).await;
        };
        let taken = self.stopped.take(&guard.peer, GUARD, self.ssa.now());
        if taken.is_ok() {
            return Ok(guard);
        }
        self.refused_at_the_door(peer).await?;
        Err(ClientRefusal::NotNow)
    }

    async fn list(&self, peer: &Peer) -> Result<ListAnswer, ClientRefusal> {
        if !self.viewers.iter().any(|v| v.as_str() == peer.name) {
            self.enter(peer, Want::Look).await?;
        }
        Ok(self.all().await?)
    }

    async fn all(&self) -> Result<ListAnswer, Stop> {
        let now = self.ssa.now();
        let mut tx = self.ssa.store().read("clients").await?;
        let mut clients = Vec::new();
        for record in clients::all(&mut tx).await? {
            clients.push(info(&mut tx, record, now).await?);
        }
        Ok(ListAnswer { clients })
    }

    async fn show(&self, peer: &Peer, client: &ClientId) -> Result<ClientInfo, ClientRefusal> {
        self.enter(peer, Want::Look).await?;
        Ok(self.one(client).await?)
    }

    async fn one(&self, client: &ClientId) -> Result<ClientInfo, Stop> {
        let mut tx = self.ssa.store().read("client").await?;
        self.now(&mut tx, client).await
    }

    async fn add(&self, peer: &Peer, request: AddRequest) -> Result<ClientInfo, ClientRefusal> {
        let by = self.enter(peer, Want::Configure).await?;
        let AddRequest {
            client,
            contract,
            public,
        } = request;
        if public && self.ssa.config().fapi {
            return Err(invalid("public"));
        }
        let new = checked(client, contract, public)?;
        let state = if public { State::Active } else { State::New };
        let (ssa, now) = (&self.ssa, self.ssa.now());
        let done: Result<ClientInfo, Stop> = transaction!(ssa.store(), "add-client", |tx| {
            if !clients::insert(tx, &new, None, state, now).await? {
                return Err(ClientRefusal::Taken.into());
            }
            self.changed(tx, by, &new.id, "added").await
        });
        Ok(done?)
    }

    async fn set(&self, peer: &Peer, request: SetRequest) -> Result<ClientInfo, ClientRefusal> {
        let by = self.enter(peer, Want::Configure).await?;
        let new = checked(request.client, request.contract, false)?;
        let ssa = &self.ssa;
        let done: Result<ClientInfo, Stop> = transaction!(ssa.store(), "set-client", |tx| {
            let mut record = known(tx, &new.id, request.version).await?;
            let client = &mut record.client;
            let keys = std::mem::take(&mut client.settings.keys);
            let certificate = client.settings.certificate.take();
            client.name.clone_from(&new.name);
            client.redirects.clone_from(&new.redirect_uris);
            client.native = new.native;
            client.settings.clone_from(&new.settings);
            client.settings.keys = keys;
            client.settings.certificate = certificate;
            // One without a secret gets its keys from whoever hands them out.
            let own = record.state == State::New;
            if client.settings.lacks_keys(ssa.config().fapi && !own) {
                return Err(invalid("keys").into());
            }
            clients::update(tx, &record).await?;
            self.changed(tx, by, &new.id, "set").await
        });
        Ok(done?)
    }

    async fn rotate(
        &self,
        peer: &Peer,
        request: RotateRequest,
    ) -> Result<RotateAnswer, ClientRefusal> {
        let by = self.enter(peer, Want::Secret).await?;
        if !(0..=OVERLAP).contains(&request.overlap) {
            return Err(invalid("overlap"));
        }
        if request.keys.len() > contract::KEYS || contract::read_keys(&request.keys).is_none() {
            return Err(invalid("keys"));
        }
        let own = !request.keys.is_empty() || request.certificate.is_some();
        let secret = (!own).then(|| crypt::draw(self.ssa.random()));
        let (ssa, now) = (&self.ssa, self.ssa.now());
        let done: Result<ClientInfo, Stop> = transaction!(ssa.store(), "rotate-client", |tx| {
            let mut record = known(tx, &request.client, request.version).await?;
            if record.state != State::New && record.client.is_public() {
                // Whoever has it would have its secret.
                return Err(invalid("client").into());
            }
            let mut settings = record.client.settings.clone();
            settings.keys.clone_from(&request.keys);
            settings.certificate.clone_from(&request.certificate);
            if settings.lacks_keys(ssa.config().fapi) {
                return Err(invalid("keys").into());
            }
            if let Some(member) = settings.fault() {
                return Err(invalid(member).into());
            }
            if record.state == State::New {
                record.state = State::Active;
            }
            let text = secret.as_ref().map(SecretText::expose);
            let until = now.plus(request.overlap);
            clients::rotate(tx, &record, text, &settings, until).await?;
            self.changed(tx, by, &request.client, "rotated").await
        });
        Ok(RotateAnswer {
            client: done?,
            secret,
        })
    }

    async fn response_secret(
        &self,
        peer: &Peer,
        client: &ClientId,
    ) -> Result<ResponseSecretAnswer, ClientRefusal> {
        let by = self.enter(peer, Want::Secret).await?;
        let ssa = &self.ssa;
        let done: Result<SecretText, Stop> = transaction!(ssa.store(), "response-secret", |tx| {
            let found = clients::record(tx, client.as_str()).await?;
            let record = found.ok_or(ClientRefusal::Unknown)?;
            self.changed(tx, by, client, "response-secret-shown")
                .await?;
            Ok(notices::written(&ssa.response_secret(&record.client)))
        });
        Ok(ResponseSecretAnswer { secret: done? })
    }

    async fn switch(
        &self,
        by: &ClientOfficer,
        request: &ClientRequest,
        to: State,
    ) -> Result<ClientInfo, ClientRefusal> {
        let ssa = &self.ssa;
        let is_guard = self.guards.iter().any(|guard| guard.peer == by.peer);
        let done: Result<ClientInfo, Stop> = transaction!(ssa.store(), "switch-client", |tx| {
            let found = clients::record(tx, request.client.as_str()).await?;
            let mut record = found.ok_or(ClientRefusal::Unknown)?;
            // Anybody can call in the name of a client that proves nothing: what it did is no reason to stop it.
            if is_guard && record.client.is_public() {
                return Err(ClientRefusal::NotAllowed.into());
            }
            match (record.state, to) {
                // Nobody knows it anyway, and without a secret it mustn't come.
                (State::New, _) => return Err(invalid("client").into()),
                (is, to) if is == to => return self.now(tx, &request.client).await,
                _ => record.state = to,
            }
            clients::update(tx, &record).await?;
            let what = match to {
                State::Suspended => "suspended",
                State::New | State::Active => "resumed",
            };
            self.changed(tx, by, &request.client, what).await
        });
        if matches!(done, Err(Stop::Refused(ClientRefusal::NotAllowed))) {
            self.refused(&by.peer).await?;
        }
        Ok(done?)
    }

    /// Records what an officer did, and tells how the client is now.
    async fn changed(
        &self,
        tx: &mut Tx,
        by: &ClientOfficer,
        client: &ClientId,
        what: &'static str,
    ) -> Result<ClientInfo, Stop> {
        let info = self.now(tx, client).await?;
        let event = Event::ClientChanged {
            client: client.clone(),
            peer: by.peer.clone(),
            officer: by.officer.clone(),
            change: what.into(),
            contract: digest(&info.contract)?,
        };
        let now = self.ssa.now();
        self.ssa.audit().append(tx, event, now).await?;
        Ok(info)
    }

    /// How a client is.
    async fn now(&self, tx: &mut Tx, client: &ClientId) -> Result<ClientInfo, Stop> {
        let found = clients::record(tx, client.as_str()).await?;
        let found = found.ok_or(ClientRefusal::Unknown)?;
        Ok(info(tx, found, self.ssa.now()).await?)
    }
}

/// A client in the version that an officer looked at.
async fn known(tx: &mut Tx, client: &ClientId, version: i64) -> Result<Record, Stop> {
    let found = clients::record(tx, client.as_str()).await?;
    let found = found.ok_or(ClientRefusal::Unknown)?;
    if found.version == version {
        Ok(found)
    } else {
        Err(ClientRefusal::Changed.into())
    }
}

/// What an administrator may fix: everything but keys and certificates.
fn checked(client: ClientId, contract: Contract, public: bool) -> Result<NewClient, ClientRefusal> {
    if !contract.settings.keys.is_empty() {
        return Err(invalid("keys"));
    }
    if contract.settings.certificate.is_some() {
        return Err(invalid("certificate"));
    }
    let strict = contract.settings.fapi || contract.settings.signed_requests;
    if public && strict {
        return Err(invalid("public"));
    }
    let new = NewClient {
        id: client,
        name: contract.name,
        redirect_uris: contract.redirect_uris,
        native: contract.native,
        public,
        settings: contract.settings,
    };
    new.fault().map_or(Ok(new), |member| Err(invalid(member)))
}

fn digest(contract: &Contract) -> Result<Digest32, Stop> {
    let text = serde_json::to_vec(contract).map_err(|_| StoreError::Column("settings"))?;
    Ok(sha256(&[&text]))
}

async fn info(tx: &mut Tx, record: Record, now: UnixTime) -> Result<ClientInfo, StoreError> {
    let used = contract::used(tx, &record.client.id, now).await?;
    let client = record.client;
    let settings = &client.settings;
    let proof = match (
        &client.secret,
        &settings.certificate,
        settings.keys.is_empty(),
    ) {
        (_, Some(_), _) => ClientProof::Certificate,
        (Some(_), None, _) => ClientProof::Secret,
        (None, None, false) => ClientProof::Keys,
        (None, None, true) => ClientProof::None,
    };
    Ok(ClientInfo {
        version: record.version,
        state: match record.state {
            State::New => ClientState::New,
            State::Active => ClientState::Active,
            State::Suspended => ClientState::Suspended,
        },
        proof,
        overlap_until: Some(client.old.until).filter(|until| now < *until),
        created: record.created,
        contract: Contract {
            name: client.name,
            redirect_uris: client.redirects,
            native: client.native,
            settings: client.settings,
        },
        client: client.id,
        used,
    })
}
