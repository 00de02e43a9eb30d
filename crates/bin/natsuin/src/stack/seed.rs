//! Clients and people of a development stack, registered and enrolled the way real ones are.

use std::collections::BTreeMap;

use core_types::{ClientId, KeyAlg, Level, PersonId, SecretBytes};
use dev_ca::ra::Invitation;
use jose::{ForeignKey, SigningKey};
use sam_service::KnownClient;
use sap::enrol::{CodeAddress, NoticeAddress, Subject};
use serde_json::json;
use service_kit::Trouble;
use sic_core::Voucher;
use ssa_service::{ClientSettings, NewClient, NewInvitation, NewUser};

use super::sic::NewFactors;
use super::start::Stack;
use super::state::{DevClient, DevCredential, DevSigner, State};

/// A person to enrol.
#[derive(Clone, Copy)]
pub struct NewSigner<'a> {
    /// Login name.
    pub login: &'a str,
    /// Name on the certificate.
    pub name: &'a str,
    /// Keys to make.
    pub keys: &'a [KeyAlg],
    /// Applications collect PIN and one-time codes for them.
    pub collected: bool,
    /// They may be handed over.
    pub exportable: bool,
    /// They are for one act each.
    pub one_time: bool,
}

/// An enrolled person and how they log in.
#[derive(Debug, Clone)]
pub struct EnrolledSigner {
    /// What the ready file shows.
    pub shown: DevSigner,
}

/// The client that calls of `auth/login` count as.
pub(super) const LOGIN_CLIENT: &str = "login-client";

/// The e-contract application.
const APP: &str = "demo-app";

const CLIENTS: [(&str, &str); 7] = [
    (APP, "みなと商事「電子契約」"),
    ("test-client", "Test client"),
    ("other-client", "Another test client"),
    ("natsuin-cli", "Natsuin command line"),
    ("terminal-client", "Terminal without a browser"),
    ("hanako-program", "Program of hanako's"),
    (LOGIN_CLIENT, "Applications that log in with a password"),
];

/// The clients as the SAM itself knows them, so that pages can say whose name they show.
pub(super) fn known_clients(app_key: Option<&SigningKey>) -> BTreeMap<ClientId, KnownClient> {
    let known = CLIENTS.iter().filter_map(|(id, name)| {
        Some((
            ClientId::parse(*id).ok()?,
            KnownClient {
                name: (*name).to_owned(),
                keys: app_key
                    .filter(|_| *id == APP)
                    .and_then(|key| ForeignKey::parse(&json!(key.public())).ok())
                    .into_iter()
                    .collect(),
            },
        ))
    });
    known.collect()
}

/// The key with which the e-contract application signs its requests.
///
/// # Errors
/// [`Trouble`] when it can't be read.
pub(super) fn app_key(state: &State) -> Result<Option<SigningKey>, Trouble> {
    let key = state.app_key.as_ref().map(SigningKey::from_pkcs8);
    key.transpose()
        .map_err(|e| trouble(&format!("the key of {APP}: {e}")))
}

/// Makes that key, unless the application is registered without one.
///
/// # Errors
/// [`Trouble`] when none can be made.
pub(super) fn make_app_key(state: &mut State) -> Result<(), Trouble> {
    if state.app_key.is_none() && state.clients.is_empty() {
        let (_, pkcs8) = SigningKey::generate().map_err(|e| trouble(&e.to_string()))?;
        state.app_key = Some(pkcs8);
    }
    Ok(())
}

impl Stack {
    /// Registers the clients that are missing.
    pub(super) async fn seed_clients(&mut self) -> Result<(), Trouble> {
        let app_key = app_key(&self.state)?;
        for (id, name) in CLIENTS {
            let native = id == "natsuin-cli";
            let redirect_uris = match id {
                "demo-app" => vec![format!("{}/callback", self.sca_url)],
                "natsuin-cli" => vec!["http://127.0.0.1/callback".to_owned()],
                "terminal-client" | "hanako-program" | LOGIN_CLIENT => Vec::new(),
                _ => vec![
                    "http://localhost/callback".to_owned(),
                    "http://127.0.0.1:8080/callback".to_owned(),
                ],
            };
            match self.client(id) {
                Some(known) if known.redirect_uris == redirect_uris => continue,
                Some(_) => {
                    return Err(Trouble::new(
                        "ports-changed",
                        "the ports of the last start are taken, and the clients are registered with them",
                        "free the ports, or start with another --data directory",
                    ));
                }
                None => {}
            }
            let client = NewClient {
                id: ClientId::parse(id).map_err(|_| trouble("client id"))?,
                name: name.to_owned(),
                redirect_uris: redirect_uris.clone(),
                native,
                public: native,
                settings: ClientSettings {
                    refresh: matches!(id, "test-client" | LOGIN_CLIENT),
                    out_of_band: matches!(id, "terminal-client" | "hanako-program"),
                    own_sic: id == "hanako-program",
                    users: match id {
                        "hanako-program" => vec!["hanako".to_owned()],
                        _ => Vec::new(),
                    },
                    device: id == "terminal-client",
                    // So that clients of others find a list that can be signed in steps.
                    renew_seconds: match id {
                        "test-client" | "terminal-client" => 900,
                        _ => 0,
                    },
                    keys: app_key
                        .iter()
                        .filter(|_| id == APP)
                        .map(|key| json!(key.public()))
                        .collect(),
                    // The SAM takes no others of it; so it hears that before its user logs in.
                    signed_requests: id == APP && app_key.is_some(),
                    ..ClientSettings::default()
                },
            };
            let made = self
                .ssa
                .create_client(&client)
                .await
                .map_err(|e| trouble(&e.to_string()))?;
            self.state.clients.push(DevClient {
                client_id: id.to_owned(),
                client_secret: made.secret.map(|s| s.expose().to_owned()),
                redirect_uris,
            });
            self.data.save("state.json", &self.state)?;
        }
        Ok(())
    }

    /// Enrols the two signers of `natsuin dev`, with PIN and one-time codes.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn seed_signers(&mut self) -> Result<(), Trouble> {
        for (login, name) in [("hanako", "髙橋 花子"), ("taro", "山田 太郎")] {
            if self.state.signers.iter().any(|s| s.user == login) {
                continue;
            }
            let pin = SecretBytes::from(self.password("pin"));
            let new = NewSigner {
                login,
                name,
                keys: &[KeyAlg::Rsa3072, KeyAlg::P256],
                collected: false,
                // Where the module can do it, one of the two may have keys handed over.
                exportable: login == "taro" && self.exports,
                one_time: false,
            };
            let mut enrolled = self.enrol(&new, NewFactors::PinTotp(&pin)).await?;
            enrolled.shown.pin = String::from_utf8_lossy(pin.expose()).into_owned();
            self.enrol_collected(&new, &mut enrolled.shown).await?;
            self.state.signers.push(enrolled.shown);
            self.data.save("state.json", &self.state)?;
        }
        Ok(())
    }

    /// Two fresh invitations of the SSA's own, at level 1, for whoever wants to sign up.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn invitations(&self) -> Result<Vec<String>, Trouble> {
        let mut links = Vec::new();
        for (name, number) in [("佐藤 美智子", "1"), ("Robert Smith", "2")] {
            let invited = self.ssa.invite(NewInvitation {
                person: None,
                subject: Subject {
                    common_name: name.to_owned(),
                    country: "JP".to_owned(),
                    organization: None,
                    serial_number: format!("DEV-INVITED-{number}"),
                },
                keys: vec![KeyAlg::P256],
                life: 24 * 3600,
            });
            links.push(
                invited
                    .await
                    .map_err(|e| trouble(&e.to_string()))?
                    .link
                    .expose()
                    .to_owned(),
            );
        }
        Ok(links)
    }

    /// Makes an account, has the RA invite the person, enrols their factors at the gateway, gets the certificates.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn enrol(
        &self,
        new: &NewSigner<'_>,
        factors: NewFactors<'_>,
    ) -> Result<EnrolledSigner, Trouble> {
        let failed = |e: &dyn std::fmt::Display| {
            trouble(&format!("{} could not be enrolled: {e}", new.login))
        };
        let password = self.password("pw");
        let user = self.ssa.create_user(NewUser {
            login: new.login.to_owned(),
            name: new.name.to_owned(),
            password: SecretBytes::from(password.clone()),
        });
        let user = user.await.map_err(|e| failed(&e))?;
        let (voucher, seed) = self
            .invite_and_enrol(new, &user.person, factors)
            .await
            .map_err(|e| failed(&e))?;
        let enrolled = self
            .ssa
            .complete_enrolment(&voucher)
            .await
            .map_err(|e| failed(&e))?;
        let credentials = self.credentials(&user.person).await?;
        drop(enrolled);
        Ok(EnrolledSigner {
            shown: DevSigner {
                user: new.login.to_owned(),
                person: user.person.to_string(),
                password,
                login_totp_secret: user.totp_secret.expose().to_owned(),
                pin: String::new(),
                totp_secret: seed
                    .map(|s| String::from_utf8_lossy(s.expose()).into_owned())
                    .unwrap_or_default(),
                credentials,
            },
        })
    }

    /// Gives an enrolled person two keys for explicit mode, each with a PIN and one-time codes of its own.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn enrol_collected(
        &self,
        of: &NewSigner<'_>,
        signer: &mut DevSigner,
    ) -> Result<(), Trouble> {
        let failed = |e: &dyn std::fmt::Display| {
            trouble(&format!("{} has no keys for explicit mode: {e}", of.login))
        };
        let person = PersonId::parse(signer.person.as_str()).map_err(|e| failed(&e))?;
        for alg in [KeyAlg::Rsa3072, KeyAlg::P256] {
            let pin = self.password("app-pin");
            let secret = SecretBytes::from(pin.clone());
            let new = NewSigner {
                keys: &[alg],
                collected: true,
                exportable: false,
                one_time: false,
                ..*of
            };
            let (voucher, seed) = self
                .invite_and_enrol(&new, &person, NewFactors::PinTotp(&secret))
                .await
                .map_err(|e| failed(&e))?;
            let enrolled = self.ssa.complete_enrolment(&voucher).await;
            enrolled.map_err(|e| failed(&e))?;
            let known = |id: &str| signer.credentials.iter().any(|c| c.credential_id == id);
            let all = self.credentials(&person).await?;
            let fresh = all.into_iter().filter(|key| !known(&key.credential_id));
            let fresh: Vec<_> = fresh
                .map(|key| DevCredential {
                    pin: Some(pin.clone()),
                    totp_secret: seed
                        .as_ref()
                        .map(|seed| String::from_utf8_lossy(seed.expose()).into_owned()),
                    ..key
                })
                .collect();
            signer.credentials.extend(fresh);
        }
        Ok(())
    }

    async fn invite_and_enrol(
        &self,
        new: &NewSigner<'_>,
        person: &PersonId,
        factors: NewFactors<'_>,
    ) -> anyhow::Result<(core_types::VoucherId, Option<SecretBytes>)> {
        let now = self.clock.now();
        let at_level_one = matches!(factors, NewFactors::PinTotp(_) | NewFactors::Provider(_));
        let (jws, voucher, secret) = self.ra.invite(Invitation {
            tenant: self.tenant.clone(),
            person: person.clone(),
            subject: Subject {
                common_name: new.name.to_owned(),
                country: "JP".to_owned(),
                organization: None,
                serial_number: format!("DEV-{}", new.login),
            },
            assurance: "development".to_owned(),
            // PIN and codes, and the word of others, count at level 1 only, and nobody may enrol them above; nor keys that may leave.
            ceiling: if at_level_one || new.exportable {
                Level::One
            } else {
                self.level.max(Level::Two)
            },
            keys: new.keys.to_vec(),
            exp: now.plus(3600),
            replaces: None,
            collected: new.collected,
            codes: new
                .collected
                .then(|| CodeAddress::Mail(format!("{}@example.jp", new.login))),
            notices: Some(NoticeAddress {
                mail: format!("{}@example.jp", new.login),
                lang: None,
            }),
            exportable: new.exportable,
            one_time: new.one_time,
        })?;
        self.ssa.register_ra_invite(&jws).await?;
        // What an RA would hand over in person or by letter: `voucher.secret`.
        let text = format!("{voucher}.{}", core_types::bytes::b64u(secret.expose()));
        let ticket = Voucher::parse(&SecretBytes::from(text))?;
        let seed = self.sic().enrol(ticket, factors).await?;
        Ok((voucher, seed))
    }

    async fn credentials(&self, person: &PersonId) -> Result<Vec<DevCredential>, Trouble> {
        let keys = self
            .ssa
            .keys_of(person)
            .await
            .map_err(|e| trouble(&e.to_string()))?;
        Ok(keys
            .into_iter()
            .map(|key| DevCredential {
                credential_id: key.key.to_string(),
                algo: key.alg.to_string(),
                level: key.level.level.into(),
                level_because: key.level.because,
                level_needs: key.level.needs,
                level_declared: key.level.declared,
                origin: key.origin,
                auth_mode: match key.collected {
                    true => "explicit",
                    false => "oauth2code",
                }
                .to_owned(),
                pin: None,
                totp_secret: None,
            })
            .collect())
    }

    /// A secret that nobody has to remember: 96 random bits behind a prefix.
    fn password(&self, prefix: &str) -> String {
        let mut bytes = [0; 12];
        self.random.fill(&mut bytes);
        format!("{prefix}-{}", core_types::bytes::b64u(bytes))
    }
}

fn trouble(what: &str) -> Trouble {
    Trouble::new(
        "dev-seed",
        what.to_owned(),
        "start with an empty --data directory",
    )
}
