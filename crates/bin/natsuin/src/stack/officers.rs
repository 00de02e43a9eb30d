//! Officers of a development stack: the installation begins as everywhere, and what lies on paper or in authenticators elsewhere
//! lies in files here.

use cm_api::CryptoModule as _;
use cm_api::rpc::{Empty, Root};
use core_types::{B64, OfficerId, PersonId, SecretBytes, UnixTime, VoucherId, sha256};
use jose::Jwk;
use sam_core::office::ceremony::{self, Plan, Site};
use sam_service::{RemoteModule, Sam, SamConfig};
use sap::office::calls::ProposalState;
use sap::office::{Measure, Office, Role, Training};
use serde::{Deserialize, Serialize};
use service_kit::Trouble;
use sic_core::Voucher;
use store_kit::Store;

use super::device::Device;
use super::sic::{NewFactors, Sic};
use super::start::Stack;
use super::state::State;
use super::zones::Kit;
use crate::office::{OFFICER_FILE, Officer, OfficerFile};

/// For so long development officers are appointed, in seconds.
const TERM: i64 = 2 * 365 * 24 * 3600;
/// Shares of the recovery key: how many of how many.
const SHARES: (u8, u8) = (2, 3);

/// Everybody: the first three begin the installation.
pub(super) const OFFICERS: [(&str, &str, Role); 6] = [
    ("sato", "佐藤 一郎", Role::SecurityOfficer),
    ("suzuki", "鈴木 次郎", Role::SecurityOfficer),
    ("takahashi", "高橋 三奈", Role::SecurityOfficer),
    ("tanaka", "田中 四郎", Role::SystemAdministrator),
    ("ito", "伊藤 五月", Role::SystemOperator),
    ("watanabe", "渡辺 六実", Role::SystemAuditor),
];
const FOUNDERS: usize = 3;

/// What a stack remembers of its beginning.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevOffice {
    /// Shares of the recovery key.
    pub shares: Vec<String>,
    /// Invitations that weren't used yet: account and `voucher.secret`.
    pub invited: Vec<(PersonId, String)>,
    /// Officers with a passkey.
    pub officers: Vec<DevOfficer>,
}

/// An officer, as the ready file shows them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevOfficer {
    /// Person.
    pub officer: OfficerId,
    /// Account.
    pub account: PersonId,
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// File for `natsuin officer --as`.
    pub file: std::path::PathBuf,
}

/// Begins the installation if it hasn't begun.
pub(super) async fn found(
    kit: &Kit,
    state: &mut State,
    config: &SamConfig,
    module: RemoteModule,
    store: &Store,
) -> Result<(), Trouble> {
    if !state.office.shares.is_empty() {
        return Ok(());
    }
    let failed = |what: String| trouble("sam-start", &what);
    let root = module.call::<Root>(&Empty {}).await;
    let root = root.map_err(|e| failed(e.to_string()))?.root;
    let now = kit.clock.now();
    let plans: Vec<Plan> = OFFICERS[..FOUNDERS]
        .iter()
        .map(|(id, name, _)| {
            Ok(Plan {
                officer: officer_id(id)?,
                name: (*name).to_owned(),
                identity: format!("development {id}"),
                until: now.plus(TERM),
                training: Some(trained(now)),
            })
        })
        .collect::<Result<_, Trouble>>()?;
    let site = Site {
        sam: &config.sam,
        tenant: &config.tenant,
        root: &root,
    };
    let random = kit.random.as_ref();
    let begun = ceremony::begin(site, &plans, SHARES, Vec::new(), now, random);
    let begun = begun.map_err(|e| failed(e.to_string()))?;
    let (need, of) = SHARES;
    let dealt = shares::deal(&begun.recovery, need, of, random);
    let dealt = dealt.map_err(|e| failed(e.to_string()))?;
    state.office.shares = dealt.iter().map(|s| text(&s.text())).collect();
    let invited = begun.invitations.iter();
    state.office.invited = invited
        .map(|i| (i.account.clone(), text(&i.ticket)))
        .collect();
    kit.data.save("state.json", state)?;
    let (clock, random) = (kit.clock.clone(), kit.random.clone());
    let (config, store) = (config.clone(), store.clone());
    let found = Sam::found(config, module, store, Some(root), clock, random, &begun.jws);
    found.await.map_err(|e| failed(e.to_string()))
}

impl Stack {
    /// An officer's side at this stack's officers' page.
    fn office_sic(&self) -> Result<Sic, Trouble> {
        let roots = vec![self.root()?];
        let trust = sic_core::Trust::new(roots, self.office_url.clone());
        Ok(Sic {
            origin: self.office_url.clone(),
            trust: trust.map_err(|e| trouble("dev-seed", &e.to_string()))?,
            ..self.sic()
        })
    }

    fn root(&self) -> Result<Jwk, Trouble> {
        let root = self.state.root.clone();
        root.ok_or_else(|| trouble("dev-seed", "the module's root key isn't known"))
    }

    /// Somebody of [`Self::officers`] at work.
    ///
    /// # Errors
    /// [`Trouble`] when there is no such account.
    pub fn officer(&self, account: &str) -> Result<Officer, Trouble> {
        let known = self
            .officers()
            .iter()
            .find(|o| o.account.as_str() == account);
        let known = known.ok_or_else(|| trouble("dev-seed", "there is no such officer"))?;
        let file =
            OfficerFile::read(&known.file).map_err(|e| trouble("dev-seed", &e.to_string()))?;
        let device = Device::restore(&self.office_url, file.id.0.clone(), &file.key);
        Ok(Officer {
            sic: self.office_sic()?,
            account: file.account,
            device: device.map_err(|e| trouble("dev-seed", &e.to_string()))?,
        })
    }

    /// Officers with a passkey.
    pub fn officers(&self) -> &[DevOfficer] {
        &self.state.office.officers
    }

    /// Enrols the founders' passkeys, and has them appoint the others and confirm their passkeys, as it is done anywhere.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn seed_officers(&mut self) -> Result<(), Trouble> {
        for (account, ticket) in self.state.office.invited.clone() {
            self.enrol_officer(&account, &ticket).await?;
        }
        for (id, name, role) in &OFFICERS[FOUNDERS..] {
            let id = officer_id(id)?;
            if self.officers().iter().any(|o| o.officer == id) {
                continue;
            }
            let (account, ticket) = self.appoint(&id, name, *role).await?;
            self.state
                .office
                .invited
                .push((account.clone(), ticket.clone()));
            self.data.save("state.json", &self.state)?;
            self.enrol_officer(&account, &ticket).await?;
        }
        Ok(())
    }

    async fn enrol_officer(&mut self, account: &PersonId, ticket: &str) -> Result<(), Trouble> {
        let failed = |e: &dyn std::fmt::Display| {
            trouble("dev-seed", &format!("{account} could not be enrolled: {e}"))
        };
        let mut device =
            Device::new(&self.office_url, self.random.as_ref()).map_err(|e| failed(&e))?;
        let voucher = Voucher::parse(&SecretBytes::from(ticket.to_owned()));
        let voucher = voucher.map_err(|e| failed(&e))?;
        let enrolled = self
            .office_sic()?
            .enrol(voucher, NewFactors::Passkey(&mut device))
            .await;
        enrolled.map_err(|e| failed(&e))?;
        let (id, key) = device.parts().map_err(|e| failed(&e))?;
        let name = account.as_str().trim_start_matches(sap::office::ACCOUNT);
        let (_, shown, role) = OFFICERS
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| failed(&"unknown"))?;
        let file = self.data.join(&format!("office/{account}.json"));
        let trust =
            std::fs::read_to_string(self.ca.trust_anchors_file()).map_err(|e| failed(&e))?;
        super::files::write_json(
            &file,
            &OfficerFile {
                schema: OFFICER_FILE.to_owned(),
                url: self.office_url.clone(),
                account: account.clone(),
                root: self.root()?,
                trust,
                id: B64(id),
                key,
            },
        )?;
        self.state
            .office
            .invited
            .retain(|(known, _)| known != account);
        self.state.office.officers.push(DevOfficer {
            officer: officer_id(name)?,
            account: account.clone(),
            name: (*shown).to_owned(),
            role: *role,
            file: std::path::absolute(&file).map_err(|e| failed(&e))?,
        });
        self.confirm_officer(account).await?;
        self.data.save("state.json", &self.state)
    }

    /// Whoever enrolled by the link of a proposal asks, and a founder who didn't make that link confirms it. A founder's own passkey counts.
    async fn confirm_officer(&self, account: &PersonId) -> Result<(), Trouble> {
        let failed = |e: anyhow::Error| {
            trouble(
                "dev-seed",
                &format!("the passkey of {account} could not be confirmed: {e:#}"),
            )
        };
        // Those after the founders in turn, so that nobody approves faster than a person reads.
        let Some(place) = self.officers().len().checked_sub(FOUNDERS + 1) else {
            return Ok(());
        };
        let mut officer = self.officer(account.as_str())?;
        let asked = officer.ask_confirm("development stack").await;
        let Some(asked) = asked.map_err(failed)? else {
            return Ok(());
        };
        let by = &self.officers()[1 + place % (FOUNDERS - 1)];
        let mut by = self.officer(by.account.as_str())?;
        let confirmed = by.approve(asked.proposal, |_, _| Ok(()), None).await;
        confirmed.map(drop).map_err(failed)
    }

    /// Proposed by the first founder, approved by the others.
    async fn appoint(
        &self,
        id: &OfficerId,
        name: &str,
        role: Role,
    ) -> Result<(PersonId, String), Trouble> {
        let failed = |e: &dyn std::fmt::Display| {
            trouble("dev-seed", &format!("{id} could not be appointed: {e}"))
        };
        let account = PersonId::parse(format!("{}{id}", sap::office::ACCOUNT));
        let account = account.map_err(|e| failed(&e))?;
        let mut secret = vec![0; 16];
        self.random.fill(&mut secret);
        let measure = Measure::Appoint {
            officer: id.clone(),
            name: name.to_owned(),
            identity: ceremony::identity(&format!("development {id}")),
            office: Office {
                roles: vec![role],
                both: false,
                until: self.clock.now().plus(TERM),
                training: Some(trained(self.clock.now())),
            },
            account: account.clone(),
            secret: sha256(&[&secret]),
        };
        let proposal = self.decide(measure, "development stack").await?;
        let voucher = VoucherId::parse(proposal.to_string()).map_err(|e| failed(&e))?;
        Ok((
            account,
            format!("{voucher}.{}", core_types::bytes::b64u(secret)),
        ))
    }

    /// Has the first founder propose it and the others approve it.
    ///
    /// # Errors
    /// [`Trouble`] when somebody is refused.
    pub async fn decide(
        &self,
        measure: Measure,
        reason: &str,
    ) -> Result<core_types::Digest32, Trouble> {
        let failed = |e: anyhow::Error| trouble("dev-seed", &format!("{e:#}"));
        let founders: Vec<_> = self.officers().iter().take(FOUNDERS).collect();
        let [first, rest @ ..] = founders.as_slice() else {
            return Err(trouble("dev-seed", "there are no security officers"));
        };
        let mut info = self
            .officer(first.account.as_str())?
            .propose(measure, reason, 3600)
            .await
            .map_err(failed)?;
        for officer in rest {
            if info.state == ProposalState::Open {
                let mut officer = self.officer(officer.account.as_str())?;
                let approved = officer.approve(info.proposal, |_, _| Ok(()), None);
                info = approved.await.map_err(failed)?;
            }
        }
        Ok(info.proposal)
    }
}

/// As if they had been trained just now, for as long as they are appointed.
fn trained(now: UnixTime) -> Training {
    Training {
        at: now,
        until: now.plus(TERM),
    }
}

fn officer_id(id: &str) -> Result<OfficerId, Trouble> {
    OfficerId::parse(id).map_err(|e| trouble("dev-seed", &e.to_string()))
}

fn text(secret: &SecretBytes) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

fn trouble(code: &'static str, what: &str) -> Trouble {
    Trouble::new(code, what, "start with an empty --data directory")
}
