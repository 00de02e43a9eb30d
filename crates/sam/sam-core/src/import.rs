//! Keys that come in and keys that leave (`III-3-15-import-*`, `III-3-9-*`, `III-3-17-retention-L2-no-export`): at which
//! level, from whom, to whom. The module decides the same once more, over what it alone can see.

use core_types::{Digest32, KeyAlg, Level, OriginCase, Random, UnixTime, VoucherId};
use sap::act::{MAX_LIFE, Person, Since, Version1};
use sap::manage::ImportAct;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::act::Issuer;
use crate::level::{KeyFacts, Service, table};
use crate::state::{ActState, MAX_SPOILED, Now, Phase, Subject};
use sam_api::ssa::LevelPart;

/// Strength in bits of the keys to which imports and hand-overs are sealed (P-256).
const WRAPPING_STRENGTH: u32 = 128;

/// How long an approved import waits for a key that the signer brings, in seconds.
pub const SIGNER_BRINGS: i64 = 3600;
/// How long it waits for a CA.
pub const CA_BRINGS: i64 = 24 * 3600;

/// A key that may come in: what the act says of it, and what is fixed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coming {
    /// Kind of key.
    pub alg: KeyAlg,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// Where it was made, and who brings it.
    pub case: OriginCase,
    /// Until when it may be brought, exclusive.
    pub until: UnixTime,
}

/// How long a key of this origin is waited for, in seconds.
pub fn patience(case: OriginCase) -> i64 {
    match case {
        OriginCase::CaDirect => CA_BRINGS,
        _ => SIGNER_BRINGS,
    }
}

/// Whether a key of this origin may come in for this level at all.
///
/// # Errors
/// [`Reason::Level`] naming the requirement, [`Reason::Invalid`] for origins that aren't imports.
pub fn check_origin(case: OriginCase, level: Level) -> Result<(), Reason> {
    if !case.imported() {
        return Err(Reason::Invalid("case"));
    }
    match level {
        Level::Three => Err(Reason::Level("III-3-15-import-L3")),
        Level::Two if case != OriginCase::CaDirect => Err(Reason::Level("III-3-15-import-L2")),
        Level::One | Level::Two => Ok(()),
    }
}

/// Whether a key of this kind may travel under the keys there are.
///
/// # Errors
/// [`Reason::Level`] naming the requirement.
pub fn check_strength(alg: KeyAlg) -> Result<(), Reason> {
    if alg.strength() > WRAPPING_STRENGTH {
        return Err(Reason::Level("III-A1.2-wrapping-strength"));
    }
    Ok(())
}

/// What the level of a key that comes in is computed from.
///
/// # Errors
/// [`Reason::Level`] naming the requirement for which the key wouldn't be of the `level` that was asked for.
pub fn facts(
    service: &Service,
    case: OriginCase,
    level: Level,
    authorization: Level,
    enrolment: Level,
) -> Result<KeyFacts, Reason> {
    check_origin(case, level)?;
    // How a CA makes keys is declared where it is listed, in the module; of a signer's machine nothing is known.
    let made = match case {
        OriginCase::CaDirect => Level::Two,
        _ => Level::One,
    };
    let facts = KeyFacts {
        generation: made,
        import: level,
        retention: service.module,
        authorization: authorization.min(service.sam),
        enrolment,
        service: service.ceiling,
    };
    match facts.level() {
        (reached, _) if reached >= level => Ok(facts),
        (_, part) => Err(Reason::Level(table::requirement(part, level))),
    }
}

/// Whether a key may be handed over by its owner.
///
/// # Errors
/// [`Reason::Level`] naming the requirement.
pub fn check_hand_over(exportable: bool, level: Level, alg: KeyAlg) -> Result<(), Reason> {
    if level > Level::One {
        return Err(Reason::Level("III-3-17-retention-L2-no-export"));
    }
    if !exportable {
        return Err(Reason::Level("III-3-9-attributed-keys"));
    }
    check_strength(alg)
}

/// Whether keys of these kinds that their owners can have handed over may be made.
///
/// # Errors
/// [`Reason::Level`] naming the requirement.
pub fn check_exportable(service: &Service, ceiling: Level, algs: &[KeyAlg]) -> Result<(), Reason> {
    if ceiling > Level::One {
        return Err(Reason::Level("III-3-17-retention-L2-no-export"));
    }
    if !service.exports {
        return Err(Reason::Level(table::requirement(
            LevelPart::Retention,
            Level::Two,
        )));
    }
    algs.iter().try_for_each(|alg| check_strength(*alg))
}

/// Everything an act of kind `import` says beside its issuer.
#[derive(Debug, Clone)]
pub struct ImportContent {
    /// The key.
    pub coming: Coming,
    /// Registration whose factors will authorize it.
    pub registration: VoucherId,
    /// Level that the key will have, and at which the proof has to count.
    pub level: Level,
    /// The signer.
    pub person: Person,
    /// What the signer should remember.
    pub since: Since,
    /// Where the page goes afterwards.
    pub return_uri: String,
    /// End of the request; the act doesn't outlive it.
    pub until: UnixTime,
}

/// Mints the act at `now`.
///
/// # Errors
/// [`Reason::Expired`] when the request has ended.
pub fn mint(
    issuer: Issuer<'_>,
    content: ImportContent,
    now: UnixTime,
    random: &dyn Random,
) -> Result<ImportAct, Reason> {
    let c = content;
    if now >= c.until {
        return Err(Reason::Expired);
    }
    Ok(ImportAct {
        v: Version1,
        sam: issuer.sam.to_owned(),
        tenant: issuer.tenant.clone(),
        brand: issuer.brand.cloned(),
        nonce: random.digest32(),
        iat: now,
        exp: now.plus(MAX_LIFE).min(c.until),
        epoch: issuer.epoch,
        policy: issuer.policy,
        level: c.level,
        person: c.person,
        registration: c.registration,
        alg: c.coming.alg,
        spki: c.coming.spki,
        case: c.coming.case,
        until: c.coming.until,
        since: c.since,
        return_uri: c.return_uri,
    })
}

impl ActState {
    /// The key that may be brought now.
    ///
    /// # Errors
    /// [`Reason`] saying why none may.
    pub fn may_bring(&self, now: Now) -> Result<&Coming, Reason> {
        let Subject::Import { coming, .. } = &self.subject else {
            return Err(Reason::OtherKind);
        };
        self.check_right(now)?;
        match self.phase {
            Phase::Approved => Ok(coming),
            _ => Err(Reason::Used),
        }
    }

    /// Counts a try to bring it, before the module is asked; ten of them kill the act. What can happen once only is the
    /// key itself: the module takes no public key twice, but says the same again for the same act.
    ///
    /// # Errors
    /// As [`Self::may_bring`].
    pub fn try_bring(&self, now: Now) -> Result<Self, Reason> {
        self.may_bring(now)?;
        let spoiled = self.spoiled.saturating_add(1);
        Ok(Self {
            spoiled,
            phase: if spoiled > MAX_SPOILED {
                Phase::Dead
            } else {
                Phase::Approved
            },
            ..self.clone()
        })
    }

    /// The key is in.
    ///
    /// # Errors
    /// As [`Self::may_bring`].
    pub fn brought(&self, now: Now) -> Result<Self, Reason> {
        self.may_bring(now)?;
        Ok(Self {
            phase: Phase::Closed,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(level: Level) -> Service {
        Service {
            module: level,
            sam: level,
            ceiling: level,
            exports: level == Level::One,
            declared: Vec::new(),
        }
    }

    const CASES: [OriginCase; 3] = [
        OriginCase::CaDirect,
        OriginCase::CaThroughSigner,
        OriginCase::Signer,
    ];

    #[test]
    fn a_ca_has_a_day_and_a_signer_an_hour() {
        let [ca, through, signer] = CASES.map(patience);
        assert_eq!((ca, through, signer), (86_400, 3_600, 3_600));
    }

    // shows: III-3-15-import-L3, I-3.5.1-import-L3, I-3.5.1-import-L2
    #[test]
    fn a_key_comes_in_as_far_as_its_origin_admits() {
        let service = service(Level::Three);
        let all = Level::Three;
        let result = |case, level| {
            facts(&service, case, level, all, all).map(|facts| {
                assert_eq!(facts.level().0, level, "{case}");
            })
        };
        for case in CASES {
            assert_eq!(result(case, Level::One), Ok(()), "{case}");
            assert_eq!(
                result(case, Level::Three),
                Err(Reason::Level("III-3-15-import-L3"))
            );
        }
        assert_eq!(result(OriginCase::CaDirect, Level::Two), Ok(()));
        for case in [OriginCase::CaThroughSigner, OriginCase::Signer] {
            assert_eq!(
                result(case, Level::Two),
                Err(Reason::Level("III-3-15-import-L2"))
            );
        }
        for case in OriginCase::ALL.into_iter().filter(|c| !c.imported()) {
            assert_eq!(result(case, Level::One), Err(Reason::Invalid("case")));
        }
    }

    #[test]
    fn the_rest_of_the_service_holds_it_down_too() {
        let two = Level::Two;
        let by = |service: &Service, authorization, enrolment| {
            let case = OriginCase::CaDirect;
            facts(service, case, two, authorization, enrolment).map(drop)
        };
        assert_eq!(by(&service(two), two, two), Ok(()));
        assert_eq!(
            by(&service(two), Level::One, two),
            Err(Reason::Level("I-3.5.1-keyauth-L2"))
        );
        assert!(by(&service(two), two, Level::One).is_err());
        assert_eq!(
            by(&service(Level::One), two, two),
            Err(Reason::Level("I-3.5.1-retention-L2"))
        );
    }

    // shows: III-3-9-attributed-keys, III-3-17-retention-L2-no-export, III-A1.2-wrapping-strength
    #[test]
    fn a_key_leaves_only_at_level_one_and_only_if_it_was_made_so() {
        let (one, p256) = (Level::One, KeyAlg::P256);
        assert_eq!(check_hand_over(true, one, p256), Ok(()));
        let refused = |requirement| Err(Reason::Level(requirement));
        assert_eq!(
            check_hand_over(false, one, p256),
            refused("III-3-9-attributed-keys")
        );
        for level in [Level::Two, Level::Three] {
            let no = refused("III-3-17-retention-L2-no-export");
            assert_eq!(check_hand_over(true, level, p256), no);
            assert_eq!(check_exportable(&service(one), level, &[p256]), no);
        }
        let strong = check_hand_over(true, one, KeyAlg::P384);
        assert_eq!(strong, refused("III-A1.2-wrapping-strength"));
        assert_eq!(check_exportable(&service(one), one, &[p256]), Ok(()));
        let born = check_exportable(&service(one), one, &[p256, KeyAlg::P384]);
        assert_eq!(born, refused("III-A1.2-wrapping-strength"));
        assert!(check_exportable(&service(Level::Two), one, &[p256]).is_err());
    }
}
