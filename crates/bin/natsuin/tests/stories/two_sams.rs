//! Two nodes of the SAM, each a program of its own, on one PostgreSQL with a synchronous standby: everything is delivered to both
//! at once, each is killed in turn while it works, and the standby is promoted. What was used stays used.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{
    B64, ClientId, Clock as _, Digest32, HashAlg, PersonId, Random as _, SecretBytes, sha256,
};
use futures_util::future::join_all;
use natsuin::stack::{Device, NAME_SIC, NAME_SSA, NewFactors, Sic};
use sam_api::ssa::{
    Bind, BindRequest, Certificate, CertificateRequest, Enrolment, EnrolmentAnswer,
    EnrolmentRequest, Keys, KeysRequest, Prepare, PrepareItem, PrepareRequest, RequestState, Sign,
    SignRequest, Status, StatusRequest, Voucher as Vouch, VoucherRequest,
};
use sap::SignAct;
use sap::enrol::CertifyRequest;
use sap::messages::{
    Approve, ApproveRequest, Empty, Keys as SapKeys, KeysAnswer, Open, OpenAnswer, OpenRequest,
    SapRefusalCode,
};
use service_kit::{CallError, Client};
use sic_core::{Confirmed, Totp, Trust};
use store_kit::testing::Replicated;
use tokio::sync::Notify;

use crate::site::{Program, SamPorts, Site, port};
use crate::spend::ALG;

const PAGE: &str = "https://sic.localhost:1";
const HOME: &str = "https://localhost:1";
/// Of everybody who has one.
pub const PIN: &str = "blue heron at dawn";
/// Acts that everybody tries to use twice.
const ACTS: usize = 12;

/// A node as the SSA and the SIC gateway reach it.
struct Node {
    name: &'static str,
    ports: SamPorts,
    program: Option<Program>,
    ssa: Client,
    gateway: Client,
    sic: Sic,
}

impl Node {
    async fn start(&mut self, site: &Site, store: &str) {
        self.program = Some(site.sam(self.name, store, &self.ports).await);
        // New connections: those of before lead to a process that is gone.
        self.ssa = site.caller(self.ports.ssa, NAME_SSA);
        self.gateway = site.caller(self.ports.gateway, NAME_SIC);
    }

    /// Waits until none of its connections to the database is one to a server that is gone: such a call is told *not now*, which
    /// would show nothing.
    async fn settled(&self, person: &PersonId) {
        let request = KeysRequest {
            person: person.clone(),
        };
        let mut last = None;
        let going_on = async {
            let mut good = 0;
            // The pool takes them in turn, so this is more than once around.
            while good < 64 {
                match self.ssa.call::<Keys>(&request).await {
                    Ok(_) => good += 1,
                    Err(why) => {
                        good = 0;
                        last = Some(why);
                    }
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(180), going_on).await;
        assert!(in_time.is_ok(), "{} doesn't go on: {last:?}", self.name);
    }

    fn kill(&mut self) {
        self.program.take().unwrap().kill();
    }
}

pub struct Signer {
    pub person: PersonId,
    pub key: core_types::KeyId,
    pub device: Device,
    /// Who has one proves with PIN and one-time code.
    pub seed: Option<Totp>,
}

/// A request with its open act, and the proof of it.
struct Asked {
    rid: Digest32,
    proof: ApproveRequest,
    sign: SignRequest,
}

/// Enrols a person at the SAM that these lead to, with a passkey or with PIN and one-time codes. `page`, `home`: origins of the
/// approval page and of the portal.
pub async fn enrol(
    site: &Site,
    root: &jose::Jwk,
    (ssa, sic): (&Client, &Sic),
    (page, home): (&str, &str),
    name: &str,
    pin: bool,
) -> Signer {
    let ra = site.ra(vec![root.clone()]);
    let (invite, ticket) = site.invite(&ra, name);
    let request = VoucherRequest::Ra {
        invite,
        return_uri: format!("{home}/enrolled"),
    };
    let voucher = ssa.call::<Vouch>(&request).await.unwrap().voucher;
    let mut device = Device::new(page, &SystemRandom).unwrap();
    let secret = SecretBytes::from(PIN.to_owned());
    let factors = match pin {
        true => NewFactors::PinTotp(&secret),
        false => NewFactors::Passkey(&mut device),
    };
    let seed = sic.enrol(ticket, factors).await.unwrap();
    let request = EnrolmentRequest { voucher };
    let EnrolmentAnswer::Enrolled {
        person,
        statement,
        keys,
    } = ssa.call::<Enrolment>(&request).await.unwrap()
    else {
        panic!("not enrolled")
    };
    for key in keys {
        let request = CertifyRequest {
            statement: statement.clone(),
            enrolment: key.enrolment,
            csr: key.csr,
        };
        let answer = ra.certify(&request).unwrap();
        let request = CertificateRequest {
            key: key.key,
            certify: answer.certify,
            chain: answer.chain,
        };
        ssa.call::<Certificate>(&request).await.unwrap();
    }
    let request = KeysRequest {
        person: person.clone(),
    };
    let keys = ssa.call::<Keys>(&request).await.unwrap().keys;
    Signer {
        person,
        key: keys[0].key.clone(),
        device,
        seed: seed.map(|seed| Totp::from_base32(&seed).unwrap()),
    }
}

/// The request for one signature of this signer, over this hash.
pub fn wanted(signer: &Signer, hash: &B64, home: &str) -> PrepareRequest {
    PrepareRequest {
        person: signer.person.clone(),
        key: signer.key.clone(),
        client: ClientId::parse("app").unwrap(),
        client_name: "App".to_owned(),
        client_jws: None,
        items: vec![PrepareItem {
            ha: HashAlg::Sha256,
            h: hash.clone(),
            label: "a.pdf".to_owned(),
            doc: None,
        }],
        open: None,
        renew: 0,
        return_uri: format!("{home}/back"),
        ttl: 600,
    }
}

/// The act as the signer confirms it.
pub fn confirmed(trust: &Trust, opened: OpenAnswer, keys: &KeysAnswer) -> Confirmed<SignAct> {
    let now = SystemClock.now();
    let sam = trust.check(keys, now).unwrap();
    sam.sign_act(opened, now).unwrap().confirm()
}

/// Prepares at one node and opens at another.
async fn open(at: [&Node; 2], signer: &Signer) -> (Digest32, B64, Confirmed<SignAct>) {
    let hash = B64(SystemRandom.digest32().0.to_vec());
    let request = wanted(signer, &hash, HOME);
    let rid = at[0].ssa.call::<Prepare>(&request).await.unwrap().rid;
    let opened = at[1].gateway.call::<Open>(&OpenRequest { rid }).await;
    let keys = at[1].gateway.call::<SapKeys>(&Empty {}).await.unwrap();
    let act = confirmed(&at[1].sic.trust, opened.unwrap(), &keys);
    (rid, hash, act)
}

async fn ask(at: [&Node; 2], signer: &Signer) -> Asked {
    let (rid, hash, confirmed) = open(at, signer).await;
    let mut device = signer.device.clone();
    Asked {
        rid,
        proof: confirmed.passkey(&mut device, SystemClock.now()).unwrap(),
        sign: SignRequest {
            token: SecretBytes::from(format!("token of {rid}")),
            client: ClientId::parse("app").unwrap(),
            key: signer.key.clone(),
            alg: ALG,
            hashes: vec![hash],
            idempotency_key: None,
        },
    }
}

async fn bind(node: &Node, asked: &Asked) {
    let request = BindRequest {
        rid: asked.rid,
        grant: sha256(&[asked.sign.token.expose()]),
    };
    node.ssa.call::<Bind>(&request).await.unwrap();
}

/// How often a call was answered with yes.
async fn approve(nodes: [&Node; 2], asked: &Asked) -> usize {
    let calls = nodes.map(|node| node.gateway.call::<Approve>(&asked.proof));
    join_all(calls).await.iter().filter(|r| r.is_ok()).count()
}

async fn sign(nodes: [&Node; 2], asked: &Asked) -> usize {
    let calls = [0, 1, 0, 1].map(|n: usize| nodes[n].ssa.call::<Sign>(&asked.sign));
    join_all(calls).await.iter().filter(|r| r.is_ok()).count()
}

/// Does it for all, and kills the first of the nodes when a third has been answered.
async fn under_fire<F: AsyncFn([&Node; 2], &Asked) -> usize>(
    nodes: &mut [Node; 2],
    victim: usize,
    all: &[Asked],
    act: F,
) -> Vec<usize> {
    let mut program = nodes[victim].program.take().unwrap();
    let (answered, enough) = (AtomicUsize::new(0), Notify::new());
    let both = [&nodes[0], &nodes[1]];
    let one = async |asked| {
        let done = act(both, asked).await;
        if answered.fetch_add(1, Ordering::SeqCst) == all.len() / 3 {
            enough.notify_one();
        }
        done
    };
    let kill = async {
        enough.notified().await;
        program.kill();
    };
    tokio::join!(join_all(all.iter().map(one)), kill).0
}

/// A code or a PIN at both nodes at once; what each says.
async fn guess(
    nodes: [&Node; 2],
    signer: &Signer,
    pin: &str,
    code: &SecretBytes,
    times: usize,
) -> Vec<Result<(), SapRefusalCode>> {
    let (_, _, confirmed) = open(nodes, signer).await;
    let pin = SecretBytes::from(pin.to_owned());
    let now = SystemClock.now();
    let proofs: Vec<_> = (0..times)
        .map(|_| confirmed.pin_totp(&pin, code, now, &SystemRandom).unwrap())
        .collect();
    let calls = proofs.iter().enumerate().map(async |(n, proof)| {
        match nodes[n % 2].gateway.call::<Approve>(proof).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused(refusal)) => Err(refusal.code),
            Err(other) => panic!("{other:?}"),
        }
    });
    join_all(calls).await
}

fn count(said: &[Result<(), SapRefusalCode>], what: Result<(), SapRefusalCode>) -> usize {
    said.iter().filter(|one| **one == what).count()
}

// shows: II-3.3.1-sap-replay-bypass-forgery, T-USE-SAP-REPLAY, T-KEY-ABUSE, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_use_nothing_twice_whichever_is_killed_and_whatever_is_promoted() {
    let mut database = Replicated::start();
    let store_kit::StoreUrl::Postgres(url) = database.url().clone() else {
        panic!("a PostgreSQL database was asked for");
    };
    let store = url.to_string();
    let site = Site::new();
    let module = port();
    let (mut cm, root) = site.module(module).await;
    let mut nodes = ["sam-1", "sam-2"].map(|name| {
        let ports = SamPorts {
            module,
            ssa: port(),
            gateway: port(),
            office: port(),
            origin: PAGE.to_owned(),
            home: HOME.to_owned(),
            tenants: String::new(),
        };
        let http = service_kit::http::client(&site.options(NAME_SIC)).unwrap();
        let reached = format!("https://localhost:{}", ports.gateway);
        Node {
            name,
            program: None,
            ssa: site.caller(ports.ssa, NAME_SSA),
            gateway: site.caller(ports.gateway, NAME_SIC),
            sic: site.sic(&root, PAGE, &reached, http),
            ports,
        }
    });
    for node in &mut nodes {
        node.start(&site, &store).await;
    }
    let [a, b] = &nodes;
    let joins = async |at: &Node, name: &str, pin: bool| {
        let doors = (&at.ssa, &at.sic);
        enrol(&site, &root, doors, (PAGE, HOME), name, pin).await
    };
    let signer = joins(a, "p-hanako", false).await;
    let guessed = joins(b, "p-taro", true).await;
    let watched = joins(a, "p-jiro", true).await;

    // Proofs, at both nodes at once; the first is killed meanwhile.
    let mut all = Vec::new();
    for n in 0..ACTS {
        let at = [&nodes[n % 2], &nodes[(n + 1) % 2]];
        all.push(ask(at, &signer).await);
    }
    let late = ask([&nodes[0], &nodes[1]], &signer).await;
    for accepted in under_fire(&mut nodes, 0, &all, approve).await {
        assert!(accepted <= 1, "a proof was accepted twice");
    }
    nodes[0].start(&site, &store).await;
    let both = [&nodes[0], &nodes[1]];
    for asked in &all {
        let request = StatusRequest { rid: asked.rid };
        let state = nodes[0].ssa.call::<Status>(&request).await.unwrap().state;
        assert_eq!(state, RequestState::Approved, "one of the two took it");
        assert_eq!(approve(both, asked).await, 0, "accepted once more");
        bind(&nodes[1], asked).await;
    }

    // Signatures, at both nodes at once, twice; the second is killed meanwhile.
    let mut values = 0;
    for made in under_fire(&mut nodes, 1, &all, sign).await {
        assert!(made <= 1, "an act was used twice");
        values += made;
    }
    assert!(values > 0, "nothing was signed, so nothing is shown");
    nodes[1].start(&site, &store).await;
    let both = [&nodes[0], &nodes[1]];
    for asked in &all {
        assert_eq!(sign(both, asked).await, 0, "used once more");
    }

    // Of one code, once; and failures count together, whoever counted them.
    let code = watched.seed.as_ref().unwrap().code(SystemClock.now());
    let said = guess(both, &watched, PIN, &code, 4).await;
    assert_eq!(count(&said, Ok(())), 1, "{said:?}");
    let wrong = SecretBytes::from("000000".to_owned());
    let said = guess(both, &guessed, "not the right one", &wrong, 3).await;
    assert_eq!(count(&said, Err(SapRefusalCode::Refused)), 3, "{said:?}");

    // The database is gone; the standby goes on. One node goes on with it, the other begins anew.
    assert_eq!(approve(both, &late).await, 1);
    bind(&nodes[0], &late).await;
    let unopened = ask(both, &signer).await;
    nodes[1].kill();
    database.fail_over();
    nodes[1].start(&site, &store).await;
    let both = [&nodes[0], &nodes[1]];
    for node in both {
        node.settled(&signer.person).await;
    }
    assert_eq!(approve(both, &unopened).await, 0, "an act of before");
    for asked in all.iter().chain([&late]) {
        assert_eq!(sign(both, asked).await, 0, "an approval of before");
        assert_eq!(approve(both, asked).await, 0, "a proof of before");
    }
    // The code has been used, and the count stands where it stood: two more, and the fifth failure makes everybody wait.
    let said = guess(both, &watched, PIN, &code, 2).await;
    assert_eq!(count(&said, Ok(())), 0, "{said:?}");
    let said = guess(both, &guessed, "not the right one", &wrong, 4).await;
    assert_eq!(count(&said, Err(SapRefusalCode::Refused)), 2, "{said:?}");
    assert_eq!(count(&said, Err(SapRefusalCode::Locked)), 2, "{said:?}");
    let right = guessed.seed.as_ref().unwrap().code(SystemClock.now());
    let said = guess(both, &guessed, PIN, &right, 2).await;
    assert_eq!(count(&said, Err(SapRefusalCode::Locked)), 2, "{said:?}");
    // And the service works: the same person signs, once.
    let fresh = ask(both, &signer).await;
    assert_eq!(approve(both, &fresh).await, 1);
    bind(&nodes[1], &fresh).await;
    assert_eq!(sign(both, &fresh).await, 1);

    // The logs agree: never a value without its intent, and the module never worked without one. The SAM's is taken while both
    // nodes run on.
    let sam = site.entries("sam");
    for node in &mut nodes {
        node.program.take().unwrap().end();
    }
    cm.end();
    let cm = site.entries("cm");
    let kind = |all: &[serde_json::Value], kind: &str| {
        all.iter().filter(|entry| entry["kind"] == kind).count()
    };
    let (intents, used, made) = (
        kind(&sam, "sad.consumed"),
        kind(&cm, "key.used"),
        kind(&sam, "signature.made"),
    );
    assert!(
        intents <= ACTS + 1,
        "{intents} intents of {} acts",
        ACTS + 1
    );
    assert!(
        values < made && made <= used && used <= intents,
        "{values} values and one, {made} made, {used} used, {intents} intents"
    );
    drop(database);
}
