//! The gateways of a site, and a client outside.

use service_kit::http::HttpOptions;

use super::{Program, Site};

impl Site {
    /// The SIC gateway's daemon.
    pub async fn gateway(&self, at: u16, page: &str, sam: u16) -> Program {
        let dir = self.dir.path().display();
        let settings = format!(
            "listen = '127.0.0.1:{at}'\norigin = '{page}'\nroots = '{dir}/roots.json'\nsam_url = 'https://localhost:{sam}'\n\
             public_chain = '{dir}/public-chain.pem'\npublic_key = '{dir}/public-key.pem'\n"
        );
        let config = self.configure("sic", "sic-1", &settings);
        self.start("natsuin-sic", &config, at).await
    }

    /// The gateway of officers, with the zones that they look at beside (TOML).
    pub async fn office(&self, sam: u16, beside: &str) -> Program {
        let (dir, at) = (self.dir.path().display(), self.console);
        let settings = format!(
            "listen = '127.0.0.1:{at}'\norigin = '{page}'\nroots = '{dir}/roots.json'\noffice = true\n\
             rate = {{ burst = 600, per_minute = 600 }}\n\
             sam_url = 'https://localhost:{sam}'\npublic_chain = '{dir}/public-chain.pem'\npublic_key = '{dir}/public-key.pem'\n{beside}",
            page = self.office_page(),
        );
        let config = self.configure("office", "office-1", &settings);
        self.start("natsuin-sic", &config, at).await
    }

    /// Origin of the officers' page.
    pub fn office_page(&self) -> String {
        format!("https://sic.localhost:{}", self.console)
    }

    /// A client outside, which trusts the public origins.
    pub fn http(&self) -> reqwest::Client {
        let options = HttpOptions {
            ca_pem: Some(self.anchors()),
            ..HttpOptions::default()
        };
        service_kit::http::client(&options).unwrap()
    }
}
