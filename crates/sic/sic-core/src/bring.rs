//! Bringing a key that was made elsewhere, once its owner has approved that: the act is checked, the key proves itself, and both
//! are sealed for the cryptographic module. Neither the service nor the SAM sees the key.

use core_types::{B64, Digest32, Random, SecretBytes, UnixTime, sha256};
use jose::SigningKey;
use sam_keys::import::{CaImport, ImportKey, ImportedKey};
use sap::manage::ImportAct;
use sap::messages::{ImportKeyAnswer, ImportRequest};
use sap::{Act, SamKeys, TYP_ACT, act_digest};

use crate::trust::{ActError, SicError, Trust};

/// An approved act that waits for a key, and the module's import key.
#[derive(Debug, Clone)]
pub struct Bringing {
    act: ImportAct,
    digest: Digest32,
    to: ImportKey,
}

/// A private key with what it says of itself.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// PKCS#8, DER.
    pub pkcs8: SecretBytes,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// Its own signature over [`Bringing::binding`].
    pub proof: Vec<u8>,
}

impl Trust {
    /// Checks what is needed to bring a key under the act with this digest.
    ///
    /// # Errors
    /// [`SicError`] saying which check failed.
    pub fn bring(
        &self,
        answer: &ImportKeyAnswer,
        wanted: Digest32,
        now: UnixTime,
    ) -> Result<Bringing, SicError> {
        let keys = SamKeys::verify(&answer.keys, self.roots(), now)?;
        let to = ImportKey::verify(&answer.statement, self.roots(), now)?;
        let payload = jose::verify(&answer.act, TYP_ACT, &keys.act).map_err(ActError::from)?;
        let act: Act = serde_json::from_slice(&payload).map_err(|_| ActError::Malformed)?;
        let Act::Import(act) = act else {
            return Err(ActError::Kind.into());
        };
        let own = act.sam == keys.sam && act.epoch == keys.epoch && to.sam == keys.sam;
        let digest = act_digest(&answer.act);
        if !own || digest != wanted {
            return Err(ActError::Issuer.into());
        }
        if now >= act.until {
            return Err(SicError::Expired);
        }
        Ok(Bringing { act, digest, to })
    }
}

impl Bringing {
    /// The act, to show what it names.
    pub fn act(&self) -> &ImportAct {
        &self.act
    }

    /// What the key has to sign, with the algorithm of its kind for certification requests.
    pub fn binding(&self) -> Vec<u8> {
        let ImportAct {
            sam, person, spki, ..
        } = &self.act;
        ImportedKey::binding(sam, &person.id, self.digest, *spki)
    }

    /// Seals the signer's own key.
    ///
    /// # Errors
    /// [`SicError::OtherKey`] unless it is the one that was approved.
    pub fn seal(&self, key: &OwnKey, random: &dyn Random) -> Result<ImportRequest, SicError> {
        Ok(ImportRequest {
            act: self.digest,
            envelope: self.sealed(key, random)?,
        })
    }

    /// Seals a key as the CA that made it, which vouches for it until `exp`.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_by(
        &self,
        ca: &SigningKey,
        key: &OwnKey,
        exp: UnixTime,
        random: &dyn Random,
    ) -> Result<ImportRequest, SicError> {
        let told = CaImport {
            sam: self.act.sam.clone(),
            owner: self.act.person.id.clone(),
            act: self.digest,
            spki: self.act.spki,
            key: self.sealed(key, random)?,
            exp,
        };
        Ok(ImportRequest {
            act: self.digest,
            envelope: told.sign(ca).map_err(|_| SicError::Seal)?,
        })
    }

    fn sealed(&self, key: &OwnKey, random: &dyn Random) -> Result<String, SicError> {
        if sha256(&[&key.spki]) != self.act.spki {
            return Err(SicError::OtherKey);
        }
        let sent = ImportedKey {
            sam: self.act.sam.clone(),
            owner: self.act.person.id.clone(),
            act: self.digest,
            pkcs8: key.pkcs8.clone(),
            spki: B64(key.spki.clone()),
            proof: B64(key.proof.clone()),
        };
        sent.seal(&self.to, random).map_err(|_| SicError::Seal)
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;
    use core_types::{KeyAlg, OriginCase, VoucherId};
    use jose::SealKey;
    use sam_keys::import::TYP_IMPORT_KEY;

    use super::*;
    use crate::testing::{NOW, Sam, trust};

    const SPKI: &[u8] = b"a public key";

    fn import_act(sam: &Sam) -> ImportAct {
        let a = sam.sign_act();
        ImportAct {
            v: a.v,
            sam: a.sam,
            tenant: a.tenant,
            brand: a.brand,
            nonce: a.nonce,
            iat: a.iat,
            exp: a.exp,
            epoch: a.epoch,
            policy: a.policy,
            level: a.level,
            person: a.person,
            registration: VoucherId::parse("v-1").unwrap(),
            alg: KeyAlg::P256,
            spki: sha256(&[SPKI]),
            case: OriginCase::Signer,
            until: NOW.plus(3600),
            since: a.since,
            return_uri: a.return_uri,
        }
    }

    fn told(by: &SigningKey, to: &SealKey, name: &str) -> String {
        let told = ImportKey {
            sam: name.into(),
            key: to.public().clone(),
            nbf: NOW,
            exp: NOW.plus(60),
        };
        by.sign(TYP_IMPORT_KEY, &serde_json::to_vec(&told).unwrap())
            .unwrap()
    }

    // shows: III-3-9-protected-import-export, T-KEY-DATA-ALTER
    #[test]
    fn a_key_is_sealed_only_for_a_module_and_an_act_that_the_root_vouches_for() {
        let sam = Sam::new();
        let (module, _) = SealKey::generate().unwrap();
        let answer = ImportKeyAnswer {
            act: sam.mint(&Act::Import(import_act(&sam))),
            keys: sam.statement().statement,
            statement: told(&sam.root, &module, "sam.test"),
        };
        let trust = trust(&sam);
        let wanted = act_digest(&answer.act);
        // The act itself is over; what it approved is not.
        let later = NOW.plus(30);
        let bringing = trust.bring(&answer, wanted, later).unwrap();
        let key = OwnKey {
            pkcs8: SecretBytes::new(b"private".to_vec()),
            spki: SPKI.to_vec(),
            proof: b"proof".to_vec(),
        };
        let random = SeededRandom::new(3);
        let request = bringing.seal(&key, &random).unwrap();
        let opened = ImportedKey::open(&request.envelope, wanted, &module).unwrap();
        assert!(opened.pkcs8.ct_eq(b"private") && opened.act == wanted);
        assert!(
            String::from_utf8(bringing.binding())
                .unwrap()
                .contains("hanako")
        );
        let other = OwnKey {
            spki: b"another".to_vec(),
            ..key.clone()
        };
        let refused = bringing.seal(&other, &random);
        assert!(matches!(refused, Err(SicError::OtherKey)));
        let ca = SigningKey::generate().unwrap().0;
        let request = bringing.seal_by(&ca, &key, NOW.plus(60), &random).unwrap();
        let word = CaImport::verify(&request.envelope, &[ca.public().clone()]).unwrap();
        assert_eq!((word.act, word.spki), (wanted, sha256(&[SPKI])));

        let not = |answer: &ImportKeyAnswer, wanted, now| {
            assert!(trust.bring(answer, wanted, now).is_err());
        };
        not(&answer, Digest32([1; 32]), later);
        not(&answer, wanted, NOW.plus(3600));
        let foreign = SigningKey::generate().unwrap().0;
        for statement in [
            told(&foreign, &module, "sam.test"),
            told(&sam.root, &module, "another"),
        ] {
            let statement = ImportKeyAnswer {
                statement,
                ..answer.clone()
            };
            not(&statement, wanted, later);
        }
        let kind = ImportKeyAnswer {
            act: sam.mint(&Act::Sign(sam.sign_act())),
            ..answer.clone()
        };
        not(&kind, act_digest(&kind.act), later);
        let stranger = Sam::new();
        let forged = ImportKeyAnswer {
            act: stranger.mint(&Act::Import(import_act(&sam))),
            ..answer.clone()
        };
        not(&forged, act_digest(&forged.act), later);
    }
}
