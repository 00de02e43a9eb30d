//! A site with all its daemons on SQLite, each with a store of its own.

use serde_json::Value;

use crate::daemons::{Member, Middle, Service, invite};
use crate::kit::{natsuin, run, text};
use crate::site::{Program, SamPorts, Site, port};

/// The daemons that run, and what belongs to them.
pub struct Running<'s> {
    pub site: &'s Site,
    pub middle: Middle<'s>,
    pub module: Program,
    pub sam: Program,
    pub gateway: Program,
    pub service: Service,
    /// Where module, SAM, SSA and SIC gateway listen.
    pub ports: [u16; 4],
}

impl<'s> Running<'s> {
    pub async fn begin(site: &'s Site) -> Self {
        let (cm, ssa, sic) = (port(), port(), port());
        let page = format!("https://sic.localhost:{sic}");
        let (module, root) = site.module(cm).await;
        let ports = SamPorts {
            module: cm,
            ssa: port(),
            gateway: port(),
            office: port(),
            origin: page.clone(),
            home: format!("https://localhost:{ssa}"),
            tenants: String::new(),
        };
        let store = format!("sqlite:{}", site.at("sam.db").display());
        let sam = site.sam("sam-1", &store, &ports).await;
        let gateway = site.gateway(sic, &page, ports.gateway).await;
        let middle = Middle {
            site,
            root,
            page,
            sam: ports.ssa,
            http: site.http(),
        };
        let service = middle.service("ssa", "test", ssa, &site.ca).await;
        Self {
            site,
            middle,
            module,
            sam,
            gateway,
            service,
            ports: [cm, ports.gateway, ssa, sic],
        }
    }

    pub async fn member(&self) -> Member {
        let (invite, voucher) = invite(&self.service, "p-hanako");
        let (status, registered) = self.middle.hand_in(&self.service, invite).await;
        assert_eq!(status, 201, "{registered:?}");
        let registered = registered.unwrap();
        self.middle.join(&self.service, &registered, voucher).await
    }

    /// Ends all in order; the entries of the SAM's log and the module's, which have to be good, and good for the auditor too.
    pub fn end(mut self) -> (Vec<Value>, Vec<Value>) {
        for program in [&mut self.service.program, &mut self.gateway, &mut self.sam] {
            program.end();
        }
        self.site.entries("ssa");
        let sam = self.site.entries("sam");
        // The SAM's log is opened by its module.
        self.module.end();
        let cm = self.site.entries("cm");
        let auditor = self.site.auditor();
        let mut verify = natsuin();
        verify.args(["audit", "verify"]).arg(self.site.at("export"));
        for option in ["--witness", "--keys"] {
            verify.arg(option).arg(&auditor);
        }
        let said = run(&mut verify);
        assert!(said.status.success(), "{}", text(&said));
        (sam, cm)
    }
}
