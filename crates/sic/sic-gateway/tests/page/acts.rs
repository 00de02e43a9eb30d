//! One act of every kind, as a SAM would sign it.

use super::*;

pub fn person() -> Person {
    Person {
        id: PersonId::parse("hanako").unwrap(),
        name: "髙橋 花子".into(),
    }
}

pub fn sign_act() -> SignAct {
    let item = |n: u8| Item::Hash {
        ha: HashAlg::Sha256,
        h: B64(vec![n; 32]),
        label: format!("契約書_{n}.pdf"),
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

pub fn enrol_act() -> EnrolAct {
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
        by: InvitedBy::Ra,
        methods: vec![Method::Passkey, Method::PinTotp],
        keys: vec![KeyAlg::P256],
        replaces: None,
        exportable: false,
        one_time: false,
        rp_id: "sic.localhost".into(),
        return_uri: "http://localhost:8401/r".into(),
    }
}

/// Acts of enrolment with what a key may be made for beside the usual; those with `bad` in the name aren't of the form.
pub fn enrols(key: &SigningKey) -> Value {
    let with = |members: Value| {
        let mut act = serde_json::to_value(Act::Enrol(enrol_act())).unwrap();
        let more = members.as_object().unwrap().clone();
        act.as_object_mut().unwrap().extend(more);
        key.sign(TYP_ACT, act.to_string().as_bytes()).unwrap()
    };
    json!({
        "exportable": with(json!({"exportable": true})),
        "brand": with(json!({"brand": {"ja": "アクメ", "en": "Acme", "colour": "#0a5c8a"}})),
        "brand-plain": with(json!({"brand": {"ja": "アクメ", "en": "Acme"}})),
        "bad-brand": with(json!({"brand": {"ja": "アクメ"}})),
        "bad-brand-more": with(json!({"brand": {"ja": "アクメ", "en": "Acme", "logo": "x"}})),
        "bad-brand-colour": with(json!({"brand": {"ja": "アクメ", "en": "Acme", "colour": "red"}})),
        "one-time": with(json!({"one_time": true})),
        "bad-flag": with(json!({"one_time": 1})),
        "bad-member": with(json!({"two_times": true})),
    })
}

/// Acts without items; those with `bad` in the name aren't of the form.
pub fn opens(key: &SigningKey) -> Value {
    let act = sign_act();
    let open = SignOpenAct {
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
        until: NOW.plus(600),
        since: act.since,
        brand: act.brand,
        return_uri: act.return_uri,
    };
    let open = Act::SignOpen(open);
    let with = |member: &str, value: Value| {
        let mut act = serde_json::to_value(&open).unwrap();
        act[member] = value;
        key.sign(TYP_ACT, act.to_string().as_bytes()).unwrap()
    };
    json!({
        "good": with("count", json!(3)),
        "bad-level": with("level", json!(2)),
        "bad-count": with("count", json!(0)),
        "bad-many": with("count", json!(10_001)),
        "bad-until": with("until", json!(NOW.0 + 601)),
        "bad-early": with("until", json!(NOW.0 + 299)),
        "bad-items": with("items", json!([])),
        "bad-key": with("key", json!({})),
    })
}

/// Acts to sign whose level rests on somebody's word; those with `bad` in the name aren't of the form.
pub fn declared(key: &SigningKey) -> Value {
    let with = |list: Value| changed(key, &|act| act["declared"] = list.clone());
    json!({
        "one": with(json!(["test, not evaluated"])),
        "two": with(json!(["test, not evaluated", "審査 第1号"])),
        "bad-none": with(json!([])),
        "bad-empty": with(json!([""])),
        "bad-number": with(json!([1])),
        "bad-text": with(json!("test")),
    })
}

/// The act as JSON with one change, signed again by `key`.
pub fn changed(key: &SigningKey, change: &dyn Fn(&mut Value)) -> String {
    let mut value = serde_json::to_value(Act::Sign(sign_act())).unwrap();
    change(&mut value);
    key.sign(TYP_ACT, value.to_string().as_bytes()).unwrap()
}

/// Acts about keys and factors, by the name of their texts; those with `bad` in the name aren't of the form.
pub fn changes(key: &SigningKey) -> Value {
    let common = |kind: &str| {
        let mut act = serde_json::to_value(Act::Sign(sign_act())).unwrap();
        let members = act.as_object_mut().unwrap();
        for member in ["client", "algs", "items", "renew"] {
            members.remove(member);
        }
        members.insert("kind".into(), json!(kind));
        act
    };
    let on_key = |kind: &str| {
        let mut act = common(kind);
        act["alg"] = json!("p-256");
        act
    };
    let factor = |change: Value| {
        let mut act = common("factor");
        act.as_object_mut().unwrap().remove("key");
        act["registration"] = json!("v-1");
        act["rp_id"] = json!("sic.localhost");
        act["change"] = change;
        act
    };
    let mut leave = common("leave");
    let own = leave.as_object_mut().unwrap().remove("key").unwrap();
    leave["registration"] = json!("v-1");
    leave["keys"] = json!([own]);
    leave["factors"] = json!(["f-1"]);
    let mut import = common("import");
    import.as_object_mut().unwrap().remove("key");
    import["registration"] = json!("v-1");
    import["alg"] = json!("p-256");
    import["spki"] = json!(Digest32([7; 32]));
    import["case"] = json!("3-i");
    import["until"] = json!(NOW.plus(3600));
    let mut hand_over = on_key("hand-over");
    hand_over["receiver"] = json!(SealKey::generate().unwrap().0.public());
    let mut device = json!(SealKey::generate().unwrap().0.public());
    let mut acts = vec![
        ("import", import.clone()),
        ("hand-over", hand_over.clone()),
        ("suspend", on_key("suspend")),
        ("resume", on_key("resume")),
        ("destroy", on_key("destroy")),
        ("leave", leave),
        (
            "add-passkey",
            factor(json!({"do": "add", "method": "passkey"})),
        ),
        (
            "add-pin-totp",
            factor(json!({"do": "add", "method": "pin-totp"})),
        ),
        ("add-idp", factor(json!({"do": "add", "method": "idp"}))),
        (
            "add-device",
            factor(json!({"do": "add-device", "key": device})),
        ),
        (
            "remove",
            factor(json!({"do": "remove", "factor": "f-1", "method": "passkey"})),
        ),
        ("pin", factor(json!({"do": "pin", "factor": "f-1"}))),
        ("unlock", factor(json!({"do": "unlock", "factor": "f-1"}))),
    ];
    for (name, act) in &acts {
        let read = serde_json::from_value::<Act>(act.clone());
        assert!(read.is_ok(), "Rust reads {name}: {read:?}");
    }
    let mut more = on_key("destroy");
    more["items"] = json!([]);
    let mut made_here = import;
    made_here["case"] = json!("1-i");
    hand_over["receiver"]["d"] = json!("AA");
    device["d"] = json!("AA");
    acts.extend([
        ("bad-case", made_here),
        ("bad-receiver", hand_over),
        (
            "bad-device",
            factor(json!({"do": "add-device", "key": device})),
        ),
        ("bad-more", more),
        ("bad-kind", on_key("enrol")),
        ("bad-less", common("destroy")),
        ("bad-change", factor(json!({"do": "toString"}))),
        (
            "bad-member",
            factor(json!({"do": "pin", "factor": "f-1", "method": "passkey"})),
        ),
    ]);
    let sign = |act: &Value| key.sign(TYP_ACT, act.to_string().as_bytes()).unwrap();
    acts.iter()
        .map(|(name, act)| json!([name, sign(act)]))
        .collect()
}

/// Acts of officers with their documents: a log-in, an approval, and those that aren't of the form, by name.
pub fn office(key: &SigningKey) -> Value {
    let document = json!({
        "v": 1, "sam": "sam.test", "tenant": "t", "nonce": Digest32([1; 32]),
        "measure": {"measure": "key", "key": "k", "action": "destroy"}, "facts": {},
        "reason": "leaked", "requester": {"account": "officer.a", "officer": "a", "name": "A"},
        "at": NOW, "exp": NOW.plus(600),
    });
    assert!(serde_json::from_value::<sap::office::Document>(document.clone()).is_ok());
    let act = |what: &str, named: &str| {
        let mut act = serde_json::to_value(Act::Sign(sign_act())).unwrap();
        let members = act.as_object_mut().unwrap();
        for member in ["client", "algs", "items", "renew", "key"] {
            members.remove(member);
        }
        act["kind"] = json!("officer");
        act["what"] = json!(what);
        act["document"] = json!(core_types::sha256(&[named.as_bytes()]));
        act["text"] = json!("destroy the key k");
        act["needs"] = json!(2);
        act
    };
    let answer = |act: &Value, document: &str| {
        let jws = key.sign(TYP_ACT, act.to_string().as_bytes()).unwrap();
        json!({"act": jws, "document": document, "passkeys": []})
    };
    let text = document.to_string();
    let good = act("key", &text);
    assert!(serde_json::from_value::<Act>(good.clone()).is_ok());
    let mut elsewhere = document.clone();
    elsewhere["sam"] = json!("other.test");
    let elsewhere = elsewhere.to_string();
    let mut more = good.clone();
    more["items"] = json!([]);
    json!({
        "log_in": answer(&act("log-in", "officer.a"), ""),
        "approve": answer(&good, &text),
        "bad": {
            "another document": answer(&good, &text.replace("leaked", "lost")),
            "another SAM's document": answer(&act("key", &elsewhere), &elsewhere),
            "another measure": answer(&act("dismiss", &text), &text),
            "no document": answer(&act("key", "x"), "x"),
            "a log-in instead": answer(&act("log-in", &text), &text),
            "more members": answer(&more, &text),
            "a signer's act": json!({
                "act": key.sign(TYP_ACT, &serde_json::to_vec(&Act::Sign(sign_act())).unwrap()).unwrap(),
                "document": text, "passkeys": [],
            }),
        },
    })
}
