//! Having things stopped: with a certificate of the program's own, at the zones' doors for guards.

use std::collections::BTreeMap;

use audit_alert::{Acting, Alert, Brake, Stop, Target, told};
use core_types::UnixTime;
use sam_api::guard::{GuardRequest, GuardStop};
use serde::{Deserialize, Serialize};
use service_kit::daemon::TlsFiles;
use service_kit::http::HttpOptions;
use service_kit::{CallError, Client, Trouble};
use ssa_service::calls::{ClientRefusal, ClientRequest, ClientSuspend};

use super::CHECK;

/// Seconds for which a stop that couldn't be asked for is tried again; then people have to.
const PATIENCE: i64 = 3600;

/// The table `[act]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActTable {
    /// What each rule stops.
    rules: BTreeMap<String, Stop>,
    #[serde(default = "three")]
    per_hour: usize,
    /// The SAM's listener for services.
    sam: Option<String>,
    /// The SSA's listener for officers.
    ssa: Option<String>,
    /// The certificate that zones list under `guards`; not the one that reads logs.
    tls: TlsFiles,
}

fn three() -> usize {
    3
}

/// What is remembered over restarts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Deeds {
    brake: Brake,
    /// Chosen, and not yet answered.
    open: Vec<(UnixTime, Target)>,
}

/// Who asks for stops.
pub(super) struct Actor {
    acting: Acting,
    sam: Option<Client>,
    ssa: Option<Client>,
}

impl Actor {
    /// As configured.
    ///
    /// # Errors
    /// [`Trouble`] when a rule can't stop what it should, or nobody is named who could.
    pub(super) fn new(table: &ActTable) -> Result<Self, Trouble> {
        let bad = |what: String| Trouble::new("bad-config", what, CHECK);
        let options = HttpOptions {
            ca_pem: Some(table.tls.ca_pem()?),
            identity: Some(table.tls.identity()?),
            ..HttpOptions::default()
        };
        let client = |url: &Option<String>| {
            let url = url.as_ref().map(|url| url.trim_end_matches('/'));
            url.map(|url| Client::new(url, &options)).transpose()
        };
        let (sam, ssa) = (client(&table.sam)?, client(&table.ssa)?);
        for (rule, stop) in &table.rules {
            let door = match stop {
                Stop::Client => ssa.is_some(),
                Stop::Key | Stop::Session => sam.is_some(),
            };
            if !door {
                return Err(bad(format!(
                    "act.rules.{rule} has nobody to ask: name act.sam or act.ssa"
                )));
            }
        }
        let acting =
            Acting::new(table.rules.clone(), table.per_hour).map_err(|e| bad(e.to_string()))?;
        Ok(Self { acting, sam, ssa })
    }

    /// Chooses what follows from these alerts; what is chosen waits in `deeds`. Answers further alerts.
    pub(super) fn choose(&self, deeds: &mut Deeds, alerts: &[Alert], now: UnixTime) -> Vec<Alert> {
        let mut further = Vec::new();
        for alert in alerts {
            let chosen = deeds.brake.choose(alert, &self.acting, now);
            deeds
                .open
                .extend(chosen.stop.into_iter().map(|target| (now, target)));
            further.extend(chosen.held_back);
        }
        further
    }

    /// Asks for what waits; answers what came of it. Where no answer comes, it goes on waiting.
    pub(super) async fn act(&self, deeds: &mut Deeds, now: UnixTime) -> Vec<Alert> {
        let mut further = Vec::new();
        for (since, target) in std::mem::take(&mut deeds.open) {
            match self.ask(&target).await {
                Ok(()) => further.push(told(&target, true, now)),
                Err(Answer::None) if now.0 - since.0 < PATIENCE => deeds.open.push((since, target)),
                Err(_) => {
                    deeds.brake.came_to_nothing(&target);
                    further.push(told(&target, false, now));
                }
            }
        }
        further
    }

    async fn ask(&self, target: &Target) -> Result<(), Answer> {
        let stop = match target {
            Target::Client { client } => {
                let desk = self.ssa.as_ref().ok_or(Answer::No)?;
                let request = ClientRequest {
                    client: client.clone(),
                };
                let done = desk.call::<ClientSuspend>(&request).await;
                return done.map(drop).map_err(|error| match error {
                    CallError::Refused(ClientRefusal::NotNow)
                    | CallError::Unreachable
                    | CallError::Unknown => Answer::None,
                    CallError::Refused(_) => Answer::No,
                });
            }
            Target::Key { key } => GuardRequest::Key { key: key.clone() },
            Target::Session { session } => GuardRequest::Session { session: *session },
        };
        let sam = self.sam.as_ref().ok_or(Answer::No)?;
        let done = sam.call::<GuardStop>(&stop).await;
        done.map(drop).map_err(|error| match error {
            CallError::Refused(sam_api::Refusal::NotNow)
            | CallError::Unreachable
            | CallError::Unknown => Answer::None,
            CallError::Refused(_) => Answer::No,
        })
    }
}

/// Why something isn't stopped.
enum Answer {
    /// It is refused.
    No,
    /// Nobody knows, or not now. Asking again stops nothing twice.
    None,
}
