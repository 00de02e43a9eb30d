//! A node of the SAM behind its three listeners: what a test asks of it goes over mutual TLS, under the name in the caller's
//! certificate, as from the other zones.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex};

use core_types::TenantId;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::rpc::{Empty, Method};
use dev_ca::{DevCa, Urls};
use sam_api::{guard, ssa};
use sam_service::{Sam, SamConfig, gateway_router, office_router, ssa_router};
use sap::messages as sic;
use service_kit::http::HttpOptions;
use service_kit::{CallError, Client, Identity, Shutdown, bind, serve, tls};
use tokio::sync::watch;

use crate::cm::Cm;

const SERVER: &str = "sam.localhost";

/// The CA of the zones. Certificates of connections go by the machine's clock, not by the test's.
struct Zones {
    ca: DevCa,
    known: Mutex<BTreeMap<String, Identity>>,
}

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let urls = Urls::under("http://ca.localhost:1");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    Zones {
        ca: DevCa::open(dir.path(), urls, clock, random).unwrap(),
        known: Mutex::default(),
    }
});

impl Zones {
    fn identity(&self, name: &str) -> Identity {
        let mut known = self.known.lock().unwrap();
        // Without a name of a host in its certificate a caller is nobody.
        let (subject, names): (_, &[&str]) = match name {
            "" => ("Nobody", &[]),
            name => (name, &[name]),
        };
        let make = || self.ca.service_cert(subject, names).unwrap();
        known.entry(name.to_owned()).or_insert_with(make).clone()
    }
}

/// Where the doors are, and who has called so far.
struct Doors {
    services: String,
    gateways: String,
    officers: String,
    callers: Mutex<BTreeMap<(String, String), Client>>,
    /// Dropped with the last handle of the node: the listeners stop.
    _open: watch::Sender<bool>,
}

/// A node, in the hands of one tenant. Methods of the listeners are called through them; what a node does by itself, and
/// what only its daemon may ask, is the SAM's own method.
#[derive(Clone)]
pub struct Node {
    sam: Sam<Cm>,
    doors: Arc<Doors>,
    /// Name of the service that asks where a test names none.
    service: String,
    gateway: String,
}

impl Deref for Node {
    type Target = Sam<Cm>;

    fn deref(&self) -> &Sam<Cm> {
        &self.sam
    }
}

impl Node {
    /// Opens the doors of a node that has been started.
    pub async fn behind_doors(sam: Sam<Cm>, config: &SamConfig) -> Self {
        let (open, shutdown) = Shutdown::new();
        let door = async |router| {
            let tls = tls::mutual_server(&ZONES.identity(SERVER), &ZONES.ca.internal_ca_pem());
            let socket = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
            let running = serve(socket, router, Some(tls.unwrap()), shutdown.clone());
            format!("https://{SERVER}:{}", running.unwrap().addr.port())
        };
        let doors = Doors {
            services: door(ssa_router(sam.clone())).await,
            gateways: door(gateway_router(sam.clone())).await,
            officers: door(office_router(sam.clone())).await,
            callers: Mutex::default(),
            _open: open,
        };
        Self {
            sam,
            doors: Arc::new(doors),
            service: config.services[0].clone(),
            gateway: config.gateways[0].clone(),
        }
    }

    /// The node in the hands of a tenant of it, whose service is called so.
    pub fn for_tenant(&self, tenant: &TenantId, service: &str) -> Self {
        Self {
            sam: self.sam.of(tenant).unwrap(),
            service: service.to_owned(),
            ..self.clone()
        }
    }

    /// The SAM without doors, for a call that dies with its node: one that came through a door would be finished.
    pub fn inside(&self) -> Sam<Cm> {
        self.sam.clone()
    }

    /// Calls the services' listener as `peer`.
    pub async fn ask_as<M: Method>(
        &self,
        peer: &str,
        request: &M::Request,
    ) -> Result<M::Response, M::Refusal> {
        self.call::<M>(&self.doors.services, peer, request).await
    }

    /// Calls the officers' listener as `peer`.
    pub async fn office<M: Method>(
        &self,
        peer: &str,
        request: &M::Request,
    ) -> Result<M::Response, M::Refusal> {
        self.call::<M>(&self.doors.officers, peer, request).await
    }

    async fn call<M: Method>(
        &self,
        door: &str,
        peer: &str,
        request: &M::Request,
    ) -> Result<M::Response, M::Refusal> {
        match self.caller(door, peer).call::<M>(request).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused(refusal)) => Err(refusal),
            Err(e) => panic!("{} as {peer}: {e}", M::PATH),
        }
    }

    fn caller(&self, door: &str, peer: &str) -> Client {
        let mut callers = self.doors.callers.lock().unwrap();
        let make = || {
            let options = HttpOptions {
                ca_pem: Some(ZONES.ca.internal_ca_pem()),
                identity: Some(ZONES.identity(peer)),
                ..HttpOptions::default()
            };
            Client::new(door, &options).unwrap()
        };
        let place = (door.to_owned(), peer.to_owned());
        callers.entry(place).or_insert_with(make).clone()
    }
}

/// Methods that a service calls under its name.
macro_rules! by_name {
    ($($name:ident: $method:ty;)*) => {
        impl Node {
            $(pub async fn $name(
                &self,
                service: &str,
                request: <$method as Method>::Request,
            ) -> Result<<$method as Method>::Response, <$method as Method>::Refusal> {
                self.ask_as::<$method>(service, &request).await
            })*
        }
    };
}

/// Methods in which only the tenant of the caller counts, or that a gateway calls.
macro_rules! of_door {
    ($door:ident, $peer:ident; $($name:ident: $method:ty;)*) => {
        impl Node {
            $(pub async fn $name(
                &self,
                request: <$method as Method>::Request,
            ) -> Result<<$method as Method>::Response, <$method as Method>::Refusal> {
                self.call::<$method>(&self.doors.$door, &self.$peer, &request).await
            })*
        }
    };
}

by_name! {
    prepare: ssa::Prepare;
    status: ssa::Status;
    bind: ssa::Bind;
    explicit: ssa::Explicit;
    send_code: ssa::SendCode;
    sign: ssa::Sign;
    renew: ssa::Renew;
    voucher: ssa::Voucher;
    enrolment: ssa::Enrolment;
    certificate: ssa::Certificate;
    ask: ssa::Ask;
    stop: ssa::Stop;
    guard_stop: guard::GuardStop;
    notice: ssa::Notice;
    watched: ssa::Watched;
    revocation: ssa::Revocation;
}

of_door! { services, service;
    keys: ssa::Keys;
    factors: ssa::Factors;
    signatures: ssa::Signatures;
    receipt: ssa::Receipt;
    receipt_of: ssa::ReceiptOf;
    handed_over: ssa::HandedOver;
    history: ssa::History;
}

of_door! { gateways, gateway;
    open: sic::Open;
    approve: sic::Approve;
    refuse: sic::Refuse;
    outcome: sic::Outcome;
    factor_seed: sic::FactorSeed;
    import_key: sic::ImportKey;
    import: sic::Import;
    enrol_open: sic::EnrolOpen;
    enrol_seed: sic::EnrolSeed;
    enrol_register: sic::EnrolRegister;
    bring_notice: sic::BringNotice;
}

impl Node {
    pub async fn about(&self) -> Result<ssa::AboutAnswer, sam_api::Refusal> {
        self.ask_as::<ssa::About>(&self.service, &Empty {}).await
    }

    pub async fn statement(&self) -> Result<sic::KeysAnswer, sic::SapRefusal> {
        let door = &self.doors.gateways;
        self.call::<sic::Keys>(door, &self.gateway, &Empty {}).await
    }
}
