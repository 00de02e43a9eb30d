//! A SAM's hands for the unit tests: real keys, real signatures.

use core_types::{
    B64, ClientId, Digest32, HashAlg, KeyAlg, KeyId, Level, PersonId, SecretBytes, SigAlg,
    TenantId, UnixTime, VoucherId,
};
use jose::{JweContext, SealKey, SigningKey};
use sap::act::{ActClient, ActKey, Person, Since, Version1};
use sap::enrol::InvitedBy;
use sap::messages::{KeysAnswer, OpenAnswer};
use sap::proof::Method;
use sap::{Act, EnrolAct, Item, SamKeys, SignAct, TYP_ACT, TYP_KEYS};

use crate::Trust;

pub(crate) const NOW: UnixTime = UnixTime(1_795_323_912);

pub(crate) struct Sam {
    pub(crate) root: SigningKey,
    act: SigningKey,
    seal: SealKey,
}

pub(crate) fn trust(sam: &Sam) -> Trust {
    Trust::new(vec![sam.root.public().clone()], "http://sic.localhost:8402").unwrap()
}

pub(crate) fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.to_owned())
}

fn person() -> Person {
    Person {
        id: PersonId::parse("hanako").unwrap(),
        name: "髙橋 花子".into(),
    }
}

impl Sam {
    pub(crate) fn new() -> Self {
        Self {
            root: SigningKey::generate().unwrap().0,
            act: SigningKey::generate().unwrap().0,
            seal: SealKey::generate().unwrap().0,
        }
    }

    pub(crate) fn statement(&self) -> KeysAnswer {
        let keys = SamKeys {
            sam: "sam.test".into(),
            epoch: Digest32([2; 32]),
            act: self.act.public().clone(),
            seal: self.seal.public().clone(),
            nbf: NOW.plus(-3600),
            exp: NOW.plus(86_400),
        };
        let payload = serde_json::to_vec(&keys).unwrap();
        KeysAnswer {
            statement: self.root.sign(TYP_KEYS, &payload).unwrap(),
        }
    }

    pub(crate) fn mint(&self, act: &Act) -> String {
        self.act
            .sign(TYP_ACT, &serde_json::to_vec(act).unwrap())
            .unwrap()
    }

    pub(crate) fn open(&self, act: &SignAct) -> OpenAnswer {
        OpenAnswer {
            act: self.mint(&Act::Sign(act.clone())),
            methods: vec![Method::Passkey, Method::PinTotp],
            passkeys: vec![],
            exclude: vec![],
            providers: vec![],
            new_providers: vec![],
        }
    }

    pub(crate) fn open_sealed(&self, jwe: &str, typ: &str, apu: Digest32) -> SecretBytes {
        self.seal.open(jwe, JweContext { typ, apu }).unwrap()
    }

    pub(crate) fn sign_act(&self) -> SignAct {
        let item = |n: u8| Item::Hash {
            ha: HashAlg::Sha256,
            h: B64(vec![n; 32]),
            label: format!("{n}.pdf"),
        };
        SignAct {
            v: Version1,
            sam: "sam.test".into(),
            tenant: TenantId::parse("t").unwrap(),
            brand: None,
            nonce: Digest32([1; 32]),
            iat: NOW,
            exp: NOW.plus(300),
            epoch: Digest32([2; 32]),
            policy: 1,
            level: Level::One,
            declared: Vec::new(),
            person: person(),
            key: ActKey {
                id: KeyId::parse("k").unwrap(),
                version: 1,
                spki: Digest32([3; 32]),
                cert: Digest32([4; 32]),
                subject: "CN=髙橋 花子,C=JP".into(),
            },
            client: ActClient {
                id: ClientId::parse("c").unwrap(),
                name: "みなと商事「電子契約」".into(),
                known: true,
                signed: false,
            },
            algs: vec![SigAlg::Ecdsa(HashAlg::Sha256)],
            items: vec![item(5), item(6)],
            renew: 0,
            since: Since::default(),
            return_uri: "http://localhost:8401/r".into(),
        }
    }

    pub(crate) fn enrol_act(&self) -> EnrolAct {
        EnrolAct {
            v: Version1,
            sam: "sam.test".into(),
            tenant: TenantId::parse("t").unwrap(),
            brand: None,
            nonce: Digest32([1; 32]),
            iat: NOW,
            exp: NOW.plus(300),
            epoch: Digest32([2; 32]),
            policy: 1,
            level: Level::One,
            person: person(),
            voucher: VoucherId::parse("v-1").unwrap(),
            by: InvitedBy::Ssa,
            methods: vec![Method::Passkey, Method::PinTotp],
            keys: vec![KeyAlg::P256],
            replaces: None,
            exportable: false,
            one_time: false,
            rp_id: "sic.localhost".into(),
            return_uri: "http://localhost:8401/r".into(),
        }
    }
}
