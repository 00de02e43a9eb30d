//! The key with which a development stack counter-signs: made at the first start that asks for it, by a ceremony like any
//! other, and certified by the development CA.

use cm_api::ceremony::{Ceremony, CeremonyRequest, Held, Subject, Wanted};
use cm_core::Module;
use core_types::{B64, KeyAlg, KeyId, Level};
use jose::SigningKey;
use pki::csr::Csr;
use sam_service::CounterSigner;
use serde::{Deserialize, Serialize};
use service_kit::Trouble;

use super::state::State;
use super::zones::{Kit, SAM, bug};

/// How long the key may be used: longer than its certificate.
const DAYS: i64 = 400;

/// What a stack remembers of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevCounterSigner {
    key: KeyId,
    chain: Vec<B64>,
}

impl From<DevCounterSigner> for CounterSigner {
    fn from(of: DevCounterSigner) -> Self {
        Self {
            key: of.key,
            chain: of.chain,
        }
    }
}

/// The two officers of a development module. It goes by them for ever, so they are kept with the stack's other secrets.
pub(super) struct Officers(Vec<SigningKey>);

impl Officers {
    /// Those of the first start; made, and kept before the module hears of them.
    pub(super) fn of(kit: &Kit, state: &mut State) -> Result<Self, Trouble> {
        let failed = |_| bug("officers' keys");
        if state.module_officers.is_empty() {
            for _ in 0..2 {
                let (_, pkcs8) = SigningKey::generate().map_err(failed)?;
                state.module_officers.push(pkcs8);
            }
            kit.data.save("state.json", state)?;
        }
        let keys = state.module_officers.iter().map(SigningKey::from_pkcs8);
        keys.collect::<Result<_, _>>().map(Self).map_err(failed)
    }

    pub(super) fn public(&self) -> Vec<jose::Jwk> {
        self.0.iter().map(|key| key.public().clone()).collect()
    }

    /// Has the module make the key, and the development CA a certificate for it.
    pub(super) async fn make(
        &self,
        kit: &Kit,
        module: &Module,
    ) -> Result<DevCounterSigner, Trouble> {
        let now = kit.clock.now();
        let ceremony = Ceremony {
            sam: SAM.to_owned(),
            root: module.root().kid(),
            reason: "development stack".to_owned(),
            exp: now.plus(600),
            what: Wanted::SealKey {
                alg: KeyAlg::P256,
                level: Level::One,
                subject: Subject {
                    country: "JP".to_owned(),
                    organization: "Natsuin (development)".to_owned(),
                    name: "Signed at natsuin.localhost".to_owned(),
                },
                not_after: now.plus(DAYS * 86_400),
            },
        };
        let approvals = self.0.iter().map(|officer| ceremony.approve(officer));
        let approvals = approvals.collect::<Result<_, _>>();
        let approvals = approvals.map_err(|_| bug("officers' approvals"))?;
        let held = module.ceremony(&CeremonyRequest { approvals }).await;
        let Ok(Held::Made(made)) = held else {
            return Err(bug("the key for counter-signatures"));
        };
        let request = made.request.and_then(|der| Csr::verify(&der.0).ok());
        let request = request.ok_or_else(|| bug("its certification request"))?;
        let chain = kit.ca.issue_signer(&request, &request.subject);
        let chain = chain.map_err(|_| bug("its certificate"))?;
        Ok(DevCounterSigner {
            key: made.key,
            chain: chain.iter().map(|c| B64(c.der().to_vec())).collect(),
        })
    }
}
