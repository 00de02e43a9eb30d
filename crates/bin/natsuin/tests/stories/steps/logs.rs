//! What the logs say of it in the end.

use std::collections::BTreeSet;

use serde_json::Value;

use super::applications::{CALLS, Front};
use super::way::Far;
use super::world::World;
use crate::kit::{natsuin, run, text};

impl World {
    /// The logs are whole and fit together: no value without its intent, none twice, and an intent without an outcome is a right
    /// that was given up.
    pub fn end(mut self, mut front: Front) {
        for program in [
            &mut front.service.program,
            &mut front.gateway,
            &mut self.sam,
        ] {
            program.end();
        }
        self.site.entries("ssa");
        let sam = self.site.entries("sam");
        // The SAM's log is opened by its module.
        self.cm.end();
        let cm = self.site.entries("cm");
        let (consumed, used) = (acts(&sam, "sad.consumed"), acts(&cm, "key.used"));
        let made = acts(&sam, "signature.made");
        let lost = acts(&sam, "sad.ended");
        assert_eq!(consumed.len(), self.ways.len() + 1 + CALLS.len());
        assert!(made.is_subset(&used) && used.is_subset(&consumed));
        assert_eq!(&consumed - &made, lost);
        for (name, way, value) in &self.ways {
            let act = way.act().to_string();
            assert!(consumed.contains(&act), "{name}");
            assert_eq!(used.contains(&act), *value, "{name}");
            assert_eq!(lost.contains(&act), way.far == Far::Lost, "{name}");
        }

        let auditor = self.site.auditor();
        let mut verify = natsuin();
        verify.args(["audit", "verify", "--json"]);
        verify.arg(self.site.at("export"));
        for option in ["--witness", "--keys"] {
            verify.arg(option).arg(&auditor);
        }
        let said = run(&mut verify);
        assert!(said.status.success(), "{}", text(&said));
        let told: Value = serde_json::from_slice(&said.stdout).unwrap();
        let told = &told["reconciled"];
        let count = |name: &str| usize::try_from(told[name].as_u64().unwrap()).unwrap();
        assert_eq!(count("orders"), used.len(), "{told}");
        // What lies too near to the beginning of a log is told apart.
        let unexecuted = count("unexecuted") + count("beyond");
        assert_eq!(unexecuted, consumed.len() - used.len(), "{told}");
    }
}

/// The acts that entries of this kind are about, each once.
fn acts(entries: &[Value], kind: &str) -> BTreeSet<String> {
    let mut acts = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == kind) {
        let act = entry["detail"]["act"].as_str().unwrap().to_owned();
        assert!(acts.insert(act), "twice: {entry}");
    }
    acts
}
