//! Certificates that are listed: ends that come, and files in which nobody sees one come.

use core_types::UnixTime;

use crate::rules::{Alert, Limits, Severity, severity};

/// A certificate that ends soon. `name`: its file.
pub fn ending(name: &str, ends: UnixTime, limits: Limits, now: UnixTime) -> Option<Alert> {
    let left = ends.0 - now.0;
    (left < limits.certificate_days * 24 * 3600).then(|| Alert {
        // A week before, somebody has to move.
        severity: if left < 7 * 24 * 3600 {
            Severity::Critical
        } else {
            Severity::Warning
        },
        ..of_a_file("certificate-ends", name, now)
    })
}

/// A certificate that can't be read, so that nobody would hear of its end. `name`: its file.
pub fn certificate_unread(name: &str, now: UnixTime) -> Alert {
    of_a_file("certificate-unread", name, now)
}

fn of_a_file(rule: &'static str, name: &str, now: UnixTime) -> Alert {
    Alert {
        rule: rule.to_owned(),
        severity: severity(rule),
        at: now,
        zone: String::new(),
        about: name.to_owned(),
        seq: None,
        kind: String::new(),
        targets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_of_before_they_end() {
        let (limits, now) = (Limits::default(), UnixTime(1_800_000_000));
        let day = 24 * 3600;
        assert_eq!(ending("x.pem", now.plus(31 * day), limits, now), None);
        let soon = ending("x.pem", now.plus(20 * day), limits, now).unwrap();
        assert_eq!(
            (soon.severity, soon.about.as_str()),
            (Severity::Warning, "x.pem")
        );
        assert_eq!(
            ending("x.pem", now.plus(day), limits, now)
                .unwrap()
                .severity,
            Severity::Critical
        );
        assert!(ending("x.pem", now.plus(-day), limits, now).is_some());
    }

    #[test]
    fn a_certificate_that_cant_be_read_is_told_at_once() {
        let unread = certificate_unread("x.pem", UnixTime(5));
        assert_eq!(unread.severity, Severity::Critical);
        assert_eq!(
            (unread.rule.as_str(), unread.about.as_str()),
            ("certificate-unread", "x.pem")
        );
    }
}
