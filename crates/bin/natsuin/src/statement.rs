//! `natsuin statement`: what the cryptographic module signed about a key, its origin or its end, checked offline.

use std::path::Path;

use core_types::{Clock as _, Digest32, OriginCase, clock::SystemClock, sha256};
use jose::Jwk;
use sam_keys::{Destruction, Origin, StatementError, TYP_DESTRUCTION, TYP_ORIGIN};
use serde_json::{Value, json};
use web_ui::{Arg, Messages, clean};

use crate::output::{Exit, Failure, Out};

/// Checks the statement in `file` with the root key in `root` (JWK), and compares it with the certificate in `cert`
/// (PEM), if there is one.
///
/// # Errors
/// [`Failure`] when a file can't be read; what is wrong with the statement shows in the result.
pub fn run(file: &Path, root: &Path, cert: Option<&Path>, out: Out) -> Result<Exit, Failure> {
    let statement = text(file)?;
    let root: Jwk = serde_json::from_str(&text(root)?)
        .map_err(|e| input(root, &e, "give the module's root key as a JWK (JSON)"))?;
    let key = match cert {
        Some(path) => Some(key_of(path)?),
        None => None,
    };
    let read = read(out.m(), statement.trim(), &[root], key);
    let (exit, value, line) = match read {
        Ok((value, line)) => (Exit::Good, value, format!("OK  {line}")),
        Err(what) => (
            Exit::Negative,
            json!({"what": what.clone()}),
            format!("NG  {what}"),
        ),
    };
    out.say(&line);
    let ok = matches!(exit, Exit::Good);
    out.object(&json!({"schema": "natsuin.statement/1", "ok": ok, "statement": value}));
    Ok(exit)
}

fn read(
    m: Messages,
    jws: &str,
    roots: &[Jwk],
    key: Option<Digest32>,
) -> Result<(Value, String), String> {
    let same = |spki| match key {
        Some(key) if key != spki => Err("the statement is about another key".to_owned()),
        _ => Ok(()),
    };
    let wrong = |e: StatementError| e.to_string();
    if jose::kid_of(jws, TYP_ORIGIN).is_ok() {
        let told = Origin::verify(jws, roots).map_err(wrong)?;
        same(told.spki)?;
        let line = origin(m, &told);
        return Ok((
            json!({"origin": told, "only_at_provider": told.case.only_at_provider()}),
            line,
        ));
    }
    if jose::kid_of(jws, TYP_DESTRUCTION).is_ok() {
        let told = Destruction::verify(jws, roots).map_err(wrong)?;
        same(told.spki)?;
        let line = destruction(m, &told);
        return Ok((json!({"destruction": told}), line));
    }
    Err("this is neither a statement of origin nor a certificate of destruction".to_owned())
}

/// What the origin means for whoever relies on a signature; claims the guideline's effects only where they arise.
fn origin(m: Messages, told: &Origin) -> String {
    let how = m.t(match told.case {
        OriginCase::ProviderDevice => "cli-origin-device",
        OriginCase::ProviderSoftware => "cli-origin-provider",
        OriginCase::CaDirect => "cli-origin-ca",
        OriginCase::CaThroughSigner => "cli-origin-ca-signer",
        OriginCase::Signer => "cli-origin-signer",
    });
    let declared = told.declaration.as_deref().map_or_else(
        || m.t("cli-origin-undeclared"),
        |named| {
            m.f(
                "cli-origin-declared",
                &[("named", Arg::Text(&clean(named)))],
            )
        },
    );
    let leave = match (told.exportable, told.one_time) {
        (true, _) => format!(" {}", m.t("cli-origin-exportable")),
        (_, true) => format!(" {}", m.t("cli-origin-one-time")),
        _ => String::new(),
    };
    let level = u64::from(u8::from(told.level));
    let head = m.f(
        "cli-origin",
        &[
            ("case", Arg::Text(told.case.as_str())),
            ("alg", Arg::Text(told.alg.name())),
            ("owner", Arg::Text(told.owner.as_str())),
            ("level", Arg::Num(level)),
        ],
    );
    format!("{head} {how} {declared}{leave}")
}

fn destruction(m: Messages, told: &Destruction) -> String {
    let second = match told.unrecoverable_after {
        Some(time) if time <= SystemClock.now() => m.f(
            "cli-destroyed-passed",
            &[("time", Arg::Text(&m.time(time)))],
        ),
        Some(time) => m.f("cli-destroyed-after", &[("time", Arg::Text(&m.time(time)))]),
        None => m.t("cli-destroyed-pending"),
    };
    let head = m.f(
        "cli-destroyed",
        &[
            ("cause", Arg::Text(told.cause.as_str())),
            ("key", Arg::Text(told.key.as_str())),
            ("owner", Arg::Text(told.owner.as_str())),
            ("n", Arg::Num(told.signatures)),
            ("since", Arg::Text(&m.time(told.unusable_since))),
        ],
    );
    format!("{head} {second}")
}

fn key_of(path: &Path) -> Result<Digest32, Failure> {
    let wrong = "give a certificate in PEM";
    let certs = pki::Certificate::parse_pem(&text(path)?).map_err(|e| input(path, &e, wrong))?;
    let none = || input(path, &"no certificate", wrong);
    let cert = certs.first().ok_or_else(none)?;
    Ok(sha256(&[cert.spki()]))
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| input(path, &e, "check the path"))
}

fn input(path: &Path, what: &dyn std::fmt::Display, remedy: &'static str) -> Failure {
    let what = format!("{}: {what}", path.display());
    Failure::new(Exit::Input, "statement-file", what, remedy)
}

#[cfg(test)]
mod tests {
    use core_types::{KeyAlg, KeyId, Level, PersonId, UnixTime};
    use jose::SigningKey;

    use super::*;

    fn told(case: OriginCase, level: Level) -> Origin {
        Origin {
            sam: "sam".into(),
            key: KeyId::parse("k").unwrap(),
            version: 1,
            spki: Digest32([1; 32]),
            owner: PersonId::parse("hanako").unwrap(),
            alg: KeyAlg::P256,
            case,
            backend: "pkcs11".into(),
            declaration: Some("certificate 1".into()),
            level,
            exportable: false,
            one_time: false,
            act: Digest32([2; 32]),
            created: UnixTime(1_780_000_000),
        }
    }

    // shows: III-A1.8-origin-distinguishable, III-A1.8-origin-immutable
    #[test]
    fn an_origin_is_believed_only_from_the_root_and_only_if_it_can_be() {
        let m = Messages::new(web_ui::Lang::En);
        let (root, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let pinned = [root.public().clone()];
        let sign = |by: &SigningKey, told: &Origin| {
            by.sign(TYP_ORIGIN, &serde_json::to_vec(told).unwrap())
                .unwrap()
        };
        let good = sign(&root, &told(OriginCase::ProviderDevice, Level::Three));
        let (_, line) = read(m, &good, &pinned, Some(Digest32([1; 32]))).unwrap();
        assert!(
            line.contains("1-i") && line.contains("certificate 1"),
            "{line}"
        );
        assert!(
            read(m, &good, &pinned, Some(Digest32([3; 32]))).is_err(),
            "another key"
        );
        let forged = sign(&other, &told(OriginCase::ProviderDevice, Level::Three));
        assert!(read(m, &forged, &pinned, None).is_err());
        for (case, level) in [
            (OriginCase::Signer, Level::Two),
            (OriginCase::CaDirect, Level::Three),
            (OriginCase::ProviderSoftware, Level::Two),
        ] {
            assert!(
                read(m, &sign(&root, &told(case, level)), &pinned, None).is_err(),
                "{case} {level}"
            );
        }
        for case in [OriginCase::CaThroughSigner, OriginCase::Signer] {
            let (value, line) =
                read(m, &sign(&root, &told(case, Level::One)), &pinned, None).unwrap();
            assert_eq!(value["only_at_provider"], json!(false));
            assert!(line.contains("copies may exist"), "{line}");
        }
    }
}
