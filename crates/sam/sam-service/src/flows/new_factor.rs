//! What comes with a `factor` act: a new passkey, a new PIN with its one-time codes, an account at a provider, or another PIN (`sap.md` §9).

use cm_api::CryptoModule;
use core_types::{B64, Digest32, FactorId, Level, PersonId, SecretBytes, UnixTime, VoucherId};
use jose::{JweContext, Jwk};
use sam_core::change::Change;
use sam_core::enrol::{Device, Factor, FactorBody, PinTotp, Seed};
use sam_core::evidence::MadeFactor;
use sam_core::passkey::Passkey;
use sam_core::provider::Identity;
use sam_core::state::Subject;
use sam_core::{ActState, Reason, pin, secrets, totp};
use sap::enrol::SealedSeed;
use sap::messages::{EnrolSeedAnswer, FactorSeedRequest, SapRefusal};
use sap::proof::Method;
use sap::{FactorChange, NewFactor, SealedFactor, TYP_SEED};
use store_kit::transaction;

use crate::failed::Failed;
use crate::rows;
use crate::sam::{Sam, seal_keys};

/// What was brought and looks good, before the proof is checked: nothing slow yet.
pub(crate) enum Brought {
    Passkey(Box<Passkey>, [B64; 2]),
    Secrets(SealedFactor),
    Identity(Identity),
}

/// What the act makes, ready to be stored with the approval.
pub(crate) enum Made {
    Factor {
        factor: Box<Factor>,
        registration: Option<[B64; 2]>,
    },
    Pin {
        salt: B64,
        mac: SecretBytes,
    },
}

impl Made {
    /// What evidence may say of it.
    pub(crate) fn public(&self) -> Option<MadeFactor> {
        match self {
            Self::Factor {
                factor,
                registration,
            } => Some(MadeFactor {
                factor: factor.public(),
                registration: registration.clone(),
            }),
            Self::Pin { .. } => None,
        }
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Hands out a seed for a factor with one-time codes, once for each act. It proves nothing until its first code
    /// came back under the proof of an older factor.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn factor_seed(
        &self,
        request: FactorSeedRequest,
    ) -> Result<EnrolSeedAnswer, SapRefusal> {
        match self.try_factor_seed(&request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_act(request.act, &failed).await),
        }
    }

    async fn try_factor_seed(
        &self,
        request: &FactorSeedRequest,
    ) -> Result<EnrolSeedAnswer, Failed> {
        let seed = self.draw_seed();
        let person = transaction!(self.store, "factor-seed", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<ActState>(tx, &self.sealer, &request.act.to_string()).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let seed = Seed {
                act: request.act,
                seed: seed.clone(),
            };
            let next = row.body.with_seed(seed, now)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            self.rows_changed(tx, "seed-handed-out").await?;
            Ok::<_, Failed>(next.person)
        })?;
        let sealed = self.seal_seed(&seed, &person, request.act, &request.key)?;
        Ok(EnrolSeedAnswer { sealed })
    }

    /// A new seed for one-time codes.
    pub(super) fn draw_seed(&self) -> SecretBytes {
        let mut bytes = vec![0; totp::SEED];
        self.random.fill(&mut bytes);
        SecretBytes::new(bytes)
    }

    /// A seed as it is handed out: for the page alone that asked under this act, with its key.
    pub(super) fn seal_seed(
        &self,
        seed: &SecretBytes,
        person: &PersonId,
        act: Digest32,
        key: &Jwk,
    ) -> Result<String, Reason> {
        let plain = SealedSeed {
            seed: totp::base32(seed),
            uri: totp::uri(seed, &self.config.sam, person.as_str()),
        };
        let plain = serde_json::to_vec(&plain)
            .map(SecretBytes::new)
            .map_err(|_| Reason::NotNow)?;
        let context = JweContext {
            typ: TYP_SEED,
            apu: act,
        };
        jose::seal(&plain, key, context, self.random.as_ref()).map_err(|_| Reason::Malformed)
    }

    /// Looks at what came with the proof: exactly what this kind of act needs, and nothing else.
    pub(crate) async fn brought(
        &self,
        act: &ActState,
        digest: Digest32,
        new: Option<NewFactor>,
        epoch: Digest32,
    ) -> Result<Option<Brought>, Failed> {
        let change = match &act.subject {
            Subject::Change {
                change: Change::Factor { change },
                ..
            } => Some(change),
            _ => None,
        };
        match (change, new) {
            (
                Some(FactorChange::Add {
                    method: Method::Passkey,
                }),
                Some(NewFactor::Passkey { registration }),
            ) => {
                // What it doesn't count for, it can't be used for: nothing more is demanded here.
                let now = self.clock.now();
                let place = &self.config.relying_party;
                let passkey = self.new_passkey(place, digest, &registration, Level::One, now)?;
                let passkey = Box::new(passkey);
                let evidence = [registration.client_data, registration.attestation];
                Ok(Some(Brought::Passkey(passkey, evidence)))
            }
            (
                Some(FactorChange::Add {
                    method: Method::Idp,
                }),
                Some(NewFactor::Idp { id_token }),
            ) => {
                let (providers, now) = (&self.config.providers, self.clock.now());
                let identity = providers.verify(&id_token, digest, act.began(), now)?;
                let hints = self.providers_at(act.level);
                if !hints.iter().any(|hint| hint.issuer == identity.issuer) {
                    self.check_provider(&identity.issuer, act.level)?;
                    return Err(Reason::NotAllowed("method").into());
                }
                Ok(Some(Brought::Identity(identity)))
            }
            (
                Some(
                    FactorChange::Add {
                        method: Method::PinTotp,
                    }
                    | FactorChange::AddDevice { .. }
                    | FactorChange::Pin { .. },
                ),
                Some(NewFactor::PinTotp { sealed }),
            ) => {
                let rings = self.live_rings(epoch, self.clock.now()).await?;
                let given = secrets::open_factor(&seal_keys(&rings), &sealed, digest)?;
                let with_code = matches!(change, Some(FactorChange::Add { .. }));
                if given.otp.is_some() != with_code {
                    return Err(Reason::Malformed.into());
                }
                pin::check_new(&given.new_pin)?;
                Ok(Some(Brought::Secrets(given)))
            }
            (Some(FactorChange::Remove { .. } | FactorChange::Unlock { .. }) | None, None) => {
                Ok(None)
            }
            _ => Err(Reason::Malformed.into()),
        }
    }

    /// Makes what will be stored; the proof was good. PINs are hashed here.
    pub(crate) async fn make(
        &self,
        act: &ActState,
        digest: Digest32,
        brought: Option<Brought>,
    ) -> Result<Option<Made>, Failed> {
        let Subject::Change {
            registration,
            change: Change::Factor { change },
            ..
        } = &act.subject
        else {
            return Ok(None);
        };
        let now = self.clock.now();
        let id = FactorId::random(self.random.as_ref());
        let made = match (brought, change) {
            (None, _) => return Ok(None),
            (Some(Brought::Passkey(passkey, evidence)), _) => Made::Factor {
                factor: Box::new(factor(
                    act,
                    digest,
                    registration,
                    id,
                    FactorBody::Passkey(*passkey),
                    now,
                )),
                registration: Some(evidence),
            },
            (Some(Brought::Identity(identity)), _) => Made::Factor {
                factor: Box::new(factor(
                    act,
                    digest,
                    registration,
                    id,
                    FactorBody::Idp(identity),
                    now,
                )),
                registration: None,
            },
            (Some(Brought::Secrets(given)), FactorChange::Pin { factor }) => {
                let (salt, mac) = self.hashed_pin(factor, given.new_pin).await?;
                Made::Pin { salt, mac }
            }
            (Some(Brought::Secrets(given)), FactorChange::AddDevice { key }) => {
                let (salt, mac) = self.hashed_pin(&id, given.new_pin).await?;
                let body = FactorBody::Device(Device {
                    key: key.clone(),
                    salt,
                    mac,
                    fails: 0,
                    wait_until: UnixTime(0),
                });
                Made::Factor {
                    factor: Box::new(factor(act, digest, registration, id, body, now)),
                    registration: None,
                }
            }
            (Some(Brought::Secrets(given)), _) => {
                let seed = act.seed.as_ref().filter(|s| s.act == digest);
                let seed = seed.ok_or(Reason::SealedWrong)?.seed.clone();
                let otp = given.otp.ok_or(Reason::Malformed)?;
                let body = self.fresh_pin(&id, given.new_pin, &otp, seed, now).await?;
                Made::Factor {
                    factor: Box::new(factor(
                        act,
                        digest,
                        registration,
                        id,
                        FactorBody::PinTotp(body),
                        now,
                    )),
                    registration: None,
                }
            }
        };
        Ok(Some(made))
    }

    /// PIN and one-time code as a new factor, once the first code of the seed was right.
    pub(crate) async fn fresh_pin(
        &self,
        id: &FactorId,
        new: SecretBytes,
        otp: &SecretBytes,
        seed: SecretBytes,
        now: UnixTime,
    ) -> Result<PinTotp, Failed> {
        let step = totp::verify(&seed, otp.expose(), now, 0);
        let last_step = step.ok_or(Reason::SecretWrong { tries_left: 1 })?;
        let (salt, mac) = self.hashed_pin(id, new).await?;
        Ok(PinTotp {
            salt,
            mac,
            seed,
            last_step,
            fails: 0,
            wait_until: UnixTime(0),
            collected: false,
            sent: None,
        })
    }

    async fn hashed_pin(
        &self,
        id: &FactorId,
        new: SecretBytes,
    ) -> Result<(B64, SecretBytes), Failed> {
        let mut salt = vec![0; pin::SALT];
        self.random.fill(&mut salt);
        let salt = B64(salt);
        let mac = self.pin_mac(id, new, &salt).await?;
        Ok((salt, mac))
    }
}

fn factor(
    act: &ActState,
    digest: Digest32,
    registration: &VoucherId,
    id: FactorId,
    body: FactorBody,
    created: UnixTime,
) -> Factor {
    Factor {
        id,
        person: act.person.clone(),
        voucher: registration.clone(),
        act: digest,
        created,
        body,
        removed: None,
    }
}
