//! What two officers have approved: the same bytes, by different keys of the module's own configuration, so that a hostile
//! SAM can't, and a hostile administrator alone can't either (`III-A1.4.2-dual-control`).

use cm_api::Refusal;
use cm_api::switch::OFFICERS;
use core_types::{Digest32, UnixTime};
use jose::Jwk;

use crate::module::Module;

/// Bytes that two officers have signed.
pub(crate) struct Approved {
    pub(crate) payload: Vec<u8>,
    /// As they were brought.
    pub(crate) signed: Vec<String>,
    /// Thumbprints of the first two officers' keys.
    pub(crate) officers: [Digest32; OFFICERS],
}

/// For whom and until when something was approved.
pub(crate) struct For<'a> {
    pub(crate) sam: &'a str,
    pub(crate) root: &'a str,
    pub(crate) exp: UnixTime,
}

impl Module {
    /// Verifies approvals of type `typ`.
    ///
    /// # Errors
    /// [`Refusal::NotAuthentic`] unless two different officers signed, and all the same bytes.
    pub(crate) fn approved_by_two(
        &self,
        approvals: &[String],
        typ: &'static str,
    ) -> Result<Approved, Refusal> {
        by_two(&self.config.officers, approvals, typ)
    }

    /// Whether it was approved for this module, and is good now.
    ///
    /// # Errors
    /// [`Refusal::NotAuthentic`] for another module, [`Refusal::NotNow`] outside its time.
    pub(crate) fn approved_for_now(&self, of: &For<'_>, longest: i64) -> Result<(), Refusal> {
        let now = self.clock.now();
        if of.sam != self.config.sam || of.root != self.root().kid() {
            return Err(Refusal::NotAuthentic);
        }
        if now >= of.exp || of.exp > now.plus(longest) {
            return Err(Refusal::NotNow);
        }
        Ok(())
    }
}

/// See [`Module::approved_by_two`].
pub(crate) fn by_two(
    known: &[Jwk],
    approvals: &[String],
    typ: &'static str,
) -> Result<Approved, Refusal> {
    let mut signed: Option<Vec<u8>> = None;
    let mut officers = Vec::new();
    for approval in approvals {
        let kid = jose::kid_of(approval, typ).map_err(|_| Refusal::NotAuthentic)?;
        let officer = known.iter().find(|o| o.kid() == kid);
        let officer = officer.ok_or(Refusal::NotAuthentic)?;
        let payload = jose::verify(approval, typ, officer).map_err(|_| Refusal::NotAuthentic)?;
        if signed.get_or_insert_with(|| payload.clone()) != &payload {
            return Err(Refusal::NotAuthentic);
        }
        let officer = officer.thumbprint();
        if officers.contains(&officer) {
            return Err(Refusal::NotAuthentic);
        }
        officers.push(officer);
    }
    match (signed, officers.as_slice()) {
        (Some(payload), [first, second, ..]) => Ok(Approved {
            payload,
            signed: approvals.to_vec(),
            officers: [*first, *second],
        }),
        _ => Err(Refusal::NotAuthentic),
    }
}
