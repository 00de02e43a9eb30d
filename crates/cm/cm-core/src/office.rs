//! Who the module's officers are, kept in a sealed row since the first start: another list in the configuration counts only with the
//! signatures of two officers of the list before (`III-A1.4.2-dual-control`). So whoever writes the configuration alone, an administrator,
//! makes nobody an officer.

use std::collections::BTreeMap;

use audit_log::{AuditLog, Event};
use cm_api::officers::{OfficerList, TYP_OFFICERS, distinct, name_of};
use cm_api::switch::OFFICERS;
use core_types::{Digest32, Level, Random, UnixTime, sha256};
use jose::Jwk;
use serde::{Deserialize, Serialize};
use store_kit::Tx;

use crate::mark;
use crate::officers::by_two;
use crate::store::Failed;
use crate::vault::Vault;

/// The officers as the module remembers them, and how they came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Office {
    /// 1 is the first list; each that follows has one more.
    pub(crate) version: u64,
    pub(crate) officers: Vec<Jwk>,
    /// What two of the list before have signed; nothing where there weren't two.
    pub(crate) approvals: Vec<String>,
}

/// What is to be recorded of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApprovedBy {
    /// Digest of what was signed.
    pub(crate) approval: Digest32,
    pub(crate) officers: [Digest32; OFFICERS],
}

/// The officers can't be what the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfficersError {
    /// Above level 1 two are needed, so that one isn't enough for anything.
    #[error("above level 1 the module needs at least two different officers")]
    TooFew,
    /// Other officers than the module remembers, and nobody of these has signed that.
    #[error(
        "the configuration names other officers than the module remembers (list {held}), and two of those haven't approved it"
    )]
    Changed {
        /// Version of the list that is remembered.
        held: u64,
    },
    /// A list that isn't signed as it should be.
    #[error(
        "a change of officers isn't approved by two officers of the list before, or isn't for this module"
    )]
    NotApproved,
    /// The row that remembers them was taken away.
    #[error(
        "the module's record of its officers was taken away, or the store is of a build that had none"
    )]
    Gone,
}

impl Office {
    /// A list that nobody had to approve.
    pub(crate) fn unsigned(version: u64, officers: &[Jwk]) -> Self {
        Self {
            version,
            officers: officers.to_vec(),
            approvals: Vec::new(),
        }
    }

    /// What the audit log says of it.
    pub(crate) fn in_office(&self) -> InOffice {
        InOffice {
            version: self.version,
            list: name_of(&self.officers),
            persons: u64::try_from(distinct(&self.officers).len()).unwrap_or(u64::MAX),
        }
    }
}

/// A list as the audit log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InOffice {
    pub(crate) version: u64,
    pub(crate) list: Digest32,
    pub(crate) persons: u64,
}

impl InOffice {
    /// The entry that tells of it.
    pub(crate) fn event(self, by: Option<ApprovedBy>) -> Event {
        Event::OfficersInForce {
            version: self.version,
            list: self.list,
            persons: self.persons,
            approval: by.map(|by| by.approval),
            officer: by.map(|by| by.officers[0]),
            second: by.map(|by| by.officers[1]),
        }
    }
}

/// What a list is kept and recorded with.
pub(crate) struct Keeper<'k> {
    pub(crate) vault: &'k Vault,
    pub(crate) random: &'k dyn Random,
    pub(crate) audit: &'k AuditLog,
    pub(crate) now: UnixTime,
}

impl Keeper<'_> {
    /// Compares the list that is kept with what is configured, brings it forward, and records each step. `fresh`: there is no module in
    /// this store yet.
    pub(crate) async fn begin(
        &self,
        tx: &mut Tx,
        (configured, changes): (&[Jwk], &[String]),
        place: &Place<'_>,
        fresh: bool,
    ) -> Result<Result<Office, OfficersError>, Failed> {
        let held = mark::read::<Office>(tx, self.vault, mark::OFFICERS).await?;
        let (mut office, mut row, steps) = match held {
            Some((held, row)) => match follow(&held, configured, changes, place) {
                Ok(steps) => (held, Some(row), steps),
                Err(error) => return Ok(Err(error)),
            },
            // A store of a build that kept no list has no entry of one either.
            None if fresh || !audit_log::ever_told(tx, "cm.officers-in-force").await? => {
                if let Err(error) = enough(configured, place.ceiling) {
                    return Ok(Err(error));
                }
                let first = Office::unsigned(1, configured);
                (first.clone(), None, vec![(first, None)])
            }
            None => return Ok(Err(OfficersError::Gone)),
        };
        for (next, by) in steps {
            let (vault, random) = (self.vault, self.random);
            mark::write(tx, vault, random, mark::OFFICERS, &next, row).await?;
            row = Some(row.unwrap_or(0) + 1);
            let event = next.in_office().event(by);
            self.audit.append(tx, event, self.now).await?;
            office = next;
        }
        Ok(Ok(office))
    }
}

/// Where a list is to count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) sam: &'p str,
    /// `kid` of the module's root key.
    pub(crate) root: &'p str,
    /// Level of the back end.
    pub(crate) ceiling: Level,
}

/// A list, and who approved it.
pub(crate) type Step = (Office, Option<ApprovedBy>);

/// Whether these could approve something: one who stands there twice is one.
pub(crate) fn can_approve(officers: &[Jwk]) -> bool {
    distinct(officers).len() >= OFFICERS
}

/// Refuses fewer officers than the level needs.
pub(crate) fn enough(officers: &[Jwk], ceiling: Level) -> Result<(), OfficersError> {
    match ceiling > Level::One && !can_approve(officers) {
        true => Err(OfficersError::TooFew),
        false => Ok(()),
    }
}

/// The lists that follow `held`, the last being what is `configured`; none when that is `held`. `changes`: what officers have signed, in
/// any order; of lists before `held` nothing is looked at.
pub(crate) fn follow(
    held: &Office,
    configured: &[Jwk],
    changes: &[String],
    place: &Place<'_>,
) -> Result<Vec<Step>, OfficersError> {
    enough(configured, place.ceiling)?;
    let mut signed: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for change in changes {
        let list = unverified(change).ok_or(OfficersError::NotApproved)?;
        signed.entry(list.version).or_default().push(change.clone());
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut last = held.clone();
    while can_approve(&last.officers)
        && let Some(lines) = signed.get(&last.version.saturating_add(1))
    {
        let (next, by) = step(&last, lines, place)?;
        last = next.clone();
        steps.push((next, Some(by)));
    }
    if distinct(&last.officers) == distinct(configured) {
        return Ok(steps);
    }
    // Where there aren't two nobody could approve it; above level 1 there always are.
    if !can_approve(&last.officers) {
        let next = Office::unsigned(last.version.saturating_add(1), configured);
        steps.push((next, None));
        return Ok(steps);
    }
    Err(OfficersError::Changed { held: last.version })
}

/// The list after `last`, as two of its officers have signed it.
fn step(
    last: &Office,
    lines: &[String],
    place: &Place<'_>,
) -> Result<(Office, ApprovedBy), OfficersError> {
    let no = |_| OfficersError::NotApproved;
    let approved = by_two(&last.officers, lines, TYP_OFFICERS).map_err(no)?;
    let list: OfficerList =
        serde_json::from_slice(&approved.payload).map_err(|_| OfficersError::NotApproved)?;
    // Also a list on the way to another one: whom it is followed by nobody could approve.
    let few = enough(&list.officers, place.ceiling).is_err();
    if list.sam != place.sam || list.root != place.root || !list.is_possible() || few {
        return Err(OfficersError::NotApproved);
    }
    let by = ApprovedBy {
        approval: sha256(&[&approved.payload]),
        officers: approved.officers,
    };
    let next = Office {
        version: list.version,
        officers: list.officers,
        approvals: lines.to_vec(),
    };
    Ok((next, by))
}

/// What a line says, before anybody has looked at its signature.
fn unverified(line: &str) -> Option<OfficerList> {
    let payload = core_types::bytes::from_b64u(line.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use jose::SigningKey;

    use super::*;

    const HERE: Place<'_> = Place {
        sam: "sam",
        root: "root",
        ceiling: Level::Two,
    };

    fn keys<const N: usize>() -> [SigningKey; N] {
        std::array::from_fn(|_| SigningKey::generate().unwrap().0)
    }

    fn public(keys: &[&SigningKey]) -> Vec<Jwk> {
        keys.iter().map(|k| k.public().clone()).collect()
    }

    fn list(version: u64, officers: &[&SigningKey]) -> OfficerList {
        OfficerList {
            sam: "sam".into(),
            root: "root".into(),
            version,
            reason: "b leaves, c comes".into(),
            officers: public(officers),
        }
    }

    fn signed(list: &OfficerList, by: &[&SigningKey]) -> Vec<String> {
        by.iter().map(|k| list.approve(k).unwrap()).collect()
    }

    // shows: III-A1.4.2-dual-control, T-INS-OPERATOR
    #[test]
    fn two_of_those_before_make_others_officers_and_nobody_else() {
        let [a, b, c, d] = &keys();
        let held = Office::unsigned(4, &public(&[a, b]));
        let same = follow(&held, &public(&[b, a, a]), &[], &HERE).unwrap();
        assert_eq!(same, Vec::new(), "in another order");
        let next = public(&[a, c]);
        let good = list(5, &[a, c]);
        let steps = follow(&held, &next, &signed(&good, &[a, b]), &HERE).unwrap();
        let [(office, Some(by))] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert_eq!(
            (office.version, office.in_office().list),
            (5, name_of(&next))
        );
        assert_eq!(by.officers, [a, b].map(|k| k.public().thumbprint()));

        let changed = OfficersError::Changed { held: 4 };
        let not = OfficersError::NotApproved;
        let other = |change: fn(&mut OfficerList)| {
            let mut list = good.clone();
            change(&mut list);
            signed(&list, &[a, b])
        };
        for (lines, why) in [
            (Vec::new(), changed),
            (signed(&good, &[a]), not),
            (signed(&good, &[a, a]), not),
            // The new ones themselves.
            (signed(&good, &[c, d]), not),
            (signed(&good, &[a, c]), not),
            // Twice, or before: of another version than the next.
            (signed(&list(4, &[a, c]), &[a, b]), changed),
            (signed(&list(6, &[a, c]), &[a, b]), changed),
            // What they approved is another list.
            (
                signed(&list(5, &[a, d]), &[a, b]),
                OfficersError::Changed { held: 5 },
            ),
            (other(|l| l.sam = "other".into()), not),
            (other(|l| l.root = "other".into()), not),
            (other(|l| l.reason = String::new()), not),
            (other(|l| l.reason = "a\nb".into()), not),
            (other(|l| l.officers.push(l.officers[0].clone())), not),
            (vec!["a.b.c".into()], not),
            (
                [signed(&good, &[a]), signed(&list(5, &[a, d]), &[b])].concat(),
                not,
            ),
        ] {
            let told = follow(&held, &next, &lines, &HERE);
            assert_eq!(told, Err(why), "{lines:?}");
        }
    }

    #[test]
    fn a_store_that_is_behind_comes_forward_over_every_list() {
        let [a, b, c, d] = &keys();
        let held = Office::unsigned(1, &public(&[a, b]));
        let two = signed(&list(2, &[a, c]), &[a, b]);
        let three = signed(&list(3, &[c, d]), &[a, c]);
        let all = [three.clone(), two.clone()].concat();
        let steps = follow(&held, &public(&[c, d]), &all, &HERE).unwrap();
        let versions: Vec<_> = steps.iter().map(|(office, _)| office.version).collect();
        assert_eq!(versions, [2, 3]);
        let last = &steps[1].0;
        assert_eq!(follow(last, &public(&[c, d]), &all, &HERE), Ok(Vec::new()));
        // Those who were are none any more.
        let back = signed(&list(4, &[a, b]), &[a, b]);
        let told = follow(last, &public(&[a, b]), &back, &HERE);
        assert_eq!(told, Err(OfficersError::NotApproved));
        let gap = follow(&held, &public(&[c, d]), &three, &HERE);
        assert_eq!(gap, Err(OfficersError::Changed { held: 1 }));
    }

    #[test]
    fn fewer_than_two_are_for_level_1() {
        let [a, b, c] = &keys();
        let at = |ceiling| Place { ceiling, ..HERE };
        let none = Office::unsigned(1, &[]);
        let one = Office::unsigned(1, &public(&[a]));
        let two = Office::unsigned(1, &public(&[a, b]));
        for level in [Level::Two, Level::Three] {
            for few in [vec![], public(&[a]), public(&[a, a])] {
                for held in [&none, &one, &two] {
                    let told = follow(held, &few, &[], &at(level));
                    assert_eq!(told, Err(OfficersError::TooFew));
                }
            }
        }
        // Where nobody could approve it, the first two are as they are named.
        let doubled = Office::unsigned(1, &public(&[a, a]));
        for held in [&none, &one, &doubled] {
            let steps = follow(held, &public(&[b, c]), &[], &at(Level::Two)).unwrap();
            assert_eq!(steps, [(Office::unsigned(2, &public(&[b, c])), None)]);
        }
        // Two may leave it to one at level 1, and not above, whatever comes after.
        let alone = signed(&list(2, &[c]), &[a, b]);
        let then = public(&[b, c]);
        let told = follow(&two, &then, &alone, &at(Level::Two));
        assert_eq!(told, Err(OfficersError::NotApproved));
        let steps = follow(&two, &public(&[c]), &alone, &at(Level::One)).unwrap();
        assert_eq!(steps.len(), 1);
        // And not at level 1 either where two could.
        let changed = Err(OfficersError::Changed { held: 1 });
        for other in [vec![], public(&[a]), public(&[a, c])] {
            assert_eq!(follow(&two, &other, &[], &at(Level::One)), changed);
        }
    }
}
