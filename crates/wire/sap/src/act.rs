//! The act: exact bytes, signed by the SAM, over which the person's proof is made.

use core_types::{
    B64, ClientId, Digest32, HashAlg, KeyAlg, KeyId, Level, PersonId, SigAlg, TenantId, UnixTime,
    VoucherId, sha256,
};
use serde::{Deserialize, Serialize};

use crate::enrol::InvitedBy;
use crate::manage::{FactorAct, HandOverAct, ImportAct, KeyAct, LeaveAct, OfficerAct};
use crate::proof::Method;
use crate::sign_open::SignOpenAct;

/// Longest life of an act in seconds.
pub const MAX_LIFE: i64 = 300;
/// Most items in one act.
pub const MAX_ITEMS: usize = 10_000;
/// Longest label in characters.
pub const MAX_LABEL: usize = 200;
/// Longest name of a tenant in characters.
pub const MAX_BRAND: usize = 60;

/// Digest of an act: SHA-256 of a domain tag and the ASCII of the JWS as it stands.
pub fn act_digest(jws: &str) -> Digest32 {
    sha256(&[b"natsuin-act-v1\n", jws.as_bytes()])
}

/// Payload of an act, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Act {
    /// Sign these items.
    Sign(SignAct),
    /// Sign what this application will ask for, within bounds.
    SignOpen(SignOpenAct),
    /// Enrol these factors and make these keys.
    Enrol(EnrolAct),
    /// Stop this key for a while.
    Suspend(KeyAct),
    /// Let a stopped key be used again.
    Resume(KeyAct),
    /// Destroy this key for good.
    Destroy(KeyAct),
    /// End a registration with all its keys and factors.
    Leave(LeaveAct),
    /// Change the factors of a registration.
    Factor(FactorAct),
    /// Let a key that was made elsewhere come in.
    Import(ImportAct),
    /// Hand this key over to whoever its owner wants.
    HandOver(HandOverAct),
    /// Approve as an officer.
    Officer(OfficerAct),
}

impl Act {
    /// The members every kind has.
    pub fn head(&self) -> ActHead<'_> {
        match self {
            Self::Sign(a) => ActHead {
                sam: &a.sam,
                tenant: &a.tenant,
                brand: a.brand.as_ref(),
                nonce: a.nonce,
                iat: a.iat,
                exp: a.exp,
                epoch: a.epoch,
                policy: a.policy,
                level: a.level,
                person: &a.person,
                return_uri: &a.return_uri,
            },
            Self::Enrol(a) => ActHead {
                sam: &a.sam,
                tenant: &a.tenant,
                brand: a.brand.as_ref(),
                nonce: a.nonce,
                iat: a.iat,
                exp: a.exp,
                epoch: a.epoch,
                policy: a.policy,
                level: a.level,
                person: &a.person,
                return_uri: &a.return_uri,
            },
            Self::SignOpen(a) => a.head(),
            Self::Suspend(a) | Self::Resume(a) | Self::Destroy(a) => a.head(),
            Self::Leave(a) => a.head(),
            Self::Factor(a) => a.head(),
            Self::Import(a) => a.head(),
            Self::HandOver(a) => a.head(),
            Self::Officer(a) => a.head(),
        }
    }

    /// The kind, as in the member `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sign(_) => "sign",
            Self::SignOpen(_) => "sign-open",
            Self::Enrol(_) => "enrol",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Destroy(_) => "destroy",
            Self::Leave(_) => "leave",
            Self::Factor(_) => "factor",
            Self::Import(_) => "import",
            Self::HandOver(_) => "hand-over",
            Self::Officer(_) => "officer",
        }
    }
}

/// Members common to all kinds of act.
#[derive(Debug, Clone, Copy)]
pub struct ActHead<'a> {
    /// Issuing SAM.
    pub sam: &'a str,
    /// Tenant.
    pub tenant: &'a TenantId,
    /// How it is shown.
    pub brand: Option<&'a Brand>,
    /// Random.
    pub nonce: Digest32,
    /// Issued at.
    pub iat: UnixTime,
    /// Expires at; a proof is accepted while `now < exp`.
    pub exp: UnixTime,
    /// Store epoch; acts of another epoch are dead.
    pub epoch: Digest32,
    /// Version of the policy in force.
    pub policy: u32,
    /// Level of the key (sign) or ceiling of the voucher (enrol).
    pub level: Level,
    /// Who has to approve.
    pub person: &'a Person,
    /// Where the page goes afterwards.
    pub return_uri: &'a str,
}

/// An act of kind `sign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignAct {
    /// Format version, 1.
    pub v: Version1,
    /// Issuing SAM.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// How the tenant is shown; absent = by no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Brand>,
    /// 32 random bytes.
    pub nonce: Digest32,
    /// Issued at.
    pub iat: UnixTime,
    /// Expires at, at most [`MAX_LIFE`] after `iat`.
    pub exp: UnixTime,
    /// Store epoch.
    pub epoch: Digest32,
    /// Policy version.
    pub policy: u32,
    /// Level of the key as computed.
    pub level: Level,
    /// Evaluations on which that level rests by the operator's word alone, as the operator names them; absent = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<String>,
    /// The signer.
    pub person: Person,
    /// The key.
    pub key: ActKey,
    /// Who asked.
    pub client: ActClient,
    /// Allowed signature algorithms, parameters included.
    pub algs: Vec<SigAlg>,
    /// What will be signed, in order; 1 to [`MAX_ITEMS`].
    pub items: Vec<Item>,
    /// 0, or until when a renewal chain may run.
    pub renew: i64,
    /// What the signer should remember.
    pub since: Since,
    /// Where the page goes afterwards.
    #[serde(rename = "return")]
    pub return_uri: String,
}

/// An act of kind `enrol`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolAct {
    /// Format version, 1.
    pub v: Version1,
    /// Issuing SAM.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// How the tenant is shown; absent = by no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Brand>,
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
    /// Ceiling of the voucher.
    pub level: Level,
    /// Who enrols.
    pub person: Person,
    /// The voucher that is used up.
    pub voucher: VoucherId,
    /// Who invited: above level 1 only an RA.
    pub by: InvitedBy,
    /// Methods that may be enrolled under the policy of the level.
    pub methods: Vec<Method>,
    /// Keys that will be made.
    pub keys: Vec<KeyAlg>,
    /// What this enrolment ends; only when an RA said so.
    pub replaces: Option<Replaced>,
    /// The keys may be handed over to whoever their owner wants; absent = they never leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exportable: bool,
    /// Each of the keys is for one act, and destroyed after it; absent = for as many as its certificate lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_time: bool,
    /// WebAuthn RP ID for the passkey: the SIC host.
    pub rp_id: String,
    /// Where the page goes afterwards.
    #[serde(rename = "return")]
    pub return_uri: String,
}

/// An earlier registration that ends with an enrolment: its factors are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The registration, by the voucher that began it.
    pub registration: VoucherId,
    /// Keys that will be destroyed.
    pub keys: Vec<ActKey>,
}

/// The number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Version1;

impl TryFrom<u8> for Version1 {
    type Error = &'static str;

    fn try_from(n: u8) -> Result<Self, Self::Error> {
        if n == 1 {
            Ok(Self)
        } else {
            Err("unknown format version")
        }
    }
}

impl From<Version1> for u8 {
    fn from(_: Version1) -> Self {
        1
    }
}

/// How a tenant is shown to its signers. It stands in acts, so that it is the SAM's word and not that of whoever serves
/// the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// Name in Japanese, 1 to [`MAX_BRAND`] characters.
    pub ja: String,
    /// Name in English, as long.
    pub en: String,
    /// Its colour, `#` and six hexadecimal digits in lower case; absent = none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<String>,
}

impl Brand {
    /// The name in Japanese, or in English.
    pub fn name(&self, japanese: bool) -> &str {
        match japanese {
            true => &self.ja,
            false => &self.en,
        }
    }

    /// Whether names and colour have their form.
    pub fn is_possible(&self) -> bool {
        let name = |name: &String| {
            (1..=MAX_BRAND).contains(&name.chars().count())
                && name.trim() == name
                && !name.chars().any(char::is_control)
        };
        let digit = |d: u8| matches!(d, b'0'..=b'9' | b'a'..=b'f');
        let colour = |text: &String| {
            let digits = text.strip_prefix('#');
            digits.is_some_and(|d| d.len() == 6 && d.bytes().all(digit))
        };
        name(&self.ja) && name(&self.en) && self.colour.as_ref().is_none_or(colour)
    }
}

/// A person as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Id.
    pub id: PersonId,
    /// Name as on the certificate.
    pub name: String,
}

/// The key of a sign act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActKey {
    /// Id; the CSC `credentialID`.
    pub id: KeyId,
    /// Version of the key's record.
    pub version: u32,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// SHA-256 of the certificate.
    pub cert: Digest32,
    /// Subject of the certificate (RFC 4514), for display.
    pub subject: String,
}

/// The client of a sign act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActClient {
    /// Id.
    pub id: ClientId,
    /// Name.
    pub name: String,
    /// The name comes from the SAM's own record and not from the SSA.
    pub known: bool,
    /// The request was signed by the client and the SAM verified it.
    pub signed: bool,
}

/// What a signer can use to notice what a hostile provider hid. Absent = never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Time of the person's last accepted act.
    pub act: Option<UnixTime>,
    /// Time of the last change of the person's factors.
    pub factors: Option<UnixTime>,
    /// Time at which a key of the person was last stopped, resumed or destroyed.
    pub keys: Option<UnixTime>,
}

/// One thing to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case", try_from = "FlatItem")]
pub enum Item {
    /// `h` is what gets signed.
    Hash {
        /// Hash algorithm.
        ha: HashAlg,
        /// The hash.
        h: B64,
        /// What the client calls it.
        label: String,
    },
    /// `h` is the document's hash; what gets signed is `d`, the hash of signedAttrs that the SAM holds, or, with
    /// algorithms that sign messages, those signedAttrs themselves, whose SHA-256 is `m` (RFC 8419 §3).
    Doc {
        /// Hash algorithm.
        ha: HashAlg,
        /// Hash of the document (over the ByteRange of the prepared file).
        h: B64,
        /// What the client calls it.
        label: String,
        /// Hash of the signedAttrs.
        d: B64,
        /// SHA-256 of the signedAttrs bytes.
        m: Digest32,
        /// ByteRange of the prepared file, a hint for the page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ranges: Option<[u64; 4]>,
    },
}

/// An item as it is read: a derived reader of tagged enums keeps each of 10,000 items in pieces first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatItem {
    form: Form,
    ha: HashAlg,
    h: B64,
    label: String,
    #[serde(default, deserialize_with = "present")]
    d: Option<B64>,
    #[serde(default, deserialize_with = "present")]
    m: Option<Digest32>,
    #[serde(default)]
    ranges: Option<[u64; 4]>,
}

/// A member that is there has a value: `null` is none.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    Hash,
    Doc,
}

impl TryFrom<FlatItem> for Item {
    type Error = &'static str;

    fn try_from(item: FlatItem) -> Result<Self, Self::Error> {
        let FlatItem {
            form,
            ha,
            h,
            label,
            d,
            m,
            ranges,
        } = item;
        match (form, d, m, ranges) {
            (Form::Hash, None, None, None) => Ok(Self::Hash { ha, h, label }),
            (Form::Doc, Some(d), Some(m), ranges) => Ok(Self::Doc {
                ha,
                h,
                label,
                d,
                m,
                ranges,
            }),
            _ => Err("the members don't fit the form"),
        }
    }
}

impl Item {
    /// Hash algorithm of the item.
    pub fn hash_alg(&self) -> HashAlg {
        match self {
            Self::Hash { ha, .. } | Self::Doc { ha, .. } => *ha,
        }
    }

    /// The digest by which a client asks for it. The CM signs it, or the message behind it.
    pub fn digest(&self) -> &B64 {
        match self {
            Self::Hash { h, .. } => h,
            Self::Doc { d, .. } => d,
        }
    }

    /// What the client calls it.
    pub fn label(&self) -> &str {
        match self {
            Self::Hash { label, .. } | Self::Doc { label, .. } => label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Act {
        Act::Sign(SignAct {
            v: Version1,
            sam: "sam.test".into(),
            tenant: TenantId::parse("t").unwrap(),
            brand: None,
            nonce: Digest32([1; 32]),
            iat: UnixTime(1000),
            exp: UnixTime(1300),
            epoch: Digest32([2; 32]),
            policy: 1,
            level: Level::One,
            declared: Vec::new(),
            person: Person {
                id: PersonId::parse("p").unwrap(),
                name: "髙橋 花子".into(),
            },
            key: ActKey {
                id: KeyId::parse("k").unwrap(),
                version: 1,
                spki: Digest32([3; 32]),
                cert: Digest32([4; 32]),
                subject: "CN=髙橋 花子".into(),
            },
            client: ActClient {
                id: ClientId::parse("c").unwrap(),
                name: "c".into(),
                known: true,
                signed: false,
            },
            algs: vec![SigAlg::Ecdsa(HashAlg::Sha256)],
            items: vec![Item::Hash {
                ha: HashAlg::Sha256,
                h: B64(vec![5; 32]),
                label: "a.pdf".into(),
            }],
            renew: 0,
            since: Since::default(),
            return_uri: "http://localhost/r".into(),
        })
    }

    // shows: T-USE-SAD-FORGE
    #[test]
    fn unknown_missing_and_doubled_members_are_refused() {
        let good = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Act>(&good).unwrap(), sample());
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&good).unwrap();
        for name in object.keys() {
            let mut less = object.clone();
            let value = less.remove(name).unwrap();
            assert!(
                serde_json::from_value::<Act>(less.clone().into()).is_err(),
                "without {name}"
            );
            less.insert(name.clone(), serde_json::json!({"other": "type"}));
            assert!(
                serde_json::from_value::<Act>(less.into()).is_err(),
                "wrong type of {name}"
            );
            let doubled = good.replacen('{', &format!("{{\"{name}\":{value},"), 1);
            assert!(
                serde_json::from_str::<Act>(&doubled).is_err(),
                "doubled {name}"
            );
        }
        assert!(serde_json::from_str::<Act>(&good.replacen('{', "{\"more\":1,", 1)).is_err());
    }

    // shows: T-USE-SAD-FORGE
    #[test]
    fn an_item_has_the_members_of_its_form_and_no_others() {
        let hash = Item::Hash {
            ha: HashAlg::Sha256,
            h: B64(vec![5; 32]),
            label: "a.pdf".into(),
        };
        let doc = |ranges| Item::Doc {
            ha: HashAlg::Sha256,
            h: B64(vec![5; 32]),
            label: "a.pdf".into(),
            d: B64(vec![6; 32]),
            m: Digest32([7; 32]),
            ranges,
        };
        for item in [hash.clone(), doc(None), doc(Some([0, 1, 2, 3]))] {
            let text = serde_json::to_string(&item).unwrap();
            assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), item);
        }
        let whole = serde_json::to_value(doc(None)).unwrap();
        for member in ["form", "ha", "h", "label", "d", "m"] {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(member);
            assert!(
                serde_json::from_value::<Item>(less).is_err(),
                "without {member}"
            );
        }
        let text = serde_json::to_string(&hash).unwrap();
        for more in [
            r#""d":null,"#,
            r#""m":null,"#,
            r#""ranges":[0,1,2,3],"#,
            r#""d":"AA","#,
            r#""more":1,"#,
            r#""form":"hash","#,
            r#""label":"b","#,
        ] {
            let text = text.replacen('{', &format!("{{{more}"), 1);
            assert!(serde_json::from_str::<Item>(&text).is_err(), "{more}");
        }
        let other = text.replacen("hash", "other", 1);
        assert!(serde_json::from_str::<Item>(&other).is_err());
    }
}
