//! The signer's pages over a SAM that only talks, for looking at them in every state.
//!
//! `cargo run -p sic-gateway --example pages [PORT]`, then open the printed addresses; port 0 takes a free one. The PIN is
//! `correct horse`, any six digits are right except `000000`. Not a service: nothing is stored and nothing gets signed.

#![expect(clippy::print_stdout, reason = "an example tells its addresses")]
#![expect(clippy::unwrap_used, reason = "an example may stop")]

use std::sync::{Arc, Mutex};

use core_types::bytes::b64u;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::rpc::Method as _;
use core_types::{
    B64, ClientId, Clock as _, Digest32, HashAlg, KeyAlg, KeyId, Level, PersonId, Random as _,
    SecretBytes, SigAlg, TenantId, UnixTime, VoucherId, sha256,
};
use jose::{JweContext, SealKey, SigningKey};
use sap::act::{ActClient, ActKey, Person, Since, Version1};
use sap::enrol::{InvitedBy, SealedSeed};
use sap::messages as m;
use sap::proof::Method;
use sap::{
    Act, EnrolAct, Item, Proof, SamKeys, SealedProof, SignAct, SignOpenAct, TYP_ACT, TYP_KEYS,
    TYP_SEALED, TYP_SEED,
};
use service_kit::Shutdown;
use sic_gateway::{Forward, ForwardError, GatewayConfig, router};

/// What a request's number shows.
const STATES: [&str; 14] = [
    "one document, passkey or PIN",
    "500 documents",
    "a client nobody knows",
    "a forged act",
    "used",
    "PIN only",
    "names that try tricks",
    "expires in five seconds",
    "withdrawn",
    "the answer gets lost",
    "signed by the application, level 2",
    "three documents, two of them equal",
    "10,000 documents",
    "a key of level 1 and no list",
];

struct Talker {
    root: SigningKey,
    act: SigningKey,
    seal: SealKey,
    /// Acts whose approval is answered by nothing.
    lost: Mutex<Vec<Digest32>>,
}

type Answer = Result<serde_json::Value, m::SapRefusalCode>;

fn json(value: impl serde::Serialize) -> Answer {
    Ok(serde_json::to_value(value).unwrap())
}

fn item(n: u32, label: &str) -> Item {
    Item::Hash {
        ha: HashAlg::Sha256,
        h: B64(sha256(&[&n.to_be_bytes()]).0.to_vec()),
        label: label.to_owned(),
    }
}

/// The document `%PDF-before`, a place for eight characters of signature, `after%%EOF`.
fn document() -> Item {
    Item::Doc {
        ha: HashAlg::Sha256,
        h: B64(sha256(&[b"%PDF-before", b"after%%EOF"]).0.to_vec()),
        label: "覚書.pdf".to_owned(),
        d: B64(vec![1; 32]),
        m: Digest32([2; 32]),
        ranges: Some([0, 11, 19, 10]),
    }
}

/// The same without its list.
fn open_act(act: SignAct) -> SignOpenAct {
    SignOpenAct {
        v: Version1,
        sam: act.sam,
        tenant: act.tenant,
        nonce: act.nonce,
        iat: act.iat,
        exp: act.exp,
        epoch: act.epoch,
        policy: act.policy,
        level: act.level,
        person: act.person,
        key: act.key,
        client: act.client,
        algs: act.algs,
        count: 3,
        until: act.iat.plus(600),
        since: act.since,
        brand: act.brand,
        return_uri: act.return_uri,
    }
}

impl Talker {
    fn mint(&self, act: &Act) -> String {
        self.act
            .sign(TYP_ACT, &serde_json::to_vec(act).unwrap())
            .unwrap()
    }

    fn open(&self, rid: Digest32) -> Answer {
        let state = usize::from(rid.0[0]);
        let now = SystemClock.now();
        let mut act = sign_act(now);
        let mut methods = vec![Method::Passkey, Method::PinTotp];
        match state {
            1 => {
                act.items = (1..=480)
                    .map(|n| item(n, &format!("注文書_{n:04}.pdf")))
                    .collect();
                act.items
                    .extend((1..=19).map(|n| item(1000 + n, &format!("契約書_{n:02}.pdf"))));
                act.items.insert(230, item(17, "覚書.docx.pdf"));
            }
            2 => {
                act.client = ActClient {
                    known: false,
                    ..act.client
                };
            }
            3 => {
                // By another key than the statement names.
                let act = serde_json::to_vec(&Act::Sign(act)).unwrap();
                return json(m::OpenAnswer {
                    act: self.root.sign(TYP_ACT, &act).unwrap(),
                    methods,
                    passkeys: vec![],
                    exclude: vec![],
                    providers: vec![],
                    new_providers: vec![],
                });
            }
            4 => return Err(m::SapRefusalCode::Used),
            5 => methods = vec![Method::PinTotp],
            6 => {
                act.items = vec![
                    item(1, "\u{202e}fdp.exe.契約書\u{202c}.pdf"),
                    item(2, "<img src=x onerror=alert(1)>.pdf"),
                    item(3, &"とても長い名前の契約書".repeat(18)),
                    item(4, "髙橋﨑𠮷野家邉\u{e0100}の覚書.pdf"),
                ];
                act.client.name = "みなと\u{202e}商事\u{200b}".into();
                act.person.name = "髙橋﨑 𠮷郎".into();
            }
            7 => act.exp = now.plus(5),
            8 => return Err(m::SapRefusalCode::Withdrawn),
            10 => {
                act.level = Level::Two;
                act.client.signed = true;
                act.since = Since {
                    act: Some(now.plus(-86_400)),
                    factors: Some(now.plus(-900_000)),
                    keys: None,
                };
            }
            11 => {
                act.items = vec![
                    item(1, "見積書.pdf"),
                    item(2, "注文書.pdf"),
                    item(1, "見積書 (控).pdf"),
                ];
                act.renew = now.0 + 1800;
            }
            12 => {
                act.items = (1..=10_000)
                    .map(|n| item(n, &format!("注文書_{n:05}.pdf")))
                    .collect();
                act.items[4321] = document();
            }
            _ => {}
        }
        let passkeys = vec![m::PasskeyHint {
            id: B64(vec![7; 16]),
            transports: vec!["internal".into()],
        }];
        let act = match state {
            13 => self.mint(&Act::SignOpen(open_act(act))),
            _ => self.mint(&Act::Sign(act)),
        };
        if state == 9 {
            self.lost.lock().unwrap().push(sap::act_digest(&act));
        }
        json(m::OpenAnswer {
            act,
            methods,
            passkeys,
            exclude: vec![],
            providers: vec![],
            new_providers: vec![],
        })
    }

    fn enrol(&self, voucher: VoucherId) -> Answer {
        let now = SystemClock.now();
        let ra = voucher.as_str().contains("ra");
        let act = EnrolAct {
            v: Version1,
            sam: "sam.example".into(),
            tenant: TenantId::parse("t").unwrap(),
            brand: None,
            nonce: SystemRandom.digest32(),
            iat: now,
            exp: now.plus(300),
            epoch: Digest32([2; 32]),
            policy: 1,
            level: if ra { Level::Two } else { Level::One },
            person: person(),
            voucher,
            by: if ra { InvitedBy::Ra } else { InvitedBy::Ssa },
            methods: vec![Method::Passkey, Method::PinTotp],
            keys: vec![KeyAlg::Rsa3072, KeyAlg::P256],
            replaces: None,
            exportable: false,
            one_time: false,
            rp_id: "sic.localhost".into(),
            return_uri: "http://localhost:8401/keys".into(),
        };
        json(m::EnrolOpenAnswer {
            act: self.mint(&Act::Enrol(act)),
            exclude: vec![],
            providers: vec![],
        })
    }

    fn seed(&self, request: &m::EnrolSeedRequest) -> Answer {
        let seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let uri = format!(
            "otpauth://totp/%E6%8D%BA%E5%8D%B0:hanako%28signing%29?secret={seed}&issuer=Natsuin"
        );
        let sealed = SealedSeed {
            seed: SecretBytes::from(seed.to_owned()),
            uri: SecretBytes::from(uri),
        };
        let plain = SecretBytes::new(serde_json::to_vec(&sealed).unwrap());
        let context = JweContext {
            typ: TYP_SEED,
            apu: request.act,
        };
        json(m::EnrolSeedAnswer {
            sealed: jose::seal(&plain, &request.key, context, &SystemRandom).unwrap(),
        })
    }

    fn approve(&self, proof: &Proof) -> Answer {
        let Proof::PinTotp { act, sealed } = proof else {
            return Err(m::SapRefusalCode::Refused);
        };
        let plain = self
            .seal
            .open(
                sealed,
                JweContext {
                    typ: TYP_SEALED,
                    apu: *act,
                },
            )
            .unwrap();
        let inside: SealedProof = serde_json::from_slice(plain.expose()).unwrap();
        if inside.pin.ct_eq(b"correct horse") && !inside.otp.ct_eq(b"000000") {
            json(m::Done {
                return_uri: "http://localhost:8401/done".into(),
            })
        } else {
            Err(m::SapRefusalCode::Refused)
        }
    }

    fn statement(&self) -> Answer {
        let now = SystemClock.now();
        let keys = SamKeys {
            sam: "sam.example".into(),
            epoch: Digest32([2; 32]),
            act: self.act.public().clone(),
            seal: self.seal.public().clone(),
            nbf: now.plus(-60),
            exp: now.plus(3600),
        };
        let statement = self
            .root
            .sign(TYP_KEYS, &serde_json::to_vec(&keys).unwrap())
            .unwrap();
        json(m::KeysAnswer { statement })
    }

    fn answer(&self, path: &str, body: &[u8]) -> Answer {
        fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, m::SapRefusalCode> {
            serde_json::from_slice(body).map_err(|_| m::SapRefusalCode::Malformed)
        }
        match path {
            m::Keys::PATH => self.statement(),
            m::Open::PATH => self.open(read::<m::OpenRequest>(body)?.rid),
            m::Approve::PATH => self.approve(&read::<m::ApproveRequest>(body)?.proof),
            m::Refuse::PATH => json(m::Done {
                return_uri: "http://localhost:8401/done".into(),
            }),
            m::Outcome::PATH => json(m::OutcomeAnswer {
                state: m::ActOutcome::Open,
                return_uri: None,
            }),
            m::EnrolOpen::PATH => self.enrol(read::<m::EnrolOpenRequest>(body)?.voucher),
            m::EnrolSeed::PATH => self.seed(&read(body)?),
            m::EnrolRegister::PATH => {
                read::<m::EnrolRegisterRequest>(body)?;
                json(m::Done {
                    return_uri: "http://localhost:8401/keys".into(),
                })
            }
            _ => Err(m::SapRefusalCode::NotFound),
        }
    }
}

impl Forward for Talker {
    async fn forward(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), ForwardError> {
        if path == m::Approve::PATH {
            let act = serde_json::from_slice::<m::ApproveRequest>(&body).map(|r| r.proof.act());
            if act.is_ok_and(|act| self.lost.lock().unwrap().contains(&act)) {
                return Err(ForwardError::Unknown);
            }
        }
        Ok(match self.answer(path, &body) {
            Ok(value) => (200, value.to_string().into_bytes()),
            Err(code) => {
                let mut refusal = m::SapRefusal::new(code);
                refusal.tries_left = (code == m::SapRefusalCode::Refused).then_some(4);
                (422, serde_json::to_vec(&refusal).unwrap())
            }
        })
    }
}

fn person() -> Person {
    Person {
        id: PersonId::parse("hanako").unwrap(),
        name: "髙橋 花子".into(),
    }
}

fn sign_act(now: UnixTime) -> SignAct {
    SignAct {
        v: Version1,
        sam: "sam.example".into(),
        tenant: TenantId::parse("t").unwrap(),
        brand: None,
        nonce: SystemRandom.digest32(),
        iat: now,
        exp: now.plus(300),
        epoch: Digest32([2; 32]),
        policy: 1,
        level: Level::One,
        person: person(),
        key: ActKey {
            id: KeyId::parse("k-7Q4M2KVD").unwrap(),
            version: 1,
            spki: Digest32([3; 32]),
            cert: Digest32([4; 32]),
            subject: "CN=髙橋 花子,2.5.4.5=1042,C=JP".into(),
        },
        client: ActClient {
            id: ClientId::parse("minato").unwrap(),
            name: "みなと商事「電子契約」".into(),
            known: true,
            signed: false,
        },
        algs: vec![SigAlg::Ecdsa(HashAlg::Sha256)],
        items: vec![item(1, "業務委託契約書.pdf")],
        renew: 0,
        since: Since {
            act: Some(UnixTime(1_795_323_912)),
            factors: None,
            keys: None,
        },
        return_uri: "http://localhost:8401/done".into(),
    }
}

#[tokio::main]
async fn main() {
    let port: u16 = std::env::args()
        .nth(1)
        .and_then(|p| p.parse().ok())
        .unwrap_or(8402);
    let talker = Talker {
        root: SigningKey::generate().unwrap().0,
        act: SigningKey::generate().unwrap().0,
        seal: SealKey::generate().unwrap().0,
        lost: Mutex::default(),
    };
    let listener = service_kit::bind(([127, 0, 0, 1], port).into())
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = format!("http://sic.localhost:{port}");
    let mut config = GatewayConfig::new(vec![talker.root.public().clone()], &origin).unwrap();
    config.dev = true;
    config.help = Some("http://localhost:8401/".into());
    for (n, state) in STATES.iter().enumerate() {
        println!(
            "{origin}/a#{}  {state}",
            Digest32([u8::try_from(n).unwrap(); 32])
        );
    }
    for voucher in ["v-ra", "v-ssa"] {
        println!("{origin}/e#{voucher}.{}  enrolment", b64u([9; 16]));
    }
    let (_keep, shutdown) = Shutdown::new();
    let router = router(config, talker, Arc::new(SystemClock));
    service_kit::serve(listener, router, None, shutdown)
        .unwrap()
        .stopped()
        .await;
}
