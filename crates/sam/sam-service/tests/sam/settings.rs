//! A configuration that wasn't signed by those who may isn't obeyed.

use std::sync::Arc;

use core_types::random::SystemRandom;
use core_types::{Clock as _, Level, UnixTime, sha256};
use jose::SigningKey;
use sam_service::{DeclaredPages, Sam, SamConfig, SettingsSource, StartError, Whose};
use signed_config::{Brought, Files, Manifest, SettingsRefused, TYP_SETTINGS, Zone};

use crate::cm::Cm;
use crate::kit::*;
use crate::levels::worlds_at;
use crate::stores::run;

fn officers() -> [SigningKey; 3] {
    std::array::from_fn(|_| SigningKey::generate().unwrap().0)
}

fn files(text: &str) -> Files {
    [("config".to_owned(), sha256(&[text.as_bytes()]))].into()
}

/// A configuration of the node `sam-1` and its like, for `signers` to sign the next one, signed by `by`.
fn signed(text: &str, serial: u64, signers: &[&SigningKey], by: &[&SigningKey]) -> SettingsSource {
    signed_until(text, serial, 2, START.plus(3600), (signers, by))
}

fn signed_until(
    text: &str,
    serial: u64,
    need: u8,
    exp: UnixTime,
    (signers, by): (&[&SigningKey], &[&SigningKey]),
) -> SettingsSource {
    let manifest = Manifest {
        v: 2,
        of: Zone::Sam.of("sam.test"),
        serial,
        reason: "監査の設定を改める".into(),
        exp,
        need,
        signers: signers.iter().map(|k| k.public().clone()).collect(),
        nodes: ["sam-1", "sam-2"]
            .map(|n| (n.to_owned(), files(text)))
            .into(),
    };
    let bytes = manifest.bytes().unwrap();
    let sign = |k: &&SigningKey| k.sign(TYP_SETTINGS, &bytes).unwrap();
    SettingsSource::Files(Brought {
        files: files(text),
        signatures: by.iter().map(sign).collect(),
    })
}

async fn start(
    world: &World,
    node: &str,
    source: SettingsSource,
) -> Result<Sam<Cm>, SettingsRefused> {
    let config = SamConfig {
        node: node.into(),
        source,
        ..world.config.clone()
    };
    let started = Sam::start(
        config,
        world.cm.clone(),
        world.store.store.clone(),
        Some(world.sam.root().clone()),
        world.clock.clone(),
        Arc::new(SystemRandom),
    );
    match started.await {
        Ok(sam) => Ok(sam),
        Err(StartError::Settings(refused)) => Err(refused),
        Err(error) => panic!("{error}"),
    }
}

// shows: II-3.3.2-config-tamper-detected, II-3.3.2-config-change-privileged-only
#[tokio::test(flavor = "multi_thread")]
async fn an_unauthorised_change_of_the_configuration_is_refused_and_recorded() {
    for world in worlds().await {
        let [a, b, thief] = officers();
        let both = [&a, &b];
        let first = signed("one", 1, &both, &both);
        start(&world, "sam-1", first.clone()).await.unwrap();
        assert_eq!(world.audited("settings.adopted", "\"serial\":1").await, 1);
        // The same on every node, at every start; it is recorded once.
        start(&world, "sam-2", first.clone()).await.unwrap();
        start(&world, "sam-1", first.clone()).await.unwrap();
        assert_eq!(world.audited("settings.adopted", "").await, 1);

        let SettingsSource::Files(good) = first.clone() else {
            unreachable!()
        };
        let edited = SettingsSource::Files(Brought {
            files: files("edited"),
            ..good.clone()
        });
        let stripped = SettingsSource::Files(Brought {
            signatures: Vec::new(),
            ..good
        });
        use SettingsRefused as R;
        for (source, why) in [
            (edited, R::Changed),
            (stripped, R::Unsigned),
            (signed("mine", 2, &[&thief, &b], &[&thief, &b]), R::Signers),
            (signed("mine", 2, &both, &[&a]), R::Signers),
            (signed("mine", 2, &both, &[&a, &a]), R::Signers),
            (signed("mine", 1, &both, &both), R::Older),
        ] {
            let code = format!("\"{}\"", why.code());
            let before = world.audited("settings.refused", &code).await;
            assert_eq!(start(&world, "sam-1", source).await.err(), Some(why));
            let after = world.audited("settings.refused", &code).await;
            assert_eq!(after, before + 1, "{code}");
        }
        // A node of another name isn't a way round.
        let refused = start(&world, "sam-9", first.clone()).await.err();
        assert_eq!(refused, Some(R::Changed));

        // Those who may change it, and who signs the next one.
        let second = signed("two", 2, &[&a, &thief], &both);
        start(&world, "sam-1", second.clone()).await.unwrap();
        // Also at the next start, when one who signed it may no more.
        start(&world, "sam-2", second).await.unwrap();
        assert_eq!(start(&world, "sam-1", first).await.err(), Some(R::Signers));
        let third = signed("three", 3, &both, &[&thief, &a]);
        start(&world, "sam-1", third).await.unwrap();
        assert_eq!(world.audited("settings.adopted", "").await, 3);
    }
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn who_may_sign_is_not_changed_in_the_store() {
    for world in worlds().await {
        let [a, b, thief] = officers();
        let (both, mine) = ([&a, &b], [&thief, &a]);
        let first = signed("one", 1, &both, &both);
        start(&world, "sam-1", first.clone()).await.unwrap();
        run(
            &world,
            "CREATE TABLE kept_settings AS SELECT * FROM settings",
        )
        .await;
        let second = signed("two", 2, &both, &both);
        start(&world, "sam-1", second.clone()).await.unwrap();

        // Taken away, so that the next one might name its own signers; edited; the one before put back.
        let stolen = signed("mine", 1, &mine, &mine);
        for attack in [
            "DELETE FROM settings",
            "UPDATE settings SET version = version + 1",
            "UPDATE settings SET sealed = (SELECT sealed FROM kept_settings), version = 1",
        ] {
            run(
                &world,
                "CREATE TABLE now_settings AS SELECT * FROM settings",
            )
            .await;
            run(&world, attack).await;
            // Above what the log names there is no row of ours, whatever is brought.
            let newer = attack.contains("+ 1").then_some(&second);
            for source in [&stolen, &first].into_iter().chain(newer) {
                let refused = start(&world, "sam-1", source.clone()).await.err();
                assert_eq!(refused, Some(SettingsRefused::Record), "{attack}");
            }
            run(&world, "DELETE FROM settings").await;
            run(&world, "INSERT INTO settings SELECT * FROM now_settings").await;
            run(&world, "DROP TABLE now_settings").await;
        }
        start(&world, "sam-1", second).await.unwrap();
        assert_eq!(world.audited("settings.refused", "\"record\"").await, 7);
    }
}

/// As after a restore of an older store, whose log was brought up.
// shows: II-3.3.2-config-tamper-detected, I-7.1.7.2-restore-state
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_names_last_goes_on_where_its_row_is_older_or_gone() {
    for world in worlds().await {
        let [a, b, thief] = officers();
        let both = [&a, &b];
        let first = signed("one", 1, &both, &both);
        start(&world, "sam-1", first.clone()).await.unwrap();
        run(&world, "CREATE TABLE old AS SELECT * FROM settings").await;
        let second = signed("two", 2, &both, &both);
        start(&world, "sam-1", second.clone()).await.unwrap();
        let SettingsSource::Files(good) = second.clone() else {
            unreachable!()
        };
        // Other signatures than were judged then, and other files.
        let resigned = signed("two", 2, &both, &[&thief, &a]);
        let edited = SettingsSource::Files(Brought {
            files: files("edited"),
            ..good
        });
        for (n, attack) in [
            "DELETE FROM settings",
            "UPDATE settings SET sealed = (SELECT sealed FROM old), version = 1",
            // What was put back is set back in its turn.
            "UPDATE settings SET sealed = (SELECT sealed FROM old), version = 1",
        ]
        .into_iter()
        .enumerate()
        {
            run(&world, attack).await;
            for (source, why) in [
                (&first, SettingsRefused::Record),
                (&resigned, SettingsRefused::Record),
                (&edited, SettingsRefused::Changed),
            ] {
                let refused = start(&world, "sam-1", source.clone()).await.err();
                assert_eq!(refused, Some(why), "{attack}");
            }
            start(&world, "sam-1", second.clone()).await.unwrap();
            let by = b.public().thumbprint().to_string();
            assert_eq!(world.audited("settings.adopted", &by).await, 3 + n);
            // From here on it is as it was.
            let alarms = world.audited("alarm", "sealed-row").await;
            start(&world, "sam-2", second.clone()).await.unwrap();
            assert_eq!(world.audited("alarm", "sealed-row").await, alarms);
            assert_eq!(world.audited("settings.adopted", "").await, 3 + n);
            let refused = start(&world, "sam-1", first.clone()).await.err();
            assert_eq!(refused, Some(SettingsRefused::Older));
        }
        let third = signed("three", 3, &both, &both);
        start(&world, "sam-1", third).await.unwrap();
    }
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_back_behind_a_configuration_that_was_obeyed_meanwhile() {
    for world in worlds().await {
        let [a, b, _] = officers();
        let both = [&a, &b];
        let source = signed("two", 2, &both, &both);
        start(&world, "sam-1", source.clone()).await.unwrap();
        // As if it had come after the comparison, which doesn't see it: before the first of its node's chain.
        run(
            &world,
            "INSERT INTO audit_entry (node, n, at, kind, body, leaf, mac) \
             SELECT node, -n, at, kind, replace(body, '\"serial\":2', '\"serial\":3'), leaf, mac \
             FROM audit_entry WHERE kind = 'settings.adopted'",
        )
        .await;
        run(&world, "DELETE FROM settings").await;
        let refused = start(&world, "sam-1", source.clone()).await.err();
        assert_eq!(refused, Some(SettingsRefused::Record));
        run(&world, "DELETE FROM audit_entry WHERE n < 0").await;
        start(&world, "sam-1", source).await.unwrap();
    }
}

/// After a restore all nodes start together: each finds the row gone, and one of them puts it back.
// shows: I-7.1.7.2-restore-state
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_put_the_row_back_together() {
    for world in worlds().await {
        let [a, b, _] = officers();
        let both = [&a, &b];
        let source = signed("one", 1, &both, &both);
        start(&world, "sam-1", source.clone()).await.unwrap();
        run(&world, "DELETE FROM settings").await;
        let (one, two) = tokio::join!(
            start(&world, "sam-1", source.clone()),
            start(&world, "sam-2", source.clone()),
        );
        one.unwrap();
        two.unwrap();
        let alarms = world.audited("alarm", "sealed-row").await;
        start(&world, "sam-1", source).await.unwrap();
        assert_eq!(world.audited("alarm", "sealed-row").await, alarms);
        assert_eq!(world.audited("settings.refused", "").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_is_possible_at_level_1_only_and_until_somebody_signs() {
    for world in worlds().await {
        let unsigned = SettingsSource::Files(Brought {
            files: files("one"),
            signatures: Vec::new(),
        });
        start(&world, "sam-1", unsigned.clone()).await.unwrap();
        let [a, b, _] = officers();
        let both = [&a, &b];
        let signed = signed("one", 1, &both, &both);
        start(&world, "sam-1", signed).await.unwrap();
        let refused = start(&world, "sam-1", unsigned).await.err();
        assert_eq!(refused, Some(SettingsRefused::Unsigned));
        assert_eq!(world.config.policy.ceiling, Level::One);
    }
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test(flavor = "multi_thread")]
async fn above_level_1_one_person_changes_no_setting() {
    for world in worlds_at(Level::Two).await {
        let [a, b, _] = officers();
        let (all, later) = ([&a, &b], START.plus(3600));
        let alone = signed_until("one", 1, 1, later, (&[&a], &[&a]));
        let next_alone = signed_until("one", 1, 1, later, (&all, &all));
        for source in [alone, next_alone] {
            let refused = start(&world, "sam-1", source).await.err();
            assert_eq!(refused, Some(SettingsRefused::OnePerson));
        }
        assert_eq!(world.audited("settings.refused", "\"one-person\"").await, 2);
        assert_eq!(world.audited("settings.adopted", "").await, 0);
        let both = signed("one", 1, &all, &all);
        start(&world, "sam-1", both).await.unwrap();
    }
    for world in worlds().await {
        let [a, _, _] = officers();
        let alone = signed_until("one", 1, 1, START.plus(3600), (&[&a], &[&a]));
        start(&world, "sam-1", alone).await.unwrap();
        assert_eq!(world.audited("settings.adopted", "\"need\":1").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_who_signed_and_their_words_are_kept() {
    for world in worlds().await {
        let [a, b, _] = officers();
        let both = [&a, &b];
        let source = signed("one", 1, &both, &both);
        let SettingsSource::Files(brought) = source.clone() else {
            unreachable!()
        };
        let sam = start(&world, "sam-1", source).await.unwrap();
        let name = sha256(&[brought.evidence().as_bytes()]);
        assert_eq!(
            world.audited("settings.adopted", &name.to_string()).await,
            1
        );
        for key in both {
            let by = key.public().thumbprint().to_string();
            assert_eq!(world.audited("settings.adopted", &by).await, 1);
        }
        let kept = sam.evidence(name).await.unwrap().unwrap();
        assert_eq!(kept, brought.evidence().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_waits_for_its_first_start_no_longer_than_was_signed() {
    for world in worlds().await {
        let [a, b, _] = officers();
        let both: [&SigningKey; 2] = [&a, &b];
        let until = |serial, exp| signed_until("one", serial, 2, exp, (&both, &both));
        let now = world.clock.now();
        let first = until(1, now.plus(60));
        for late in [until(1, now), until(1, now.plus(8 * 24 * 3600))] {
            let refused = start(&world, "sam-1", late).await.err();
            assert_eq!(refused, Some(SettingsRefused::Expired));
        }
        start(&world, "sam-1", first.clone()).await.unwrap();
        world.clock.advance(3600);
        start(&world, "sam-1", first).await.unwrap();
        let refused = start(&world, "sam-1", until(2, now.plus(60))).await.err();
        assert_eq!(refused, Some(SettingsRefused::Expired));
    }
}

/// What the pages consist of is in the log at each start, so that a monitor needn't believe the host that serves them.
// shows: T-KEY-DATA-ALTER
#[tokio::test(flavor = "multi_thread")]
async fn what_the_pages_consist_of_is_in_the_log() {
    let file = sha256(&[b"file"]);
    let list = format!("{{\"/a?lang=ja\":\"{file}\",\"/sic/act.mjs\":\"{file}\"}}");
    let read = |text: &str| DeclaredPages::read(Whose::Signers, text.to_owned());
    for other in ["", "{}", "[]", "{\"a\":\"x\"}", &list.replace("/a?", "a?")] {
        assert_eq!(read(other), None, "{other}");
    }
    for world in worlds().await {
        let config = SamConfig {
            node: "sam-2".into(),
            pages: vec![read(&list).unwrap()],
            ..world.config.clone()
        };
        let name = sha256(&[list.as_bytes()]);
        let told = async || world.audited("pages.declared", &name.to_string()).await;
        assert_eq!(told().await, 0);
        for n in 1..=2 {
            let node = world.node_with(config.clone()).await;
            assert_eq!(told().await, n);
            assert_eq!(
                node.evidence(name).await.unwrap(),
                Some(list.clone().into())
            );
        }
        // A command beside the node isn't a start of it.
        let beside = SamConfig {
            beside: true,
            ..config
        };
        world.node_with(beside).await;
        assert_eq!(told().await, 2);
    }
}
