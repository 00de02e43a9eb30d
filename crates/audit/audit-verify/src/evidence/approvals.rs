//! Approvals of a bundle: act, statement, proof and place in the log, and the acts that made the factor.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Act, Approval, Document, Enrolment, Factor, Signed};
use super::inclusion::Logged;
use super::{EvidenceFault, LATE, SignatureShown, act_of, jws, proof, sha256};

/// Evidence of approvals, tied to the log.
pub(super) struct Approvals<'a> {
    pub(super) salt: &'a [u8],
    pub(super) root: &'a jws::Jwk,
    pub(super) documents: &'a BTreeMap<String, Document>,
    pub(super) logged: &'a [Logged],
}

impl<'a> Approvals<'a> {
    /// How entries name a person.
    pub(super) fn alias(&self, person: &str) -> String {
        sha256(&[b"natsuin-audit-person\n", self.salt, person.as_bytes()].concat())
    }

    /// The approval of the act with this digest, with the document's name.
    pub(super) fn of(&self, act: &str) -> Result<(&'a str, &'a Approval), EvidenceFault> {
        let mut found = self.documents.iter().filter_map(|(name, d)| match d {
            Document::Approval(a) if jws::act_digest(&a.act) == act => Some((name.as_str(), &**a)),
            _ => None,
        });
        found
            .next()
            .ok_or(EvidenceFault::Broken("there is no approval of this act"))
    }

    /// Checks act, statement, proof and place in the log of one approval.
    pub(super) fn check(&self, name: &str, approval: &'a Approval) -> Result<Act, EvidenceFault> {
        let digest = jws::act_digest(&approval.act);
        let act = act_of(self.root, &approval.act, &approval.statement, approval.at)?;
        proof::check(&approval.proof, &approval.factor, &digest, act.rp_host())?;
        let in_log = self.logged.iter().any(|e| {
            e.kind == "act.approved"
                && e.detail("act") == Some(digest.as_str())
                && e.detail("evidence") == Some(name)
                && e.detail("person") == Some(self.alias(&act.person.id).as_str())
        });
        if !in_log {
            return Err(EvidenceFault::Broken(
                "the log doesn't contain the approval",
            ));
        }
        Ok(act)
    }

    /// From the factor that proved back to the enrolment that began it.
    pub(super) fn chain(
        &self,
        approval: &'a Approval,
        depth: usize,
    ) -> Result<Vec<String>, EvidenceFault> {
        let maker = approval.factor.act.as_str();
        if depth > 16 {
            return Err(EvidenceFault::Broken(
                "the chain of factors has no beginning",
            ));
        }
        if let Some((_, enrolment)) = self.enrolment(maker) {
            self.enrolled(enrolment)?;
            self.made(&approval.factor, enrolment.factors.iter())?;
            proof::check_made(&approval.factor, enrolment.registration.as_ref(), maker)?;
            let in_log = self.logged.iter().any(|e| {
                matches!(e.kind.as_str(), "person.enrolled" | "factor.added")
                    && e.detail("act") == Some(maker)
                    && e.detail("factor") == Some(approval.factor.id.as_str())
            });
            return match in_log {
                true => Ok(vec![maker.to_owned()]),
                false => Err(EvidenceFault::Broken(
                    "the log doesn't contain the enrolment",
                )),
            };
        }
        // Added by an act that an older factor proved.
        let (name, adding) = self.of(maker)?;
        let act = self.check(name, adding)?;
        let made = adding.made.as_ref().filter(|_| act.kind == "factor");
        let made = made.ok_or(EvidenceFault::Broken(
            "the factor was made by another kind of act",
        ))?;
        self.made(&approval.factor, std::iter::once(&made.factor))?;
        if made.factor.device != act.adds_device() {
            return Err(EvidenceFault::Broken("the act added another device key"));
        }
        proof::check_made(&approval.factor, made.registration.as_ref(), maker)?;
        let mut chain = vec![maker.to_owned()];
        chain.extend(self.chain(adding, depth + 1)?);
        Ok(chain)
    }

    /// The enrolment by the act with this digest, with the document's name.
    pub(super) fn enrolment(&self, act: &str) -> Option<(&'a str, &'a Enrolment)> {
        self.documents.iter().find_map(|(name, d)| match d {
            Document::Enrolment(e) if jws::act_digest(&e.act) == act => Some((name.as_str(), &**e)),
            _ => None,
        })
    }

    /// Checks act and statement of an enrolment.
    pub(super) fn enrolled(&self, enrolment: &Enrolment) -> Result<Act, EvidenceFault> {
        let act = act_of(
            self.root,
            &enrolment.act,
            &enrolment.statement,
            enrolment.at,
        )?;
        if act.kind != "enrol" {
            return Err(EvidenceFault::Broken(
                "the enrolment is another kind of act",
            ));
        }
        Ok(act)
    }

    fn made<'f>(
        &self,
        used: &Factor,
        mut made: impl Iterator<Item = &'f Factor>,
    ) -> Result<(), EvidenceFault> {
        match made.any(|m| m == used) {
            true => Ok(()),
            false => Err(EvidenceFault::Broken(
                "the factor isn't the one that was made",
            )),
        }
    }

    /// Signatures that were made on this approval.
    pub(super) fn signatures(
        &self,
        act: &str,
        approval: &str,
        of: &Act,
    ) -> Result<Vec<SignatureShown>, EvidenceFault> {
        let mut shown = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, document) in self.documents {
            let Document::Signature(signed) = document else {
                continue;
            };
            if signed.act != act {
                continue;
            }
            self.signature(name, signed, approval, of)?;
            if !signed.indices.iter().all(|i| seen.insert(*i)) {
                return Err(EvidenceFault::Broken("an item was signed twice"));
            }
            shown.push(SignatureShown {
                alg: signed.alg.clone(),
                at: signed.at,
                items: signed.indices.clone(),
                filled: signed.filled.clone(),
                values: signed.values.clone(),
            });
        }
        Ok(shown)
    }

    fn signature(
        &self,
        name: &str,
        signed: &Signed,
        approval: &str,
        act: &Act,
    ) -> Result<(), EvidenceFault> {
        let open = act.kind == "sign-open";
        let places = match open {
            true => act.count.and_then(|n| usize::try_from(n).ok()),
            false => act.items.as_ref().map(Vec::len),
        };
        let places = places.unwrap_or_default();
        let in_act = |i: &u32| usize::try_from(*i).is_ok_and(|i| i < places);
        // What nobody was shown is named by the signature's evidence, and only there.
        let named = if open { signed.indices.len() } else { 0 };
        let in_time = !open
            || act
                .until
                .is_some_and(|until| signed.at < until.saturating_add(LATE));
        let fits = signed.approval == approval
            && signed.filled.len() == named
            && in_time
            && signed.indices.len() == signed.values.len()
            && signed.indices.iter().all(in_act)
            && act.algs.as_ref().is_some_and(|a| a.contains(&signed.alg));
        if !fits {
            return Err(EvidenceFault::Broken(
                "a signature isn't one of those approved",
            ));
        }
        let in_log = self.logged.iter().any(|e| {
            e.kind == "signature.made"
                && e.detail("act") == Some(signed.act.as_str())
                && e.detail("evidence") == Some(name)
        });
        match in_log {
            true => Ok(()),
            false => Err(EvidenceFault::Broken(
                "the log doesn't contain the signature",
            )),
        }
    }
}
