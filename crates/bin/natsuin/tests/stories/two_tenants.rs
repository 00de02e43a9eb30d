//! Two tenants on one SAM, each with a service of its own, through the public door.

use std::fs;
use std::sync::Arc;

use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{B64, ClientId, HashAlg, KeyId, PersonId, Random as _};
use dev_ca::{DevCa, Ra, Urls};
use sam_api::ssa::{Keys, KeysRequest, Prepare, PrepareItem, PrepareRequest};
use serde_json::Value;

use crate::daemons::{Middle, invite};
use crate::site::{SAM, SamPorts, Site, port, secret};
use crate::spend::{body, hashes};

/// Two tenants with a service, an authority and a CA each on one SAM, and a person of the same name in both: each signs with
/// their own key, and whatever is carried over is nothing there.
// shows: T-USE-SAP-BYPASS, T-INS-OPERATOR, T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_on_one_sam_are_strangers() {
    const ACME: &str = "acme.natsuin.internal";
    let site = Site::new();
    let (cm, sic, ports_of) = (port(), port(), [port(), port()]);
    let page = format!("https://sic.localhost:{sic}");
    let (_module, root) = site.module(cm).await;
    let dir = site.dir.path().display().to_string();
    let urls = Urls::under("http://127.0.0.1:2");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let acme_ca = Arc::new(DevCa::open(&site.at("acme-ca"), urls, clock, random).unwrap());
    let keys = Ra::new(acme_ca.clone(), SAM, Vec::new()).unwrap();
    let keys = serde_json::to_string(&[keys.public_key()]).unwrap();
    fs::write(site.at("acme-ra-keys.json"), keys).unwrap();
    site.zone("acme", ACME);
    for name in ["acme.key", "acme-chain.key"] {
        secret(&site.at(name), &SystemRandom.digest32().0);
    }
    let ports = SamPorts {
        module: cm,
        ssa: port(),
        gateway: port(),
        office: port(),
        origin: page.clone(),
        home: format!("https://localhost:{}", ports_of[0]),
        tenants: format!(
            "[tenants.acme]\nbrand = {{ ja = 'アクメ', en = 'Acme', colour = '#0a5c8a' }}\nservices = ['{ACME}']\n\
             return_prefixes = ['https://localhost:{}/']\nregistration_authorities = '{dir}/acme-ra-keys.json'\n\
             issuers = '{}'\npolicy = {{ version = 3, pin_totp_at_level_2 = false }}\n",
            ports_of[1],
            acme_ca.trust_anchors_file().display(),
        ),
    };
    let _sam = site
        .sam("sam-1", &format!("sqlite:{dir}/sam.db"), &ports)
        .await;
    let _gateway = site.gateway(sic, &page, ports.gateway).await;
    let middle = Middle {
        site: &site,
        root,
        page: page.clone(),
        sam: ports.ssa,
        http: site.http(),
    };
    let home = middle.service("ssa", "test", ports_of[0], &site.ca).await;
    let acme = middle.service("acme", "acme", ports_of[1], &acme_ca).await;

    // An authority's invitation is good at its own service only.
    let ((ours, our_voucher), (theirs, their_voucher)) =
        (invite(&home, "p-hanako"), invite(&acme, "p-hanako"));
    assert_eq!(middle.hand_in(&acme, ours.clone()).await.0, 403);
    assert_eq!(middle.hand_in(&home, theirs.clone()).await.0, 403);
    let mut members = Vec::new();
    for (at, invite, voucher) in [(&home, ours, our_voucher), (&acme, theirs, their_voucher)] {
        let (status, registered) = middle.hand_in(at, invite).await;
        assert_eq!(status, 201, "{registered:?}");
        members.push(middle.join(at, &registered.unwrap(), voucher).await);
    }
    let mut signed = Vec::new();
    for member in &mut members {
        signed.push(member.sign().await);
    }
    let [(login, ours, _), (_, theirs, _)] = signed.as_slice() else {
        panic!("two")
    };
    assert_ne!(ours, theirs);

    // What one service gave out is nothing at the other.
    let again = hashes(1);
    let foreign = &members[1].spender;
    assert_eq!(foreign.post(login, body(ours, &again), None).await.0, 401);
    // A service that asks the SAM for the other tenant's by itself, with its own good certificate.
    let hostile = site.caller(ports.ssa, ACME);
    let person = PersonId::parse("p-hanako").unwrap();
    let mine = KeysRequest {
        person: person.clone(),
    };
    let listed: Vec<_> = hostile.call::<Keys>(&mine).await.unwrap().keys;
    let named: Vec<_> = listed.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(named, [theirs.as_str()]);
    let prepare = |key: &str| PrepareRequest {
        person: person.clone(),
        key: KeyId::parse(key).unwrap(),
        client: ClientId::parse("test-client").unwrap(),
        client_name: "Test".to_owned(),
        client_jws: None,
        items: vec![PrepareItem {
            ha: HashAlg::Sha256,
            h: B64(again[0].clone()),
            label: "a.pdf".to_owned(),
            doc: None,
        }],
        open: None,
        renew: 0,
        return_uri: format!("{}/", acme.portal),
        ttl: 600,
    };
    let refused = hostile.call::<Prepare>(&prepare(ours)).await;
    assert!(refused.is_err(), "{refused:?}");
    // Its own is shown to the signer with the name that the SAM has of the tenant.
    let rid = hostile.call::<Prepare>(&prepare(theirs)).await.unwrap().rid;
    let opened = middle.http.post(format!("{page}/sap/v1/open"));
    let opened = opened.header("origin", &page);
    let opened = opened.json(&serde_json::json!({ "rid": rid })).send();
    let opened: Value = opened.await.unwrap().json().await.unwrap();
    let act = opened["act"].as_str().unwrap().split('.').nth(1).unwrap();
    let act: Value = serde_json::from_slice(&core_types::bytes::from_b64u(act).unwrap()).unwrap();
    assert_eq!(
        (&act["tenant"], &act["brand"]["ja"]),
        (&"acme".into(), &"アクメ".into())
    );

    // Each looks like its own.
    for (at, name) in [(&home, "test"), (&acme, "acme")] {
        let info = middle.http.post(format!("{}/csc/v2/info", at.portal));
        let info: Value = info
            .json(&serde_json::json!({}))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(info["name"], format!("Brand of {name}"));
        let logo = middle
            .http
            .get(info["logo"].as_str().unwrap())
            .send()
            .await
            .unwrap();
        assert_eq!(logo.headers()["content-type"], "image/png");
        let login = middle
            .http
            .get(format!("{}/login?lang=ja", at.portal))
            .send();
        let login = login.await.unwrap().text().await.unwrap();
        assert!(login.contains(&format!("試験 {name}")) && login.contains(&format!("Ask {name}")));
    }
}
