//! `natsuin client`: officers manage the clients of an SSA, over its listener for officers.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use core_types::rpc::{Empty, Method};
use core_types::{ClientId, Level, SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::http::HttpOptions;
use service_kit::{CallError, Client, Identity};
use ssa_service::calls::{
    AddRequest, ClientAdd, ClientInfo, ClientList, ClientProof, ClientRefusal, ClientRequest,
    ClientResponseSecret, ClientResume, ClientRotate, ClientSet, ClientShow, ClientState,
    ClientSuspend, Contract, RotateRequest, SetRequest,
};
use ssa_service::{ClientCertificate, ClientSettings};
use web_ui::{Arg, clean};

use crate::output::{Exit, Failure, Out};

/// Where an officer's calls go, and with which certificate they are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientOfficerFile {
    /// Form of the file.
    pub schema: String,
    /// The SSA's listener for officers.
    pub url: String,
    /// File of the certificates to trust there, PEM; like the next two beside this file if it isn't absolute.
    pub trust: PathBuf,
    /// File of the officer's certificate, PEM.
    pub certificate: PathBuf,
    /// File of its private key, PKCS#8 in PEM.
    pub key: PathBuf,
}

/// Value of [`ClientOfficerFile::schema`].
pub const CLIENT_OFFICER_FILE: &str = "natsuin.client-officer/1";

/// Commands of `natsuin client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register a client. Unless it is public it can't come before `rotate` gave it a secret or keys.
    Add {
        /// Its id.
        id: String,
        /// Its name as people see it.
        #[arg(long)]
        name: String,
        /// It could not keep a secret, and gets none.
        #[arg(long)]
        public: bool,
        /// What is agreed.
        #[command(flatten)]
        agreed: Agreed,
    },
    /// All clients.
    List,
    /// One client with its contract.
    Show {
        /// Its id.
        id: String,
    },
    /// Change what is agreed with a client; what isn't named stays.
    Set {
        /// Its id.
        id: String,
        /// Its name as people see it.
        #[arg(long)]
        name: Option<String>,
        /// What is agreed.
        #[command(flatten)]
        agreed: Agreed,
    },
    /// Give a client a new secret, shown once, or new keys; what it had before counts for a while.
    Rotate {
        /// Its id.
        id: String,
        /// Public key (JWK) in a file, instead of a secret; may be given more than once.
        #[arg(long = "key", value_name = "JWK")]
        keys: Vec<PathBuf>,
        /// Certificate (PEM) in a file that the client calls with, instead of a secret; may be given more than once, the next beside
        /// the running one. Keys only sign its requests then.
        #[arg(long = "certificate", value_name = "PEM", conflicts_with = "subject")]
        certificates: Vec<PathBuf>,
        /// Subject (RFC 4514) of the certificate that the client calls with, issued by a CA that the SSA knows for clients.
        #[arg(long, value_name = "DN")]
        subject: Option<String>,
        /// Seconds for which what it had before still counts; 0 when that has leaked.
        #[arg(long, default_value_t = 24 * 3600)]
        overlap: i64,
    },
    /// Show with what notices to a client are signed (`response_uri`); it is for the client alone.
    ResponseSecret {
        /// Its id.
        id: String,
    },
    /// Suspend a client: from then on nobody knows it or its tokens.
    Suspend {
        /// Its id.
        id: String,
    },
    /// End a suspension.
    Resume {
        /// Its id.
        id: String,
    },
}

/// What is agreed with a client.
#[derive(Debug, Args)]
pub struct Agreed {
    /// Exact address to come back to; may be given more than once, and then replaces all others.
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<String>,
    /// It runs on its users' machines.
    #[arg(long)]
    native: bool,
    /// All settings as a JSON object in a file (see docs/api/README.md); the options below come on top.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Where the contract lies in your files.
    #[arg(long)]
    contract: Option<String>,
    /// CSC method that it may call; may be given more than once.
    #[arg(long = "method")]
    methods: Vec<String>,
    /// Scope that it may have: service, credential.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Level of keys that it may ask to sign with; may be given more than once.
    #[arg(long = "level", value_parser = clap::value_parser!(u8).range(1..=3))]
    levels: Vec<u8>,
    /// Login name of somebody whom it may serve, and then nobody else.
    #[arg(long = "person", value_name = "LOGIN")]
    people: Vec<String>,
    /// Most signatures in a day.
    #[arg(long, value_name = "N")]
    per_day: Option<u32>,
    /// Most signatures in a month.
    #[arg(long, value_name = "N")]
    per_month: Option<u32>,
}

/// Runs `natsuin client`.
///
/// # Errors
/// [`Failure`] when a file can't be used, or the SSA refuses.
pub async fn run(command: ClientCommand, who: &Path, out: Out) -> Result<Exit, Failure> {
    let desk = desk(who)?;
    let info = match command {
        ClientCommand::List => {
            let all = call::<ClientList>(&desk, &Empty {}).await?;
            all.clients.iter().for_each(|info| line(info, out));
            out.object(&all);
            return Ok(Exit::Good);
        }
        ClientCommand::Rotate {
            id,
            keys,
            certificates,
            subject,
            overlap,
        } => {
            let before = call::<ClientShow>(&desk, &named(&id)?).await?;
            let request = RotateRequest {
                client: before.client,
                version: before.version,
                keys: keys.iter().map(|key| read(key)).collect::<Result<_, _>>()?,
                certificate: certificate(&certificates, subject)?,
                overlap,
            };
            let done = call::<ClientRotate>(&desk, &request).await?;
            line(&done.client, out);
            if let Some(secret) = &done.secret {
                out.say(&out.m().t("client-secret"));
                out.say(&format!("    {}", secret.expose()));
            }
            out.object(&done);
            return Ok(Exit::Good);
        }
        ClientCommand::ResponseSecret { id } => {
            let done = call::<ClientResponseSecret>(&desk, &named(&id)?).await?;
            out.say(done.secret.expose());
            out.object(&done);
            return Ok(Exit::Good);
        }
        ClientCommand::Add {
            id,
            name,
            public,
            agreed,
        } => {
            let mut contract = Contract {
                name,
                redirect_uris: Vec::new(),
                native: false,
                settings: ClientSettings::default(),
            };
            agreed.put(&mut contract)?;
            let request = AddRequest {
                client: named(&id)?.client,
                contract,
                public,
            };
            call::<ClientAdd>(&desk, &request).await?
        }
        ClientCommand::Set { id, name, agreed } => {
            let before = call::<ClientShow>(&desk, &named(&id)?).await?;
            let mut contract = before.contract;
            contract.settings.keys.clear();
            contract.settings.certificate = None;
            if let Some(name) = name {
                contract.name = name;
            }
            agreed.put(&mut contract)?;
            let request = SetRequest {
                client: before.client,
                version: before.version,
                contract,
            };
            call::<ClientSet>(&desk, &request).await?
        }
        ClientCommand::Show { id } => call::<ClientShow>(&desk, &named(&id)?).await?,
        ClientCommand::Suspend { id } => call::<ClientSuspend>(&desk, &named(&id)?).await?,
        ClientCommand::Resume { id } => call::<ClientResume>(&desk, &named(&id)?).await?,
    };
    show(&info, out);
    out.object(&info);
    Ok(Exit::Good)
}

impl Agreed {
    fn put(self, contract: &mut Contract) -> Result<(), Failure> {
        let settings = &mut contract.settings;
        if let Some(file) = &self.settings {
            *settings = read(file)?;
        }
        if let Some(reference) = self.contract {
            settings.contract = reference;
        }
        let over = |given: Vec<String>, place: &mut Vec<String>| {
            if !given.is_empty() {
                *place = given;
            }
        };
        over(self.methods, &mut settings.methods);
        over(self.scopes, &mut settings.scopes);
        over(self.people, &mut settings.people);
        over(self.redirect_uris, &mut contract.redirect_uris);
        if !self.levels.is_empty() {
            let levels = self.levels.into_iter().map(Level::try_from);
            let levels = levels.collect::<Result<_, _>>();
            settings.levels =
                levels.map_err(|e| input("level", &e.to_string(), "levels are 1, 2 and 3"))?;
        }
        settings.quota.per_day = self.per_day.or(settings.quota.per_day);
        settings.quota.per_month = self.per_month.or(settings.quota.per_month);
        contract.native |= self.native;
        Ok(())
    }
}

/// By what a client's certificate is known from here on.
fn certificate(
    files: &[PathBuf],
    subject: Option<String>,
) -> Result<Option<ClientCertificate>, Failure> {
    if let Some(subject) = subject {
        return Ok(Some(ClientCertificate::Subject(subject)));
    }
    let thumbprint = |file: &PathBuf| {
        let text = service_kit::daemon::text(file)?;
        let read = pki::Certificate::parse_pem(&text).unwrap_or_default();
        let own = read.first().ok_or_else(|| {
            let what = format!("{} holds no certificate", file.display());
            input("certificate", &what, "give a certificate in PEM")
        })?;
        Ok::<_, Failure>(core_types::sha256(&[own.der()]))
    };
    let known = files
        .iter()
        .map(thumbprint)
        .collect::<Result<Vec<_>, _>>()?;
    Ok((!known.is_empty()).then_some(ClientCertificate::Thumbprints(known)))
}

fn desk(file: &Path) -> Result<Client, Failure> {
    let known: ClientOfficerFile = read(file)?;
    if known.schema != CLIENT_OFFICER_FILE {
        let todo = "give the file that names the SSA's listener and your certificate";
        return Err(input("officer-file", "another kind of file", todo));
    }
    let beside = |name: &Path| file.parent().map_or(name.to_owned(), |dir| dir.join(name));
    let bytes = |name: &Path| {
        std::fs::read(beside(name)).map_err(|e| {
            let what = format!("{} can't be read: {e}", name.display());
            input("officer-file", &what, "check the file given with --as")
        })
    };
    let text = |name: &Path| bytes(name).map(|b| String::from_utf8_lossy(&b).into_owned());
    let options = HttpOptions {
        ca_pem: Some(text(&known.trust)?),
        identity: Some(Identity {
            chain_pem: text(&known.certificate)?,
            key_pem: SecretBytes::new(bytes(&known.key)?),
        }),
        ..HttpOptions::default()
    };
    Ok(Client::new(known.url, &options)?)
}

async fn call<M: Method<Refusal = ClientRefusal>>(
    desk: &Client,
    request: &M::Request,
) -> Result<M::Response, Failure> {
    desk.call::<M>(request).await.map_err(|error| {
        let (exit, what, todo) = match error {
            CallError::Refused(ClientRefusal::NotAllowed) => (
                Exit::Declined,
                "this isn't for your office".to_owned(),
                "ask who holds it: administrators add and set, security officers rotate",
            ),
            CallError::Refused(ClientRefusal::Unknown) => (
                Exit::Input,
                "there is no such client".to_owned(),
                "see `natsuin client list`",
            ),
            CallError::Refused(ClientRefusal::Taken) => (
                Exit::Input,
                "a client has this id already".to_owned(),
                "choose another id, or use `natsuin client set`",
            ),
            CallError::Refused(ClientRefusal::Changed) => (
                Exit::Declined,
                "somebody else changed this client meanwhile".to_owned(),
                "look at it with `natsuin client show` and try again",
            ),
            CallError::Refused(ClientRefusal::Invalid { member }) => (
                Exit::Input,
                format!("this can't be meant: {}", clean(&member)),
                "compare with docs/api/README.md, section 3",
            ),
            CallError::Refused(ClientRefusal::NotNow) => (
                Exit::Unreachable,
                "the service can't do it now".to_owned(),
                "try again; nothing was changed",
            ),
            CallError::Unreachable => (
                Exit::Unreachable,
                "the service doesn't answer".to_owned(),
                "check the address and certificates in the file given with --as",
            ),
            CallError::Unknown => (
                Exit::Unreachable,
                "no whole answer came".to_owned(),
                "look with `natsuin client show` what became of it",
            ),
        };
        Failure::new(exit, "client", what, todo)
    })
}

fn named(id: &str) -> Result<ClientRequest, Failure> {
    let client = ClientId::parse(id);
    let client = client.map_err(|e| input("client", &e.to_string(), "choose another id"))?;
    Ok(ClientRequest { client })
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let bad = |why: String| {
        let what = format!("{} can't be used: {why}", file.display());
        input("file", &what, "give a readable JSON file")
    };
    let bytes = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

/// A client in one line.
fn line(info: &ClientInfo, out: Out) {
    let state = match info.state {
        ClientState::New => "new",
        ClientState::Active => "active",
        ClientState::Suspended => "suspended",
    };
    let state = out.m().t(&format!("client-state-{state}"));
    let name = clean(&info.contract.name);
    out.say(&format!("{}  {state}  {name}", info.client));
}

/// A client with its contract.
fn show(info: &ClientInfo, out: Out) {
    let m = out.m();
    line(info, out);
    let proof = match info.proof {
        ClientProof::None => "none",
        ClientProof::Secret => "secret",
        ClientProof::Keys => "keys",
        ClientProof::Certificate => "certificate",
    };
    out.say(&format!("    {}", m.t(&format!("client-proof-{proof}"))));
    if let Some(until) = info.overlap_until {
        let until = m.time(until);
        out.say(&format!(
            "    {}",
            m.f("client-overlap", &[("time", Arg::Own(&until))])
        ));
    }
    for uri in &info.contract.redirect_uris {
        out.say(&format!("    {}", clean(uri)));
    }
    let quota = info.contract.settings.quota;
    for (id, most, used) in [
        ("client-day", quota.per_day, info.used[0]),
        ("client-month", quota.per_month, info.used[1]),
    ] {
        if let Some(most) = most {
            let (used, most) = (used.to_string(), most.to_string());
            let args = [("used", Arg::Own(&used)), ("most", Arg::Own(&most))];
            out.say(&format!("    {}", m.f(id, &args)));
        }
    }
    let settings = json!(info.contract.settings).to_string();
    out.say(&format!("    {}", clean(&settings)));
}

fn input(code: &'static str, what: &str, todo: &'static str) -> Failure {
    Failure::new(Exit::Input, code, what.to_owned(), todo)
}
