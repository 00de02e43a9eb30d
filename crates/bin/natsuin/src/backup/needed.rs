//! What zones can't come back without beside their stores: a backup that lacks it is refused while somebody can still put it in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use service_kit::daemon;

use super::Stores;
use crate::output::{Exit, Failure};
use crate::stores::settings;

/// Files of a zone's settings by member: those that are obeyed only as they were signed, and those under which its store was written.
fn members(zone: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match zone {
        "cm" => (cm_core::SIGNED_FILES, &["audit.key"]),
        "sam" => (sam_service::SIGNED_FILES, &["audit.key"]),
        _ => (
            ssa_service::SIGNED_FILES,
            &["audit.key", "chain_key", "key"],
        ),
    }
}

/// What a zone with these settings needs, by the name of its place there.
fn needed(zone: &str, settings: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let (signed, secret) = members(zone);
    let mut needed = daemon::named(settings, &[signed, secret].concat())?;
    needed.insert("config".to_owned(), settings.to_owned());
    let signatures = settings.with_added_extension("sig");
    if signatures.exists() {
        needed.insert("signatures".to_owned(), signatures);
    }
    Ok(needed)
}

/// Refuses a backup that lacks what its zones can't come back without. `files`: what is put in, with all that lies below. `without`:
/// what is left out knowingly, `ZONE/MEMBER`, or `ZONE` for all of it.
pub(super) fn check(stores: &Stores, files: &[PathBuf], without: &[String]) -> Result<(), Failure> {
    let put_in: Vec<PathBuf> = files
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    let is_in = |file: &Path| {
        let file = fs::canonicalize(file);
        file.is_ok_and(|file| put_in.iter().any(|path| file.starts_with(path)))
    };
    let waived = |name: &str| without.iter().any(|word| word == name);
    let refused = |what: String, remedy: &str| {
        Err(Failure::new(Exit::Input, "backup-incomplete", what, remedy))
    };
    let mut missing = Vec::new();
    for (zone, word) in stores.zones.iter().filter_map(|word| word.split_once('=')) {
        if waived(zone) {
            continue;
        }
        let Some(settings) = settings(word)? else {
            return refused(
                format!(
                    "nobody says what {zone} can't come back without: its settings aren't named"
                ),
                "name them, as in --zone sam=@/etc/natsuin/sam.toml; or keep it elsewhere, and say --without ZONE",
            );
        };
        for (member, file) in needed(zone, settings)? {
            let name = format!("{zone}/{member}");
            if !waived(&name) && !is_in(&file) {
                missing.push(format!("{name} ({})", file.display()));
            }
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => refused(
            format!("a zone can't come back without: {}", missing.join(", ")),
            "put each of them in by itself (--file); or keep it elsewhere, and say --without ZONE/MEMBER as it is named here",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn zones(words: &[String]) -> Stores {
        Stores {
            data: None,
            store: None,
            zones: words.to_vec(),
        }
    }

    // shows: I-7.1.7.2-restore-state
    #[test]
    fn a_backup_without_what_a_zone_needs_is_refused_by_name_or_said_to_lack_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let here = dir.path().display();
        let text = format!(
            "store = 'sqlite:/nowhere'\nkey = '{here}/own.key'\nchain_key = '{here}/chain.key'\n[tls]\nca = '{here}/ca.pem'\n\
             key = '{here}/tls.key'\n[audit]\nkey = '{here}/log.key'\n"
        );
        let config = file("ssa.toml", &text);
        for name in ["own.key", "chain.key", "ca.pem", "tls.key"] {
            file(name, name);
        }
        let ssa = zones(&[format!("ssa=@{}", config.display())]);
        let said = |files: &[PathBuf], without: &[&str]| {
            let without: Vec<String> = without.iter().map(|w| (*w).to_owned()).collect();
            check(&ssa, files, &without).map_err(|e| (e.trouble.code, e.trouble.what))
        };
        let lacks = |said: Result<(), (&str, String)>, names: &[&str]| {
            let (code, what) = said.unwrap_err();
            assert_eq!(code, "backup-incomplete");
            for name in [
                "config",
                "tls.ca",
                "audit.key",
                "key",
                "chain_key",
                "signatures",
                "tls.key",
            ] {
                let named = what.contains(&format!("ssa/{name} ("));
                assert_eq!(named, names.contains(&name), "{name}: {what}");
            }
        };
        let at = |name: &str| dir.path().join(name);
        let secret = ["audit.key", "key", "chain_key"];
        lacks(
            said(&[], &[]),
            &[&secret[..], &["config", "tls.ca"]].concat(),
        );
        let public = [config.clone(), at("ca.pem")];
        lacks(said(&public, &[]), &secret);
        let most = [&public[..], &[at("own.key"), at("chain.key")]].concat();
        // What isn't there can't be in it.
        let all = [&most[..], &[at("log.key")]].concat();
        lacks(said(&all, &[]), &["audit.key"]);
        assert_eq!(said(&most, &["ssa/audit.key"]), Ok(()));
        file("log.key", "log");
        assert_eq!(said(&all, &[]), Ok(()));
        lacks(said(&most, &["ssa/key", "sam"]), &["audit.key"]);
        assert_eq!(said(&[], &["ssa"]), Ok(()));
        assert_eq!(said(&[dir.path().to_owned()], &[]), Ok(()), "all below");
        file("ssa.toml.sig", "signatures");
        lacks(said(&all, &[]), &["signatures"]);

        // Where nobody says what it needs, somebody has to say that they know.
        let address = file("address", "sqlite:/nowhere\n");
        for word in [
            "ssa=sqlite:/nowhere".to_owned(),
            format!("ssa=@{}", address.display()),
        ] {
            let stores = zones(&[word]);
            let refused = check(&stores, &[], &[]).unwrap_err().trouble;
            assert!(refused.what.contains("settings"), "{}", refused.what);
            assert!(check(&stores, &[], &["ssa".to_owned()]).is_ok());
        }
    }

    #[test]
    fn two_services_are_not_one_backup() {
        let of = |words: [&str; 2]| zones(&words.map(str::to_owned)).all().is_ok();
        assert!(of(["sam=sqlite:/a", "ssa=sqlite:/b"]));
        assert!(!of(["ssa=sqlite:/a", "ssa=sqlite:/b"]));
    }

    /// A file that a sample names is needed, or can be had anew.
    #[test]
    fn every_file_that_settings_name_is_known_here() {
        // A TLS certificate and key are issued anew, a client's secret by the provider; metadata are the maker's, as they are published;
        // the root secret comes from its shares, and a PIN from who keeps it.
        const ANEW: [&str; 6] = [
            "chain",
            "logo",
            "metadata",
            "pin_file",
            "root_secret",
            "secret",
        ];
        for zone in ["cm", "sam", "ssa"] {
            let sample = format!(
                "{}/../../../config/natsuin-{zone}.toml",
                env!("CARGO_MANIFEST_DIR")
            );
            let sample = fs::read_to_string(sample).unwrap();
            let (signed, secret) = members(zone);
            let known: BTreeSet<&str> = signed
                .iter()
                .chain(secret)
                .filter_map(|member| member.rsplit('.').find(|part| *part != "*"))
                .collect();
            let mut seen = 0;
            for (at, _) in sample.match_indices("\"/etc/natsuin") {
                let before = sample[..at].trim_end_matches([' ', '=', '[']);
                let mut words = before.rsplit(|c: char| !c.is_ascii_lowercase() && c != '_');
                let name = words.next().unwrap_or_default();
                // The second of a list has no name of its own.
                if name.is_empty() {
                    continue;
                }
                seen += 1;
                let is_known = known.contains(name) || ANEW.contains(&name);
                assert!(is_known, "{zone}: a restore may need {name}");
            }
            assert!(seen > 5, "{zone}");
        }
    }
}
