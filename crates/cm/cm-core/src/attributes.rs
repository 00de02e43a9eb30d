//! Attributes of a key: fixed at birth, sealed together with it, checked before each use.

use core_types::{
    Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, SigAlg, TenantId, UnixTime, sha256,
};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use cm_api::rpc::{Reason, Refusal};

use crate::items::Items;
use crate::prune::LONGEST_ACT;

/// What a key is for (`III-3-5-key-purpose-defined`). A key never has two purposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Signing digests of documents by order of the signer; and one CSR for its own certificate.
    Documents,
    /// The provider's: signing over signature values that this module has just made, and one CSR at its birth.
    Seal,
    /// The provider's: checkpoints of the log with this origin.
    Log(String),
}

impl Purpose {
    /// The word for the log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Seal => "seal",
            Self::Log(_) => "log",
        }
    }

    /// Whether keys of this purpose are a signer's: made, used and ended by order of the SAM.
    pub(crate) fn is_signers(&self) -> bool {
        *self == Self::Documents
    }

    /// Whether they are the provider's: made and ended by two officers.
    pub(crate) fn is_providers(&self) -> bool {
        !self.is_signers()
    }
}

/// Attributes and use of a key. The JSON form is the associated data of the sealed key, so that a changed,
/// swapped or exchanged attribute makes the key unusable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAttributes {
    /// Key.
    pub key: KeyId,
    /// Version of the attributes as orders name it; 1 for life.
    pub version: u32,
    /// Tenant.
    pub tenant: TenantId,
    /// Owner; can't change.
    pub owner: PersonId,
    /// Kind.
    pub alg: KeyAlg,
    /// Purpose.
    pub purpose: Purpose,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// Level of generation and retention.
    pub level: Level,
    /// Whether its owner may have it handed over; never above level 1.
    pub exportable: bool,
    /// Whether it is good for one act of its owner, and destroyed after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_time: bool,
    /// Back end that holds it.
    pub origin: String,
    /// Where it was made and how it got here.
    pub case: OriginCase,
    /// Digest of the enrol act that led to it.
    pub act: Digest32,
    /// Made at.
    pub created: UnixTime,
    /// Not used at or after this time, whatever its certificate says.
    pub not_after: UnixTime,
    /// Most signatures in its life.
    pub max_uses: u64,
    /// Most signatures by one act of its owner.
    pub act_uses: u64,
    /// How long one act of its owner lasts after its approval, in seconds.
    pub act_seconds: i64,
    /// What was done with it so far.
    pub used: KeyUse,
}

/// Most acts that are good for further steps at one time. They are kept until their time is over, so that no act is
/// counted from zero because of others.
const MAX_ACTS: usize = 64;

/// The part of the attributes that counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUse {
    /// The one CSR was signed.
    pub csr: bool,
    /// Digest of that CSR: the same may be signed again for a caller that lost the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Digest32>,
    /// It was handed over.
    pub handed_over: bool,
    /// By which act and to whom: the same may be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_to: Option<Digest32>,
    /// Signatures made or ordered: over documents, or of a key of purpose *seal* over their values.
    pub signatures: u64,
    /// Of a key for one act: that act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Digest32>,
    /// A value was wrong: the key isn't used any more.
    pub wrong: bool,
    /// Acts that may have further steps, until their time is over.
    pub acts: Vec<ActUse>,
    /// Acts that may have further steps and were approved until then are good for nothing: the key was brought back by a
    /// restore, and which of their items were signed since the backup isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<UnixTime>,
    /// The last checkpoint of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Tree>,
}

/// The tree of a log as it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Number of entries.
    pub size: u64,
    /// Root hash.
    pub root: Digest32,
}

impl Tree {
    /// The larger one; the first of two that are as large.
    pub(crate) fn later(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.size > one.size => Some(other),
            (Some(one), _) => Some(one),
            (None, other) => other,
        }
    }
}

/// The act by which a key is to be used.
#[derive(Debug, Clone)]
pub struct ByAct {
    /// Digest of the act.
    pub act: Digest32,
    /// Approved at.
    pub approved: UnixTime,
    /// Whether it may have further steps. One that may not has one order only, which is what the names of orders see to.
    pub renewable: bool,
    /// The items that the order is about.
    pub items: Items,
}

/// What was done by one act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActUse {
    /// Digest of the act.
    pub act: Digest32,
    /// Approved at.
    pub approved: UnixTime,
    /// Items that were signed or ordered, over all steps. None of them is ordered again, whatever step the order says: a
    /// SAM whose database was set back to before a renewal doesn't know what it had signed.
    pub items: Items,
}

impl KeyAttributes {
    /// The attributes after the CSR with this digest.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] for a second one.
    pub fn after_csr(&self, request: Digest32) -> Result<Self, Refusal> {
        self.signers()?;
        if self.used.csr && self.used.requested != Some(request) {
            return Err(Refusal::NotAllowed(Reason::Purpose));
        }
        Ok(Self {
            used: KeyUse {
                csr: true,
                requested: Some(request),
                ..self.used.clone()
            },
            ..self.clone()
        })
    }

    /// The attributes after the key was handed over to this receiver by this act of its owner.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] for keys that may not leave, and for another act or receiver the second time
    /// (`III-3-9-attributed-keys`).
    pub fn after_hand_over(&self, act: Digest32, receiver: &Jwk) -> Result<Self, Refusal> {
        let to = sha256(&[b"natsuin-handed-to-v1\n", &act.0, &receiver.thumbprint().0]);
        if self.used.handed_to != Some(to) {
            self.signers()?;
        }
        if !self.exportable || self.level > Level::One {
            return Err(Refusal::NotAllowed(Reason::Export));
        }
        Ok(Self {
            used: KeyUse {
                handed_over: true,
                handed_to: Some(to),
                ..self.used.clone()
            },
            ..self.clone()
        })
    }

    /// Usable, and a signer's.
    fn signers(&self) -> Result<(), Refusal> {
        if self.purpose.is_signers() {
            return self.here();
        }
        Err(Refusal::NotAllowed(Reason::Purpose))
    }

    /// The attributes after a checkpoint of this tree, and the origin of its log.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`]: not a key for checkpoints, past its time, or a tree that contradicts the last one.
    pub fn after_checkpoint(&self, tree: Tree, now: UnixTime) -> Result<(Self, &str), Refusal> {
        let Purpose::Log(origin) = &self.purpose else {
            return Err(Refusal::NotAllowed(Reason::Purpose));
        };
        self.here()?;
        if now >= self.not_after {
            return Err(Refusal::NotAllowed(Reason::Time));
        }
        let good = |last: Tree| tree.size > last.size || tree == last;
        if !self.used.checkpoint.is_none_or(good) {
            return Err(Refusal::NotAllowed(Reason::OtherTree));
        }
        let mut next = self.clone();
        next.used.checkpoint = Some(tree);
        Ok((next, origin))
    }

    /// The attributes after counter-signatures over so many values that were just made. What limits such a key is its end: its
    /// ceremony says nothing of uses, which are counted all the same.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`]: not a key of purpose *seal*, stopped, or past its time.
    pub fn after_counter_signing(&self, values: u64, now: UnixTime) -> Result<Self, Refusal> {
        if self.purpose != Purpose::Seal {
            return Err(Refusal::NotAllowed(Reason::Purpose));
        }
        self.here()?;
        if now >= self.not_after {
            return Err(Refusal::NotAllowed(Reason::Time));
        }
        let signatures = self.used.signatures.checked_add(values);
        let mut next = self.clone();
        next.used.signatures = signatures.ok_or(Refusal::NotAllowed(Reason::Uses))?;
        Ok(next)
    }

    pub(crate) fn here(&self) -> Result<(), Refusal> {
        if self.used.handed_over {
            return Err(Refusal::NotAllowed(Reason::HandedOver));
        }
        if self.used.wrong {
            return Err(Refusal::NotAllowed(Reason::WrongValue));
        }
        Ok(())
    }

    /// The attributes after a value of the key was wrong.
    pub fn after_wrong_value(&self) -> Self {
        Self {
            used: KeyUse {
                wrong: true,
                ..self.used.clone()
            },
            ..self.clone()
        }
    }

    /// The attributes after signatures for documents with `alg` by this act.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] when algorithm or limits don't allow it (`III-3-6-reauthorization-limits`), or the key is for one
    /// act and this is another; [`Refusal::Duplicate`] for an item of the act that was ordered before.
    pub fn after_signing(&self, alg: SigAlg, by: &ByAct, now: UnixTime) -> Result<Self, Refusal> {
        let no = Refusal::NotAllowed;
        self.signers()?;
        if !self.alg.sig_algs().contains(&alg) {
            return Err(no(Reason::Algorithm));
        }
        if now >= self.not_after {
            return Err(no(Reason::Time));
        }
        // A restore knows how much was signed and not by which act: then it is no longer good for any.
        if self.one_time
            && (by.renewable || (self.used.signatures > 0 && self.used.act != Some(by.act)))
        {
            return Err(no(Reason::OneTime));
        }
        let signatures = self.used.signatures.checked_add(by.items.count());
        let signatures = signatures.filter(|s| *s <= self.max_uses);
        let signatures = signatures.ok_or(no(Reason::Uses))?;
        Ok(Self {
            used: KeyUse {
                signatures,
                act: self.one_time.then_some(by.act),
                acts: self.acts_after(by, now)?,
                ..self.used.clone()
            },
            ..self.clone()
        })
    }

    fn acts_after(&self, by: &ByAct, now: UnixTime) -> Result<Vec<ActUse>, Refusal> {
        let again = Refusal::NotAllowed(Reason::Reauthorization);
        let seconds = self.act_seconds.min(LONGEST_ACT);
        let lasts = |approved: UnixTime| now < approved.plus(seconds);
        let restored = self.used.restored.filter(|_| by.renewable);
        if !lasts(by.approved) || restored.is_some_and(|at| by.approved <= at) {
            return Err(again);
        }
        let mut acts = self.used.acts.clone();
        acts.retain(|used| lasts(used.approved));
        let known = acts.iter().position(|used| used.act == by.act);
        let so_far = known.map(|at| &acts[at].items);
        let items = match so_far {
            Some(so_far) => so_far.with(&by.items).ok_or(Refusal::Duplicate)?,
            None => by.items.clone(),
        };
        if items.count() > self.act_uses {
            return Err(again);
        }
        match known {
            Some(at) => {
                acts[at].items = items;
                acts[at].approved = acts[at].approved.max(by.approved);
            }
            None if !by.renewable => {}
            None if acts.len() < MAX_ACTS => acts.push(ActUse {
                act: by.act,
                approved: by.approved,
                items,
            }),
            None => return Err(again),
        }
        Ok(acts)
    }

    /// The attributes after it is certain that of these items of an act none was signed: they may be ordered again. What
    /// counts stays counted. Nothing if there is no difference.
    pub fn after_nothing(&self, by: &ByAct) -> Option<Self> {
        let mut next = self.clone();
        let of = next.used.acts.iter_mut().find(|used| used.act == by.act)?;
        of.items = of.items.without(&by.items);
        (next != *self).then_some(next)
    }
}
