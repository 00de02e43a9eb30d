//! The logs of a site's zones, as their commands write them out.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::Site;
use crate::kit::{entries, text};

impl Site {
    /// Has the command of a zone's daemon write its log where all exports go; the directory of all.
    pub fn export(&self, zone: &str) -> PathBuf {
        let all = self.at("export");
        let out = all.join(zone).display().to_string();
        let (program, node) = (format!("natsuin-{zone}"), format!("{zone}-1"));
        let done = self.command(&program, &node, &["export-log", "--out", &out]);
        assert!(done.status.success(), "{}", text(&done));
        all
    }

    /// The entries of a zone's log, which has to be good. The SAM's and the SSA's commands need what their daemons need.
    pub fn entries(&self, zone: &str) -> Vec<Value> {
        let entries = entries(&self.export(zone), zone);
        // Who took it out is told by the log itself.
        let read = entries
            .iter()
            .rfind(|e| e["kind"] == "audit.read" && e["detail"]["what"] == "export");
        let reader = format!("{zone}-1.command");
        assert_eq!(read.unwrap()["detail"]["reader"], reader.as_str());
        entries
    }

    /// What an auditor keeps of each zone beside the exports: the witness's file and the log's key.
    pub fn auditor(&self) -> PathBuf {
        let auditor = self.at("auditor");
        fs::create_dir_all(&auditor).unwrap();
        for zone in ["cm", "sam", "ssa"] {
            let witness = self.at(&format!("{zone}-witness.txt"));
            fs::copy(witness, auditor.join(format!("{zone}.txt"))).unwrap();
            let public = self.at("export").join(zone).join("log.pub");
            fs::copy(public, auditor.join(format!("{zone}.pub"))).unwrap();
        }
        auditor
    }
}
