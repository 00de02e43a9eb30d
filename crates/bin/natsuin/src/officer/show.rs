//! What officers see, as lines.

use sap::office::calls::{MailInfo, OfficerInfo, StateAnswer};
use web_ui::{Arg, Lang, Messages, clean};

use super::role_id;
use crate::output::Out;

pub(super) fn person_line(officer: &OfficerInfo, m: Messages) -> String {
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
