//! The daemons as operators start them: programs of their own with their configuration files, and nothing between them but their
//! sockets.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cm_api::rpc::{Empty, Root};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    ClientId, Clock as _, KeyAlg, Level, PersonId, Random as _, SecretBytes, TenantId,
};
use dev_ca::ra::Invitation;
use dev_ca::{DevCa, Ra, Urls};
use natsuin::agent::Agent;
use natsuin::stack::{
    DevClient, DevSigner, Device, Factors, NAME_CM, NAME_OFFICE, NAME_SAM, NAME_SIC, NAME_SSA,
    NewFactors, Sic,
};
use reqwest::{Method, Url};
use sap::enrol::Subject;
use serde_json::Value;
use service_kit::http::HttpOptions;
use service_kit::{Client, Running, Shutdown, bind, serve, tls};
use sic_core::{Totp, Trust, Voucher};
use ssa_service::ClientSettings;
use ssa_service::calls::{
    AddRequest, ClientAdd, ClientRequest, ClientRotate, ClientSuspend, Contract, RotateRequest,
};
use tempfile::TempDir;

use crate::kit::{entries, run, text};
use crate::spend::{Spender, approval, body, hashes};

/// Name of the SAM in acts.
const SAM: &str = "sam.test";
/// Name in the registration authority's certificate.
const NAME_RA: &str = "ra.natsuin.internal";

/// A site without a stack: files and certificates, and the registration authority, which is nobody's daemon.
pub struct Site {
    pub dir: TempDir,
    pub ca: Arc<DevCa>,
    tenant: TenantId,
}

/// A daemon that runs. Gone with this value, as by kill -9.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a service manager does.
    pub fn end(&mut self) {
        let pid = self.child.id().to_string();
        let sent = run(Command::new("kill").args(["-TERM", &pid]));
        assert!(sent.status.success(), "{}", text(&sent));
        let code = self.child.wait().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn port() -> u16 {
    let bound = TcpListener::bind("127.0.0.1:0").unwrap();
    bound.local_addr().unwrap().port()
}

fn secret(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened.unwrap().write_all(bytes).unwrap();
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let urls = Urls::under("http://127.0.0.1:1");
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let ca = Arc::new(DevCa::open(&dir.path().join("ca"), urls, clock, random).unwrap());
        let site = Self {
            dir,
            ca,
            tenant: TenantId::parse("test").unwrap(),
        };
        for (zone, name) in [("cm", NAME_CM), ("sam", NAME_SAM), ("sic", NAME_SIC)]
            .into_iter()
            .chain([("ssa", NAME_SSA)])
        {
            let own = site.ca.service_cert(name, &[name, "localhost"]).unwrap();
            fs::write(site.at(&format!("{zone}-chain.pem")), &own.chain_pem).unwrap();
            secret(&site.at(&format!("{zone}-key.pem")), own.key_pem.expose());
            let log_key = site.at(&format!("{zone}-log.key"));
            secret(&log_key, &SystemRandom.digest32().0);
        }
        fs::write(site.at("zones-ca.pem"), site.ca.internal_ca_pem()).unwrap();
        for name in ["cm-root.key", "ssa.key", "ssa-chain.key"] {
            secret(&site.at(name), &SystemRandom.digest32().0);
        }
        let public = site
            .ca
            .localhost_cert(&["localhost", "sic.localhost"])
            .unwrap();
        fs::write(site.at("public-chain.pem"), &public.chain_pem).unwrap();
        secret(&site.at("public-key.pem"), public.key_pem.expose());
        let ra = site.ra(Vec::new());
        let keys = serde_json::to_string(&[ra.public_key()]).unwrap();
        fs::write(site.at("ra-keys.json"), keys).unwrap();
        site
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ra(&self, roots: Vec<jose::Jwk>) -> Ra {
        Ra::new(self.ca.clone(), SAM, roots).unwrap()
    }

    pub fn anchors(&self) -> String {
        fs::read_to_string(self.ca.trust_anchors_file()).unwrap()
    }

    /// What a zone with this name in its certificate calls others with.
    pub fn options(&self, name: &str) -> HttpOptions {
        HttpOptions {
            ca_pem: Some(self.ca.internal_ca_pem()),
            identity: Some(self.ca.service_cert(name, &[name, "localhost"]).unwrap()),
            ..HttpOptions::default()
        }
    }

    pub fn caller(&self, port: u16, name: &str) -> Client {
        Client::new(format!("https://localhost:{port}"), &self.options(name)).unwrap()
    }

    /// A daemon's program, beside the one of this test.
    fn program(&self, name: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_natsuin")).with_file_name(name);
        assert!(
            program.exists(),
            "{name} isn't there: `cargo build --workspace --bins` builds what these tests start"
        );
        Command::new(program)
    }

    /// The configuration with the tables that all daemons have.
    fn configure(&self, zone: &str, node: &str, settings: &str) -> PathBuf {
        let dir = self.dir.path().display();
        let audit = match zone {
            "sic" => String::new(),
            _ => format!(
                "[audit]\nlog = 'test/{zone}'\nkey = '{dir}/{zone}-log.key'\nwitness = '{dir}/{zone}-witness.txt'\n\
                 every_seconds = 1\n"
            ),
        };
        let tls = format!(
            "[tls]\nchain = '{dir}/{zone}-chain.pem'\nkey = '{dir}/{zone}-key.pem'\nca = '{dir}/zones-ca.pem'\n"
        );
        let path = self.at(&format!("{node}.toml"));
        fs::write(&path, format!("{settings}\n{tls}{audit}")).unwrap();
        path
    }

    /// Starts it and waits until it listens here.
    async fn start(&self, name: &str, config: &Path, port: u16) -> Program {
        let log = config.with_extension("err");
        let mut command = self.program(name);
        command.arg("--config").arg(config);
        let child = command
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn();
        let mut program = Program {
            child: child.unwrap(),
            log,
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1500 {
            ticks.tick().await;
            let ended = program.child.try_wait().unwrap();
            assert_eq!(ended, None, "{name}: {}", program.said());
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                return program;
            }
        }
        panic!("{name} doesn't listen: {}", program.said());
    }

    /// The module; its root key goes where the others pin it.
    pub async fn module(&self, port: u16) -> (Program, jose::Jwk) {
        let dir = self.dir.path().display();
        let settings = format!(
            "listen = '127.0.0.1:{port}'\nnode = 'cm-1'\nsam = '{SAM}'\ncaller = '{NAME_SAM}'\nstore = 'sqlite:{dir}/cm.db'\n\
             root_secret = '{dir}/cm-root.key'\nmax_uses = 10000\ncopies_kept_days = 30\nkey_cache_seconds = 0\n\
             [backend]\nkind = 'software'\n"
        );
        let config = self.configure("cm", "cm-1", &settings);
        let program = self.start("natsuin-cm", &config, port).await;
        let told = self.caller(port, NAME_SAM).call::<Root>(&Empty {}).await;
        let root = told.unwrap().root;
        fs::write(
            self.at("cm-root.jwk"),
            serde_json::to_string(&root).unwrap(),
        )
        .unwrap();
        fs::write(
            self.at("roots.json"),
            serde_json::to_string(&[&root]).unwrap(),
        )
        .unwrap();
        (program, root)
    }

    /// A node of the SAM. The first one begins the installation.
    pub async fn sam(&self, node: &str, store: &str, at: &SamPorts) -> Program {
        let dir = self.dir.path().display();
        let SamPorts {
            module,
            ssa,
            gateway,
            office,
            origin,
            home,
        } = at;
        let settings = format!(
            "listen_ssa = '127.0.0.1:{ssa}'\nlisten_gateway = '127.0.0.1:{gateway}'\nnode = '{node}'\nsam = '{SAM}'\n\
             tenant = '{tenant}'\nsic_origin = '{origin}'\nreturn_prefixes = ['{home}/']\nservices = ['{NAME_SSA}']\n\
             gateways = ['{NAME_SIC}']\ncm_url = 'https://localhost:{module}'\ncm_root = '{dir}/cm-root.jwk'\n\
             registration_authorities = '{dir}/ra-keys.json'\nissuers = '{issuers}'\nstore = '{store}'\n\
             [policy]\nversion = 1\npin_totp_at_level_2 = false\nceiling = 1\n\
             [office]\nlisten = '127.0.0.1:{office}'\norigin = 'https://sic.localhost:{office}'\ngateways = ['{NAME_OFFICE}']\n\
             idle_seconds = 600\nsession_seconds = 14400\n",
            tenant = self.tenant,
            issuers = self.ca.trust_anchors_file().display(),
        );
        let config = self.configure("sam", node, &settings);
        if !self.at("ceremony").exists() {
            let officers = self.at("officers.toml");
            let until = SystemClock.now().plus(90 * 24 * 3600).rfc3339();
            let one = |id: &str| {
                format!(
                    "[[officer]]\nid = '{id}'\nname = '{id}'\nidentity = 'card-{id}'\nuntil = '{until}'\n"
                )
            };
            fs::write(&officers, one("sato") + &one("suzuki")).unwrap();
            let begun = run(self
                .program("natsuin-sam")
                .arg("--config")
                .arg(&config)
                .arg("init")
                .arg("--officers")
                .arg(&officers)
                .arg("--out")
                .arg(self.at("ceremony")));
            assert!(begun.status.success(), "{}", text(&begun));
        }
        self.start("natsuin-sam", &config, *gateway).await
    }

    /// What a signer's side reaches the SAM with, over this address.
    pub fn sic(&self, root: &jose::Jwk, page: &str, reached: &str, http: reqwest::Client) -> Sic {
        Sic {
            trust: Trust::new(vec![root.clone()], page).unwrap(),
            origin: reached.to_owned(),
            http,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }

    /// The registration authority invites a person: what it sends to the service, and what it hands to the person.
    pub fn invite(&self, ra: &Ra, person: &str) -> (String, Voucher) {
        let invited = ra.invite(Invitation {
            tenant: self.tenant.clone(),
            person: PersonId::parse(person).unwrap(),
            subject: Subject {
                common_name: person.to_owned(),
                country: "JP".to_owned(),
                organization: None,
                serial_number: format!("TEST-{person}"),
            },
            assurance: "test".to_owned(),
            ceiling: Level::One,
            keys: vec![KeyAlg::P256],
            exp: SystemClock.now().plus(3600),
            replaces: None,
            collected: false,
            codes: None,
            exportable: false,
            one_time: false,
        });
        let (jws, voucher, secret) = invited.unwrap();
        let ticket = format!("{voucher}.{}", core_types::bytes::b64u(secret.expose()));
        (jws, Voucher::parse(&SecretBytes::from(ticket)).unwrap())
    }
}

/// Where a node of the SAM listens, and what it has to know.
pub struct SamPorts {
    pub module: u16,
    pub ssa: u16,
    pub gateway: u16,
    pub office: u16,
    /// Origin of the approval page.
    pub origin: String,
    /// Origin of the portal.
    pub home: String,
}

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

/// The registration authority at its socket.
async fn serve_ra(site: &Site, root: &jose::Jwk) -> (Running, tokio::sync::watch::Sender<bool>) {
    let ra = Arc::new(site.ra(vec![root.clone()]));
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

/// The four daemons from their configuration files: a client is registered, a person is invited, signs up, enrols a passkey and
/// signs. Then each is ended as a service manager does it, and each log is whole.
// shows: II-1-logical-structure, I-7.1.1.10-only-privileged-manage-all-interfaces
#[tokio::test(flavor = "multi_thread")]
async fn four_daemons_make_one_signature() {
    let site = Site::new();
    let (cm, ssa, sic, officers) = (port(), port(), port(), port());
    let page = format!("https://sic.localhost:{sic}");
    let portal = format!("https://localhost:{ssa}");
    let (mut module, root) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: page.clone(),
        home: portal.clone(),
    };
    let dir = site.dir.path().display().to_string();
    let mut sam = site
        .sam("sam-1", &format!("sqlite:{dir}/sam.db"), &ports)
        .await;
    let settings = format!(
        "listen = '127.0.0.1:{sic}'\norigin = '{page}'\nroots = '{dir}/roots.json'\nsam_url = 'https://localhost:{}'\n\
         public_chain = '{dir}/public-chain.pem'\npublic_key = '{dir}/public-key.pem'\n",
        ports.gateway
    );
    let config = site.configure("sic", "sic-1", &settings);
    let mut gateway = site.start("natsuin-sic", &config, sic).await;
    let (ra, _stop) = serve_ra(&site, &root).await;
    let settings = format!(
        "listen = '127.0.0.1:{ssa}'\nnode = 'ssa-1'\nbase_url = '{portal}'\nsic_url = '{page}'\nname = 'Test'\nregion = 'JP'\n\
         tenant = 'test'\nkey = '{dir}/ssa.key'\nchain_key = '{dir}/ssa-chain.key'\nsam_url = 'https://localhost:{sam}'\n\
         certify_url = 'https://localhost:{ra}/ra/certify'\nstore = 'sqlite:{dir}/ssa.db'\n\
         [published]\npolicy = {{ url = 'https://a.example/policy', version = '1' }}\npractice = {{ url = 'https://a.example/p', version = '1' }}\n\
         terms = {{ url = 'https://a.example/terms', version = '1' }}\ncontact = 'mailto:a@a.example'\n\
         [public]\nchain = '{dir}/public-chain.pem'\nkey = '{dir}/public-key.pem'\n\
         [officers]\nlisten = '127.0.0.1:{officers}'\npeople = [\n\
         {{ certificate = 'sato.office.natsuin.internal', officer = 'sato', role = 'security-officer' }},\n\
         {{ certificate = 'tanaka.office.natsuin.internal', officer = 'tanaka', role = 'system-administrator' }},\n]\n",
        sam = ports.ssa,
        ra = ra.addr.port(),
    );
    let config = site.configure("ssa", "ssa-1", &settings);
    let mut service = site.start("natsuin-ssa", &config, ssa).await;

    let client = register(&site, officers).await;
    let anchors = site.anchors();
    let http = service_kit::http::client(&HttpOptions {
        ca_pem: Some(anchors.clone()),
        ..HttpOptions::default()
    });
    let http = http.unwrap();
    let (invite, voucher) = site.invite(&site.ra(vec![root.clone()]), "p-hanako");
    let hand_in = async |body: String| {
        let sent = http.post(format!("{portal}/invitation")).body(body);
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.ok())
    };
    // Nobody's word but the authority's, and that once.
    let forged = invite.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    assert_eq!(hand_in(forged).await.0, 403);
    let (status, registered) = hand_in(invite.clone()).await;
    assert_eq!(status, 201, "{registered:?}");
    assert_eq!(hand_in(invite).await.0, 409);
    let registered = registered.unwrap();
    let link = registered["link"].as_str().unwrap();
    let link = link.strip_prefix(&portal).unwrap();

    let side = site.sic(&root, &page, &page, http.clone());
    let mut person = Person {
        agent: Agent::with(side.clone()),
        portal: &portal,
    };
    let login_totp_secret = person.sign_up(link).await;
    let mut device = Device::new(&page, &SystemRandom).unwrap();
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
    let spender = Spender::at(&portal, &client, anchors.into_bytes(), http).await;
    let mut agent = person.agent;
    let factors = Factors::Passkey(&mut device);
    let login = spender
        .token_of(&signer, &mut agent, factors, csc_types::Purpose::Service)
        .await;
    let key = spender.first_credential(&login).await;
    let approved = hashes(1);
    let factors = Factors::Passkey(&mut device);
    let asked = approval(&key, &approved);
    let token = spender.token_of(&signer, &mut agent, factors, asked).await;
    let (status, answer) = spender.post(&token, body(&key, &approved), None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["signatures"].as_array().unwrap().len(), 1);
    assert_eq!(
        spender.post(&token, body(&key, &approved), None).await.0,
        401
    );
    // A client that is stopped is stopped at once.
    let desk = site.caller(officers, "sato.office.natsuin.internal");
    let stop = ClientRequest {
        client: ClientId::parse("test-client").unwrap(),
    };
    desk.call::<ClientSuspend>(&stop).await.unwrap();
    assert_eq!(
        spender.post(&login, body(&key, &approved), None).await.0,
        401
    );

    for program in [&mut service, &mut gateway, &mut sam, &mut module] {
        program.end();
    }
    for zone in ["cm", "sam", "ssa"] {
        let said = site.entries(zone, &format!("sqlite:{dir}/{zone}.db")).await;
        let kinds: Vec<_> = said.iter().map(|e| e["kind"].as_str().unwrap()).collect();
        let (first, last) = (kinds[0], kinds[kinds.len() - 1]);
        assert!(kinds.contains(&"service.started"), "{zone}: {first}");
        assert!(last.ends_with(".stopped"), "{zone}: {last}");
    }
}

impl Site {
    /// The entries of a zone's log, which has to be good.
    pub async fn entries(&self, zone: &str, store: &str) -> Vec<Value> {
        let tables = match zone {
            "cm" => cm_core::MIGRATIONS,
            "sam" => sam_service::MIGRATIONS,
            _ => ssa_service::MIGRATIONS,
        };
        let url = store_kit::StoreUrl::parse(store).unwrap();
        // The store's name in its database is the zone's.
        let name: &'static str = match zone {
            "cm" => "cm",
            "sam" => "sam",
            _ => "ssa",
        };
        let opened = store_kit::Store::open(&url, name, tables, &SystemRandom).await;
        let store = opened.unwrap();
        let seed = SecretBytes::new(fs::read(self.at(&format!("{zone}-log.key"))).unwrap());
        let key = audit_log::LogKey::from_seed(&format!("test/{zone}"), &seed).unwrap();
        let export = self.at("export");
        let done = audit_log::export(&store, &export.join(zone), &key.public()).await;
        done.unwrap();
        store.close().await;
        entries(&export, zone)
    }
}
