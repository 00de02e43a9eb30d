//! `open` (`sap.md` §5, message 4): the signer opens a request, and the act is minted.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, KeyId, Level, Random, UnixTime};
use sam_api::ssa::{Wish, request_id};
use sam_core::act::{Issuer, SignContent, act_client, mint_sign, mint_sign_open};
use sam_core::change::{self, ChangeContent};
use sam_core::enrol::{Factor, FactorBody};
use sam_core::import::{self, ImportContent};
use sam_core::state::Subject;
use sam_core::{ActState, Reason};
use sap::act::Person;
use sap::level::references;
use sap::messages::{OpenAnswer, OpenRequest, PasskeyHint, SapRefusal};
use sap::proof::Method;
use sap::{Act, TYP_ACT, act_digest};
use store_kit::{Tx, sql, transaction};

use super::change::key_of;
use crate::audit;
use crate::failed::Failed;
use crate::records::{
    ChangeBody, KeyRecord, PersonRecord, RequestBody, RequestPhase, RequestRecord, SignBody,
};
use crate::rows::{self, Row};
use crate::sam::Sam;

/// How often a flow starts again when what it had read changed.
const ROUNDS: usize = 4;

struct Opened {
    request: Row<RequestRecord>,
    content: Content,
    level: Level,
    key: Option<KeyId>,
    /// Factors that could prove it, and those a new passkey must not repeat.
    factors: Vec<Factor>,
    exclude: Vec<Factor>,
}

/// The service that asked, and whether the key is for one act.
type Caller = (String, bool);

/// What the act will say.
enum Content {
    Sign(Box<SignContent>, Caller),
    /// So many signatures, for so many seconds.
    SignOpen(Box<SignContent>, Caller, (u32, i64)),
    Import(Box<ImportContent>),
    Change(Box<ChangeContent>),
}

impl Content {
    fn items(&self) -> usize {
        match self {
            Self::Sign(content, _) => content.items.len(),
            Self::SignOpen(..) | Self::Import(_) | Self::Change(_) => 0,
        }
    }

    fn mint(
        self,
        request: Digest32,
        issuer: Issuer<'_>,
        now: UnixTime,
        random: &dyn Random,
    ) -> Result<(Act, Subject), Reason> {
        match self {
            Self::Sign(content, (service, one_time)) => {
                let act = mint_sign(issuer, *content, now, random)?;
                let subject = Subject::Sign {
                    request,
                    key: act.key.id.clone(),
                    key_version: act.key.version,
                    client: act.client.id.clone(),
                    service,
                    open_until: None,
                    one_time,
                };
                Ok((Act::Sign(act), subject))
            }
            Self::SignOpen(content, (service, one_time), bounds) => {
                let act = mint_sign_open(issuer, *content, bounds, now, random)?;
                let subject = Subject::Sign {
                    request,
                    key: act.key.id.clone(),
                    key_version: act.key.version,
                    client: act.client.id.clone(),
                    service,
                    open_until: Some(act.until),
                    one_time,
                };
                Ok((Act::SignOpen(act), subject))
            }
            Self::Import(content) => {
                let subject = Subject::Import {
                    request,
                    registration: content.registration.clone(),
                    coming: content.coming.clone(),
                };
                let act = import::mint(issuer, *content, now, random)?;
                Ok((Act::Import(act), subject))
            }
            Self::Change(content) => {
                let subject = Subject::Change {
                    request,
                    registration: content.registration.clone(),
                    change: content.change.clone(),
                };
                Ok((change::mint(issuer, *content, now, random)?, subject))
            }
        }
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Mints the act of a request; an older open act of it dies.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn open(&self, request: OpenRequest) -> Result<OpenAnswer, SapRefusal> {
        let mut last = Failed::Changed;
        for _ in 0..ROUNDS {
            match self.try_open(request_id(request.rid)).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Changed) => {}
                Err(failed) => {
                    last = failed;
                    break;
                }
            }
        }
        let reason = self.explain(&last).await;
        let event = Event::SapRefused {
            act: None,
            person: None,
            method: None,
            reason: audit::reason(&reason),
        };
        self.record(event).await;
        Err(reason.to_sap())
    }

    pub(crate) async fn try_open(&self, id: Digest32) -> Result<OpenAnswer, Failed> {
        self.watch_clock().await?;
        self.check_clock()?;
        let time = self.clock.now();
        let Opened {
            request,
            content,
            level,
            key,
            factors,
            exclude,
        } = self.read_request(id).await?;
        let epoch = self.epoch().await?;
        let ring = self.ring(epoch, time).await?;
        if !matches!(content, Content::Change(_)) {
            self.service.vouch(level)?;
        }
        let (sam, random) = (self.clone(), self.random.clone());
        let seen = request.version;
        let adds_provider = matches!(
            &request.body.body,
            RequestBody::Change(ChangeBody {
                wish: Wish::AddFactor {
                    method: Method::Idp,
                    ..
                }
            })
        );
        // Up to 10,000 items are copied, written and hashed.
        let (digest, jws, state, kind) = self
            .by_size(content.items(), move || {
                let (act, subject) = content.mint(id, sam.issuer(epoch), time, random.as_ref())?;
                let items = match &act {
                    Act::Sign(sign) => sign.items.len(),
                    Act::SignOpen(open) => usize::try_from(open.count).unwrap_or(0),
                    _ => 0,
                };
                let payload = serde_json::to_vec(&act).map_err(|_| Reason::NotNow)?;
                let jws = ring
                    .act
                    .sign(TYP_ACT, &payload)
                    .map_err(|_| Reason::NotNow)?;
                let state = ActState::minted(subject, act.head(), items);
                Ok((act_digest(&jws), jws, state, act.kind()))
            })
            .await?;
        transaction!(self.store, "open", |tx| {
            let current = rows::get::<RequestRecord>(tx, &self.sealer, &id.to_string()).await?;
            let current = current
                .filter(|c| c.version == seen)
                .ok_or(Failed::Changed)?;
            if self.now(tx).await?.epoch != epoch {
                return Err(Failed::Changed);
            }
            let next = RequestRecord {
                act: Some(digest),
                ..current.body.clone()
            };
            rows::save(tx, &self.sealer, &current, &next).await?;
            let ended = self.end_act(tx, current.body.act, "superseded").await?;
            self.put_act(tx, digest, &jws, &state).await?;
            let mut events = Vec::from_iter(ended);
            events.extend([
                Event::RequestOpened {
                    request: id,
                    person: state.person.clone(),
                    act: digest,
                },
                Event::ActMinted {
                    act: digest,
                    what: kind.into(),
                    person: state.person.clone(),
                    key: key.clone(),
                    items: u32::try_from(state.items.len()).unwrap_or(u32::MAX),
                    level,
                },
            ]);
            self.audit.append_all(tx, &events, time).await?;
            Ok::<_, Failed>(())
        })?;
        let mut answer = self.open_answer(jws, level, &factors, &exclude);
        if adds_provider {
            answer.new_providers = self.providers_at(level);
        }
        Ok(answer)
    }

    async fn read_request(&self, id: Digest32) -> Result<Opened, Failed> {
        let mut tx = self.store.read("open-read").await?;
        let request = rows::get::<RequestRecord>(&mut tx, &self.sealer, &id.to_string()).await?;
        let request = request.ok_or(Reason::NotFound)?;
        match request.body.phase {
            RequestPhase::Open if self.clock.now() < request.body.exp => {}
            RequestPhase::Open => return Err(Reason::Expired.into()),
            RequestPhase::Approved => return Err(Reason::Used.into()),
            RequestPhase::Refused | RequestPhase::Withdrawn => return Err(Reason::Withdrawn.into()),
        }
        let RequestBody::Sign(sign) = &request.body.body else {
            let now = self.clock.now();
            if request.body.imports().is_some() {
                let (welcome, content) = self.resolve_import(&mut tx, &request.body, now).await?;
                return Ok(Opened {
                    level: content.level,
                    key: None,
                    factors: welcome.registration.all(),
                    exclude: Vec::new(),
                    content: Content::Import(Box::new(content)),
                    request,
                });
            }
            let resolved = self.resolve(&mut tx, &request.body, now).await?;
            let (content, all) = (resolved.content, resolved.registration.all());
            let attesters = self.attesters();
            let rules = self.rules(&attesters);
            let proves = |f: &&Factor| {
                let checked = content
                    .change
                    .check_prover(rules, &content.registration, f, &all);
                checked.is_ok()
            };
            return Ok(Opened {
                level: content.level,
                key: key_of(&content.change),
                factors: all.iter().filter(proves).cloned().collect(),
                exclude: all,
                content: Content::Change(Box::new(content)),
                request,
            });
        };
        let key = rows::get::<KeyRecord>(&mut tx, &self.sealer, sign.key.as_str()).await?;
        let key = key.ok_or(Reason::NotFound)?.body;
        if !key.is_active(self.clock.now()) || key.owner != request.body.person {
            return Err(Reason::KeyNotActive.into());
        }
        self.goes_on(&mut tx).await?;
        let person = rows::get::<PersonRecord>(&mut tx, &self.sealer, key.owner.as_str()).await?;
        let person = person.ok_or(Reason::NotFound)?.body;
        let factors = self
            .registration(&mut tx, &key.owner, &key.voucher)
            .await?
            .all();
        let level = key.level();
        let content = self.content(&request.body, sign, &key, &person, level);
        let (content, caller) = (
            Box::new(content),
            (request.body.service.clone(), key.one_time),
        );
        let content = match sign.open {
            Some(count) => {
                let policy = &self.config.policy;
                policy.check_open(key.alg, level, count)?;
                Content::SignOpen(content, caller, (count, policy.open_seconds()))
            }
            None => Content::Sign(content, caller),
        };
        Ok(Opened {
            content,
            level,
            key: Some(key.key),
            factors,
            exclude: Vec::new(),
            request,
        })
    }

    /// Stores an act: its text once and for all, and its state.
    pub(crate) async fn put_act(
        &self,
        tx: &mut Tx,
        digest: Digest32,
        jws: &str,
        state: &ActState,
    ) -> Result<(), Failed> {
        let id = digest.to_string();
        let insert = sql("INSERT INTO act_text (id, jws) VALUES ($1, $2)");
        tx.execute(insert.bind(&id).bind(jws)).await?;
        if rows::insert(tx, &self.sealer, &id, state).await? {
            Ok(())
        } else {
            Err(Reason::NotNow.into())
        }
    }

    fn content(
        &self,
        request: &RequestRecord,
        sign: &SignBody,
        key: &KeyRecord,
        person: &PersonRecord,
        level: Level,
    ) -> SignContent {
        let known = self
            .config
            .clients
            .get(&sign.client)
            .map(|c| c.name.as_str());
        SignContent {
            level,
            declared: references(&self.service.declared_for(level)),
            person: Person {
                id: key.owner.clone(),
                name: key.record.subject.common_name.clone(),
            },
            key: key.act_key(),
            alg: key.alg,
            client: act_client(
                sign.client.clone(),
                known,
                &sign.client_name,
                sign.client_jws.is_some(),
            ),
            items: sign.items.clone(),
            renew: sign.renew,
            since: person.since(),
            return_uri: request.return_uri.clone(),
            until: request.exp,
        }
    }

    fn open_answer(
        &self,
        act: String,
        level: Level,
        factors: &[Factor],
        exclude: &[Factor],
    ) -> OpenAnswer {
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        let usable: Vec<_> = factors.iter().filter(|f| rules.admits(level, f)).collect();
        let passkeys = passkey_hints(usable.iter().copied());
        let mut methods = Vec::new();
        if !passkeys.is_empty() {
            methods.push(Method::Passkey);
        }
        if usable
            .iter()
            .any(|f| matches!(&f.body, FactorBody::PinTotp(s) if !s.collected))
        {
            methods.push(Method::PinTotp);
        }
        if usable.iter().any(|f| f.method() == Method::Device) {
            methods.push(Method::Device);
        }
        let mut providers = Vec::new();
        for factor in &usable {
            if let FactorBody::Idp(identity) = &factor.body
                && let Some(provider) = self.config.providers.of(&identity.issuer)
            {
                providers.push(provider.hint());
            }
        }
        if !providers.is_empty() {
            methods.push(Method::Idp);
        }
        OpenAnswer {
            act,
            methods,
            passkeys,
            exclude: passkey_hints(exclude.iter()),
            providers,
            new_providers: Vec::new(),
        }
    }
}

/// Where the passkeys among these factors lie.
pub(crate) fn passkey_hints<'a>(factors: impl Iterator<Item = &'a Factor>) -> Vec<PasskeyHint> {
    factors
        .filter_map(|f| match &f.body {
            FactorBody::Passkey(p) => Some(PasskeyHint {
                id: p.id.clone(),
                transports: p.transports.clone(),
            }),
            FactorBody::PinTotp(_) | FactorBody::Device(_) | FactorBody::Idp(_) => None,
        })
        .collect()
}
