//! The act of kind `sign-open`: what will be signed isn't known when it is approved (CSC SCAL 1, `sap.md` §7). Level 1 only, and off unless
//! the operator's policy allows it.

use core_types::{B64, Digest32, HashAlg, Level, SigAlg, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::act::{ActClient, ActHead, ActKey, Brand, Item, Person, SignAct, Since, Version1};

/// An act of kind `sign-open`: any data of this application, up to `count` signatures in one call, until `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOpenAct {
    /// Format version, 1.
    pub v: Version1,
    /// Issuing SAM.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// 32 random bytes.
    pub nonce: Digest32,
    /// Issued at.
    pub iat: UnixTime,
    /// Expires at.
    pub exp: UnixTime,
    /// Store epoch.
    pub epoch: Digest32,
    /// Policy version.
    pub policy: u32,
    /// Level of the key: 1.
    pub level: Level,
    /// The signer.
    pub person: Person,
    /// The key.
    pub key: ActKey,
    /// Who asked, and alone may use it.
    pub client: ActClient,
    /// Allowed signature algorithms, parameters included.
    pub algs: Vec<SigAlg>,
    /// Most signatures, at least 1.
    pub count: u32,
    /// Nothing is signed at or after this time.
    pub until: UnixTime,
    /// What the signer should remember.
    pub since: Since,
    /// As in [`SignAct::brand`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Brand>,
    /// Where the page goes afterwards.
    #[serde(rename = "return")]
    pub return_uri: String,
}

impl SignOpenAct {
    pub(crate) fn head(&self) -> ActHead<'_> {
        ActHead {
            sam: &self.sam,
            tenant: &self.tenant,
            nonce: self.nonce,
            iat: self.iat,
            exp: self.exp,
            epoch: self.epoch,
            policy: self.policy,
            level: self.level,
            person: &self.person,
            return_uri: &self.return_uri,
            brand: self.brand.as_ref(),
        }
    }

    /// The act with what an application asked to have signed: items without a name, which nobody was shown. It can't be renewed.
    pub fn filled(self, ha: HashAlg, hashes: &[B64]) -> SignAct {
        let item = |h: &B64| Item::Hash {
            ha,
            h: h.clone(),
            label: String::new(),
        };
        SignAct {
            v: self.v,
            sam: self.sam,
            tenant: self.tenant,
            nonce: self.nonce,
            iat: self.iat,
            exp: self.exp,
            epoch: self.epoch,
            policy: self.policy,
            level: self.level,
            // Without items at level 1 only, where nothing is declared.
            declared: Vec::new(),
            person: self.person,
            key: self.key,
            client: self.client,
            algs: self.algs,
            items: hashes.iter().map(item).collect(),
            renew: 0,
            since: self.since,
            brand: self.brand,
            return_uri: self.return_uri,
        }
    }
}
