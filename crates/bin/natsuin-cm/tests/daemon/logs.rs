//! What the program tells its operator on standard error.

use std::process::Output;

use serde_json::Value;

use crate::kit::*;

/// Runs a command with this form of log lines asked for.
fn told(site: &Site, form: Option<&str>, args: &[&str]) -> (Output, String) {
    let mut command = site.daemon("kind = \"software\"");
    command.env_remove("NATSUIN_LOG");
    if let Some(form) = form {
        command.env("NATSUIN_LOG", form);
    }
    let output = command.args(args).output().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

/// Every line is an object.
fn objects(said: &str) -> Vec<Value> {
    let object = |line: &str| -> Value {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for name in ["timestamp", "level", "target"] {
            assert!(value[name].is_string(), "{line}");
        }
        assert!(value["fields"]["message"].is_string(), "{line}");
        value
    };
    said.lines().map(object).collect()
}

// shows: I-A5-log-class-application
#[test]
fn log_lines_are_text_without_colours_or_an_object_each() {
    let site = Site::new();
    let out = site.token.path().join("log").display().to_string();
    let export = ["export-log", "--out", &out];
    let (output, said) = told(&site, None, &export);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the public key of this zone's log"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    let (output, said) = told(&site, Some("json"), &export);
    assert!(output.status.success(), "{said}");
    let key = |line: &Value| {
        let key = line["fields"]["key"].as_str();
        key.is_some_and(|key| key.starts_with("test/cm+"))
    };
    assert!(objects(&said).iter().any(key), "{said}");

    // What went wrong is a line like the others, and for a person two with what to do.
    let wrong = ["check-backup", "--from", "/nowhere"];
    let (output, said) = told(&site, Some("json"), &wrong);
    assert_eq!(output.status.code(), Some(4));
    let last = objects(&said).pop().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert_eq!(last["fields"]["code"], "file");
    assert!(last["fields"]["remedy"].is_string(), "{last}");
    let (output, said) = told(&site, Some("text"), &wrong);
    assert_eq!(output.status.code(), Some(4));
    assert!(said.contains("(code file)\n  do:  "), "{said}");

    // Whoever asks for an object gets one, whatever came of it.
    for (args, code, schema) in [
        (&wrong[..], 4, "natsuin.error/1"),
        (&export, 0, "natsuin.answer/1"),
    ] {
        let (output, said) = told(&site, None, &[&["--json"][..], args].concat());
        assert_eq!(output.status.code(), Some(code), "{said}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["schema"], schema, "{object}");
    }

    let (output, said) = told(&site, Some("yaml"), &wrong);
    assert_eq!(output.status.code(), Some(4));
    assert!(said.contains("NATSUIN_LOG"), "{said}");
}
