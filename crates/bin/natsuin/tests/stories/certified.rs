//! Levels 2 and 3 as operators start them: daemons whose module keeps keys in a token, whose clock is kept, whose settings two have
//! signed, whose log has an anchor, and whose signers' authenticators somebody vouches for. What only a certificate could prove is
//! declared with the reference *test, not evaluated*, which shows wherever the level does.

mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use audit_log::LogKey;
use audit_witness::CosignKey;
use cm_pkcs11::TEST;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{ClientId, Clock as _, KeyId, Level, PersonId, Random as _, SecretBytes};
use csc_types::{Purpose, SecretText};
use dev_ca::ra::Invitation;
use natsuin::stack::{Device, NAME_SSA};
use pkcs11_faults::softhsm::{Library, SoftHsm};
use reqwest::{Method, Url};
use sam_api::ssa::{Keys, KeysRequest};
use serde_json::{Value, json};
use sic_core::Voucher;
use soft_passkey::Attester;
use store_kit::StoreUrl;

use crate::daemons::{Member, Middle, Service, evidence_of_a_signature, kept_clock};
use crate::kit::{run, text};
use crate::levels::{CLIENT, SsaCalls, asked_at};
use crate::site::{Program, SamPorts, Signers, Site, asked, handed_over, port, secret};
use crate::spend::{approval, body, hashes};
use crate::two_sams::enrol;
use refusals::{a_certificate_alone, less_is_refused_by_name};

const PIN: &str = "12345678";
/// The one model of authenticators that counts.
const MODEL: [u8; 16] = [0xa1; 16];
/// Name of the auditor's witness.
const WITNESS: &str = "witness.natsuin.internal";
/// What is declared of the module's log, which nobody cosigns.
const BESIDE: &str = "test, on the same disk";
/// The same as a setting.
const DECLARED: &str = "witness_declaration = 'test, on the same disk'\n";

/// A site that has everything that this level asks for, and runs nothing yet; the maker whose authenticators count, and where the
/// witness will listen.
fn equipped(level: Level) -> (Site, Arc<Attester>, u16) {
    let (mut site, at) = (Site::new(), port());
    let token = SoftHsm::new().unwrap();
    let mut make = Command::new("softhsm2-util");
    token.configure(&mut make);
    make.args(["--init-token", "--free", "--label", "natsuin"]);
    let made = run(make.args(["--pin", PIN, "--so-pin", "00000000"]));
    assert!(made.status.success(), "{}", text(&made));
    secret(&site.at("pin"), PIN.as_bytes());
    site.token = Some(token);
    site.signers = Some(Signers::new(site.dir.path()));
    site.clock = crate::time::sources(0);

    let maker = Arc::new(Attester::new(MODEL, MODEL, SystemClock.now()).unwrap());
    let metadata = maker.metadata(&[], "hardware", "2040-01-01").unwrap();
    fs::write(site.at("metadata.jwt"), metadata).unwrap();
    let root = pki::Certificate::parse(&maker.root).unwrap().pem();
    fs::write(site.at("metadata-root.pem"), root).unwrap();
    let dir = site.dir.path().display().to_string();
    let certified = match level {
        Level::Three => format!("sam_declaration = '{TEST}'\n"),
        Level::One | Level::Two => String::new(),
    };
    site.policy = format!(
        "ceiling = {level}\n{certified}[attestation]\nmodels = ['{model}']\nformats = ['packed']\nmetadata = '{dir}/metadata.jwt'\n\
         metadata_root = '{dir}/metadata-root.pem'\n",
        level = u8::from(level),
        model = maker.model(),
    );

    site.zone("witness", WITNESS);
    secret(&site.at("cosign.key"), &SystemRandom.digest32().0);
    let seed = |name: &str| SecretBytes::new(fs::read(site.at(name)).unwrap());
    let cosigns = CosignKey::from_seed(WITNESS, &seed("cosign.key")).unwrap();
    fs::write(site.at("witness.pub"), cosigns.public()).unwrap();
    let log = LogKey::from_seed("test/sam", &seed("sam-log.key")).unwrap();
    fs::write(site.at("sam.pub"), log.public()).unwrap();
    let config = format!(
        "listen = '127.0.0.1:{at}'\nname = '{WITNESS}'\nkey = '{dir}/cosign.key'\ndata = '{dir}/witnessed'\nlogs = ['{dir}/sam.pub']\n\
         [tls]\nchain = '{dir}/witness-chain.pem'\nkey = '{dir}/witness-key.pem'\nca = '{dir}/zones-ca.pem'\n"
    );
    fs::write(site.at("witness.toml"), config).unwrap();
    let cosigned = format!(
        "[audit.witnesses]\ncosigners = [{{ url = 'https://localhost:{at}', key = '{dir}/witness.pub' }}]\npatience_seconds = 60\n\
         measure = 'stop'\n"
    );
    site.watched = vec![("cm", DECLARED.to_owned()), ("sam", cosigned)];
    (site, maker, at)
}

/// The settings of a module of this level, with two officers.
fn module(site: &Site, level: Level) -> String {
    let dir = site.dir.path().display();
    let [first, second] = &site.signers.as_ref().unwrap().public;
    format!(
        "officers = ['{first}', '{second}']\nsigned_settings = true\n\
         [backend]\nkind = 'pkcs11'\nmodule = '{library}'\ntoken = 'natsuin'\npin_file = '{dir}/pin'\ndeclared_level = {level}\n\
         declaration = '{TEST}'\n",
        first = first.display(),
        second = second.display(),
        library = Library::SoftHsm2.path().unwrap().display(),
        level = u8::from(level),
    )
}

async fn witness(site: &Site, at: u16) -> Program {
    let config = site.at("witness.toml");
    site.start("natsuin audit witness", &config, at).await
}

/// Starts the SAM, which doesn't go on: it ends with 4 and says why.
async fn refused(site: &Site, why: &str) {
    ends(site, 4, why).await;
}

/// Starts the SAM, which ends with this code and says why.
async fn ends(site: &Site, code: i32, why: &str) {
    let mut program = site.spawn("natsuin-sam", &site.at("sam-1.toml"), None);
    assert_eq!(
        program.ended().await,
        Some(code),
        "{why}: {}",
        program.said()
    );
    assert!(program.said().contains(why), "{why}: {}", program.said());
}

/// Without the signatures of two, over every file that counts, nothing starts.
async fn settings_are_of_two(site: &Site) {
    let sig = site.at("sam-1.toml.sig");
    let signed = fs::read_to_string(&sig).unwrap();
    fs::remove_file(&sig).unwrap();
    refused(site, "isn't signed").await;
    fs::write(&sig, signed.lines().next().unwrap()).unwrap();
    refused(site, "not enough of those who may").await;
    fs::write(&sig, signed).unwrap();
    // Whose cosignature is asked for is among them.
    let (of, at) = (site.at("witness.pub"), site.at("witness.pub.kept"));
    fs::rename(&of, &at).unwrap();
    fs::write(&of, fs::read_to_string(&at).unwrap() + "\n").unwrap();
    refused(site, "a file of the configuration was changed").await;
    fs::rename(&at, &of).unwrap();
}

/// The SAM's embedded database and the file of its witness, which lie on one disk.
struct OneDisk(Vec<(PathBuf, Vec<u8>)>);

impl OneDisk {
    fn is_of(path: &Path) -> bool {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("sam.db") || name == "sam-witness.txt"
    }

    fn files(site: &Site) -> Vec<PathBuf> {
        let all = fs::read_dir(site.dir.path()).unwrap();
        let all = all.map(|entry| entry.unwrap().path());
        all.filter(|path| Self::is_of(path)).collect()
    }

    fn copied(site: &Site) -> Self {
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        };
        Self(Self::files(site).into_iter().map(read).collect())
    }

    /// As whoever administers that machine puts it back.
    fn put_back(self, site: &Site) {
        for path in Self::files(site) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in self.0 {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Everything that tells somebody the level of the key, and what of it is declared.
async fn level_shows(
    middle: &Middle<'_>,
    service: &Service,
    member: &mut Member,
    (login, key): (&SecretText, &str),
    level: Level,
) {
    let number = u8::from(level);
    let url = format!("{}/csc/v2/credentials/info", service.portal);
    let asked = json!({ "credentialID": key, "certificates": "chain" });
    let asked = middle
        .http
        .post(url)
        .bearer_auth(login.expose())
        .json(&asked);
    let info: Value = asked.send().await.unwrap().json().await.unwrap();
    let told = &info["jt2aLevel"];
    assert_eq!(told["level"], number, "{info}");
    assert_eq!(told["origin"], "pkcs11");
    assert_eq!(told["declared"], json!([TEST, BESIDE]));
    let needs = told["needs"].as_array().unwrap();
    assert_eq!(needs.is_empty(), level == Level::Three, "{told}");
    for (lang, words) in [
        (
            "en",
            format!("Level {number}, because of how the key was made."),
        ),
        ("ja", format!("レベル{number}: 鍵の作られ方のためです。")),
    ] {
        let url = Url::parse(&format!("{}/keys?lang={lang}", service.portal)).unwrap();
        let request = member.agent.request(Method::GET, &url);
        let page = member.agent.send(&url, request).await.unwrap();
        let page = page.text().await.unwrap();
        for shown in [words.as_str(), TEST, BESIDE] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
}

/// The key, after one signature: of the login's token none is.
async fn signs(middle: &Middle<'_>, service: &Service, member: &mut Member, level: Level) -> KeyId {
    let login = member.token(Purpose::Service).await;
    let key = member.spender.first_credential(&login).await;
    let approved = hashes(1);
    let (status, answer) = member
        .spender
        .post(&login, body(&key, &approved), None)
        .await;
    assert!((400..500).contains(&status), "{status} {answer}");
    let token = member
        .token(asked_at(level, approval(&key, &approved)))
        .await;
    let (status, answer) = member
        .spender
        .post(&token, body(&key, &approved), None)
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["signatures"].as_array().unwrap().len(), 1);
    level_shows(middle, service, member, (&login, &key), level).await;
    KeyId::parse(key).unwrap()
}

/// Entries of this kind, and the reasons in them.
fn told(entries: &[Value], kind: &str) -> Vec<String> {
    let of = entries.iter().filter(|entry| entry["kind"] == kind);
    let reason = |entry: &Value| entry["detail"]["reason"].as_str().map(str::to_owned);
    of.map(|entry| reason(entry).unwrap_or_default()).collect()
}

async fn everything_that_this_level_asks_for(level: Level) {
    let (site, maker, at) = equipped(level);
    let (cm, ssa, sic) = (port(), port(), port());
    let page = format!("https://sic.localhost:{sic}");
    let mut cosigner = witness(&site, at).await;
    let (mut cm_daemon, root) = site.module_with(cm, &module(&site, level)).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: page.clone(),
        home: format!("https://localhost:{ssa}"),
        tenants: String::new(),
    };
    let store = match level {
        Level::Three => store_kit::testing::postgres_database().await,
        Level::One | Level::Two => StoreUrl::Sqlite(site.at("sam.db")),
    };
    let named = match &store {
        StoreUrl::Postgres(url) => url.to_string(),
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
    };
    let config = site.sam_ready("sam-1", &named, &ports);
    settings_are_of_two(&site).await;
    let mut sam = site.start("natsuin-sam", &config, ports.office).await;
    let embedded = matches!(store, StoreUrl::Sqlite(_));
    let old = match embedded {
        true => {
            sam.end();
            let old = OneDisk::copied(&site);
            sam = site.start("natsuin-sam", &config, ports.office).await;
            Some(old)
        }
        false => None,
    };
    let mut gateway = site.gateway(sic, &page, ports.gateway).await;
    let middle = Middle {
        site: &site,
        root: root.clone(),
        page: page.clone(),
        sam: ports.ssa,
        http: site.http(),
    };
    let mut service = middle.service("ssa", "test", ssa, &site.ca).await;
    kept_clock(&middle, &service).await;

    let invitation = Invitation {
        ceiling: level,
        ..asked(&service.tenant, "p-hanako")
    };
    let (invite, ticket) = handed_over(&service.ra, invitation);
    let (status, registered) = middle.hand_in(&service, invite).await;
    assert_eq!(status, 201, "{registered:?}");
    let device = Device::attested(&page, maker, &SystemRandom).unwrap();
    let (registered, voucher) = (registered.unwrap(), Voucher::parse(&ticket).unwrap());
    let mut hanako = middle
        .join_with(&service, &registered, voucher, device)
        .await;
    let key = signs(&middle, &service, &mut hanako, level).await;

    let calls = |person: &str, key: KeyId| SsaCalls {
        sam: site.caller(ports.ssa, NAME_SSA),
        person: PersonId::parse(person).unwrap(),
        key,
        client: ClientId::parse(CLIENT).unwrap(),
        return_uri: format!("{}/", ports.home),
        level,
    };
    let own = calls("p-hanako", key);
    let person = own.person.clone();
    let known = own.sam.call::<Keys>(&KeysRequest { person }).await;
    assert_eq!(known.unwrap().keys[0].level.level, level);
    let side = site.sic(&root, &page, &page, site.http());
    let places = (page.as_str(), ports.home.as_str());
    let other = enrol(&site, &root, (&own.sam, &side), places, "p-taro", false).await;
    let other = calls("p-taro", other.key);
    a_certificate_alone(&middle, &own, &other, &hanako.device).await;
    less_is_refused_by_name(&middle, &service, &own, level).await;

    for program in [&mut service.program, &mut gateway, &mut sam] {
        program.end();
    }
    let (_, evidence) = evidence_of_a_signature(&site);
    assert!(
        evidence.contains(&format!("Level {}", u8::from(level))),
        "{evidence}"
    );
    let entries = site.entries("sam");
    let reasons = ["unsigned", "signers", "changed"];
    assert_eq!(told(&entries, "settings.refused"), reasons);
    assert_eq!(told(&entries, "settings.adopted").len(), 1);
    assert_eq!(told(&site.entries("ssa"), "settings.adopted").len(), 1);
    // Without its cosigner the SAM has no anchor; and with it, nobody puts an old database back, the witness's file beside it.
    cosigner.end();
    // The service manager tries again until it is back.
    ends(&site, 75, "doesn't cosign").await;
    let _cosigner = witness(&site, at).await;
    if let Some(old) = old {
        old.put_back(&site);
        refused(&site, "the database was set back").await;
    }
    cm_daemon.end();
    assert_eq!(told(&site.entries("cm"), "settings.adopted").len(), 1);
}

// shows: I-3.5-level-definitions, I-3.5.1-keygen-L2, I-3.5.1-retention-L2, I-3.5.1-keyauth-L2, I-3.5.2-L2-patterns,
// II-3.2-keyauth-L2-mfa, II-3.2-keyauth-L2-separate, II-3.3.2-config-tamper-detected, II-3.3.2-audit-tamper-detected,
// T-INS-OPERATOR, T-USE-SAP-BYPASS, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_level_two_start_with_all_that_it_asks_for_and_sign() {
    everything_that_this_level_asks_for(Level::Two).await;
}

// shows: I-3.5-level-definitions, I-3.5.1-retention-L3, I-3.5.1-keyauth-L3, I-3.5.2-L3-pattern, II-3.2-keyauth-L2-mfa,
// II-3.2-keyauth-L2-separate, II-3.3.1-dtbsr-integrity, II-3.3.2-config-tamper-detected, T-INS-OPERATOR, T-USE-SAP-BYPASS,
// T-USE-SAP-REPLAY, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_level_three_start_with_all_that_it_asks_for_and_sign() {
    everything_that_this_level_asks_for(Level::Three).await;
}

// shows: I-3.5-level-definitions, I-3.5.1-keygen-L2, I-7.1.1.12-synchronised, II-3.3.2-audit-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn a_level_whose_conditions_are_not_met_is_refused_at_the_start_by_requirement() {
    let mut site = Site::new();
    let cm = port();
    let (mut module, _) = site.module(cm).await;
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: "https://sic.localhost:1".to_owned(),
        home: "https://localhost:1".to_owned(),
        tenants: String::new(),
    };
    let store = format!("sqlite:{}", site.at("sam.db").display());
    // It begins at level 1, where none of that is asked for.
    site.sam("sam-1", &store, &ports).await.end();
    let kept = crate::time::sources(0);
    let (declared, nothing) = (vec![("sam", DECLARED.to_owned())], Vec::new());
    for (ceiling, clock, watched, why) in [
        (2, "", &declared, "I-7.1.1.12-synchronised"),
        (2, kept.as_str(), &nothing, "II-3.3.2-audit-tamper-detected"),
        // Whatever is declared, this module keeps keys in software.
        (2, kept.as_str(), &declared, "I-3.5.1-keygen-L2"),
        (3, kept.as_str(), &declared, "I-3.5.1-keygen-L3"),
    ] {
        site.policy = format!("ceiling = {ceiling}\n");
        (site.clock, site.watched) = (clock.to_owned(), watched.clone());
        site.sam_ready("sam-1", &store, &ports);
        refused(&site, why).await;
    }
    module.end();
}
