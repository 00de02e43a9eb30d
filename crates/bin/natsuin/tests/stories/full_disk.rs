//! A disk without room under each of the daemons in turn: calls are told *not now*, nothing is signed that isn't recorded, no
//! daemon ends for good, and all goes on when there is room again.

use std::fs;

use csc_types::Purpose;
use serde_json::Value;

use crate::site::Site;
use crate::spend::{approval, body, hashes};
use crate::whole::Running;

/// Less than the write-ahead log of any of the stores has by now.
const FULL: u64 = 64 << 10;

impl Running<'_> {
    /// Kills each of the three with a store; it can't start on a full disk, says why, is one of those that a service manager tries
    /// again, and starts when there is room.
    async fn restart_on_full_disks(&mut self) {
        let names = ["natsuin-cm", "natsuin-sam", "natsuin-ssa"];
        let configs = ["cm-1.toml", "sam-1.toml", "ssa-1.toml"].map(|name| self.site.at(name));
        let mut programs = [&mut self.module, &mut self.sam, &mut self.service.program];
        for (n, program) in programs.iter_mut().enumerate() {
            let (name, config) = (names[n], &configs[n]);
            program.kill();
            let mut tried = self.site.spawn(name, config, Some(64));
            assert_eq!(tried.ended().await, Some(75), "{name}: {}", tried.said());
            let said = tried.said();
            assert!(
                said.contains("(code away)") && said.contains("do:  "),
                "{said}"
            );
            **program = self.site.start(name, config, self.ports[n]).await;
        }
    }

    /// A SAM that comes up before its module is one of those too.
    async fn restart_without_module(&mut self) {
        let configs = ["cm-1.toml", "sam-1.toml"].map(|name| self.site.at(name));
        self.sam.kill();
        self.module.kill();
        let mut tried = self.site.spawn("natsuin-sam", &configs[1], None);
        assert_eq!(tried.ended().await, Some(75), "{}", tried.said());
        let [cm, sam, ..] = self.ports;
        self.module = self.site.start("natsuin-cm", &configs[0], cm).await;
        self.sam = self.site.start("natsuin-sam", &configs[1], sam).await;
    }

    /// The witness of the SSA's log on a disk that is full for longer files than its store's: the daemon stops, since nothing would
    /// watch what it does, and comes back.
    async fn witness_without_room(&mut self) {
        self.service.program.end();
        let path = self.site.at("ssa-witness.txt");
        let own = fs::read(&path).unwrap();
        let first = own.windows(2).position(|two| two == b"\n\n").unwrap();
        let second = own[first + 2..].windows(2).position(|w| w == b"\n\n");
        let note = &own[..first + 2 + second.unwrap() + 2];
        let mut long = note.repeat((1 << 20) / note.len() + 1);
        long.extend_from_slice(&own);
        fs::write(&path, &long).unwrap();
        let config = self.site.at("ssa-1.toml");
        let mut tried = self.site.spawn("natsuin-ssa", &config, Some(1024));
        assert_eq!(tried.ended().await, Some(75), "{}", tried.said());
        let said = tried.said();
        assert!(said.contains("ssa-witness.txt"), "{said}");
        assert!(said.contains("make room"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), long, "no part of a checkpoint");
        fs::write(&path, &own).unwrap();
        self.service.program = self.site.start("natsuin-ssa", &config, self.ports[2]).await;
    }
}

fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|e| e["kind"] == kind).count()
}

// shows: I-7.1.4.3-audit-retained, I-7.1.4.2-external-transfer-failure, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_calls_and_nothing_is_done_unrecorded() {
    let site = Site::new();
    let mut all = Running::begin(&site).await;
    let mut hanako = all.member().await;
    let login = hanako.token(Purpose::Service).await;
    let key = hanako.spender.first_credential(&login).await;
    let away = |told: &(u16, Value)| {
        assert_eq!(told.0, 503, "{}", told.1);
        assert_eq!(told.1["error"], "temporarily_unavailable");
    };

    // The SSA's disk: an application is told to come again, and its operator what to do.
    all.service.program.room(Some(FULL));
    let wanted = || approval(&key, &hashes(1));
    assert_eq!(hanako.spender.asks(wanted()).await, Err(503));
    assert!(all.service.program.runs());
    let said = all.service.program.said();
    assert!(said.contains("Make room"), "{said}");
    all.service.program.room(None);
    assert_eq!(hanako.spender.asks(wanted()).await, Ok(()));

    // The SAM's disk: an approval isn't spent by calls that can't be recorded.
    let approved = hashes(1);
    let token = hanako.token(approval(&key, &approved)).await;
    let call = body(&key, &approved);
    all.sam.room(Some(FULL));
    for _ in 0..12 {
        away(&hanako.spender.post(&token, call.clone(), None).await);
    }
    assert!(all.sam.runs());
    let said = all.sam.said();
    assert!(said.contains("Make room"), "{said}");
    all.sam.room(None);
    let (status, told) = hanako.spender.post(&token, call.clone(), None).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(hanako.spender.post(&token, call, None).await.0, 401);

    // The module's disk: the SAM has taken the approval and recorded that before it asks, so this one is lost, and no more.
    let approved = hashes(1);
    let token = hanako.token(approval(&key, &approved)).await;
    let call = body(&key, &approved);
    all.module.room(Some(FULL));
    let (status, told) = hanako.spender.post(&token, call.clone(), None).await;
    assert_eq!(status, 500, "{told}");
    assert_eq!(told["error_description"], csc_types::OUTCOME_LOST);
    assert!(all.module.runs());
    let said = all.module.said();
    assert!(said.contains("Make room"), "{said}");
    all.module.room(None);
    assert_eq!(hanako.spender.post(&token, call, None).await.0, 401);
    hanako.sign().await;

    // Starting on a full disk, and a witness that has no room.
    all.restart_without_module().await;
    all.restart_on_full_disks().await;
    all.witness_without_room().await;
    hanako.sign().await;

    let (sam, cm) = all.end();
    let counts = (
        count(&sam, "sad.consumed"),
        count(&sam, "signature.failed"),
        count(&sam, "signature.made"),
        count(&cm, "key.used"),
    );
    assert_eq!(counts, (4, 1, 3, 3), "one approval was lost");
}
