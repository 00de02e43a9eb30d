//! Whose configuration the SAM obeys: one that those have signed whose keys it sealed away when it was first started
//! (`II-3.3.2-config-authorised-change`). Whoever can write the files alone changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use core_types::{Digest32, Level, sha256};
use jose::Jwk;
use serde::{Deserialize, Serialize};

/// `typ` of a signature over a [`Manifest`].
pub const TYP_SETTINGS: &str = "natsuin-settings+jws";
/// Most signers.
const MOST: usize = 16;

/// Files by name, and the SHA-256 of each.
pub type Files = BTreeMap<String, Digest32>;

/// What is signed: the files that the configuration of each node consists of, and who may sign the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub v: u8,
    /// Name of the SAM.
    pub sam: String,
    /// Raised with every change: an older configuration doesn't come back.
    pub serial: u64,
    /// How many of the signers have to sign.
    pub need: u8,
    /// Who may sign the next one.
    pub signers: Vec<Jwk>,
    /// The files of each node.
    pub nodes: BTreeMap<String, Files>,
}

/// What the SAM remembers of the configuration it obeyed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Its number.
    pub serial: u64,
    /// Digest of the manifest.
    pub manifest: Digest32,
    /// How many have to sign the next one.
    pub need: u8,
    /// Who may.
    pub signers: Vec<Jwk>,
}

/// A configuration as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The files of this node as they are.
    pub files: Files,
    /// Signatures over the manifest, one compact JWS each. Empty: nobody has signed.
    pub signatures: Vec<String>,
}

/// Why a configuration isn't obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsRefused {
    /// Nobody signed it.
    #[error("the configuration isn't signed")]
    Unsigned,
    /// A signature is of another form, or not over the same manifest as the others.
    #[error("a signature over the configuration is malformed, or over something else")]
    Malformed,
    /// Fewer signers than needed, or others.
    #[error("not enough of those who may have signed the configuration")]
    Signers,
    /// A file isn't the one that was signed, or another one.
    #[error("a file of the configuration was changed since it was signed")]
    Changed,
    /// Its number isn't above that of the last one.
    #[error("an older configuration, or another one under the same number")]
    Older,
    /// It is another SAM's, or names signers that can't be.
    #[error("the signed configuration is another SAM's, or names impossible signers")]
    Wrong,
    /// The SAM's record of who may sign was taken away or set back.
    #[error("the record of who may sign the configuration was tampered with")]
    Record,
}

impl SettingsRefused {
    /// The fixed word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Malformed => "malformed",
            Self::Signers => "signers",
            Self::Changed => "changed",
            Self::Older => "older",
            Self::Wrong => "wrong",
            Self::Record => "record",
        }
    }
}

impl Manifest {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    fn is_possible(&self, sam: &str) -> bool {
        let kids: BTreeSet<_> = self.signers.iter().map(Jwk::kid).collect();
        self.v == 1
            && self.sam == sam
            && kids.len() == self.signers.len()
            && self.signers.len() <= MOST
            && (1..=self.signers.len()).contains(&usize::from(self.need))
    }
}

/// Whether `brought` is to be obeyed, and what is to be remembered of it. `Ok(None)`: unsigned, as nobody has asked for
/// signatures here so far, and `ceiling` is level 1.
///
/// # Errors
/// [`SettingsRefused`].
pub fn check(
    (sam, node): (&str, &str),
    ceiling: Level,
    known: Option<&Trust>,
    brought: &Brought,
) -> Result<Option<Trust>, SettingsRefused> {
    let Some(first) = brought.signatures.first() else {
        return match known {
            None if ceiling == Level::One => Ok(None),
            _ => Err(SettingsRefused::Unsigned),
        };
    };
    let payload = payload_of(first).ok_or(SettingsRefused::Malformed)?;
    let manifest: Manifest =
        serde_json::from_slice(&payload).map_err(|_| SettingsRefused::Malformed)?;
    if !manifest.is_possible(sam) {
        return Err(SettingsRefused::Wrong);
    }
    // The first one names its own signers; from then on those of the one before decide.
    let (need, may) = match known {
        Some(known) => (known.need, &known.signers),
        None => (manifest.need, &manifest.signers),
    };
    let mut signed = BTreeSet::new();
    for signature in &brought.signatures {
        let kid = jose::kid_of(signature, TYP_SETTINGS).map_err(|_| SettingsRefused::Malformed)?;
        let key = may.iter().find(|k| k.kid() == kid);
        let key = key.ok_or(SettingsRefused::Signers)?;
        let over = jose::verify(signature, TYP_SETTINGS, key);
        if over.map_err(|_| SettingsRefused::Signers)? != payload {
            return Err(SettingsRefused::Malformed);
        }
        signed.insert(kid);
    }
    if signed.len() < usize::from(need) {
        return Err(SettingsRefused::Signers);
    }
    if manifest.nodes.get(node) != Some(&brought.files) {
        return Err(SettingsRefused::Changed);
    }
    let digest = sha256(&[&payload]);
    let newer = known.is_none_or(|k| {
        manifest.serial > k.serial || (manifest.serial == k.serial && digest == k.manifest)
    });
    if !newer {
        return Err(SettingsRefused::Older);
    }
    Ok(Some(Trust {
        serial: manifest.serial,
        manifest: digest,
        need: manifest.need,
        signers: manifest.signers,
    }))
}

/// The payload of a JWS that isn't verified yet.
fn payload_of(jws: &str) -> Option<Vec<u8>> {
    core_types::bytes::from_b64u(jws.split('.').nth(1)?).ok()
}

#[cfg(test)]
mod tests {
    use jose::SigningKey;

    use super::*;

    fn keys(n: usize) -> Vec<SigningKey> {
        (0..n).map(|_| SigningKey::generate().unwrap().0).collect()
    }

    fn files(digest: u8) -> Files {
        [("config".to_owned(), Digest32([digest; 32]))].into()
    }

    fn manifest(serial: u64, need: u8, signers: &[&SigningKey]) -> Manifest {
        Manifest {
            v: 1,
            sam: "sam".into(),
            serial,
            need,
            signers: signers.iter().map(|k| k.public().clone()).collect(),
            nodes: [("n1", 1), ("n2", 2)]
                .map(|(node, d)| (node.to_owned(), files(d)))
                .into(),
        }
    }

    fn brought(manifest: &Manifest, by: &[&SigningKey]) -> Brought {
        let bytes = manifest.bytes().unwrap();
        Brought {
            files: files(1),
            signatures: by
                .iter()
                .map(|k| k.sign(TYP_SETTINGS, &bytes).unwrap())
                .collect(),
        }
    }

    fn judge(known: Option<&Trust>, brought: &Brought) -> Result<Option<Trust>, SettingsRefused> {
        check(("sam", "n1"), Level::Three, known, brought)
    }

    #[test]
    fn the_first_one_says_who_may_sign_the_next() {
        let k = keys(4);
        let [a, b, c, d] = [&k[0], &k[1], &k[2], &k[3]];
        let one = manifest(1, 2, &[a, b, c]);
        let first = judge(None, &brought(&one, &[a, c])).unwrap().unwrap();
        assert_eq!((first.serial, first.need, first.signers.len()), (1, 2, 3));
        // The same again at the next start.
        let again = judge(Some(&first), &brought(&one, &[c, a])).unwrap();
        assert_eq!(again.as_ref(), Some(&first));
        // Others sign from here on.
        let two = manifest(2, 1, &[d]);
        let second = judge(Some(&first), &brought(&two, &[a, b]))
            .unwrap()
            .unwrap();
        let three = manifest(3, 1, &[d]);
        assert!(judge(Some(&second), &brought(&three, &[d])).is_ok());
        for old in [a, b, c] {
            let refused = judge(Some(&second), &brought(&three, &[old]));
            assert_eq!(refused, Err(SettingsRefused::Signers));
        }
    }

    #[test]
    fn nobody_else_changes_it() {
        let k = keys(3);
        let [a, b, stranger] = [&k[0], &k[1], &k[2]];
        let one = manifest(5, 2, &[a, b]);
        let good = brought(&one, &[a, b]);
        let known = judge(None, &good).unwrap().unwrap();
        let two = manifest(6, 2, &[a, b]);
        let own = manifest(6, 1, &[stranger]);
        for (known, bad, why) in [
            (None, brought(&one, &[a]), SettingsRefused::Signers),
            (None, brought(&one, &[a, a]), SettingsRefused::Signers),
            (
                None,
                brought(&one, &[a, stranger]),
                SettingsRefused::Signers,
            ),
            (Some(&known), brought(&two, &[b]), SettingsRefused::Signers),
            (
                Some(&known),
                brought(&two, &[b, b]),
                SettingsRefused::Signers,
            ),
            (
                Some(&known),
                brought(&own, &[stranger]),
                SettingsRefused::Signers,
            ),
        ] {
            assert_eq!(judge(known, &bad), Err(why));
        }
        // A file that was changed, added, or is gone.
        let mut files = vec![good.files.clone(); 3];
        files[0].insert("config".into(), Digest32([2; 32]));
        files[1].insert("ra.json".into(), Digest32([1; 32]));
        files[2].clear();
        for files in files {
            let changed = Brought {
                files,
                ..good.clone()
            };
            for known in [None, Some(&known)] {
                assert_eq!(judge(known, &changed), Err(SettingsRefused::Changed));
            }
        }
        // Another node has other files, and one that isn't named has none.
        for node in ["n2", "n3"] {
            let refused = check(("sam", node), Level::Three, Some(&known), &good);
            assert_eq!(refused, Err(SettingsRefused::Changed));
        }
        // Older ones, and another one under the same number.
        for serial in [4, 5] {
            let mut other = manifest(serial, 2, &[a, b]);
            other.nodes.remove("n2");
            let refused = judge(Some(&known), &brought(&other, &[a, b]));
            assert_eq!(refused, Err(SettingsRefused::Older), "{serial}");
        }
    }

    #[test]
    fn unsigned_is_for_level_1_where_nobody_ever_signed() {
        let k = keys(1);
        let one = manifest(1, 1, &[&k[0]]);
        let known = judge(None, &brought(&one, &[&k[0]])).unwrap();
        let unsigned = Brought {
            signatures: Vec::new(),
            ..brought(&one, &[])
        };
        assert_eq!(check(("sam", "n1"), Level::One, None, &unsigned), Ok(None));
        for level in [Level::Two, Level::Three] {
            let refused = check(("sam", "n1"), level, None, &unsigned);
            assert_eq!(refused, Err(SettingsRefused::Unsigned));
        }
        let refused = check(("sam", "n1"), Level::One, known.as_ref(), &unsigned);
        assert_eq!(refused, Err(SettingsRefused::Unsigned));
    }

    #[test]
    fn impossible_ones_and_other_forms_are_refused() {
        let k = keys(2);
        let [a, b] = [&k[0], &k[1]];
        let ok = manifest(1, 1, &[a]);
        for wrong in [
            manifest(1, 0, &[a]),
            manifest(1, 2, &[a]),
            manifest(1, 1, &[]),
            manifest(1, 1, &[a, a]),
            manifest(1, 1, &[a; MOST + 1]),
            Manifest { v: 2, ..ok.clone() },
            Manifest {
                sam: "other".into(),
                ..ok.clone()
            },
        ] {
            let refused = judge(None, &brought(&wrong, &[a]));
            assert_eq!(refused, Err(SettingsRefused::Wrong));
        }
        let two = manifest(1, 1, &[a, b]);
        let good = brought(&two, &[a]);
        let jws = &good.signatures[0];
        let typ = a.sign("natsuin-other+jws", &two.bytes().unwrap()).unwrap();
        let other = b
            .sign(TYP_SETTINGS, &manifest(2, 1, &[a, b]).bytes().unwrap())
            .unwrap();
        for (signatures, why) in [
            (vec![String::new()], SettingsRefused::Malformed),
            (vec!["a.b.c".into()], SettingsRefused::Malformed),
            (vec![typ], SettingsRefused::Malformed),
            (vec![jws.clone(), other], SettingsRefused::Malformed),
            (
                vec![jws.clone(), "a.b.c".into()],
                SettingsRefused::Malformed,
            ),
            (
                vec![format!("{}AAAA", &jws[..jws.len() - 4])],
                SettingsRefused::Signers,
            ),
        ] {
            let bad = Brought {
                signatures,
                ..good.clone()
            };
            assert_eq!(judge(None, &bad), Err(why));
        }
    }
}
