//! The provider's counter-signature over values that were made a moment ago (`III-A1.8-rssp-counter-signature`).
//!
//! What can't be counter-signed goes without: the signer's right is spent by then, and theirs is the signature that counts.

use cm_api::order::CounterSign;
use cm_api::{Executed, Refusal, SignItem};
use core_types::{B64, sha256};
use pki::counter;
use store_kit::Tx;

use crate::attributes::KeyAttributes;
use crate::module::Module;
use crate::store::{self, Failed, KeyRow};

/// A key of purpose *seal* that may be used now, and the certificate that names it.
pub(crate) struct Sealing {
    row: KeyRow,
    certificate: B64,
}

impl Sealing {
    pub(crate) fn attributes(&self) -> &KeyAttributes {
        &self.row.attributes
    }

    /// After the commit: an older row of the key isn't taken any more.
    pub(crate) fn note(&self, module: &Module) {
        let key = self.row.attributes.key.as_str();
        module.seen.note(key, self.row.row_version + 1);
    }
}

impl Module {
    /// Finds the key, and counts its use in its row, once for all values of the order. Nothing where it may not be used, or where
    /// its row isn't what this module wrote last: the caller alerts.
    ///
    /// The row is locked before it is read, so that orders of many signers wait for each other there and none starts again; and
    /// before anything is recorded, as every transaction takes rows before the log.
    pub(crate) async fn sealing(
        &self,
        tx: &mut Tx,
        wanted: &CounterSign,
        values: u32,
    ) -> Result<Option<Sealing>, Failed> {
        let (row, next) = match self.sealing_key(tx, wanted, values).await {
            Err(Failed::Refused(refusal)) => {
                tracing::error!(%refusal, key = %wanted.key, "values can't be counter-signed");
                return Ok(None);
            }
            Err(Failed::Tampered) => {
                tracing::error!(
                    key = %wanted.key,
                    "values can't be counter-signed: the key's row was altered or set back"
                );
                return Ok(None);
            }
            found => found?,
        };
        store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
        Ok(Some(Sealing {
            row,
            certificate: wanted.certificate.clone(),
        }))
    }

    /// Its row, and the attributes after this use.
    async fn sealing_key(
        &self,
        tx: &mut Tx,
        wanted: &CounterSign,
        values: u32,
    ) -> Result<(KeyRow, KeyAttributes), Failed> {
        let certificate = pki::Certificate::parse(&wanted.certificate.0);
        let certificate = certificate.map_err(|_| Refusal::Malformed)?;
        let spki = sha256(&[certificate.spki()]);
        store::lock_key(tx, &wanted.key).await?;
        let row = self.key_for_use(tx, &wanted.key, 1, spki).await?;
        let attributes = &row.attributes;
        let next = attributes.after_counter_signing(values.into(), self.clock.now())?;
        self.approved(attributes.alg, attributes.alg.csr_alg())?;
        Ok((row, next))
    }

    /// Counter-signs every value, or none.
    pub(crate) async fn counter_signed(&self, by: &Sealing, values: Vec<B64>) -> Executed {
        match self.try_counter_sign(by, &values).await {
            Some(counter) => Executed::CounterSigned { values, counter },
            None => {
                self.alarm("cm-not-counter-signed").await;
                Executed::Signed(values)
            }
        }
    }

    async fn try_counter_sign(&self, by: &Sealing, values: &[B64]) -> Option<Vec<B64>> {
        let alg = by.row.attributes.alg.csr_alg();
        let (certificate, now) = (&by.certificate.0, self.clock.now());
        let attrs: Vec<Vec<u8>> = values
            .iter()
            .map(|value| counter::counter_attrs(&value.0, alg.hash(), certificate, now).ok())
            .collect::<Option<_>>()?;
        let items: Vec<SignItem> = (0..)
            .zip(&attrs)
            .map(|(i, attrs)| SignItem::of_message(i, alg, attrs))
            .collect();
        // The values are there, and don't wait for it.
        let made = self.values(&by.row, alg, &items, None).await;
        let Ok(Executed::Signed(made)) = made else {
            return None;
        };
        let infos = attrs.iter().zip(&made);
        infos
            .map(|(attrs, value)| counter::assemble(attrs, alg, &value.0, certificate).ok())
            .map(|info| info.map(B64))
            .collect()
    }
}
