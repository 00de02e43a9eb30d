//! Whether backups are made, and tried out by a restore, as often as the operator means to (`I-7.1.7.1-backup`). The SAM makes none: it
//! hears of them by reports of the programs that do.

use core_types::{Digest32, UnixTime};
use serde::{Deserialize, Serialize};

/// How far a report may lie ahead of the clock, in seconds: further, and one of the two is wrong.
const AHEAD: i64 = 3600;

/// How often the operator means to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupRule {
    /// The last backup is no older, in hours.
    pub made_hours: u32,
    /// The last backup that was restored somewhere, and found whole, is no older, in days.
    pub verified_days: u32,
}

/// What a program reports of a backup that it made, or tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupReport {
    /// Name of the backup.
    pub backup: Digest32,
    /// When it was made.
    pub made: UnixTime,
    /// When that was reported: of a trial, when it ended well.
    pub at: UnixTime,
}

/// What is wrong with the backups, if anything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupsLate {
    /// The last one is too old, or there is none.
    pub made: bool,
    /// The last one that was tried out is too old, or none was.
    pub verified: bool,
}

impl BackupRule {
    /// Judges the last reports at `now`. What counts of a trial is how old the backup is that was tried: an old one that is tried again and
    /// again shows nothing about those of today.
    pub fn judge(
        self,
        made: Option<BackupReport>,
        verified: Option<BackupReport>,
        now: UnixTime,
    ) -> BackupsLate {
        let late = |report: Option<BackupReport>, within: i64| {
            let age = report.map(|report| now.0.saturating_sub(report.made.0));
            age.is_none_or(|age| age > within || age < -AHEAD)
        };
        BackupsLate {
            made: late(made, i64::from(self.made_hours) * 3600),
            verified: late(verified, i64::from(self.verified_days) * 24 * 3600),
        }
    }
}

impl BackupReport {
    /// Reads a report, as [`BackupReport::text`] writes it. `None`: something else.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The report as a file holds it.
    pub fn text(&self) -> String {
        serde_json::json!({"backup": self.backup, "made": self.made, "at": self.at}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_790_000_000);
    const RULE: BackupRule = BackupRule {
        made_hours: 26,
        verified_days: 35,
    };

    fn aged(seconds: i64) -> Option<BackupReport> {
        Some(BackupReport {
            backup: Digest32([7; 32]),
            made: NOW.plus(-seconds),
            at: NOW,
        })
    }

    #[test]
    fn a_backup_is_late_by_its_own_age_to_the_second() {
        let hour = 3600;
        let judge = |made, verified| RULE.judge(made, verified, NOW);
        let good = BackupsLate::default();
        assert_eq!(judge(aged(0), aged(0)), good);
        assert_eq!(judge(aged(26 * hour), aged(35 * 24 * hour)), good);
        assert!(judge(aged(26 * hour + 1), aged(0)).made);
        // Tried just now; but what was tried is old.
        assert!(judge(aged(0), aged(35 * 24 * hour + 1)).verified);
        let never = judge(None, None);
        assert!(never.made && never.verified);
        // A report from the future is none.
        assert!(judge(aged(-hour - 1), aged(0)).made);
        assert!(!judge(aged(-hour), aged(0)).made);
    }

    #[test]
    fn a_report_is_read_as_it_is_written() {
        let report = aged(9).unwrap();
        assert_eq!(BackupReport::parse(&report.text()), Some(report));
        for bad in ["", "{}", "7", &report.text().replace("made", "mode")] {
            assert_eq!(BackupReport::parse(bad), None, "{bad}");
        }
        let more = report.text().replace('}', ",\"x\":1}");
        assert_eq!(BackupReport::parse(&more), None);
    }
}
