//! Calls between zones over real sockets: who gets through, and under which name.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Extension;
use core_types::SecretBytes;
use core_types::rpc::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use service_kit::http::HttpOptions;
use service_kit::{
    CallError, Client, Identity, Peer, PeerCertificates, Routes, Running, Shutdown, bind, serve,
    tls,
};

struct WhoAmI;

impl Method for WhoAmI {
    const PATH: &'static str = "/test/v1/who";
    type Request = bool;
    type Response = String;
    type Refusal = u8;
}

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Identity {
        self.issue_with(&[name, "localhost"], |_| ())
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain_pem: cert.pem(),
            key_pem: SecretBytes::from(key.serialize_pem()),
        }
    }
}

async fn server(ca: &Ca, shutdown: Shutdown) -> Running {
    server_as(&ca.issue("sam.internal"), ca, shutdown).await
}

async fn server_as(identity: &Identity, ca: &Ca, shutdown: Shutdown) -> Running {
    tls::install_provider();
    let config = tls::mutual_server(identity, &ca.pem()).unwrap();
    let router = Routes::new(Arc::new(()), 1024)
        .method::<WhoAmI, _, _>(|_, peer: Peer, say: bool| async move {
            if say { Ok(peer.name) } else { Err(7) }
        })
        .into_router();
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap();
    serve(listener, router, Some(config), shutdown).unwrap()
}

fn client(at: &Running, ca: &Ca, identity: Option<Identity>) -> Client {
    let options = HttpOptions {
        ca_pem: Some(ca.pem()),
        identity,
        ..HttpOptions::default()
    };
    Client::new(format!("https://localhost:{}", at.addr.port()), &options).unwrap()
}

// shows: III-3-8-integrity-channel, III-3-7-confidential-channel
#[tokio::test]
async fn only_a_certificate_of_the_zone_ca_gets_through() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (_stop, shutdown) = Shutdown::new();
    let running = server(&ca, shutdown).await;

    let good = client(&running, &ca, Some(ca.issue("ssa.internal")));
    assert_eq!(good.call::<WhoAmI>(&true).await.unwrap(), "ssa.internal");
    assert!(matches!(
        good.call::<WhoAmI>(&false).await,
        Err(CallError::Refused(7))
    ));

    let expired = ca.issue_with(&["ssa.internal"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    // A server of the zone's CA under another name isn't the one that was called.
    let (_stop_other, shutdown) = Shutdown::new();
    let other = server_as(&ca.issue_with(&["sam.internal"], |_| ()), &ca, shutdown).await;
    for bad in [
        client(&running, &ca, None),
        client(&running, &ca, Some(expired)),
        client(&other, &ca, Some(ca.issue("ssa.internal"))),
        client(&running, &ca, Some(foreign.issue("ssa.internal"))),
        client(&running, &foreign, Some(ca.issue("ssa.internal"))),
    ] {
        let error = bad.call::<WhoAmI>(&true).await.unwrap_err();
        assert!(
            matches!(error, CallError::Unreachable | CallError::Unknown),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_asks_takes_any_certificate_from_whoever_holds_its_key() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    tls::install_provider();
    let config = tls::asking_server(&ca.issue("portal.internal")).unwrap();
    let tell = async |Extension(peer): Extension<Peer>,
                      shown: Option<Extension<PeerCertificates>>| {
        // Nobody vouched for what it calls itself.
        assert_eq!(peer.name, "");
        match shown {
            Some(Extension(PeerCertificates(shown))) => format!("{:?}", shown.first()),
            None => "none".to_owned(),
        }
    };
    let router = axum::Router::new().route("/", axum::routing::get(tell));
    let (_stop, shutdown) = Shutdown::new();
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let running = serve(listener.await.unwrap(), router, Some(config), shutdown).unwrap();
    let url = format!("https://localhost:{}/", running.addr.port());
    let heard = async |identity: Option<Identity>| {
        let ca_pem = Some(ca.pem());
        let options = HttpOptions {
            ca_pem,
            identity,
            ..HttpOptions::default()
        };
        let http = service_kit::http::client(&options).ok()?;
        http.get(&url).send().await.ok()?.text().await.ok()
    };
    assert_eq!(heard(None).await.as_deref(), Some("none"));
    for who in [ca.issue("app"), foreign.issue("app")] {
        let told = heard(Some(who.clone())).await.unwrap();
        let own = CertificateDer::from_pem_slice(who.chain_pem.as_bytes()).unwrap();
        assert_eq!(told, format!("{:?}", Some(own.to_vec())));
    }
    // Somebody's certificate, and another's key.
    let victim = ca.issue("app").chain_pem;
    let chain = CertificateDer::from_pem_slice(victim.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(foreign.issue("app").key_pem.expose()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let stolen = Arc::new(CertifiedKey::new(vec![chain], key));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(stolen)));
    let http = reqwest::Client::builder().tls_backend_preconfigured(config);
    assert!(http.build().unwrap().get(&url).send().await.is_err());
}

#[tokio::test]
async fn a_stopped_server_is_unreachable_and_a_taken_port_is_named() {
    let ca = Ca::new();
    let (stop, shutdown) = Shutdown::new();
    let running = server(&ca, shutdown).await;
    let addr = running.addr;
    assert_eq!(bind(addr).await.unwrap_err().code, "port-in-use");
    let caller = client(&running, &ca, Some(ca.issue("ssa.internal")));
    stop.send(true).unwrap();
    running.stopped().await;
    assert!(matches!(
        caller.call::<WhoAmI>(&true).await,
        Err(CallError::Unreachable)
    ));
}

/// A method whose answer is as long as was asked.
struct Long;

impl Method for Long {
    const PATH: &'static str = "/test/v1/long";
    type Request = usize;
    type Response = String;
    type Refusal = u8;
}

#[tokio::test]
async fn an_answer_longer_than_was_allowed_is_unknown() {
    let ca = Ca::new();
    tls::install_provider();
    let config = tls::mutual_server(&ca.issue("worker.internal"), &ca.pem()).unwrap();
    let router = Routes::new(Arc::new(()), 1024)
        .method::<Long, _, _>(|_, _, n: usize| async move { Ok("a".repeat(n)) })
        .into_router();
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let (_stop, shutdown) = Shutdown::new();
    let running = serve(listener.await.unwrap(), router, Some(config), shutdown).unwrap();
    let options = HttpOptions {
        ca_pem: Some(ca.pem()),
        identity: Some(ca.issue("ssa.internal")),
        longest_answer: Some(1 << 20),
        ..HttpOptions::default()
    };
    let url = format!("https://localhost:{}", running.addr.port());
    let client = Client::new(url, &options).unwrap();
    let most = (1 << 20) - 2;
    assert_eq!(client.call::<Long>(&most).await.unwrap().len(), most);
    let error = client.call::<Long>(&(most + 1)).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown));
}
