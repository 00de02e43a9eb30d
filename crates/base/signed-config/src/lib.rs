//! Whose configuration a zone obeys: one that those have signed whose keys it put away when it was first started with one
//! (`II-3.3.2-config-tamper-detected`). Whoever can write the files alone changes nothing.
//!
//! Decisions only: what is remembered and where is the zone's affair. Must never know what a configuration says.

use std::collections::{BTreeMap, BTreeSet};

use core_types::words::is_reason;
use core_types::{Digest32, Level, UnixTime, sha256};
use jose::Jwk;
use serde::{Deserialize, Serialize};

/// `typ` of a signature over a [`Manifest`].
pub const TYP_SETTINGS: &str = "natsuin-settings+jws";
/// Longest time for which a signed configuration waits for its first start, in seconds: as long as a proposal of the office.
pub const LONGEST: i64 = 7 * 24 * 3600;
/// Fewest who sign above level 1 (`I-7.1.1`, dual control).
pub const TWO: u8 = 2;
/// Most signers.
const MOST: usize = 16;

/// Files by name, and the SHA-256 of each.
pub type Files = BTreeMap<String, Digest32>;

/// A digest over the files of a node: what an audit entry names them by.
pub fn digest_of(files: &Files) -> Digest32 {
    let all: Vec<String> = files.iter().map(|(n, d)| format!("{n}\n{d}\n")).collect();
    sha256(&[all.concat().as_bytes()])
}

/// Whose configuration can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Signature activation module, by its name.
    Sam,
    /// Server application, by the name of its audit log.
    Ssa,
    /// Cryptographic module, by the name of its audit log.
    Cm,
}

impl Zone {
    /// How a manifest says whose configuration it is, so that none is another zone's.
    pub fn of(self, name: &str) -> String {
        let zone = match self {
            Self::Sam => "sam",
            Self::Ssa => "ssa",
            Self::Cm => "cm",
        };
        format!("{zone} {name}")
    }
}

/// What is signed: the files that the configuration of each node consists of, and who may sign the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 2.
    pub v: u8,
    /// What is configured: [`Zone::of`].
    pub of: String,
    /// Raised with every change: an older configuration doesn't come back.
    pub serial: u64,
    /// Why, in the words of who signs: 1 to 200 characters, none of them hidden.
    pub reason: String,
    /// Not obeyed for the first time at or after this time, and not more than [`LONGEST`] before it. What was obeyed once goes on.
    pub exp: UnixTime,
    /// How many of the signers have to sign.
    pub need: u8,
    /// Who may sign the next one.
    pub signers: Vec<Jwk>,
    /// The files of each node.
    pub nodes: BTreeMap<String, Files>,
}

/// What a zone remembers of the configuration it obeyed last.
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

impl Brought {
    /// The signatures as their file has them, one a line: what is kept as evidence of who agreed to what, and why.
    pub fn evidence(&self) -> String {
        self.signatures.join("\n") + "\n"
    }

    /// What it says of itself, not verified. For a zone whose log vouches for it by number and digest.
    pub fn claims(&self) -> Option<Trust> {
        let payload = payload_of(self.signatures.first()?)?;
        let manifest: Manifest = serde_json::from_slice(&payload).ok()?;
        Some(Trust {
            serial: manifest.serial,
            manifest: sha256(&[&payload]),
            need: manifest.need,
            signers: manifest.signers,
        })
    }
}

/// A configuration that is obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What is to be remembered of it.
    pub trust: Trust,
    /// Until when it could be obeyed for the first time.
    pub exp: UnixTime,
    /// Thumbprints of the keys that signed it; empty when it was obeyed before.
    pub by: Vec<Digest32>,
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
    /// It is another service's, names signers that can't be, or has no reason.
    #[error(
        "the signed configuration is another service's, names impossible signers, or has no reason in plain words"
    )]
    Wrong,
    /// Above level 1 one person would be enough, for it or for the next one.
    #[error(
        "above level 1 at least two have to sign, this configuration and the next one (--need 2); where only one may sign so far, \
         name two at level 1 first"
    )]
    OnePerson,
    /// Its time for a first start is over, or begins later.
    #[error(
        "the time for the first start with this configuration is over, or more than seven days long"
    )]
    Expired,
    /// The record of who may sign was taken away or set back.
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
            Self::OnePerson => "one-person",
            Self::Expired => "expired",
            Self::Record => "record",
        }
    }
}

impl Manifest {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    fn is_possible(&self, of: &str) -> bool {
        let kids: BTreeSet<_> = self.signers.iter().map(Jwk::kid).collect();
        self.v == 2
            && self.of == of
            && is_reason(&self.reason)
            && kids.len() == self.signers.len()
            && self.signers.len() <= MOST
            && (1..=self.signers.len()).contains(&usize::from(self.need))
    }
}

/// Whether `brought` is to be obeyed `now`, and what is to be remembered of it. `Ok(None)`: unsigned, as nobody has asked for
/// signatures here so far, and `ceiling` is level 1.
///
/// # Errors
/// [`SettingsRefused`].
pub fn check(
    (of, node): (&str, &str),
    ceiling: Level,
    known: Option<&Trust>,
    brought: &Brought,
    now: UnixTime,
) -> Result<Option<Accepted>, SettingsRefused> {
    let Some(first) = brought.signatures.first() else {
        return match known {
            None if ceiling == Level::One => Ok(None),
            _ => Err(SettingsRefused::Unsigned),
        };
    };
    let payload = payload_of(first).ok_or(SettingsRefused::Malformed)?;
    let manifest: Manifest =
        serde_json::from_slice(&payload).map_err(|_| SettingsRefused::Malformed)?;
    if !manifest.is_possible(of) {
        return Err(SettingsRefused::Wrong);
    }
    // The first one names its own signers; from then on those of the one before decide.
    let (need, may) = match known {
        Some(known) => (known.need, known.signers.as_slice()),
        None => (manifest.need, manifest.signers.as_slice()),
    };
    let least = match ceiling {
        Level::One => 1,
        _ => TWO,
    };
    if manifest.need.min(need) < least {
        return Err(SettingsRefused::OnePerson);
    }
    let digest = sha256(&[&payload]);
    // What was obeyed once goes on, also when others may sign the next one: the sealed record says that it was judged.
    let again = known.is_some_and(|k| k.serial == manifest.serial && k.manifest == digest);
    let by = match again {
        true => Vec::new(),
        false => signed_by(&brought.signatures, &payload, (need, may))?,
    };
    if manifest.nodes.get(node) != Some(&brought.files) {
        return Err(SettingsRefused::Changed);
    }
    if !again && known.is_some_and(|k| manifest.serial <= k.serial) {
        return Err(SettingsRefused::Older);
    }
    if !again && (now >= manifest.exp || manifest.exp > now.plus(LONGEST)) {
        return Err(SettingsRefused::Expired);
    }
    Ok(Some(Accepted {
        trust: Trust {
            serial: manifest.serial,
            manifest: digest,
            need: manifest.need,
            signers: manifest.signers,
        },
        exp: manifest.exp,
        by,
    }))
}

/// Thumbprints of the keys that signed `payload`: `need` of those who `may`, and nobody else.
fn signed_by(
    signatures: &[String],
    payload: &[u8],
    (need, may): (u8, &[Jwk]),
) -> Result<Vec<Digest32>, SettingsRefused> {
    let mut signed = BTreeSet::new();
    for signature in signatures {
        let kid = jose::kid_of(signature, TYP_SETTINGS).map_err(|_| SettingsRefused::Malformed)?;
        let key = may.iter().find(|k| k.kid() == kid);
        let key = key.ok_or(SettingsRefused::Signers)?;
        let over = jose::verify(signature, TYP_SETTINGS, key);
        if over.map_err(|_| SettingsRefused::Signers)? != payload {
            return Err(SettingsRefused::Malformed);
        }
        signed.insert(key.thumbprint());
    }
    if signed.len() < usize::from(need) {
        return Err(SettingsRefused::Signers);
    }
    Ok(signed.into_iter().collect())
}

/// The payload of a JWS that isn't verified yet.
fn payload_of(jws: &str) -> Option<Vec<u8>> {
    core_types::bytes::from_b64u(jws.split('.').nth(1)?).ok()
}

#[cfg(test)]
mod tests {
    use jose::SigningKey;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn keys(n: usize) -> Vec<SigningKey> {
        (0..n).map(|_| SigningKey::generate().unwrap().0).collect()
    }

    fn files(digest: u8) -> Files {
        [("config".to_owned(), Digest32([digest; 32]))].into()
    }

    fn manifest(serial: u64, need: u8, signers: &[&SigningKey]) -> Manifest {
        Manifest {
            v: 2,
            of: "sam".into(),
            serial,
            reason: "a new node".into(),
            exp: NOW.plus(LONGEST),
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

    fn judge_at(
        ceiling: Level,
        known: Option<&Trust>,
        brought: &Brought,
    ) -> Result<Option<Trust>, SettingsRefused> {
        let judged = check(("sam", "n1"), ceiling, known, brought, NOW)?;
        Ok(judged.map(|accepted| accepted.trust))
    }

    fn judge(known: Option<&Trust>, brought: &Brought) -> Result<Option<Trust>, SettingsRefused> {
        judge_at(Level::Three, known, brought)
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
        // Others sign from here on, and what was obeyed goes on.
        let two = manifest(2, 2, &[c, d]);
        let second = judge(Some(&first), &brought(&two, &[a, b]))
            .unwrap()
            .unwrap();
        let again = judge(Some(&second), &brought(&two, &[a, b])).unwrap();
        assert_eq!(again.as_ref(), Some(&second));
        let three = manifest(3, 2, &[c, d]);
        assert!(judge(Some(&second), &brought(&three, &[c, d])).is_ok());
        for old in [a, b] {
            let refused = judge(Some(&second), &brought(&three, &[c, old]));
            assert_eq!(refused, Err(SettingsRefused::Signers));
        }
    }

    // shows: II-3.3.2-config-tamper-detected
    #[test]
    fn above_level_1_one_person_is_never_enough() {
        use SettingsRefused::OnePerson;
        let k = keys(3);
        let [a, b, c] = [&k[0], &k[1], &k[2]];
        let alone = brought(&manifest(1, 1, &[a, b]), &[a]);
        let two = brought(&manifest(2, 2, &[a, b]), &[a, b]);
        let known = judge_at(Level::One, None, &alone).unwrap().unwrap();
        for level in [Level::Two, Level::Three] {
            // As the first one, however many have signed it; and as what was obeyed at level 1.
            let both = brought(&manifest(1, 1, &[a, b]), &[a, b]);
            for (known, bad) in [(None, &alone), (None, &both), (Some(&known), &alone)] {
                assert_eq!(judge_at(level, known, bad), Err(OnePerson));
            }
            // Where one may sign so far, the way up goes over two of them at level 1.
            assert_eq!(judge_at(level, Some(&known), &two), Err(OnePerson));
            let now_two = judge_at(Level::One, Some(&known), &two).unwrap();
            let up = brought(&manifest(3, 2, &[a, b, c]), &[a, b]);
            assert!(judge_at(level, now_two.as_ref(), &up).is_ok());
            // And no way down to one that is obeyed there.
            let down = brought(&manifest(3, 1, &[a, b]), &[a, b]);
            assert_eq!(judge_at(level, now_two.as_ref(), &down), Err(OnePerson));
        }
    }

    #[test]
    fn who_signed_is_told_and_their_words_are_the_evidence() {
        let k = keys(2);
        let one = brought(&manifest(1, 2, &[&k[0], &k[1]]), &[&k[1], &k[0]]);
        let accepted = check(("sam", "n1"), Level::Two, None, &one, NOW);
        let accepted = accepted.unwrap().unwrap();
        let mut by = [0, 1].map(|n: usize| k[n].public().thumbprint());
        by.sort();
        assert_eq!(
            (accepted.by, accepted.exp),
            (by.to_vec(), NOW.plus(LONGEST))
        );
        assert_eq!(one.claims(), Some(accepted.trust));
        let lines: Vec<String> = one.evidence().lines().map(str::to_owned).collect();
        assert_eq!(lines, one.signatures);
    }

    #[test]
    fn a_first_start_has_its_time_and_a_later_one_has_not() {
        let k = keys(2);
        let [a, b] = [&k[0], &k[1]];
        let until = |exp: i64| {
            let one = manifest(1, 2, &[a, b]);
            brought(
                &Manifest {
                    exp: NOW.plus(exp),
                    ..one
                },
                &[a, b],
            )
        };
        for (exp, good) in [(0, false), (1, true), (LONGEST, true), (LONGEST + 1, false)] {
            let judged = judge(None, &until(exp));
            match good {
                true => assert!(judged.is_ok(), "{exp}"),
                false => assert_eq!(judged, Err(SettingsRefused::Expired), "{exp}"),
            }
        }
        let known = judge(None, &until(1)).unwrap();
        let later = check(
            ("sam", "n1"),
            Level::Three,
            known.as_ref(),
            &until(1),
            NOW.plus(LONGEST),
        );
        assert_eq!(later.unwrap().map(|a| a.trust), known);
    }

    #[test]
    fn nobody_else_changes_it() {
        let k = keys(3);
        let [a, b, stranger] = [&k[0], &k[1], &k[2]];
        let one = manifest(5, 2, &[a, b]);
        let good = brought(&one, &[a, b]);
        let known = judge(None, &good).unwrap().unwrap();
        let two = manifest(6, 2, &[a, b]);
        let own = manifest(6, 2, &[stranger, b]);
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
                brought(&own, &[stranger, b]),
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
            let refused = check(("sam", node), Level::Three, Some(&known), &good, NOW);
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
        let known = judge_at(Level::One, None, &brought(&one, &[&k[0]])).unwrap();
        let unsigned = Brought {
            signatures: Vec::new(),
            ..brought(&one, &[])
        };
        assert_eq!(judge_at(Level::One, None, &unsigned), Ok(None));
        for level in [Level::Two, Level::Three] {
            let refused = judge_at(level, None, &unsigned);
            assert_eq!(refused, Err(SettingsRefused::Unsigned));
        }
        let refused = judge_at(Level::One, known.as_ref(), &unsigned);
        assert_eq!(refused, Err(SettingsRefused::Unsigned));
    }

    #[test]
    fn impossible_ones_and_other_forms_are_refused() {
        let k = keys(2);
        let [a, b] = [&k[0], &k[1]];
        let ok = manifest(1, 2, &[a, b]);
        let because = |reason: &str| Manifest {
            reason: reason.to_owned(),
            ..ok.clone()
        };
        for wrong in [
            manifest(1, 0, &[a, b]),
            manifest(1, 2, &[a]),
            manifest(1, 2, &[]),
            manifest(1, 2, &[a, a]),
            manifest(1, 2, &[a; MOST + 1]),
            Manifest { v: 1, ..ok.clone() },
            because(""),
            because(" "),
            because("a\nb"),
            because("a\u{202e}b"),
            because(&"x".repeat(201)),
            Manifest {
                of: "other".into(),
                ..ok.clone()
            },
        ] {
            let refused = judge(None, &brought(&wrong, &[a]));
            assert_eq!(refused, Err(SettingsRefused::Wrong));
        }
        let two = manifest(1, 2, &[a, b]);
        let good = brought(&two, &[a, b]);
        let jws = &good.signatures[0];
        let typ = a.sign("natsuin-other+jws", &two.bytes().unwrap()).unwrap();
        let other = b
            .sign(TYP_SETTINGS, &manifest(2, 2, &[a, b]).bytes().unwrap())
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
