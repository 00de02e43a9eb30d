//! The provider's counter-signature over values that were made a moment ago (`III-A1.8-rssp-counter-signature`).
//!
//! What can't be counter-signed goes without: the signer's right is spent by then, and theirs is the signature that counts.

use audit_log::Event;
use cm_api::order::CounterSign;
use cm_api::{Executed, OrderBody, OrderKind, Refusal, SignItem};
use core_types::{B64, sha256};
use pki::counter;
use store_kit::Tx;

use crate::module::Module;
use crate::store::{Failed, KeyRow};

/// A key of purpose *seal* that may be used now, and the certificate that names it.
pub(crate) struct Sealing {
    row: KeyRow,
    certificate: B64,
}

impl Module {
    /// Finds the key, and records its use together with that of the signer's key. Nothing where it may not be used: the
    /// caller alerts.
    pub(crate) async fn sealing(
        &self,
        tx: &mut Tx,
        order: &OrderBody,
        wanted: &CounterSign,
    ) -> Result<Option<Sealing>, Failed> {
        let OrderKind::Sign {
            items,
            act,
            proof,
            step,
            attempt,
            ..
        } = &order.kind
        else {
            return Ok(None);
        };
        let row = match self.sealing_key(tx, wanted).await {
            Err(Failed::Refused(refusal)) => {
                tracing::error!(%refusal, key = %wanted.key, "values can't be counter-signed");
                return Ok(None);
            }
            found => found?,
        };
        let event = Event::KeyUsed {
            key: wanted.key.clone(),
            owner: row.attributes.owner.clone(),
            alg: row.attributes.alg.csr_alg(),
            count: u32::try_from(items.len()).map_err(|_| Refusal::Malformed)?,
            act: *act,
            proof: *proof,
            order: order.order,
            step: *step,
            attempt: *attempt,
        };
        self.audit.append(tx, event, self.clock.now()).await?;
        Ok(Some(Sealing {
            row,
            certificate: wanted.certificate.clone(),
        }))
    }

    async fn sealing_key(&self, tx: &mut Tx, wanted: &CounterSign) -> Result<KeyRow, Failed> {
        let certificate = pki::Certificate::parse(&wanted.certificate.0);
        let certificate = certificate.map_err(|_| Refusal::Malformed)?;
        let spki = sha256(&[certificate.spki()]);
        let row = self.key_for_use(tx, &wanted.key, 1, spki).await?;
        row.attributes.may_counter_sign(self.clock.now())?;
        let alg = row.attributes.alg;
        self.approved(alg, alg.csr_alg())?;
        Ok(row)
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
