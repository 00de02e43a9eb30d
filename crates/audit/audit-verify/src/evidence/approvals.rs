//! Approvals of a bundle: act, statement, proof and place in the log, and the acts that made the factor.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Act, Approval, Document, Enrolment, Factor, Signed};
use super::inclusion::Logged;
use super::{
    APART, EvidenceFault, LATE, SignatureShown, WINDOW, act_of, jws, proof, sha256, weight,
};

/// Evidence of approvals, tied to the log.
pub(super) struct Approvals<'a> {
    pub(super) salt: &'a [u8],
    pub(super) root: &'a jws::Jwk,
    pub(super) documents: &'a BTreeMap<String, Document>,
    pub(super) logged: &'a [Logged],
}

/// An approval whose act, statement, proof and place in the log are good.
pub(super) struct Checked<'a> {
    pub(super) approval: &'a Approval,
    pub(super) act: Act,
    /// Host that a passkey was used for.
    host: Option<String>,
}

/// The way from a factor back to the enrolment that began it.
pub(super) struct Chain<'a> {
    /// Digests of the acts that made each factor.
    pub(super) acts: Vec<String>,
    /// The enrolment, and its act.
    pub(super) began: (&'a Enrolment, Act),
}

impl Checked<'_> {
    /// A factor is its own person's, and a passkey is used for the host for which it was registered.
    fn used_by_its_owner(&self, maker: &Act, host: Option<&str>) -> Result<(), EvidenceFault> {
        let whose = |act: &Act| [act.sam.clone(), act.tenant.clone(), act.person.id.clone()];
        if whose(&self.act) != whose(maker) {
            return Err(EvidenceFault::Broken("the factor is another person's"));
        }
        if self.host.as_deref() != host {
            return Err(EvidenceFault::Broken(
                "the passkey was registered for another host",
            ));
        }
        Ok(())
    }
}

impl<'a> Approvals<'a> {
    /// How entries name a person.
    pub(super) fn alias(&self, person: &str) -> String {
        sha256(&[b"natsuin-audit-person\n", self.salt, person.as_bytes()].concat())
    }

    /// Whether an entry names the person of this act.
    pub(super) fn names(&self, entry: &Logged, act: &Act) -> bool {
        entry.detail("person") == Some(self.alias(&act.person.id).as_str())
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
    pub(super) fn check(
        &self,
        name: &str,
        approval: &'a Approval,
    ) -> Result<Checked<'a>, EvidenceFault> {
        let digest = jws::act_digest(&approval.act);
        let act = act_of(self.root, &approval.act, &approval.statement, approval.at)?;
        let host = proof::check(&approval.proof, &approval.factor, &digest, act.rp_host())?;
        weight::check(&act, approval)?;
        if approval.policy != act.policy {
            return Err(EvidenceFault::Broken(
                "it was approved under another policy than the act's",
            ));
        }
        let in_log = self.logged.iter().any(|e| {
            e.kind == "act.approved"
                && e.detail("act") == Some(digest.as_str())
                && e.detail("evidence") == Some(name)
                && self.names(e, &act)
        });
        if !in_log {
            return Err(EvidenceFault::Broken(
                "the log doesn't contain the approval",
            ));
        }
        Ok(Checked {
            approval,
            act,
            host,
        })
    }

    /// From the factor that proved back to the enrolment that began it.
    pub(super) fn chain(
        &self,
        used: &Checked<'a>,
        depth: usize,
    ) -> Result<Chain<'a>, EvidenceFault> {
        let factor = &used.approval.factor;
        let maker = factor.act.as_str();
        if depth > 16 {
            return Err(EvidenceFault::Broken(
                "the chain of factors has no beginning",
            ));
        }
        if let Some((name, enrolment)) = self.enrolment(maker) {
            let act = self.enrolled(enrolment)?;
            self.made(factor, enrolment.factors.iter())?;
            let registration = enrolment.registration.as_ref();
            let host = proof::check_made(factor, registration, maker, act.rp_host())?;
            used.used_by_its_owner(&act, host.as_deref())?;
            // Officers have no keys: their acts have the service's level, whatever they were invited to.
            if used.act.kind != "officer" && used.act.level > act.level {
                return Err(EvidenceFault::Broken(
                    "the invitation was to a lower level than the act's",
                ));
            }
            let in_log = self.logged.iter().any(|e| {
                matches!(e.kind.as_str(), "person.enrolled" | "factor.added")
                    && e.detail("act") == Some(maker)
                    && e.detail("factor") == Some(factor.id.as_str())
                    && e.detail("evidence") == Some(name)
                    && self.names(e, &act)
            });
            return match in_log {
                true => Ok(Chain {
                    acts: vec![maker.to_owned()],
                    began: (enrolment, act),
                }),
                false => Err(EvidenceFault::Broken(
                    "the log doesn't contain the enrolment",
                )),
            };
        }
        // Added by an act that an older factor proved.
        let (name, adding) = self.of(maker)?;
        let by = self.check(name, adding)?;
        let made = adding.made.as_ref().filter(|_| by.act.kind == "factor");
        let made = made.ok_or(EvidenceFault::Broken(
            "the factor was made by another kind of act",
        ))?;
        self.made(factor, std::iter::once(&made.factor))?;
        if made.factor.device != by.act.adds_device() {
            return Err(EvidenceFault::Broken("the act added another device key"));
        }
        let registration = made.registration.as_ref();
        let host = proof::check_made(factor, registration, maker, by.act.rp_host())?;
        used.used_by_its_owner(&by.act, host.as_deref())?;
        let before = self.chain(&by, depth + 1)?;
        Ok(Chain {
            acts: std::iter::once(maker.to_owned())
                .chain(before.acts)
                .collect(),
            ..before
        })
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
        if act.level > 1 && !matches!(act.by.as_deref(), Some("ra" | "office")) {
            return Err(EvidenceFault::Broken(
                "above level 1 it takes an authority to invite",
            ));
        }
        Ok(act)
    }

    /// Evidence of what was made by the act with this digest.
    pub(super) fn made_by(&self, act: &str) -> impl Iterator<Item = &'a Signed> {
        self.documents.values().filter_map(move |d| match d {
            Document::Signature(signed) if signed.act == act => Some(&**signed),
            _ => None,
        })
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
        of: &Checked<'_>,
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
        of: &Checked<'_>,
    ) -> Result<(), EvidenceFault> {
        let act = &of.act;
        let open = act.kind == "sign-open";
        let places = match open {
            true => act.count.and_then(|n| usize::try_from(n).ok()),
            false => act.items.as_ref().map(Vec::len),
        };
        let places = places.unwrap_or_default();
        let in_act = |i: &u32| usize::try_from(*i).is_ok_and(|i| i < places);
        // What nobody was shown is named by the signature's evidence, and only there.
        let named = if open { signed.indices.len() } else { 0 };
        // Approved before the act's end; the right lasts for some minutes from then on, or as long as it can be renewed.
        let ends = match open {
            true => act.until,
            false => Some(act.exp.saturating_add(WINDOW).max(act.renew.unwrap_or(0))),
        };
        let in_time = ends.is_some_and(|end| signed.at < end.saturating_add(LATE))
            && signed.at >= of.approval.at.saturating_sub(APART);
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
