//! The provider's counter-signatures (`III-A1.8-rssp-counter-signature`): asked for with the order, checked before they leave.
//!
//! One that is missing or wrong costs the signer nothing: their signature goes without, and an alarm says so.

use audit_log::Event;
use cm_api::CryptoModule;
use cm_api::order::CounterSign;
use core_types::B64;
use pki::Certificate;
use pki::cms::SignerInfo;
use sam_api::ssa::CounterSignatures;

use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// What the module is to counter-sign with now; nothing outside the certificate's time.
    pub(crate) fn counter_sign(&self) -> Option<CounterSign> {
        let by = self.config.counter_sign.as_ref()?;
        let certificate = by.chain.first()?;
        let now = self.clock.now();
        let valid = Certificate::parse(&certificate.0)
            .is_ok_and(|c| c.not_before() <= now && now <= c.not_after());
        if !valid {
            tracing::error!("the certificate for counter-signatures isn't valid now");
            return None;
        }
        Some(CounterSign {
            key: by.key.clone(),
            certificate: certificate.clone(),
        })
    }

    /// The counter-signatures, if each is one over its value by the certificate's key.
    pub(crate) async fn checked_counter(
        &self,
        values: &[B64],
        infos: Option<Vec<B64>>,
    ) -> Option<CounterSignatures> {
        let by = self.config.counter_sign.as_ref()?;
        let infos = infos.filter(|infos| {
            infos.len() == values.len() && all_verify(&by.chain, values, infos).is_some()
        });
        if infos.is_none() {
            let what = "signed-without-counter-signature".into();
            self.record(Event::Alarm { what }).await;
        }
        Some(CounterSignatures {
            infos: infos?,
            chain: by.chain.clone(),
        })
    }
}

fn all_verify(chain: &[B64], values: &[B64], infos: &[B64]) -> Option<()> {
    let certificate = Certificate::parse(&chain.first()?.0).ok()?;
    for (value, info) in values.iter().zip(infos) {
        let info = SignerInfo::single(&info.0).ok()?;
        if !info.sid.names(&certificate) {
            return None;
        }
        pki::counter::verify(&info, &value.0, &certificate).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cm_core::backend::Backend as _;
    use cm_soft::SoftBackend;
    use core_types::clock::{Clock as _, SystemClock};
    use core_types::random::SystemRandom;
    use core_types::{HashAlg, KeyAlg, SigAlg};
    use dev_ca::{DevCa, Urls};

    use super::*;

    // shows: III-A1.8-rssp-counter-signature
    #[test]
    fn only_counter_signatures_of_these_values_by_this_certificate_leave() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let ca = DevCa::open(dir.path(), Urls::under("http://ca"), clock, random).unwrap();
        let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "RSSP")]).unwrap();
        let alg = SigAlg::Ecdsa(HashAlg::Sha256);
        let provider = || {
            let made = SoftBackend.generate(KeyAlg::P256).unwrap();
            let key = SoftBackend.load(KeyAlg::P256, &made.material).unwrap();
            let chain = ca.issue_for_key(&made.spki, &subject, 1).unwrap();
            (key, chain[0].der().to_vec())
        };
        let values = [B64(vec![1; 64]), B64(vec![2; 64])];
        let (key, cert) = provider();
        let counter = |value: &B64, cert: &[u8]| {
            let now = SystemClock.now();
            let attrs = pki::counter::counter_attrs(&value.0, alg.hash(), cert, now).unwrap();
            let made = key.sign(alg, &alg.dtbs(&attrs)).unwrap();
            B64(pki::counter::assemble(&attrs, alg, &made, cert).unwrap())
        };
        let good = values.clone().map(|v| counter(&v, &cert));
        let chain = [B64(cert.clone())];
        assert_eq!(all_verify(&chain, &values, &good), Some(()));
        let [first, second] = good.clone();
        assert_eq!(all_verify(&chain, &values, &[second, first.clone()]), None);
        let (_, other) = provider();
        assert_eq!(all_verify(&[B64(other.clone())], &values, &good), None);
        let named_other = counter(&values[1], &other);
        assert_eq!(
            all_verify(&chain, &values, &[first.clone(), named_other]),
            None
        );
        let mut broken = good;
        broken[1].0.pop();
        assert_eq!(all_verify(&chain, &values, &broken), None);
    }
}
