//! Stops on somebody's word: a service's, that its user is logged in, or a program's that watches the logs. Nothing was proven to
//! the SAM, so what is left to check is that it wrote down then who asked for which key.

use super::documents::Stop;
use super::published::nobody;
use super::{Case, EvidenceFault, Shown};

/// Checks that the log contains the stop, of this key and person, on this word.
pub(super) fn stop(case: &Case<'_>, said: &Stop) -> Result<Shown, EvidenceFault> {
    let alias = case.approvals.alias(&said.person);
    let in_log = case.approvals.logged.iter().any(|e| {
        let told = [
            ("evidence", case.bundle.act.as_str()),
            ("key", said.key.id.as_str()),
            ("owner", alias.as_str()),
            ("method", said.method.as_str()),
            ("peer", said.peer.as_str()),
        ];
        e.kind == "key.stopped" && told.iter().all(|(name, is)| e.detail(name) == Some(*is))
    });
    if !in_log {
        return Err(EvidenceFault::Broken("the log doesn't contain the stop"));
    }
    let mut remarks = vec![match said.method.as_str() {
        "login" => "the-services-word-for-the-login",
        "guard" => "a-program-watches-the-logs",
        _ => return Err(EvidenceFault::Form("a stop on something else")),
    }];
    if said.clock != "synchronised" {
        remarks.push("clock-not-kept");
    }
    Ok(Shown {
        kind: "stop".to_owned(),
        sam: said.sam.clone(),
        software: said.software.clone(),
        person: [said.peer.clone(), String::new()],
        key: Some([
            said.key.id.clone(),
            said.key.spki.clone(),
            said.key.subject.clone(),
        ]),
        what: vec![
            format!("key of {}", said.person),
            format!("changes before {}", said.changes),
        ],
        approved_at: said.at,
        method: said.method.clone(),
        by_word: true,
        remarks,
        ..nobody(case)
    })
}
