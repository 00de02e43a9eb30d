use web_ui::Lang;

use super::*;

const QUIET: Out = Out {
    json: false,
    lang: Lang::En,
};

struct Desk {
    dir: tempfile::TempDir,
    reason: &'static str,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
            reason: "a new node",
        };
        desk.write("ca.pem", "a CA");
        for node in ["n1", "n2"] {
            let tls = format!("[tls]\nca = '{}'\n", desk.at("ca.pem").display());
            let text = format!("sam = 's'\nnode = '{node}'\n{tls}");
            desk.write(&format!("{node}.toml"), &text);
        }
        for officer in ["a", "b", "c"] {
            let (key, pkcs8) = SigningKey::generate().unwrap();
            std::fs::write(desk.at(&format!("{officer}.key")), pkcs8.expose()).unwrap();
            let jwk = serde_json::to_string(key.public()).unwrap();
            desk.write(&format!("{officer}.jwk"), &jwk);
        }
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
    }

    fn files(&self) -> ConfigFiles {
        ConfigFiles {
            configs: vec![self.at("n1.toml"), self.at("n2.toml")],
            zone: Whose::Sam,
            root: None,
        }
    }

    fn sign(&self, officer: &str, new: bool) -> Result<Exit, Failure> {
        let signers = || vec![self.at("a.jwk"), self.at("b.jwk")];
        let what = Sign {
            files: self.files(),
            sig: self.at("sig"),
            key: self.at(&format!("{officer}.key")),
            new: new.then(|| New {
                serial: 7,
                need: 2,
                signers: signers(),
                reason: self.reason.to_owned(),
                exp: UnixTime(1_800_000_000),
            }),
        };
        sign(&what, QUIET)
    }

    fn verify(&self) -> Exit {
        verify(&self.files(), &self.at("sig"), QUIET).unwrap()
    }
}

#[test]
fn two_officers_sign_the_same_files() {
    let desk = Desk::new();
    assert_eq!(
        desk.sign("a", true).unwrap(),
        Exit::Undetermined,
        "one of two"
    );
    assert_eq!(desk.sign("b", false).unwrap(), Exit::Good);
    let read = Signed::read(&desk.at("sig")).unwrap();
    assert_eq!((read.manifest.serial, read.signatures.len()), (7, 2));
    assert_eq!(read.manifest.reason, "a new node");
    assert_eq!(read.manifest.exp, UnixTime(1_800_000_000));
    let nodes: Vec<_> = read.manifest.nodes.keys().collect();
    assert_eq!(nodes, ["n1", "n2"]);
    assert!(read.manifest.nodes["n1"].contains_key("tls.ca"));
    // Whoever isn't among them shows as somebody else.
    assert_eq!(desk.sign("c", false).unwrap(), Exit::Undetermined);
}

#[test]
fn nothing_is_signed_without_a_reason_in_plain_words() {
    for reason in ["", " ", "a\nb", "a\u{202e}b"] {
        let desk = Desk {
            reason,
            ..Desk::new()
        };
        assert_eq!(desk.sign("a", true).unwrap_err().exit, Exit::Input);
        assert!(!desk.at("sig").exists());
    }
}

#[test]
fn a_file_that_was_changed_is_seen_and_not_signed_with() {
    let desk = Desk::new();
    desk.sign("a", true).unwrap();
    desk.write("ca.pem", "another CA");
    assert_eq!(desk.verify(), Exit::Negative);
    assert_eq!(desk.sign("b", false).unwrap_err().exit, Exit::Input);
    desk.write("ca.pem", "a CA");
    assert_eq!(desk.sign("b", false).unwrap(), Exit::Good);
    for bad in ["", "no.jws", "a.b.c\nd.e.f"] {
        desk.write("sig", bad);
        let read = verify(&desk.files(), &desk.at("sig"), QUIET);
        assert_eq!(read.unwrap_err().exit, Exit::Input, "{bad}");
    }
}

#[test]
fn what_the_ssas_officers_sign_is_no_other_zones() {
    let desk = Desk::new();
    let ca = desk.at("ca.pem").display().to_string();
    let text = format!(
        "node = 'a'\n[tls]\nca = '{ca}'\n[audit]\nlog = 'here/ssa'\n[[time_stamping]]\nanchors = '{ca}'\n"
    );
    desk.write("ssa.toml", &text);
    let of = ConfigFiles {
        configs: vec![desk.at("ssa.toml")],
        zone: Whose::Ssa,
        root: None,
    };
    let what = Sign {
        files: of.clone(),
        sig: desk.at("sig"),
        key: desk.at("a.key"),
        new: Some(New {
            serial: 1,
            need: 2,
            signers: vec![desk.at("a.jwk"), desk.at("b.jwk")],
            reason: "first".to_owned(),
            exp: UnixTime(1_800_000_000),
        }),
    };
    assert_eq!(sign(&what, QUIET).unwrap(), Exit::Undetermined);
    let read = Signed::read(&desk.at("sig")).unwrap();
    assert_eq!(read.manifest.of, Zone::Ssa.of("here/ssa"));
    let named: Vec<_> = read.manifest.nodes["a"].keys().collect();
    assert_eq!(named, ["config", "time_stamping.0.anchors", "tls.ca"]);
    let another = ConfigFiles {
        zone: Whose::Sam,
        ..of
    };
    assert!(verify(&another, &desk.at("sig"), QUIET).is_err());
}

#[test]
fn officers_sign_a_copy_of_what_lies_elsewhere_under_the_names_there() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.at("copy/etc/natsuin")).unwrap();
    desk.write("copy/etc/natsuin/ca.pem", "a CA");
    for node in ["n1", "n2"] {
        let text = format!("sam = 's'\nnode = '{node}'\n[tls]\nca = '/etc/natsuin/ca.pem'\n");
        desk.write(&format!("{node}.toml"), &text);
    }
    let copied = ConfigFiles {
        root: Some(desk.at("copy")),
        ..desk.files()
    };
    let what = |officer: &str, new| Sign {
        files: copied.clone(),
        sig: desk.at("sig"),
        key: desk.at(&format!("{officer}.key")),
        new,
    };
    let new = New {
        serial: 1,
        need: 2,
        signers: vec![desk.at("a.jwk"), desk.at("b.jwk")],
        reason: "first".to_owned(),
        exp: UnixTime(1_800_000_000),
    };
    assert_eq!(
        sign(&what("a", Some(new)), QUIET).unwrap(),
        Exit::Undetermined
    );
    assert_eq!(sign(&what("b", None), QUIET).unwrap(), Exit::Good);
    // What the machine itself reads is the same, file by file.
    let read = Signed::read(&desk.at("sig")).unwrap();
    let ca = core_types::sha256(&[b"a CA"]);
    assert_eq!(read.manifest.nodes["n1"]["tls.ca"], ca);
    desk.write("copy/etc/natsuin/ca.pem", "another CA");
    let seen = verify(&copied, &desk.at("sig"), QUIET).unwrap();
    assert_eq!(seen, Exit::Negative);
    std::fs::remove_file(desk.at("copy/etc/natsuin/ca.pem")).unwrap();
    assert!(verify(&copied, &desk.at("sig"), QUIET).is_err());
}

#[test]
fn configurations_of_one_node_or_of_two_sams_are_not_one() {
    let desk = Desk::new();
    let text = std::fs::read_to_string(desk.at("n2.toml")).unwrap();
    for other in [text.replace("'n2'", "'n1'"), text.replace("'s'", "'t'")] {
        desk.write("n2.toml", &other);
        assert_eq!(desk.sign("a", true).unwrap_err().exit, Exit::Input);
    }
}
