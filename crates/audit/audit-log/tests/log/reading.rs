//! What is found in a log, by whatever is looked for; and whom it doesn't name any more.

use std::collections::BTreeSet;

use audit_log::{
    Class, Event, Outcome, Place, Query, Start, TABLES, follow, opening, read_back, search,
};
use core_types::{Digest32, KeyId, PersonId, PersonName, TenantId, UnixTime};
use store_kit::{StoreError, testing, transaction};

use crate::kit::{NOW, log, open, write};

#[tokio::test]
async fn entries_are_sequenced_and_found() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        for n in 0..30 {
            write(&store, &log(if n % 3 == 0 { "b" } else { "a" }), n).await;
        }
        let done = sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!((done.added, done.size), (30, 30));
        assert_eq!(sequencer.sequence(&store, NOW).await.unwrap().added, 0);
        let found = search(&store, &Query::default()).await.unwrap();
        let seqs: BTreeSet<_> = found.entries.iter().map(|e| e.entry.seq).collect();
        assert_eq!(seqs, (0..30).collect());
        let some = Query {
            from: NOW.plus(5),
            until: NOW.plus(8),
            kinds: vec!["key.suspended".to_owned()],
            person: PersonName::parse("p6").ok(),
            ..Query::default()
        };
        let found = search(&store, &some).await.unwrap().entries;
        assert_eq!(found.len(), 1);
        let entry = &found[0].entry;
        assert_eq!((entry.node.as_str(), entry.at), ("b", NOW.plus(6)));
        assert_eq!(found[0].person.as_deref(), Some("p6"));
        assert!(!entry.body.contains("\"p6\""), "{}", entry.body);
        for nothing in [
            Query {
                kinds: vec!["key.used".to_owned()],
                ..some.clone()
            },
            Query {
                until: NOW.plus(6),
                ..some.clone()
            },
            Query {
                outcome: Some(Outcome::Failure),
                ..some.clone()
            },
            Query {
                class: Some(Class::Access),
                ..some.clone()
            },
            Query {
                key: KeyId::parse("k2").ok(),
                ..some.clone()
            },
            Query {
                person: PersonName::parse("nobody").ok(),
                ..some.clone()
            },
        ] {
            let found = search(&store, &nothing).await.unwrap();
            assert!(
                found.entries.is_empty() && found.next.is_none(),
                "{nothing:?}"
            );
        }
    }
}

// shows: I-7.1.4.5-search, I-A5-audit-log-selectable
#[tokio::test]
async fn every_criterion_and_every_pair_finds_exactly_what_fits_page_by_page() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let person = |n: usize| PersonId::parse(format!("p{n}")).unwrap();
        let key = |n: usize| KeyId::parse(format!("k{n}")).unwrap();
        let mut written = Vec::new();
        for n in 0..240_usize {
            let (who, of) = (person(n % 7), key(n % 5));
            let event = match n % 4 {
                0 => Event::KeySuspended {
                    key: of,
                    owner: who,
                    reason: "test".into(),
                },
                1 => Event::KeyErased {
                    key: of,
                    owner: who,
                },
                2 => Event::LoginFailed {
                    person: Some(who),
                    method: "totp".into(),
                    reason: "test".into(),
                    from: Place::Unknown,
                },
                _ => Event::Alarm {
                    what: "test".into(),
                },
            };
            // Several in one second, and not in the order of their numbers.
            let at = NOW.plus(i64::try_from((n * 37) % 60).unwrap());
            let own = log(if n % 3 == 0 { "b" } else { "a" });
            let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
                own.append(tx, event.clone(), at).await
            });
            let place = done.unwrap();
            written.push((at, place.node, place.n, event));
        }
        sequencer.sequence(&store, NOW).await.unwrap();
        written.sort_by_key(|(at, node, n, _)| (*at, node.clone(), *n));
        let times = [None, Some((NOW.plus(10), NOW.plus(40)))];
        let kinds = [
            vec![],
            vec!["key."],
            vec!["login.failed", "alarm"],
            vec!["key.erased"],
        ];
        for (time, kinds) in times.iter().flat_map(|t| kinds.iter().map(move |k| (t, k))) {
            for (who, of, outcome) in [
                (None, None, None),
                (Some(person(3)), None, None),
                (None, Some(key(2)), None),
                (Some(person(3)), Some(key(2)), None),
                (None, None, Some(Outcome::Failure)),
                (Some(person(3)), None, Some(Outcome::Success)),
            ] {
                let (from, until) = time.unwrap_or((UnixTime(0), UnixTime(i64::MAX)));
                let mut query = Query {
                    from,
                    until,
                    kinds: kinds.iter().map(|k| (*k).to_owned()).collect(),
                    person: who.clone().map(Into::into),
                    key: of.clone(),
                    outcome,
                    limit: 7,
                    ..Query::default()
                };
                let fits = |(at, _, _, event): &&(UnixTime, String, i64, Event)| {
                    let kind = event.kind();
                    let named = |k: &&str| kind == *k || (k.ends_with('.') && kind.starts_with(*k));
                    (from..until).contains(at)
                        && (kinds.is_empty() || kinds.iter().any(named))
                        && who.as_ref().is_none_or(|who| event.person() == Some(who))
                        && of.as_ref().is_none_or(|of| event.key() == Some(of))
                        && outcome.is_none_or(|outcome| event.outcome() == outcome)
                };
                let expected: Vec<_> = written.iter().filter(fits).map(|w| (&w.1, w.2)).collect();
                let mut found = Vec::new();
                loop {
                    let page = search(&store, &query).await.unwrap();
                    assert!(page.entries.len() <= 7);
                    found.extend(page.entries.into_iter().map(|f| (f.entry.node, f.entry.n)));
                    let Some(next) = page.next else { break };
                    query.after = Some(next.to_string().parse().unwrap());
                }
                let found: Vec<_> = found.iter().map(|(node, n)| (node, *n)).collect();
                assert_eq!(found, expected, "{query:?}");
            }
        }
    }
}

/// In a search, entries of a node whose clock is behind, or whose name sorts first, come in before what was read.
#[tokio::test]
async fn reading_on_in_the_order_of_the_log_misses_no_entry_of_any_node() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let (mut read, mut last) = (Vec::new(), None);
        let mut written = 0;
        // In each second both nodes write; what `a` writes is read before `b`, which is also a minute behind at times.
        for round in 0..20 {
            for (node, late) in [("b", 0), ("a", 0), ("a", -60)] {
                write(&store, &log(node), round / 5 + late).await;
                written += 1;
                sequencer.sequence(&store, NOW).await.unwrap();
                let start = last.map_or(Start::Time(NOW.plus(-60)), Start::After);
                for entry in follow(&store, start, 7).await.unwrap().entries {
                    let place = u64::try_from(entry.seq).unwrap();
                    assert!(last.is_none_or(|last| last < place));
                    last = Some(place);
                    read.push((entry.node, entry.n));
                }
            }
        }
        let count = read.len();
        assert_eq!(count, written);
        read.sort();
        read.dedup();
        assert_eq!(read.len(), count, "each once");
        // A beginning takes what is of that time or later, and what stands behind it.
        let none = follow(&store, Start::Time(NOW.plus(1000)), 7)
            .await
            .unwrap();
        assert!(none.entries.is_empty());
        let all = follow(&store, Start::Time(UnixTime(0)), 1000)
            .await
            .unwrap();
        assert_eq!((all.entries.len(), all.size), (count, 60));
        let beyond = follow(&store, Start::After(u64::MAX), 7).await.unwrap();
        assert_eq!((beyond.entries.len(), beyond.size), (0, 60));
    }
}

#[tokio::test]
async fn a_person_is_forgotten_and_the_log_holds() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        for n in [1, 2, 1] {
            write(&store, &log, n).await;
        }
        let (one, two) = (
            PersonId::parse("p1").unwrap(),
            PersonId::parse("p2").unwrap(),
        );
        let about = async |person: &PersonId| {
            let query = Query {
                person: Some(person.clone().into()),
                ..Query::default()
            };
            search(&store, &query).await.unwrap().entries
        };
        sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!((about(&one).await.len(), about(&two).await.len()), (2, 1));
        let salt = opening(&store, one.as_str()).await.unwrap().unwrap().salt;
        let forget = async |commit: bool| {
            let done: Result<bool, StoreError> = transaction!(store.store, "forget", |tx| {
                let known = log.forget(tx, &one, Digest32([9; 32]), NOW).await?;
                if commit {
                    Ok(known)
                } else {
                    Err(StoreError::Column("none"))
                }
            });
            done
        };
        assert!(forget(false).await.is_err());
        assert_eq!(about(&one).await.len(), 2, "nothing was done");
        assert!(forget(true).await.unwrap());
        assert!(!forget(true).await.unwrap(), "nobody is known any more");
        assert_eq!((about(&one).await.len(), about(&two).await.len()), (0, 1));
        sequencer.sequence(&store, NOW).await.unwrap();
        read_back(&log, &store, |_| Ok(())).await.unwrap();
        let all = search(&store, &Query::default()).await.unwrap().entries;
        assert_eq!(all.iter().filter(|f| f.person.is_none()).count(), 3);
        // The same person comes again under another name.
        write(&store, &log, 1).await;
        let again = opening(&store, one.as_str()).await.unwrap().unwrap();
        assert_ne!(again.salt, salt);
        sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!(about(&one).await.len(), 1);
    }
}

// The same name in two tenants is two persons, also for whoever reads the log.
#[tokio::test]
async fn a_tenants_persons_are_named_apart() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        let acme = log.within(&TenantId::parse("acme").unwrap());
        let event = Event::LoginSucceeded {
            person: PersonId::parse("taro").unwrap(),
            method: "totp".into(),
            session: None,
            from: Place::Unknown,
            credential: None,
        };
        let done: Result<(), StoreError> = transaction!(store.store, "two", |tx| {
            log.append(tx, event.clone(), NOW).await?;
            acme.append(tx, event.clone(), NOW).await?;
            acme.append(tx, event.clone(), NOW).await.map(drop)
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        for (name, times) in [("taro", 1), ("acme/taro", 2), ("other/taro", 0)] {
            let query = Query {
                person: PersonName::parse(name).ok(),
                ..Query::default()
            };
            let found = search(&store, &query).await.unwrap().entries;
            assert_eq!(found.len(), times, "{name}");
            let within = |e: &audit_log::FoundEntry| e.entry.body.contains("\"tenant\":\"acme\"");
            assert!(found.iter().all(|e| within(e) == name.starts_with("acme/")));
            assert!(found.iter().all(|e| e.person.as_deref() == Some(name)));
        }
        read_back(&log, &store, |_| Ok(())).await.unwrap();
    }
}
