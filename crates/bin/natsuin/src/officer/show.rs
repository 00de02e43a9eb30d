//! What officers see, as lines.

use sap::office::calls::{
    MailInfo, OfficerInfo, PeopleAnswer, ProposalInfo, ProposalState, StateAnswer,
};
use sap::office::{Document, EndCause, KeyAction, Measure, Office, Part, Role};
use web_ui::{Arg, Lang, Messages, clean};

use crate::output::Out;

pub(super) fn read(document: &str) -> Option<Document> {
    serde_json::from_str(document).ok()
}

/// A proposal in a few lines.
pub(super) fn show(info: &ProposalInfo, out: Out) {
    let m = out.m();
    let state = match info.state {
        ProposalState::Open => "open",
        ProposalState::Waiting => "waiting",
        ProposalState::Approved => "approved",
        ProposalState::Done => "done",
        ProposalState::Ended => "ended",
        ProposalState::Expired => "expired",
    };
    let yours = match info.yours {
        true => format!(" · {}", m.t("office-yours")),
        false => String::new(),
    };
    let state = m.t(&format!("office-state-{state}"));
    out.say(&format!("{}  {state}{yours}", info.proposal));
    if let Some(document) = read(&info.document) {
        lines(&document, m).iter().for_each(|line| out.say(line));
    }
    let names: Vec<String> = info.approvals.iter().map(|a| clean(&a.name)).collect();
    out.say(&format!(
        "    {}: {} ({})",
        m.t("office-approved-by"),
        names.join(", "),
        m.n("office-needs", info.needs.into())
    ));
}

/// What is approved, in words; the same that the page shows.
pub(super) fn lines(document: &Document, m: Messages) -> Vec<String> {
    vec![
        format!("    {}", in_words(document, m)),
        format!("    {}: {}", m.t("office-reason"), clean(&document.reason)),
        format!(
            "    {}: {}",
            m.t("office-by"),
            clean(&document.requester.name)
        ),
        format!("    {}: {}", m.t("office-until"), m.time(document.exp)),
    ]
}

fn in_words(document: &Document, m: Messages) -> String {
    let facts = document.facts.whom();
    let roles = |office: &Office| {
        let names: Vec<String> = office.roles.iter().map(|r| m.t(&role_id(*r))).collect();
        names.join(" + ")
    };
    let (id, name, what) = match &document.measure {
        Measure::Appoint { name, office, .. } => ("appoint", name.clone(), roles(office)),
        Measure::Account { account, .. } => {
            let id = match document.facts.wait {
                Some(_) => "account-again",
                None => "account",
            };
            (id, facts, account.to_string())
        }
        Measure::Confirm {
            account, passkey, ..
        } => ("confirm", facts, format!("{passkey} ({account})")),
        Measure::Office { office, .. } => ("office", facts, roles(office)),
        Measure::Dismiss { .. } => ("dismiss", facts, String::new()),
        Measure::Key { key, action } => {
            let id = match action {
                KeyAction::Suspend => "key-suspend",
                KeyAction::Resume => "key-resume",
                KeyAction::Destroy => "key-destroy",
            };
            (id, facts, key.to_string())
        }
        Measure::Factors { .. } => ("factors", facts, String::new()),
        Measure::Client { client, name, .. } => ("client", name.clone(), client.to_string()),
        Measure::ForgetClient { client } => ("forget-client", String::new(), client.to_string()),
        Measure::Settings { part, digest } => {
            let id = match part {
                Part::Policy => "settings-policy",
                Part::Audit => "settings-audit",
            };
            (id, String::new(), digest.to_string())
        }
        Measure::Module { enabled: true } => ("module-on", String::new(), String::new()),
        Measure::Module { enabled: false } => ("module-off", String::new(), String::new()),
        Measure::DeleteArchived {
            zone,
            archive,
            size,
        } => (
            "delete-archived",
            format!("{} (0–{})", zone_name(*zone), size.saturating_sub(1)),
            archive.to_string(),
        ),
        Measure::ForgetPerson { subject } => ("forget-person", String::new(), subject.to_string()),
        Measure::EndKeys { tenant, cause } => {
            let id = match cause {
                EndCause::EndOfService => "end-keys-end-of-service",
                EndCause::Incident => "end-keys-incident",
            };
            let whole = || m.t("office-whole-service");
            let of = tenant.as_ref().map_or_else(whole, ToString::to_string);
            let keys = document.facts.keys.unwrap_or_default();
            (id, of, keys.to_string())
        }
    };
    let args = [("name", Arg::Text(&name)), ("what", Arg::Text(&what))];
    m.f(&format!("office-do-{id}"), &args)
}

fn zone_name(zone: sap::office::Zone) -> String {
    format!("{zone:?}").to_uppercase()
}

fn role_id(role: Role) -> String {
    let word = serde_json::to_value(role).unwrap_or_default();
    format!("office-role-{}", word.as_str().unwrap_or_default())
}

pub(super) fn show_people(people: &PeopleAnswer, out: Out) {
    let m = out.m();
    for officer in &people.officers {
        out.say(&person_line(officer, m));
        for account in &officer.accounts {
            let state = match account.active {
                true => account.last_act.map_or_else(String::new, |at| m.time(at)),
                false => m.t("office-no-passkey"),
            };
            let unconfirmed = match account.unconfirmed {
                true => format!("  ! {}", m.t("office-account-unconfirmed")),
                false => String::new(),
            };
            out.say(&format!("    {}  {state}{unconfirmed}", account.account));
        }
    }
    out.say(&m.n("office-usable", people.usable.into()));
    if !people.refused.is_empty() {
        let names: Vec<_> = people.refused.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        out.say(&m.f("office-refused-rows", &[("names", Arg::Text(&names))]));
    }
}

fn person_line(officer: &OfficerInfo, m: Messages) -> String {
    let roles: Vec<String> = officer
        .office
        .roles
        .iter()
        .map(|r| m.t(&role_id(*r)))
        .collect();
    let mut line = format!(
        "{} ({})  {}  –{}",
        clean(&officer.name),
        officer.officer,
        roles.join(" + "),
        m.time(officer.office.until)
    );
    match officer.office.training {
        Some(told) => {
            let (at, until) = (m.time(told.at), m.time(told.until));
            line.push_str(&format!("  {}: {at} – {until}", m.t("office-training")));
        }
        None if officer.ended.is_none() => {
            line.push_str(&format!("  ! {}", m.t("office-training-missing")));
        }
        None => {}
    }
    for (so, id) in [
        (officer.ended.is_some(), "office-ended"),
        (officer.due, "office-due"),
    ] {
        if so {
            line.push_str(&format!("  ! {}", m.t(id)));
        }
    }
    line
}

pub(super) fn show_state(state: &StateAnswer, out: Out) {
    let m = out.m();
    let clock = if state.clock {
        "office-clock-good"
    } else {
        "office-clock-bad"
    };
    let module = state
        .module
        .clone()
        .unwrap_or_else(|| m.t("office-module-none"));
    for (id, value) in [
        ("office-sam", format!("{} / {}", state.sam, state.node)),
        ("office-version", state.version.clone()),
        ("office-clock", m.t(clock)),
        ("office-module", module),
    ] {
        out.say(&format!("{}: {value}", m.t(id)));
    }
    out.say(&match state.clock_bound_ms {
        Some(bound) => m.n("office-clock-bound", bound.into()),
        None => m.t("office-clock-unsynchronised"),
    });
    if let Some(error) = state.clock_error_ms {
        out.say(&m.n("office-clock-error", error.into()));
    }
    for source in &state.clock_sources {
        let offset = source.offset_ms.map(|ms| format!("{ms:+} ms"));
        out.say(&format!(
            "  {}  {}  {}",
            source.source,
            m.t(&format!("audit-word-{}", source.state)),
            offset.unwrap_or_default()
        ));
    }
    match &state.backups {
        None => out.say(&format!(
            "{}: {}",
            m.t("office-backups"),
            m.t("office-backups-unwatched")
        )),
        Some(known) => {
            let at = |at: Option<_>| at.map_or_else(|| m.t("office-backup-never"), |at| m.time(at));
            let late = |late: bool| if late { "!" } else { " " };
            for (id, when, is) in [
                ("office-backup-made", known.made, known.made_late),
                ("office-backup-tried", known.tried, known.tried_late),
            ] {
                out.say(&format!("{} {} {}", late(is), m.t(id), at(when)));
            }
        }
    }
    show_mail(&state.mail, out);
    out.say(&m.n("office-usable", state.usable.into()));
    out.say(&m.n("office-open-proposals", state.open.into()));
    if state.due > 0 {
        out.say(&m.n("office-due-officers", state.due.into()));
    }
    for one in &state.tenants {
        let name = clean(one.brand.name(m.lang == Lang::Ja));
        let what = m.t("office-tenants");
        out.say(&format!(
            "{what}: {name} ({}), {}",
            one.tenant,
            u8::from(one.ceiling)
        ));
    }
    if let Some(levels) = &state.levels {
        out.say(&m.f("office-levels", &[("at", Arg::Own(&m.time(levels.at)))]));
        for (level, n) in &levels.keys {
            let level = m.n("sic-level", u8::from(*level).into());
            out.say(&format!("    {level}: {n}"));
        }
    }
    for one in &state.ending {
        out.say(&format!("{}  {}", m.time(one.at), one.key));
    }
}

fn show_mail(mail: &MailInfo, out: Out) {
    let m = out.m();
    if !mail.courier {
        out.say(&format!("! {}", m.t("office-mail-none")));
    }
    out.say(&m.n("office-mail-waiting", mail.waiting.into()));
    if let Some(at) = mail.oldest {
        let at = m.time(at);
        out.say(&m.f("office-mail-oldest", &[("at", Arg::Own(&at))]));
    }
    for (n, id) in [
        (mail.failed, "office-mail-failed"),
        (mail.given_up, "office-mail-given-up"),
        (mail.codes, "office-mail-codes"),
    ] {
        if n > 0 {
            out.say(&format!("! {}", m.n(id, n.into())));
        }
    }
}
