//! The daemons as operators start them: programs of their own with their configuration files, and nothing between them but their
//! sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{ClientId, Clock as _, SecretBytes, TenantId};
use dev_ca::{DevCa, Ra};
use natsuin::agent::Agent;
use natsuin::stack::{DevClient, DevSigner, Device, Factors, NAME_OFFICE, NewFactors};
use reqwest::{Method, Url};
use serde_json::Value;
use service_kit::{Running, Shutdown, bind, serve, tls};
use sic_core::{Totp, Voucher};
use ssa_service::ClientSettings;
use ssa_service::calls::{
    AddRequest, ClientAdd, ClientRequest, ClientRotate, ClientSuspend, Contract, RotateRequest,
};

use crate::kit::{natsuin, run, text, within};
use crate::site::{NAME_RA, Program, SAM, SamPorts, Site, invitation, port};
use crate::spend::{Spender, approval, body, hashes};

/// A person at the portal's forms.
struct Person<'a> {
    agent: Agent,
    portal: &'a str,
}

impl Person<'_> {
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> (u16, String) {
        let url = Url::parse(&format!("{}{path}", self.portal)).unwrap();
        let mut request = self.agent.request(method.clone(), &url);
        if method == Method::POST {
            request = request.header("origin", self.portal).form(form);
        }
        let answer = self.agent.send(&url, request).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    }

    async fn page(&mut self, path: &str) -> String {
        let (status, page) = self.exchange(Method::GET, path, &[]).await;
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    /// Signs up by an invitation's link; the login's seed.
    async fn sign_up(&mut self, link: &str) -> String {
        let page = self.page(&format!("{link}/account")).await;
        let form = [
            ("token", between(&page, "name=\"token\" value=\"", "\"")),
            ("name", "hanako"),
            ("password", "a long enough one"),
            ("again", "a long enough one"),
            ("terms", "1"),
        ];
        let account = format!("{link}/account");
        assert_eq!(self.exchange(Method::POST, &account, &form).await.0, 303);
        let page = self.page(&format!("{link}/app")).await;
        let seed: String = between(&page, "id=\"seed\">", "<")
            .split_whitespace()
            .collect();
        let totp = Totp::from_base32(&SecretBytes::from(seed.clone())).unwrap();
        let code = totp.code(SystemClock.now());
        let form = [
            ("token", between(&page, "name=\"token\" value=\"", "\"")),
            ("code", std::str::from_utf8(code.expose()).unwrap()),
        ];
        let app = format!("{link}/app");
        assert_eq!(self.exchange(Method::POST, &app, &form).await.0, 303);
        seed
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split(before).nth(1).unwrap();
    rest.split(after).next().unwrap()
}

/// Registers a client as its two officers do.
async fn register(site: &Site, officers: u16) -> DevClient {
    let desk = |id: &str| site.caller(officers, &format!("{id}.office.natsuin.internal"));
    let client = ClientId::parse("test-client").unwrap();
    let redirect = "http://127.0.0.1:1/callback";
    let add = AddRequest {
        client: client.clone(),
        contract: Contract {
            name: "Test".to_owned(),
            redirect_uris: vec![redirect.to_owned()],
            native: false,
            settings: ClientSettings::default(),
        },
        public: false,
    };
    // A security officer fixes no contract, and nobody hands out secrets but they.
    assert!(desk("sato").call::<ClientAdd>(&add).await.is_err());
    let added = desk("tanaka").call::<ClientAdd>(&add).await.unwrap();
    let rotate = RotateRequest {
        client,
        version: added.version,
        keys: Vec::new(),
        certificate: None,
        overlap: 0,
    };
    assert!(desk("tanaka").call::<ClientRotate>(&rotate).await.is_err());
    let given = desk("sato").call::<ClientRotate>(&rotate).await.unwrap();
    DevClient {
        client_id: given.client.client.to_string(),
        client_secret: given.secret.map(|secret| secret.expose().to_owned()),
        redirect_uris: vec![redirect.to_owned()],
    }
}

/// What a service tells of the SAM's clock, once that is kept. A server of time that answered too late at first, on a busy machine, is
/// asked again, and the service asks the SAM now and then.
pub async fn kept_clock(middle: &Middle<'_>, service: &Service) -> Value {
    let url = format!("{}/csc/v2/info", service.portal);
    within("a clock that is kept", async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let info = middle.http.get(&url).send().await.unwrap();
            let info: Value = info.json().await.unwrap();
            let time = info["jt2aService"]["time"].clone();
            if time["state"] == "synchronised" {
                return time;
            }
        }
    })
    .await
}

/// The registration authority at its socket.
async fn serve_ra(
    site: &Site,
    ca: &Arc<DevCa>,
    root: &jose::Jwk,
) -> (Running, tokio::sync::watch::Sender<bool>) {
    let ra = Arc::new(Ra::new(ca.clone(), SAM, vec![root.clone()]).unwrap());
    let own = site
        .ca
        .service_cert(NAME_RA, &[NAME_RA, "localhost"])
        .unwrap();
    let mutual = tls::mutual_server(&own, &site.ca.internal_ca_pem()).unwrap();
    let (stop, shutdown) = Shutdown::new();
    let at = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let routes = dev_ca::routes::ra(ra);
    (serve(at, routes, Some(mutual), shutdown).unwrap(), stop)
}

/// A tenant's service, with what belongs to it alone.
pub struct Service {
    pub program: Program,
    pub portal: String,
    pub officers: u16,
    /// The registration authority, which has a CA of its own.
    pub ra: Ra,
    pub tenant: TenantId,
    _ra: (Running, tokio::sync::watch::Sender<bool>),
}

/// The page's gateway, and what services have to know beside.
pub struct Middle<'a> {
    pub site: &'a Site,
    pub root: jose::Jwk,
    pub page: String,
    pub sam: u16,
    pub http: reqwest::Client,
}

impl Middle<'_> {
    /// Starts a service from its configuration file. `zone`: the beginning of the names of its files.
    pub async fn service(&self, zone: &str, tenant: &str, at: u16, ca: &Arc<DevCa>) -> Service {
        let site = self.site;
        let (dir, officers) = (site.dir.path().display(), port());
        let portal = format!("https://localhost:{at}");
        let _ra = serve_ra(site, ca, &self.root).await;
        let settings = format!(
            "listen = '127.0.0.1:{at}'\nnode = '{zone}-1'\nbase_url = '{portal}'\nsic_url = '{page}'\nname = 'Test {tenant}'\n\
             region = 'JP'\ntenant = '{tenant}'\nkey = '{dir}/{zone}.key'\nchain_key = '{dir}/{zone}-chain.key'\n\
             sam_url = 'https://localhost:{sam}'\ncertify_url = 'https://localhost:{ra}/ra/certify'\nstore = 'sqlite:{dir}/{zone}.db'\n\
             [branding]\nja = '試験 {tenant}'\nen = 'Brand of {tenant}'\ncolour = '#0a5c8a'\nlogo = '{dir}/logo.png'\n\
             contact = 'Ask {tenant}'\n\
             [published]\npolicy = {{ url = 'https://a.example/policy', version = '1' }}\npractice = {{ url = 'https://a.example/p', version = '1' }}\n\
             terms = {{ url = 'https://a.example/terms', version = '1' }}\ncontact = 'mailto:a@a.example'\n\
             [public]\nchain = '{dir}/public-chain.pem'\nkey = '{dir}/public-key.pem'\n\
             [officers]\nlisten = '127.0.0.1:{officers}'\nviewers = ['{NAME_OFFICE}']\npeople = [\n\
             {{ certificate = 'sato.office.natsuin.internal', officer = 'sato', role = 'security-officer' }},\n\
             {{ certificate = 'tanaka.office.natsuin.internal', officer = 'tanaka', role = 'system-administrator' }},\n]\n",
            page = self.page,
            sam = self.sam,
            ra = _ra.0.addr.port(),
        );
        let config = site.configure(zone, &format!("{zone}-1"), &settings);
        Service {
            program: site.start("natsuin-ssa", &config, at).await,
            portal,
            officers,
            ra: Ra::new(ca.clone(), SAM, vec![self.root.clone()]).unwrap(),
            tenant: TenantId::parse(tenant).unwrap(),
            _ra,
        }
    }

    pub async fn hand_in(&self, at: &Service, invite: String) -> (u16, Option<Value>) {
        let sent = self.http.post(format!("{}/invitation", at.portal));
        let answer = sent.body(invite).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.ok())
    }

    /// A person signs up by an invitation that was taken, enrols a passkey and has a key certified.
    pub async fn join(&self, at: &Service, registered: &Value, voucher: Voucher) -> Member {
        let device = Device::new(&self.page, &SystemRandom).unwrap();
        self.join_with(at, registered, voucher, device).await
    }

    /// The same with the passkey of this device.
    pub async fn join_with(
        &self,
        at: &Service,
        registered: &Value,
        voucher: Voucher,
        mut device: Device,
    ) -> Member {
        let link = registered["link"].as_str().unwrap();
        let link = link.strip_prefix(&at.portal).unwrap();
        let side = self
            .site
            .sic(&self.root, &self.page, &self.page, self.http.clone());
        let mut person = Person {
            agent: Agent::with(side.clone()),
            portal: &at.portal,
        };
        let login_totp_secret = person.sign_up(link).await;
        side.enrol(voucher, NewFactors::Passkey(&mut device))
            .await
            .unwrap();
        let enrolled = format!("/enrolled/{}", registered["voucher"].as_str().unwrap());
        assert_eq!(person.exchange(Method::GET, &enrolled, &[]).await.0, 303);
        let signer = DevSigner {
            user: "hanako".to_owned(),
            person: "p-hanako".to_owned(),
            password: "a long enough one".to_owned(),
            login_totp_secret,
            pin: String::new(),
            totp_secret: String::new(),
            credentials: Vec::new(),
        };
        let client = register(self.site, at.officers).await;
        let pem = self.site.anchors().into_bytes();
        let spender = Spender::at(&at.portal, &client, pem, self.http.clone()).await;
        Member {
            signer,
            device,
            agent: person.agent,
            spender,
        }
    }
}

/// Somebody who can sign.
pub struct Member {
    pub signer: DevSigner,
    pub device: Device,
    pub agent: Agent,
    pub spender: Spender,
}

impl Member {
    pub async fn token(&mut self, purpose: csc_types::Purpose) -> csc_types::SecretText {
        let factors = Factors::Passkey(&mut self.device);
        let agent = &mut self.agent;
        self.spender
            .token_of(&self.signer, agent, factors, purpose)
            .await
    }

    /// Logs in and signs once; the login's token, the key and the token that is used up.
    pub async fn sign(&mut self) -> (csc_types::SecretText, String, csc_types::SecretText) {
        let login = self.token(csc_types::Purpose::Service).await;
        let key = self.spender.first_credential(&login).await;
        let approved = hashes(1);
        let token = self.token(approval(&key, &approved)).await;
        let sent = self.spender.post(&token, body(&key, &approved), None).await;
        assert_eq!(sent.0, 200, "{}", sent.1);
        assert_eq!(sent.1["signatures"].as_array().unwrap().len(), 1);
        (login, key, token)
    }
}

/// The four daemons from their configuration files: a client is registered, a person is invited, signs up, enrols a passkey and
/// signs. Then each is ended as a service manager does it, and each log is whole. One of their sources of time lies.
// shows: II-1-logical-structure, I-7.1.1.10-only-privileged-manage-all-interfaces, I-7.1.1.12-synchronised,
// I-4.1-same-requirements-all-deployments, I-A5-log-class-application, I-A5-audit-two-classes,
// I-A5-audit-log-compliance
#[tokio::test(flavor = "multi_thread")]
async fn four_daemons_make_one_signature() {
    let mut site = Site::new();
    site.clock = crate::time::sources(3600);
    let (cm, ssa, sic) = (port(), port(), port());
    let page = format!("https://sic.localhost:{sic}");
    let (mut module, root) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: page.clone(),
        home: format!("https://localhost:{ssa}"),
        tenants: String::new(),
    };
    let dir = site.dir.path().display().to_string();
    let mut sam = site
        .sam("sam-1", &format!("sqlite:{dir}/sam.db"), &ports)
        .await;
    let mut gateway = site.gateway(sic, &page, ports.gateway).await;
    let middle = Middle {
        site: &site,
        root,
        page,
        sam: ports.ssa,
        http: site.http(),
    };
    let mut service = middle.service("ssa", "test", ssa, &site.ca).await;
    let time = kept_clock(&middle, &service).await;
    assert_eq!(time["declaredErrorMs"], 60_000);
    let measured = time["measuredErrorMs"].as_u64().unwrap();
    assert!(measured < 60_000, "{time}");
    let (invite, voucher) = invite(&service, "p-hanako");
    // Nobody's word but the authority's, and that once.
    let forged = invite.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    assert_eq!(middle.hand_in(&service, forged).await.0, 403);
    let (status, registered) = middle.hand_in(&service, invite.clone()).await;
    assert_eq!(status, 201, "{registered:?}");
    assert_eq!(middle.hand_in(&service, invite).await.0, 409);
    let registered = registered.unwrap();
    let mut hanako = middle.join(&service, &registered, voucher).await;
    let (login, key, used) = hanako.sign().await;
    let again = body(&key, &hashes(1));
    assert_eq!(hanako.spender.post(&used, again.clone(), None).await.0, 401);
    // A client that is stopped is stopped at once.
    let desk = site.caller(service.officers, "sato.office.natsuin.internal");
    let stop = ClientRequest {
        client: ClientId::parse("test-client").unwrap(),
    };
    desk.call::<ClientSuspend>(&stop).await.unwrap();
    assert_eq!(hanako.spender.post(&login, again, None).await.0, 401);

    // One process owns an embedded store; whoever wants its log is told what to do.
    let out = site.at("export/sam").display().to_string();
    let export = ["export-log", "--out", &out];
    let done = site.command("natsuin-sam", "sam-1", &export);
    assert_eq!(done.status.code(), Some(4), "{}", text(&done));
    assert!(text(&done).contains("end the daemon"), "{}", text(&done));
    for program in [&mut service.program, &mut gateway, &mut sam] {
        program.end();
    }
    // A command that comes to nothing, twice: no start of it is taken for a crash, least of all for one of the daemon.
    let delete = [
        "delete-archived",
        "--archive",
        "/nowhere",
        "--archive-key",
        "/nowhere",
        "--taken",
        "/nowhere",
    ];
    for _ in 0..2 {
        let done = site.command("natsuin-sam", "sam-1", &delete);
        assert_eq!(done.status.code(), Some(4), "{}", text(&done));
        assert!(text(&done).contains("delete-archived"), "{}", text(&done));
    }
    let (act, _) = evidence_of_a_signature(&site);
    let (ssa, sam) = (site.entries("ssa"), site.entries("sam"));
    let read = |e: &&Value| e["kind"] == "audit.read" && e["detail"]["what"] == "evidence";
    let read: Vec<_> = sam.iter().filter(read).collect();
    // Recorded before anything is handed out, so also when there was no file to write to.
    assert_eq!(read.len(), 2, "{read:?}");
    assert!(read.iter().all(|e| e["detail"]["query"] == act.as_str()));
    module.end();
    for (args, good) in [(&delete[..], false), (&["scrub"][..], true)] {
        let done = site.command("natsuin-cm", "cm-1", args);
        assert_eq!(done.status.success(), good, "{}", text(&done));
    }
    let cm = site.entries("cm");
    let mut everything = std::collections::BTreeSet::new();
    for (zone, said) in [("cm", cm), ("sam", sam), ("ssa", ssa)] {
        let by_command = |e: &&Value| e["node"].as_str().unwrap().ends_with(".command");
        assert!(said.iter().any(|e| by_command(&e)), "{zone}");
        let mut watch = audit_alert::Watch::new(audit_alert::Limits::default());
        for (seq, entry) in (0..).zip(&said) {
            let entry = audit_reader::Entry::parse(seq, &entry.to_string(), None).unwrap();
            let told = watch.see(&entry);
            assert!(told.iter().all(|alert| alert.rule != "crashed"), "{told:?}");
        }
        let own = said.iter().filter(|e| !by_command(e));
        let kinds: Vec<_> = own.map(|e| e["kind"].as_str().unwrap()).collect();
        let (first, last) = (kinds[0], kinds[kinds.len() - 1]);
        assert!(kinds.contains(&"service.started"), "{zone}: {first}");
        assert!(last.ends_with(".stopped"), "{zone}: {last}");
        // What was done can be held against the software and the settings of that day.
        let started = said.iter().find(|e| e["kind"] == "service.started");
        let started = &started.unwrap()["detail"];
        assert!(started["version"].is_string() && started["settings"].is_string());
        everything.extend(said.iter().map(|e| {
            let word = |name: &str| e[name].as_str().unwrap().to_owned();
            (word("class"), word("kind"))
        }));
        let sources = said.iter().filter(|e| e["kind"] == "clock.source");
        // What was said of each last: on a busy machine an answer may have been late once.
        let named: BTreeMap<_, _> = sources
            .map(|e| (&e["detail"]["source"], &e["detail"]["state"]))
            .map(|(source, state)| (source.as_str().unwrap(), state.as_str().unwrap()))
            .collect();
        let expected = BTreeMap::from([
            ("first", "agrees"),
            ("second", "agrees"),
            ("third", "false"),
        ]);
        assert_eq!(named, expected, "{zone}");
        let mut state = said.iter().filter(|e| e["kind"] == "clock.state");
        let state = state.next_back().map(|e| &e["detail"]["state"]);
        assert_eq!(state, Some(&Value::from("synchronised")), "{zone}");
    }
    // Requests, account operations, usage and important operations; behaviour and access, each in its class.
    for (class, kind) in [
        ("transaction", "request.prepared"),
        ("access", "token.issued"),
        ("access", "account.made"),
        ("transaction", "signature.made"),
        ("transaction", "service.started"),
        ("transaction", "client.changed"),
    ] {
        let entry = (class.to_owned(), kind.to_owned());
        assert!(everything.contains(&entry), "{kind}: {everything:?}");
    }
}

/// The auditor picks a signature in the log and has the SAM's operators give its evidence, which is checked elsewhere; the act, and
/// what the checker says.
pub fn evidence_of_a_signature(site: &Site) -> (String, String) {
    let made = site.entries("sam");
    let made = made.iter().find(|e| e["kind"] == "signature.made").unwrap();
    let act = made["detail"]["act"].as_str().unwrap().to_owned();
    let file = site.at("evidence.json");
    let name = file.display().to_string();
    for (person, good) in [("p-nobody", false), ("p-hanako", true), ("p-hanako", false)] {
        let args = ["--person", person, "--act", &act, "--out", &name];
        let args = [&["export-evidence"][..], &args].concat();
        let done = site.command("natsuin-sam", "sam-1", &args);
        // Somebody else's act is nobody's, and nothing is written over.
        assert_eq!(done.status.success(), good, "{}", text(&done));
        assert_eq!(file.exists(), person != "p-nobody");
    }
    let mut verify = natsuin();
    verify.args(["evidence", "verify", &name, "--root"]);
    verify.arg(site.at("cm-root.jwk")).arg("--log");
    let said = run(verify.arg(site.at("export/sam/log.pub")));
    assert!(said.status.success(), "{}", text(&said));
    assert!(text(&said).contains("p-hanako"), "{}", text(&said));
    (act, text(&said))
}

/// The authority of this service's tenant invites a person: what it sends to the service, and what it hands to the person.
pub fn invite(at: &Service, person: &str) -> (String, Voucher) {
    invitation(&at.ra, &at.tenant, person)
}
