//! What is packaged with the daemons: units that give them nothing they don't need, and the script that asks chrony.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use core_types::UnixTime;
use core_types::timekeeping::ClockEstimate;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../packaging")
}

/// Settings of the unit's service, each with all its values in order.
fn unit(name: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(packaging().join("systemd").join(name)).unwrap();
    let mut section = "";
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[Service]"
            && !line.starts_with('#')
            && let Some((key, value)) = line.split_once('=')
        {
            settings.entry(key.into()).or_default().push(value.into());
        }
    }
    settings
}

const UNITS: [&str; 5] = [
    "natsuin-sam",
    "natsuin-cm",
    "natsuin-sic",
    "natsuin-office",
    "natsuin-ssa",
];
/// Where a PostgreSQL of the machine has its socket.
const SOCKETS: &str = "/run/postgresql";
/// Where the system has the CAs that it trusts.
const SYSTEM_CAS: [&str; 3] = ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust"];
/// Each unit, and the sample of what it reads.
const SAMPLES: [(&str, &str); 9] = [
    ("natsuin-sam", "natsuin-sam.toml"),
    ("natsuin-cm", "natsuin-cm.toml"),
    ("natsuin-sic", "natsuin-sic.toml"),
    ("natsuin-office", "natsuin-office.toml"),
    ("natsuin-ssa", "natsuin-ssa.toml"),
    ("natsuin-witness", "natsuin-witness.toml"),
    ("natsuin-alert", "natsuin-alert.toml"),
    ("natsuin-courier", "natsuin-courier.toml"),
    ("natsuin-sca-worker", "natsuin-sca-worker.toml"),
];
/// What every daemon is denied.
const DENIED: [(&str, &str); 27] = [
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("TemporaryFileSystem", "/:ro"),
    ("NoExecPaths", "/"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("PrivateUsers", "yes"),
    ("PrivateIPC", "yes"),
    ("PrivateMounts", "yes"),
    ("ProtectProc", "invisible"),
    ("ProcSubset", "pid"),
    ("ProtectControlGroups", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("LimitCORE", "0"),
    ("SystemCallArchitectures", "native"),
];

#[test]
fn units_give_each_daemon_its_own_and_nothing_else() {
    for name in UNITS {
        let unit = unit(&format!("{name}.service"));
        for (key, value) in DENIED {
            let found = unit.get(key).map(Vec::as_slice);
            assert_eq!(found, Some(&[value.to_owned()][..]), "{name}: {key}");
        }
        assert_eq!(unit["User"], [name]);
        assert_eq!(unit["UMask"], ["0077"]);
        let [allowed, denied] = unit["SystemCallFilter"].as_slice() else {
            panic!("{name}: a list of what is allowed, and one of what isn't")
        };
        assert_eq!(allowed, "@system-service", "{name}");
        let denied = denied.strip_prefix('~').unwrap();
        for group in ["@privileged", "@resources", "@mount", "@debug", "@keyring"] {
            assert!(denied.split(' ').any(|g| g == group), "{name}: {group}");
        }
        let families = unit["RestrictAddressFamilies"].concat();
        assert!(
            families
                .split(' ')
                .all(|f| ["AF_INET", "AF_INET6", "AF_UNIX"].contains(&f))
        );
        // Nothing of the machine is seen but the program, libraries, and settings; nothing is written but store and witness.
        let writable = unit.get("BindPaths").cloned().unwrap_or_default().concat();
        let own = format!("/var/lib/{}", name.replace('-', "/"));
        let expected = match name {
            "natsuin-sic" | "natsuin-office" => String::new(),
            // Zones on one machine don't write to each other's.
            _ => {
                let witness = name.replace("natsuin-", "/var/lib/natsuin-witness/");
                assert_eq!(unit["ReadWritePaths"], [witness.as_str()], "{name}");
                format!("{own} {witness}")
            }
        };
        assert_eq!(writable, expected, "{name}");
        // Who has a store reaches a database by its socket, where there is one.
        let sockets = format!("-{SOCKETS}");
        let reaches = unit["BindReadOnlyPaths"].contains(&sockets);
        assert_eq!(reaches, !expected.is_empty(), "{name}");
        let program = unit["ExecStart"].concat();
        let program = program.split(' ').next().unwrap_or_default();
        for path in unit["BindReadOnlyPaths"].join(" ").split(' ') {
            let path = path.trim_start_matches('-');
            let fine = path == program
                || path == "/run/natsuin"
                || (!expected.is_empty() && path == SOCKETS)
                || (name == "natsuin-sam" && path == "/var/lib/natsuin-backup")
                || (name == "natsuin-ssa" && SYSTEM_CAS.contains(&path))
                || path == "/usr/share/zoneinfo"
                || [
                    "/usr/lib",
                    "/lib",
                    "/lib64",
                    "/etc/natsuin",
                    "/etc/resolv.conf",
                ]
                .contains(&path)
                || ["/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"].contains(&path);
            assert!(fine, "{name}: {path}");
        }
    }
}

/// Paths of the machine that a text names.
fn paths(text: &str) -> Vec<&str> {
    let roots = ["/etc/", "/run/", "/usr/", "/var/"];
    let ends = |c: char| c.is_whitespace() || "\"'`,;)]}".contains(c);
    let mut found = Vec::new();
    for (at, _) in text.match_indices('/') {
        // Neither the path of a URL nor the rest of a longer one.
        let before = text[..at].chars().next_back();
        let begins = before.is_none_or(|c| ends(c) || "=:(\"`[{".contains(c));
        if begins && roots.iter().any(|root| text[at..].starts_with(root)) {
            found.push(text[at..].split(ends).next().unwrap_or_default());
        }
    }
    found
}

#[test]
fn what_a_sample_names_is_there_for_its_daemon() {
    let made = std::fs::read_to_string(packaging().join("tmpfiles.d/natsuin.conf")).unwrap();
    let made: Vec<&str> = made
        .lines()
        .filter_map(|line| line.strip_prefix("d ")?.split(' ').next())
        .collect();
    for (name, sample) in SAMPLES {
        let unit = unit(&format!("{name}.service"));
        let bound = [
            &unit["BindReadOnlyPaths"][..],
            unit.get("BindPaths").map_or(&[][..], Vec::as_slice),
        ];
        let bound = bound.concat().join(" ");
        let bound: Vec<&str> = bound.split(' ').collect();
        let sample = packaging().join("../config").join(sample);
        let sample = std::fs::read_to_string(sample).unwrap();
        let named = paths(&sample);
        assert!(named.len() > 2, "{name}: {named:?}");
        for path in named {
            let below = |bound: &&&str| {
                let bound = bound.trim_start_matches('-');
                path == bound || path.starts_with(&format!("{bound}/"))
            };
            let by = bound.iter().find(below);
            let by = by.unwrap_or_else(|| panic!("{name} doesn't see {path}"));
            // A folder that comes later than its daemon would never be seen by it.
            let ours = ["/run/natsuin", "/var/lib/natsuin-backup"];
            if ours.iter().any(|folder| path.starts_with(folder)) {
                assert!(
                    made.contains(by),
                    "{name}: {by} isn't made before the start"
                );
            }
        }
    }
}

#[test]
fn documents_name_the_paths_of_the_units() {
    // What a person types, without the form of its answers, and the configuration.
    let start = |name: &str| {
        let start = unit(&format!("{name}.service"))["ExecStart"].concat();
        let start = start.replace("/usr/bin/", "").replace(" --json", "");
        let (program, config) = start.split_once(" --config ").unwrap();
        (program.to_owned(), config.to_owned())
    };
    let starts = SAMPLES.map(|(name, _)| start(name));
    for lang in ["en", "ja"] {
        let docs = packaging().join("../docs/operator").join(lang);
        let (mut seen, installed) = (0, installation(lang));
        for file in std::fs::read_dir(docs).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.display();
            assert!(!text.contains("/usr/local"), "{path}");
            for line in text.lines() {
                let Some((program, config)) = line.split_once(" --config ") else {
                    continue;
                };
                let own = starts.iter().filter(|(of, _)| of == program);
                let mut own = own.map(|(_, config)| config.as_str()).peekable();
                if own.peek().is_none() {
                    continue;
                }
                seen += 1;
                let config = config.split(' ').next().unwrap();
                assert!(own.any(|own| own == config), "{path}: {line}");
            }
        }
        assert!(seen > 6, "{lang}: {seen}");
        // Whom a unit runs as, and where its daemon writes, is made for it.
        let made = |user: &str, folder: &str| {
            let begin = format!("install -d -m 700 -o {user} ");
            let mut lines = installed.lines().filter(|line| line.starts_with(&begin));
            lines.any(|line| line.split(' ').any(|word| word == folder))
        };
        for (name, sample) in SAMPLES {
            let unit = unit(&format!("{name}.service"));
            let named = installed.lines().any(|line| {
                let mut words = line.split([' ', ',']);
                line.starts_with("useradd ") && words.any(|word| word == name)
            });
            assert_eq!(unit["User"], [name]);
            assert!(named, "{lang}: no user {name}");
            for folder in unit.get("ReadWritePaths").map_or(&[][..], Vec::as_slice) {
                assert!(made(name, folder), "{lang}: {folder}");
            }
            let sample = packaging().join("../config").join(sample);
            let sample = std::fs::read_to_string(sample).unwrap();
            let secret = |line: &str| {
                Some(
                    line.strip_prefix("root_secret = ")?
                        .trim_matches('"')
                        .to_owned(),
                )
            };
            let secrets: Vec<String> = sample.lines().filter_map(secret).collect();
            assert_eq!(secrets.len(), usize::from(name == "natsuin-cm"));
            for secret in secrets {
                let folder = Path::new(&secret).parent().unwrap();
                assert!(made(name, folder.to_str().unwrap()), "{lang}: {secret}");
            }
        }
        let (program, config) = start("natsuin-cm");
        for what in [
            format!("target/release/natsuin-cm /usr/bin/{program} "),
            format!("config/natsuin-cm.toml {config} "),
            "packaging/tmpfiles.d/natsuin.conf /usr/lib/tmpfiles.d/natsuin.conf ".to_owned(),
        ] {
            assert!(installed.contains(&what), "{lang}: {what}");
        }
    }
}

/// A unit that names a credential by its path doesn't start where that file isn't there.
#[test]
fn no_unit_waits_for_a_credential_that_nobody_made() {
    for (name, _) in SAMPLES {
        for (key, values) in unit(&format!("{name}.service")) {
            let loads = key.starts_with("LoadCredential");
            let mut files = values.iter().filter_map(|value| value.split_once(':'));
            let named = loads && files.any(|(_, file)| file.starts_with('/'));
            assert!(!named, "{name}: {key}={values:?} is for a drop-in");
        }
    }
    // The drop-in of the documents: a credential opens under the name only that it was made with.
    for lang in ["en", "ja"] {
        let text = installation(lang);
        let found = text.split("\nLoadCredentialEncrypted=").nth(1).unwrap();
        let (name, file) = found.lines().next().unwrap().split_once(':').unwrap();
        let mut made = text
            .lines()
            .filter(|line| line.starts_with("systemd-creds encrypt "));
        let made = made.any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&format!("--name={name}").as_str()) && words.contains(&file)
        });
        assert!(made, "{lang}: nobody makes {file} with the name {name}");
        let read = format!("root_secret = \"/run/credentials/natsuin-cm.service/{name}\"");
        assert!(text.contains(&read), "{lang}: {read}");
    }
}

fn installation(lang: &str) -> String {
    let path = format!("../docs/operator/{lang}/installation.md");
    std::fs::read_to_string(packaging().join(path)).unwrap()
}

/// Rows of the table of listeners: sample, setting, port, and the name in the certificate.
fn table_of_listeners(document: &str) -> Vec<(String, String, u16, String)> {
    let row = |line: &str| {
        let cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
        let cells: Vec<&str> = cells.collect();
        let [_, sample, setting, port, _, name, _] = cells[..] else {
            return None;
        };
        let sample = sample.strip_prefix("config/")?.to_owned();
        let port: u16 = port.parse().ok()?;
        Some((sample, setting.to_owned(), port, name.to_owned()))
    };
    document.lines().filter_map(row).collect()
}

/// Listeners of a sample, those that are commented out too: setting and address.
fn listeners(sample: &str) -> Vec<(String, SocketAddr)> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in sample.lines().map(|l| l.trim_start_matches(['#', ' '])) {
        let inner = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
        if let Some(inner) = inner {
            table = format!("{}.", inner.trim_matches(['[', ']']));
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.starts_with("listen")
        {
            let address = value.trim_matches('"').parse().unwrap();
            found.push((format!("{table}{key}"), address));
        }
    }
    found
}

/// Hosts and ports that a text has somebody call.
fn called(text: &str) -> Vec<(&str, u16)> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && !".-:".contains(c);
    let urls = text.split("https://").skip(1);
    let urls = urls.filter_map(|rest| rest.split(ends).next()?.split_once(':'));
    urls.filter_map(|(host, port)| Some((host, port.parse().ok()?)))
        .collect()
}

/// Who copies the samples gets zones that reach each other.
#[test]
fn one_table_says_who_listens_where() {
    // The registration authority isn't ours.
    const OTHERS: [(&str, u16); 1] = [("ra.internal.example.jp", 8601)];
    for lang in ["en", "ja"] {
        let document = installation(lang);
        let table = table_of_listeners(&document);
        let ports: BTreeSet<u16> = table.iter().map(|row| row.2).collect();
        assert_eq!(
            ports.len(),
            table.len(),
            "{lang}: each has a port of its own"
        );
        let mut texts = vec![("installation.md", document)];
        let mut seen = 0;
        for (_, sample) in SAMPLES {
            let text = std::fs::read_to_string(packaging().join("../config").join(sample)).unwrap();
            for (setting, address) in listeners(&text) {
                seen += 1;
                // Whoever calls it is on another machine.
                assert!(!address.ip().is_loopback(), "{sample} {setting}");
                let there = table.iter().any(|(of, at, port, _)| {
                    (of.as_str(), at, *port) == (sample, &setting, address.port())
                });
                assert!(there, "{lang}: {sample} {setting} {address}");
            }
            texts.push((sample, text));
        }
        assert_eq!(seen, table.len(), "{lang}: a row without a listener");
        for (name, text) in &texts {
            for called in called(text) {
                let mut rows = table.iter();
                let there = rows.any(|(.., port, host)| (host.as_str(), *port) == called);
                assert!(
                    there || OTHERS.contains(&called),
                    "{lang}: {name} {called:?}"
                );
            }
        }
    }
}

/// What the journal gets is read by programs.
// shows: I-A5-log-class-application
#[test]
fn units_have_their_daemons_log_objects() {
    for (name, _) in SAMPLES {
        let unit = unit(&format!("{name}.service"));
        assert_eq!(unit["Environment"], ["NATSUIN_LOG=json"], "{name}");
        let start = unit["ExecStart"].concat();
        let tool = start.strip_prefix("/usr/bin/natsuin ");
        assert!(
            tool.is_none_or(|rest| rest.starts_with("--json ")),
            "{start}"
        );
    }
}

/// A daemon that ends with 75 is started again until what it waits for is back: five starts within ten seconds, where a service
/// manager gives up by default, can't come about.
#[test]
fn units_go_on_trying() {
    for name in UNITS {
        let unit = unit(&format!("{name}.service"));
        assert_eq!(unit["Restart"], ["on-failure"], "{name}");
        assert_eq!(unit["RestartPreventExitStatus"], ["4"], "{name}");
        let pause: u32 = unit["RestartSec"].concat().parse().unwrap();
        assert!(pause > 2, "{name}");
    }
}

/// The service manager's own judgement, where it is installed: 0 is closed, 10 is open.
#[test]
fn the_service_manager_finds_them_closed() {
    for name in UNITS {
        let unit = packaging().join("systemd").join(format!("{name}.service"));
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
            .arg(&unit)
            .output();
        let Ok(judged) = judged else { return };
        let said = String::from_utf8_lossy(&judged.stderr);
        if said.contains("Unknown command") || said.contains("unrecognized option") {
            return;
        }
        assert!(judged.status.success(), "{name}: {said}");
        assert!(!said.contains("ignoring"), "{name}: {said}");
    }
}

/// Runs the script with a chrony that answers this.
fn ask(tracking: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("clock");
    // Not written here: a program can't be run as long as a child of another test still has it open for writing.
    let chrony = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chrony");
    let path = format!("{}:/usr/bin:/bin", chrony.display());
    let done = Command::new(packaging().join("clock/natsuin-clock"))
        .arg(&file)
        .env("PATH", path)
        .env("TRACKING", tracking)
        .status()
        .unwrap();
    assert_eq!(done.success(), file.exists());
    std::fs::read_to_string(file).ok()
}

#[test]
fn what_chrony_knows_is_what_the_sam_reads() {
    let normal = "A29FC87B,162.159.200.123,4,1700000000.123456789,-0.000012345,0.000023,0.000045,-12.345,0.001,0.045,\
                  0.012000000,0.003000000,64.5,Normal";
    let read = ClockEstimate::parse(&ask(normal).unwrap()).unwrap();
    // |offset| + dispersion + half of the delay: 9.012… ms, rounded up.
    assert_eq!(read.error_ms, 10);
    assert!(read.at > UnixTime(1_700_000_000));
    let far = normal.replace("-0.000012345", "-2.500000000");
    let far = ClockEstimate::parse(&ask(&far).unwrap()).unwrap();
    assert!((2509..=2510).contains(&far.error_ms), "{far:?}");
    for nothing in [
        normal.replace("Normal", "Not synchronised").as_str(),
        "506 Cannot talk to daemon",
        "",
    ] {
        assert_eq!(ask(nothing), None, "{nothing}");
    }
}
