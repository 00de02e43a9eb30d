//! A site whose SAM is killed again and again: nothing else of it ever is, and whoever talks with it does so through a door of the
//! test's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use natsuin::stack::{NAME_CM, NAME_SAM, NAME_SIC, NAME_SSA};
use sic_core::Trust;
use store_kit::StoreUrl;

use super::START;
use super::doors::{CUTS, Door};
use super::way::{Callers, Way};
use crate::kit::within;
use crate::site::{Program, SamPorts, Site, port};
use crate::two_sams::{Signer, enrol};

/// Between whom a message goes; the SAM is one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Ssa,
    Page,
    Module,
}

pub struct World {
    pub site: Site,
    pub store: StoreUrl,
    pub root: jose::Jwk,
    pub cm: Program,
    pub sam: Program,
    pub config: PathBuf,
    pub ports: SamPorts,
    /// Where the page's gateway listens, and the SSA.
    pub outside: [u16; 2],
    pub ssa: Door,
    pub page: Door,
    pub module: Door,
    /// The callers at the SAM itself, and at the doors.
    pub straight: Callers,
    pub through: Callers,
    hanako: Arc<Signer>,
    persons: usize,
    /// All that came to an end, and whether the module made a value.
    pub ways: Vec<(String, Way, bool)>,
}

fn callers(site: &Site, root: &jose::Jwk, ports: &SamPorts, (ssa, page): (u16, u16)) -> Callers {
    Callers {
        ssa: site.caller(ssa, NAME_SSA),
        page: site.caller(page, NAME_SIC),
        trust: Trust::new(vec![root.clone()], ports.origin.clone()).unwrap(),
        home: ports.home.clone(),
    }
}

/// Somebody with a passkey, or with PIN and one-time codes.
async fn person(
    site: &Site,
    root: &jose::Jwk,
    ports: &SamPorts,
    by: &Callers,
    name: &str,
    pin: bool,
) -> Arc<Signer> {
    let http = service_kit::http::client(&site.options(NAME_SIC)).unwrap();
    let reached = format!("https://localhost:{}", ports.gateway);
    let sic = site.sic(root, &ports.origin, &reached, http);
    let places = (ports.origin.as_str(), ports.home.as_str());
    let joined = enrol(site, root, (&by.ssa, &sic), places, name, pin);
    Arc::new(joined.await)
}

/// Starts it and kills it before and after each of these messages.
pub async fn dies_starting(site: &Site, module: &Door, config: &Path, paths: &[&'static str]) {
    for path in paths.iter().copied() {
        for cut in CUTS {
            let held = module.stop_at(path, cut);
            let mut program = site.spawn("natsuin-sam", config, None);
            let held = within(path, held).await.unwrap();
            program.kill();
            drop(held);
        }
    }
}

impl World {
    pub async fn begin(store: Option<StoreUrl>) -> Self {
        let site = Site::new();
        let (at, outside) = (port(), [port(), port()]);
        let (cm, root) = site.module(at).await;
        let module = Door::open(&site, NAME_CM, NAME_SAM, at).await;
        let ports = SamPorts {
            module: module.port,
            ssa: port(),
            gateway: port(),
            office: port(),
            origin: format!("https://sic.localhost:{}", outside[0]),
            home: format!("https://localhost:{}", outside[1]),
            tenants: String::new(),
        };
        let ssa = Door::open(&site, NAME_SAM, NAME_SSA, ports.ssa).await;
        let page = Door::open(&site, NAME_SAM, NAME_SIC, ports.gateway).await;
        let store = store.unwrap_or_else(|| StoreUrl::Sqlite(site.at("sam.db")));
        let named = match &store {
            StoreUrl::Postgres(url) => url.to_string(),
            StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        };
        let config = site.sam_ready("sam-1", &named, &ports);
        dies_starting(&site, &module, &config, &START[..1]).await;
        let sam = site.start("natsuin-sam", &config, ports.gateway).await;
        let straight = callers(&site, &root, &ports, (ports.ssa, ports.gateway));
        let through = callers(&site, &root, &ports, (ssa.port, page.port));
        Self {
            hanako: person(&site, &root, &ports, &straight, "p-0", false).await,
            site,
            store,
            root,
            cm,
            sam,
            config,
            ports,
            outside,
            ssa,
            page,
            module,
            straight,
            through,
            persons: 0,
            ways: Vec::new(),
        }
    }

    pub fn door(&self, at: At) -> &Door {
        match at {
            At::Ssa => &self.ssa,
            At::Page => &self.page,
            At::Module => &self.module,
        }
    }

    /// A signature that is to be made; `pin`: by somebody new with PIN and one-time codes, each of which counts once.
    pub async fn way(&mut self, pin: bool) -> Way {
        if !pin {
            return Way::of(self.hanako.clone());
        }
        self.persons += 1;
        let name = format!("p-{}", self.persons);
        let (site, root, ports) = (&self.site, &self.root, &self.ports);
        Way::of(person(site, root, ports, &self.straight, &name, true).await)
    }

    pub async fn starts(&mut self) {
        let (config, ports) = (&self.config, &self.ports);
        self.sam = self.site.start("natsuin-sam", config, ports.gateway).await;
        // New connections: those of before lead to a process that is gone.
        let at = (ports.ssa, ports.gateway);
        self.straight = callers(&self.site, &self.root, ports, at);
        self.ssa.leads_to(self.straight.ssa.clone());
        self.page.leads_to(self.straight.page.clone());
    }
}
