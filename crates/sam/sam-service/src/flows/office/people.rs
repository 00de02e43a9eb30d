//! What officers see: who holds which office, and how the SAM is.

use std::sync::PoisonError;

use audit_log::ClockSource;
use cm_api::CryptoModule;
use cm_api::rpc::{Empty, Health, Member, Status};
use core_types::{KeyId, OfficerId, UnixTime};
use sam_core::office::{Account, Deed, Officer};
use sap::level::{Declared, KeyAssurance};
use sap::office::calls::{
    AccountInfo, BackupsInfo, ClockSourceInfo, KeyEnds, LevelsInfo, LogInfo, MemberInfo,
    ModuleInfo, NodeInfo, OfficeRefusal, OfficerInfo, PeopleAnswer, SessionRequest, StateAnswer,
    TenantInfo,
};
use store_kit::{StoreError, Tx, sql};

use super::About;
use super::proposals::check_deed;
use crate::failed::{Failed, readable};
use crate::rows;
use crate::sam::Sam;

/// Keys that are counted for the page.
const MOST_KEYS: i64 = 10_000;
/// Keys that are named because their certificates end.
const MOST_ENDING: i64 = 50;
/// Seconds before the end of a certificate from which on it is named.
const ENDS_SOON: i64 = 31 * 24 * 3600;

fn shown(source: ClockSource) -> ClockSourceInfo {
    ClockSourceInfo {
        source: source.name,
        state: source.state.to_owned(),
        offset_ms: source.offset_ms,
    }
}

fn module(health: Health) -> ModuleInfo {
    let member = |member: Member| MemberInfo {
        device: member.device,
        state: format!("{:?}", member.state).to_lowercase(),
    };
    ModuleInfo {
        state: format!("{:?}", health.state).to_lowercase(),
        device: health.device,
        members: health.members.into_iter().map(member).collect(),
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Everybody who holds or held an office.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn people(&self, request: SessionRequest) -> Result<PeopleAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_people(&request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("people", about, &failed).await),
        }
    }

    /// How the SAM is.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn state(&self, request: SessionRequest) -> Result<StateAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_state(&request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("state", about, &failed).await),
        }
    }

    async fn try_people(
        &self,
        request: &SessionRequest,
        about: &mut About,
    ) -> Result<PeopleAnswer, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeePeople, now)?;
        let mut tx = self.store.read("people").await?;
        let (mut officers, mut refused) = (Vec::new(), Vec::new());
        for id in rows::ids::<Officer>(&mut tx).await? {
            let row = rows::get::<Officer>(&mut tx, &self.sealer, &id).await;
            let Some(found) = readable(row)? else {
                refused.extend(OfficerId::parse(id));
                continue;
            };
            let Some(row) = found else { continue };
            let (accounts, bad) =
                rows::readable_by_owner::<Account>(&mut tx, &self.sealer, &id).await?;
            if bad > 0 {
                refused.push(row.body.id.clone());
            }
            let due = row.body.is_due(now);
            let officer = row.body;
            officers.push(OfficerInfo {
                officer: officer.id,
                name: officer.name,
                office: officer.office,
                named_by: officer.named_by,
                since: officer.since,
                ended: officer.ended,
                due,
                accounts: accounts
                    .into_iter()
                    .map(|a| AccountInfo {
                        active: a.body.usable().is_ok(),
                        unconfirmed: a.body.check_confirmed().is_err(),
                        account: a.body.id,
                        last_act: a.body.last_act,
                    })
                    .collect(),
            });
        }
        let usable = self.usable_officers(&mut tx, now).await?.len();
        Ok(PeopleAnswer {
            officers,
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
            refused,
        })
    }

    async fn try_state(
        &self,
        request: &SessionRequest,
        about: &mut About,
    ) -> Result<StateAnswer, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeeState, now)?;
        let health = self.module.call::<Status>(&Empty {}).await;
        let log = audit_log::status(&self.store).await?;
        let alerts = self.alerts(&request.session, &present.person, now);
        let alerts = alerts.await?;
        let nodes = log.nodes.iter().map(|(node, at)| NodeInfo {
            node: node.clone(),
            at: *at,
        });
        let nodes = nodes.collect();
        let mut tx = self.store.read("office-state").await?;
        let may = |deed| check_deed(&present.person, deed, now).is_ok();
        let (keys, keys_more, ending) = match may(Deed::SeeKeys) {
            true => {
                let (keys, more) = self.keys_by_state(&mut tx).await?;
                (keys, more, self.keys_ending(&mut tx, now).await?)
            }
            false => (Vec::new(), false, Vec::new()),
        };
        let due = match may(Deed::SeePeople) {
            true => self.officers_due(&mut tx, now).await?,
            false => 0,
        };
        let usable = self.usable_officers(&mut tx, now).await?.len();
        let count = sql("SELECT COUNT(*) AS n FROM office_proposal WHERE state = $1");
        let open = tx.fetch_one(count.bind("open")).await?.int("n")?;
        Ok(StateAnswer {
            sam: self.config.sam.clone(),
            node: self.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ceiling: self.service.ceiling,
            declared: self.declared(),
            clock: self.check_clock().is_ok(),
            clock_bound_ms: self.config.clock.bound_ms(),
            clock_error_ms: self.clock_watch.error_ms(),
            clock_sources: self.clock_watch.sources().into_iter().map(shown).collect(),
            backups: self.backups().map(|known| BackupsInfo {
                made: known.made.map(|report| report.made),
                made_late: known.late.made,
                tried: known.verified.map(|report| report.at),
                tried_made: known.verified.map(|report| report.made),
                tried_late: known.late.verified,
            }),
            mail: self.mail(&mut tx, now).await?,
            module: health.ok().map(module),
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
            open: u32::try_from(open).unwrap_or(u32::MAX),
            settings: Vec::new(),
            nodes,
            log: LogInfo {
                entries: u64::try_from(log.entries).unwrap_or(0),
                new: u64::try_from(log.new).unwrap_or(0),
                checkpoint: log.checkpoint,
                cosigned: u32::try_from(log.cosigned).unwrap_or(u32::MAX),
            },
            alerts,
            keys,
            keys_more,
            levels: may(Deed::SeeKeys).then(|| self.levels()).flatten(),
            ending,
            due,
            tenants: self
                .config
                .tenants
                .iter()
                .map(|tenant| TenantInfo {
                    tenant: tenant.id.clone(),
                    brand: tenant.brand.clone(),
                    ceiling: tenant.policy.ceiling,
                })
                .collect(),
        })
    }

    /// Keys that can be used and whose certificates end within a month.
    async fn keys_ending(&self, tx: &mut Tx, now: UnixTime) -> Result<Vec<KeyEnds>, Failed> {
        let select = "SELECT id, stamp FROM signing_key WHERE state = $1 AND stamp > $2 AND stamp <= $3 \
                      ORDER BY stamp LIMIT $4";
        let until = now.plus(ENDS_SOON);
        let select = sql(select).bind("active").bind(now.0).bind(until.0);
        let mut ending = Vec::new();
        for row in tx.fetch_all(select.bind(MOST_ENDING)).await? {
            let key = KeyId::parse(row.text("id")?).map_err(|_| StoreError::Column("id"))?;
            ending.push(KeyEnds {
                at: UnixTime(row.int("stamp")?),
                assurance: self.assurance_of(tx, &key).await?,
                key,
            });
        }
        Ok(ending)
    }

    /// What is told of a key, whosever it is; nothing where nobody here can read it.
    async fn assurance_of(&self, tx: &mut Tx, key: &KeyId) -> Result<Option<KeyAssurance>, Failed> {
        let told = async {
            let of = self.of_key(tx, key).await?;
            let row = of.signing_key(tx, key).await?;
            Ok::<_, Failed>(of.assurance(&row.body))
        };
        match told.await {
            Err(Failed::No(_)) => Ok(None),
            told => readable(told),
        }
    }

    /// What the operator declares, each once: tenants have a policy of their own.
    fn declared(&self) -> Vec<Declared> {
        let mut declared = Vec::new();
        for tenant in self.tenants() {
            for one in &tenant.service.declared {
                if !declared.contains(one) {
                    declared.push(one.clone());
                }
            }
        }
        declared
    }

    async fn officers_due(&self, tx: &mut Tx, now: UnixTime) -> Result<u32, Failed> {
        let mut due = 0;
        for id in rows::ids::<Officer>(tx).await? {
            let row = readable(rows::get::<Officer>(tx, &self.sealer, &id).await)?.flatten();
            due += u32::from(row.is_some_and(|row| row.body.is_due(now)));
        }
        Ok(due)
    }

    fn levels(&self) -> Option<LevelsInfo> {
        let known = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// How many of the first keys are in which state, and whether there are more.
    async fn keys_by_state(&self, tx: &mut Tx) -> Result<(Vec<(String, u32)>, bool), Failed> {
        let select = "SELECT state, COUNT(*) AS n FROM (SELECT state FROM signing_key LIMIT $1) AS some_keys \
                      GROUP BY state ORDER BY state";
        let rows = tx.fetch_all(sql(select).bind(MOST_KEYS)).await?;
        let mut keys = Vec::new();
        for row in rows {
            keys.push((
                row.text("state")?,
                u32::try_from(row.int("n")?).unwrap_or(u32::MAX),
            ));
        }
        let counted: i64 = keys.iter().map(|(_, n)| i64::from(*n)).sum();
        Ok((keys, counted >= MOST_KEYS))
    }
}

#[cfg(test)]
mod tests {
    use cm_api::rpc::MemberState;
    use cm_api::{ModuleState, rpc};
    use core_types::Level;

    use super::*;

    #[test]
    fn officers_see_each_device_of_the_module() {
        let member = |device: Option<&str>, state| rpc::Member {
            device: device.map(str::to_owned),
            state,
        };
        let shown = module(Health {
            operational: true,
            state: ModuleState::Degraded,
            switched: 0,
            backend: "several".to_owned(),
            ceiling: Level::Two,
            exports: false,
            device: Some("2 devices".to_owned()),
            declaration: None,
            witness_declaration: None,
            tested: None,
            error: None,
            members: vec![
                member(Some("maker model 1.2"), MemberState::Well),
                member(None, MemberState::Resting),
            ],
        });
        let members: Vec<_> = shown.members.iter().map(|m| m.state.as_str()).collect();
        assert_eq!(
            (shown.state.as_str(), members),
            ("degraded", vec!["well", "resting"])
        );
        assert_eq!(shown.device.as_deref(), Some("2 devices"));
        assert_eq!(shown.members[0].device.as_deref(), Some("maker model 1.2"));
    }
}
