//! `natsuin officer` and `natsuin approval`: what officers do, from a program, over their own gateway.

mod ending;
mod show;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use cm_api::switch::{Switch, TYP_SWITCH};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    Digest32, OfficerId, PersonId, PersonName, Random as _, SecretBytes, UnixTime, sha256,
};
use jose::SigningKey;
use sam_core::office::ceremony::{self, identity};
use sap::office::calls::ProposalInfo;
use sap::office::{ACCOUNT, Document, Measure, Office, Role};
use serde_json::json;
use service_kit::http::HttpOptions;
use sic_core::Trust;
use web_ui::{Arg, clean};

use crate::office::{Officer, OfficerFile};
use crate::output::{Exit, Failure, Out};
use crate::stack::{Device, Sic};
use show::{lines, read, show, show_people, show_state};

/// Commands of `natsuin officer`.
#[derive(Debug, Subcommand)]
pub enum OfficerCommand {
    /// Who holds which office, and whose appointment or training is due.
    People,
    /// How the SAM is.
    State,
    /// Propose to appoint somebody; prints the link with which they enrol a passkey once it is approved.
    Appoint {
        /// Id of the person.
        id: String,
        /// Name.
        #[arg(long)]
        name: String,
        /// A number of the provider's that tells them from all others.
        #[arg(long)]
        identity: String,
        /// Role; twice only for administrator and operator, with --both.
        #[arg(long, value_enum, required = true)]
        role: Vec<CliRole>,
        /// Declare that administrator and operator are one person here.
        #[arg(long)]
        both: bool,
        /// End of the appointment, such as 2028-03-31T15:00:00Z.
        #[arg(long)]
        until: String,
        /// The day of the training, such as 2026-11-20, in Japan. Without one, somebody is reminded of it.
        #[arg(long, requires = "trained_until", value_name = "DATE")]
        trained_at: Option<String>,
        /// The last day for which it holds.
        #[arg(long, requires = "trained_at", value_name = "DATE")]
        trained_until: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Propose to forget who somebody was, in all zones. What is approved names a commitment; the person's id and the salt
    /// are handed to whoever has to know, and the salt is destroyed in the end.
    Forget {
        /// Id of the person.
        #[arg(allow_hyphen_values = true)]
        person: String,
        /// New file for the salt.
        #[arg(long)]
        salt: PathBuf,
        /// Why; it is kept, and must not say who.
        #[arg(long)]
        reason: String,
    },
    /// Propose to end all keys of a tenant or of the whole service: none signs from the last approval on, none is made any more,
    /// all are destroyed, and their owners are told. Nothing takes it back.
    EndKeys(ending::EndKeys),
    /// How far it is with ending all keys: how many there were, are destroyed, wait for the module, and how many persons were told.
    Ended(ending::EndedReport),
    /// Ask that the passkey of this account, which was enrolled with an invitation, be confirmed as yours; prints its digits, to be
    /// read out to the security officer who confirms it.
    AskConfirm,
    /// Propose any measure, given as JSON in a file.
    Propose {
        /// The measure.
        measure: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Seconds for which it can be approved.
        #[arg(long, default_value_t = 24 * 3600)]
        ttl: i64,
    },
}

/// Commands of `natsuin approval`.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// Proposals: all that are not over, then the newest of the others.
    List,
    /// One proposal with all it says.
    Show {
        /// Its digest.
        #[arg(allow_hyphen_values = true)]
        proposal: String,
    },
    /// Approve a proposal.
    Give {
        /// Its digest.
        #[arg(allow_hyphen_values = true)]
        proposal: String,
        /// Without being asked.
        #[arg(long)]
        yes: bool,
        /// Your key for the module (made with `natsuin-cm officer-key`), to enable or disable it.
        #[arg(long, value_name = "KEY")]
        module_key: Option<PathBuf>,
    },
    /// End a proposal: your own, or one that you could have approved.
    Refuse {
        /// Its digest.
        #[arg(allow_hyphen_values = true)]
        proposal: String,
    },
    /// Write the evidence of a proposal's approvals to a file, for `natsuin evidence verify` and whoever has to judge it. It names the
    /// officers.
    Evidence {
        /// Its digest.
        #[arg(allow_hyphen_values = true)]
        proposal: String,
        /// Where the evidence goes (JSON).
        #[arg(long)]
        out: PathBuf,
    },
    /// Take your own approved proposal with the evidence of its approvals, to carry it out.
    Take {
        /// Its digest.
        #[arg(allow_hyphen_values = true)]
        proposal: String,
        /// Where the evidence goes (JSON).
        #[arg(long)]
        out: PathBuf,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum CliRole {
    /// Answers for the security policy.
    SecurityOfficer,
    /// Installs, configures, maintains.
    SystemAdministrator,
    /// Runs the service, backs it up, recovers it.
    SystemOperator,
    /// Reads archives and audit logs.
    SystemAuditor,
}

impl From<CliRole> for Role {
    fn from(role: CliRole) -> Self {
        match role {
            CliRole::SecurityOfficer => Self::SecurityOfficer,
            CliRole::SystemAdministrator => Self::SystemAdministrator,
            CliRole::SystemOperator => Self::SystemOperator,
            CliRole::SystemAuditor => Self::SystemAuditor,
        }
    }
}

/// Runs `natsuin officer`.
///
/// # Errors
/// [`Failure`] when a file can't be used, or the SAM refuses.
pub async fn officer(command: OfficerCommand, who: &Path, out: Out) -> Result<Exit, Failure> {
    let mut officer = at_work(who)?;
    match command {
        OfficerCommand::People => {
            let people = officer.people().await.map_err(refused)?;
            show_people(&people, out);
            out.object(&people);
        }
        OfficerCommand::State => {
            let state = officer.state().await.map_err(refused)?;
            show_state(&state, out);
            out.object(&state);
        }
        OfficerCommand::Appoint {
            id,
            name,
            identity: number,
            role,
            both,
            until,
            trained_at,
            trained_until,
            reason,
        } => {
            let until = UnixTime::from_rfc3339(&until)
                .ok_or_else(|| input("until", "not a time", "write it as 2028-03-31T15:00:00Z"))?;
            let training = trained_at.zip(trained_until).map(|(at, until)| {
                let told = ceremony::training(&at, &until);
                told.ok_or_else(|| input("training", "not two days", "write each as 2026-11-20"))
            });
            let training = training.transpose()?;
            let bad =
                |e: core_types::id::BadId| input("officer", &e.to_string(), "choose another id");
            let account = PersonId::parse(format!("{ACCOUNT}{id}")).map_err(bad)?;
            let id = OfficerId::parse(id).map_err(bad)?;
            let mut secret = vec![0; 16];
            SystemRandom.fill(&mut secret);
            let measure = Measure::Appoint {
                officer: id,
                name: name.clone(),
                identity: identity(&number),
                office: Office {
                    roles: role.into_iter().map(Role::from).collect(),
                    both,
                    until,
                    training,
                },
                account,
                secret: sha256(&[&secret]),
            };
            let made = officer.propose(measure, &reason, 7 * 24 * 3600).await;
            let made = made.map_err(refused)?;
            show(&made, out);
            // The voucher of an appointment is named like its proposal.
            let ticket = format!("{}.{}", made.proposal, core_types::bytes::b64u(secret));
            let link = format!("{}/e#{ticket}", officer.sic.origin);
            out.say(&out.m().f("office-invited", &[("name", Arg::Text(&name))]));
            out.say(&format!("    {link}"));
            out.say(&out.m().t("office-invited-confirm"));
            out.object(&json!({"proposal": made.proposal, "link": link}));
        }
        OfficerCommand::Forget {
            person,
            salt: file,
            reason,
        } => {
            let todo = "give the id that the SAM knows the person by; of another tenant's person TENANT/ID";
            let person =
                PersonName::parse(person).map_err(|e| input("person", &e.to_string(), todo))?;
            let mut salt = vec![0; 32];
            SystemRandom.fill(&mut salt);
            write_new(&file, core_types::bytes::b64u(&salt).as_bytes())?;
            let subject = audit_log::subject_of(&salt, &person);
            let measure = Measure::ForgetPerson { subject };
            let made = officer.propose(measure, &reason, 7 * 24 * 3600).await;
            let made = made.map_err(refused)?;
            show(&made, out);
            out.object(&made);
        }
        OfficerCommand::AskConfirm => {
            let reason = out.m().t("office-unconfirmed-reason");
            let asked = officer.ask_confirm(&reason).await.map_err(refused)?;
            let asked = asked.ok_or_else(|| {
                let what = "the passkey of this account counts already";
                input("officer-file", what, "go on with what you want to do")
            })?;
            show(&asked, out);
            out.say(&out.m().t("office-unconfirmed-do"));
            out.object(&asked);
        }
        OfficerCommand::EndKeys(what) => return ending::propose(&mut officer, what, out).await,
        OfficerCommand::Ended(what) => return ending::report(&mut officer, who, what, out).await,
        OfficerCommand::Propose {
            measure,
            reason,
            ttl,
        } => {
            let text = std::fs::read(&measure)
                .map_err(|e| input("file", &e.to_string(), "give the measure as JSON in a file"))?;
            let measure = serde_json::from_slice(&text)
                .map_err(|e| input("measure", &e.to_string(), "compare with docs/operator"))?;
            let made = officer.propose(measure, &reason, ttl).await;
            let made = made.map_err(refused)?;
            show(&made, out);
            out.object(&made);
        }
    }
    Ok(Exit::Good)
}

/// Runs `natsuin approval`.
///
/// # Errors
/// [`Failure`] when a file can't be used, or the SAM refuses.
pub async fn approval(command: ApprovalCommand, who: &Path, out: Out) -> Result<Exit, Failure> {
    let mut officer = at_work(who)?;
    match command {
        ApprovalCommand::List => {
            let all = officer.proposals().await.map_err(refused)?;
            if all.is_empty() {
                out.say(&out.m().t("office-none"));
            }
            all.iter().for_each(|info| show(info, out));
            out.object(&json!({"proposals": all}));
        }
        ApprovalCommand::Show { proposal } => {
            let proposal = digest(&proposal)?;
            let all = officer.proposals().await.map_err(refused)?;
            let one = all.iter().find(|info| info.proposal == proposal);
            let one = one.ok_or_else(|| {
                input(
                    "proposal",
                    "there is no such proposal",
                    "see `natsuin approval list`",
                )
            })?;
            show(one, out);
            out.say(&clean(&one.document));
            out.object(one);
        }
        ApprovalCommand::Give {
            proposal,
            yes,
            module_key,
        } => {
            let proposal = digest(&proposal)?;
            let key = module_key.as_deref().map(module_key_of).transpose()?;
            let given = give(&mut officer, proposal, yes, key, out).await?;
            let Some(given) = given else {
                out.say(&out.m().t("office-not-approved"));
                out.object(&json!({"approved": false}));
                return Ok(Exit::Declined);
            };
            show(&given, out);
            out.object(&given);
        }
        ApprovalCommand::Refuse { proposal } => {
            let ended = officer.end(digest(&proposal)?).await.map_err(refused)?;
            show(&ended, out);
            out.object(&ended);
        }
        ApprovalCommand::Evidence { proposal, out: to } => {
            let text = officer.evidence(digest(&proposal)?).await;
            std::fs::write(&to, text.map_err(refused)?)
                .map_err(|e| input("file", &e.to_string(), "check --out"))?;
            out.say(&to.display().to_string());
            out.object(&json!({"file": to}));
        }
        ApprovalCommand::Take { proposal, out: to } => {
            let taken = officer.take(digest(&proposal)?).await.map_err(refused)?;
            let text = serde_json::to_vec_pretty(&taken).unwrap_or_default();
            std::fs::write(&to, text)
                .map_err(|e| input("file", &e.to_string(), "check --out; ask officers again"))?;
            out.say(&to.display().to_string());
            out.object(&json!({"file": to}));
        }
    }
    Ok(Exit::Good)
}

/// Approves once somebody has looked at it; nothing when they don't want it.
async fn give(
    officer: &mut Officer,
    proposal: Digest32,
    yes: bool,
    key: Option<SigningKey>,
    out: Out,
) -> Result<Option<ProposalInfo>, Failure> {
    let switch = match key {
        None => None,
        Some(key) => {
            let all = officer.proposals().await.map_err(refused)?;
            let one = all.iter().find(|info| info.proposal == proposal);
            let document = one.and_then(|info| read(&info.document));
            let bytes = document.as_ref().and_then(|d| d.facts.switch.clone());
            let (Some(document), Some(bytes)) = (document, bytes) else {
                let todo = "give --module-key only for the module's switch";
                let what = "this proposal wants no such signature";
                return Err(input("module-key", what, todo));
            };
            // What the module is going to read has to be what is proposed.
            let switch = serde_json::from_str::<Switch>(&bytes).ok();
            let switch = switch.filter(|s| {
                let enabled = s.enabled;
                !s.recover
                    && document.measure == Measure::Module { enabled }
                    && document.reason == s.reason
            });
            let Some(switch) = switch else {
                let what = "what the module would read isn't what is proposed";
                let todo = "sign nothing; find out who changed it";
                return Err(input("module-key", what, todo));
            };
            out.note(&clean(&switch.sentence()));
            let signed = key.sign(TYP_SWITCH, bytes.as_bytes());
            Some(signed.map_err(|e| input("module-key", &e.to_string(), "use another key"))?)
        }
    };
    let mut wanted = true;
    let look = |document: &Document, _: &str| {
        lines(document, out.m()).iter().for_each(|l| out.note(l));
        if !yes {
            out.note(&out.m().t("office-ask-approve"));
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            wanted = line.trim() == "yes";
        }
        anyhow::ensure!(wanted, "not wanted");
        Ok(())
    };
    let given = officer.approve(proposal, look, switch).await;
    match given {
        Err(_) if !wanted => Ok(None),
        given => given.map(Some).map_err(refused),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| input("file", &e.to_string(), "name a file that isn't there yet"))
}

fn at_work(file: &Path) -> Result<Officer, Failure> {
    let bad = |e: anyhow::Error| {
        let what = format!("{} can't be used: {e}", file.display());
        input(
            "officer-file",
            &what,
            "give a file that the ready file of `natsuin dev` names",
        )
    };
    let known = OfficerFile::read(file).map_err(bad)?;
    let trust = Trust::new(vec![known.root.clone()], known.url.clone());
    let options = HttpOptions {
        ca_pem: Some(known.trust.clone()),
        ..HttpOptions::default()
    };
    let device = Device::restore(&known.url, known.id.0.clone(), &known.key);
    Ok(Officer {
        sic: Sic {
            origin: known.url.clone(),
            http: service_kit::http::client(&options)?,
            trust: trust.map_err(|e| bad(e.into()))?,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        },
        account: known.account,
        device: device.map_err(|e| bad(e.into()))?,
    })
}

fn module_key_of(path: &Path) -> Result<SigningKey, Failure> {
    let todo = "use a key that `natsuin-cm officer-key` has made";
    let bytes = std::fs::read(path).map_err(|e| input("module-key", &e.to_string(), todo))?;
    SigningKey::from_pkcs8(&SecretBytes::new(bytes))
        .map_err(|e| input("module-key", &e.to_string(), todo))
}

fn digest(text: &str) -> Result<Digest32, Failure> {
    Digest32::parse(text).map_err(|_| {
        input(
            "proposal",
            "this isn't the digest of a proposal",
            "see `natsuin approval list`",
        )
    })
}

fn refused(error: anyhow::Error) -> Failure {
    let todo = "compare with what the proposal needs; who asked or is meant approves nothing";
    Failure::new(Exit::Declined, "office", format!("{error:#}"), todo)
}

fn input(code: &'static str, what: &str, todo: &'static str) -> Failure {
    Failure::new(Exit::Input, code, what.to_owned(), todo)
}
