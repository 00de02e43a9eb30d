//! What the module notes of entries that are deleted after archiving, so that its comparison of log and rows goes on.

use std::collections::BTreeMap;

use audit_log::{Summary, Told};
use core_types::{Digest32, UnixTime};
use serde::{Deserialize, Serialize};

use super::{InForce, Ledger, Life, SamTold};
use crate::office::InOffice;
use crate::switch::Switched;

/// Keys in a part.
const KEYS: usize = 100;

/// A part of what is noted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "lowercase", deny_unknown_fields)]
enum Part {
    /// What isn't about one key.
    Module {
        last_order: Option<UnixTime>,
        backups: Vec<(Digest32, Option<Digest32>)>,
        switched: Option<Switched>,
        algorithms: Option<InForce>,
        #[serde(default)]
        officers: Vec<InOffice>,
        #[serde(default)]
        errors: Vec<(Digest32, i64)>,
        #[serde(default)]
        sam: Box<SamTold>,
    },
    /// What was done with some keys.
    Keys { lives: BTreeMap<String, Life> },
}

impl Summary for Ledger {
    /// Names of orders aren't noted: only a restore asks for them, and takes them from export and archives.
    fn take(&mut self, told: Told<'_>) -> Result<(), &'static str> {
        let part = match told {
            Told::Entry(body) => {
                let read = self.read(body);
                self.orders.clear();
                return read.map_err(|_| "it isn't an entry of a module");
            }
            Told::Summary(part) => serde_json::from_str::<Part>(part),
            Told::Again => {
                *self = Self::default();
                return Ok(());
            }
        };
        match part.map_err(|_| "what was noted of deleted entries is unreadable")? {
            Part::Module {
                last_order,
                backups,
                switched,
                algorithms,
                officers,
                errors,
                sam,
            } => {
                self.last_order = last_order;
                self.backups.extend(backups);
                self.switched = switched;
                self.algorithms = algorithms;
                for list in officers {
                    self.officers.entry(list.version).or_default().insert(list);
                }
                self.errors.extend(errors);
                self.sam = *sam;
            }
            Part::Keys { lives } => self.keys.extend(lives),
        }
        Ok(())
    }

    fn parts(&self) -> Result<Vec<String>, &'static str> {
        let mut backups: Vec<_> = self.backups.iter().map(|(id, of)| (*id, *of)).collect();
        backups.sort_unstable();
        let mut parts = vec![Part::Module {
            last_order: self.last_order,
            backups,
            switched: self.switched,
            algorithms: self.algorithms,
            officers: self.officers.values().flatten().copied().collect(),
            errors: self.errors.iter().map(|(id, n)| (*id, *n)).collect(),
            sam: Box::new(self.sam.clone()),
        }];
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        parts.extend(keys.chunks(KEYS).map(|some| {
            Part::Keys {
                lives: some
                    .iter()
                    .map(|(key, life)| ((*key).clone(), **life))
                    .collect(),
            }
        }));
        let texts = parts.iter().map(serde_json::to_string);
        texts
            .collect::<Result<_, _>>()
            .map_err(|_| "it has no text form")
    }
}

#[cfg(test)]
mod tests {
    use core_types::DestroyCause;

    use super::*;
    use crate::attributes::Tree;
    use crate::ledger::End;

    #[test]
    fn what_is_noted_is_what_was_read() {
        let digest = |n| Digest32([n; 32]);
        let mut ledger = Ledger {
            last_order: Some(UnixTime(9)),
            switched: Some(Switched {
                serial: 3,
                enabled: true,
            }),
            algorithms: Some(InForce {
                version: 2,
                table: digest(2),
                officers: 2,
            }),
            ..Ledger::default()
        };
        ledger.backups.insert(digest(4), Some(digest(5)));
        ledger.errors.extend([(digest(6), 1), (digest(7), 0)]);
        ledger.sam.take(digest(8), UnixTime(1), false);
        ledger.sam.take(digest(9), UnixTime(2), true);
        ledger.sam.sign(digest(9), UnixTime(2));
        let in_office = |version, n| InOffice {
            version,
            list: digest(n),
            persons: 2,
        };
        for told in [in_office(1, 1), in_office(2, 2)] {
            ledger
                .officers
                .entry(told.version)
                .or_default()
                .insert(told);
        }
        for n in 0..250_u64 {
            let life = Life {
                made: true,
                signatures: n,
                csr: n % 2 == 0,
                handed_over: n % 3 == 0,
                wrong: n % 5 == 0,
                destroyed: n % 7 == 0,
                checkpoint: (n % 11 == 0).then_some(Tree {
                    size: n,
                    root: digest(6),
                }),
                end: (n % 7 == 0).then_some(End {
                    at: UnixTime(7),
                    act: digest(8),
                    cause: DestroyCause::Owner,
                }),
                spki: (n % 13 == 0).then_some(digest(9)),
                ..Life::default()
            };
            ledger.keys.insert(format!("k{n}"), life);
        }
        let parts = ledger.parts().unwrap();
        assert_eq!(parts.len(), 4);
        let mut again = Ledger::default();
        for part in &parts {
            again.take(Told::Summary(part)).unwrap();
        }
        assert_eq!(again.keys, ledger.keys);
        assert_eq!(again.officers(), Some(in_office(2, 2)));
        assert_eq!(again.errors().collect::<Vec<_>>(), [digest(6)]);
        assert_eq!(again.sam, ledger.sam);
        assert!(again.ended(digest(7)) && !again.ended(digest(6)));
        assert_eq!(again.parts().unwrap(), parts);
        assert!(again.take(Told::Summary("{}")).is_err());

        // What comes behind the cut counts on.
        let used = r#"{"zone":"cm","at":9,"kind":"key.used","detail":{"key":"k10","count":5}}"#;
        again.take(Told::Entry(used)).unwrap();
        assert_eq!(again.keys["k10"].signatures, 15);

        // What a build noted that noted no public keys.
        let before = r#"{"part":"keys","lives":{"k10":{"made":true,"signatures":1,"csr":false,"handed_over":false,"wrong":false,"destroyed":false,"checkpoint":null,"end":null}}}"#;
        let mut old = Ledger::default();
        old.take(Told::Summary(before)).unwrap();
        assert_eq!(old.keys["k10"].spki, None);

        // Two lists under one version: somebody took the module's memory away.
        let other = format!(
            r#"{{"zone":"cm","at":9,"kind":"cm.officers-in-force","detail":{{"version":1,"list":"{}","persons":2}}}}"#,
            digest(3)
        );
        again.take(Told::Entry(&other)).unwrap();
        assert_eq!(again.officers(), None);

        // Told again from the beginning, nothing counts twice.
        again.take(Told::Again).unwrap();
        for part in &parts {
            again.take(Told::Summary(part)).unwrap();
        }
        assert_eq!(again.keys, ledger.keys);
    }
}
