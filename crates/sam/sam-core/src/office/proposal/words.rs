//! Proposals in words.

use sap::office::{Document, EndCause, KeyAction, MAX_WORDS, Measure, Part, Role};

/// One line that says in words what is approved; the same for everybody. Pages say more, from the document.
pub fn words(document: &Document) -> String {
    let whom = document.facts.whom();
    let text = match &document.measure {
        Measure::Appoint { name, office, .. } => {
            format!("appoint {name} as {}", roles_in_words(&office.roles))
        }
        Measure::Account { account, .. } => match document.facts.wait {
            Some(_) => {
                format!("after 72 hours, let {account} of {whom} have a new passkey")
            }
            None => format!("invite {whom} to use account {account}"),
        },
        Measure::Confirm {
            account, passkey, ..
        } => format!("the passkey {passkey} of account {account} is that of {whom}"),
        Measure::Office { office, .. } => {
            format!("{whom} is {} from here on", roles_in_words(&office.roles))
        }
        Measure::Dismiss { .. } => format!("remove {whom} from office"),
        Measure::Key { key, action } => {
            let verb = match action {
                KeyAction::Suspend => "stop",
                KeyAction::Resume => "let go on",
                KeyAction::Destroy => "destroy",
            };
            format!("{verb} the key {key} of {whom}")
        }
        Measure::Factors { .. } => format!("{whom} may enrol new factors after 72 hours"),
        Measure::Client { client, name, .. } => format!("register application {client} as {name}"),
        Measure::ForgetClient { client } => format!("remove application {client}"),
        Measure::Settings { part, digest } => {
            let what = match part {
                Part::Policy => "policy",
                Part::Audit => "audit",
            };
            format!("admit {what} settings {digest}")
        }
        Measure::Module { enabled: true } => "enable the cryptographic module".to_owned(),
        Measure::Module { enabled: false } => "disable the cryptographic module".to_owned(),
        Measure::DeleteArchived {
            zone,
            archive,
            size,
        } => {
            format!(
                "delete the {size} oldest entries from the log of {zone:?}, which archive {archive} has"
            )
        }
        Measure::ForgetPerson { subject } => {
            format!("forget in all zones who the person of commitment {subject} is")
        }
        Measure::EndKeys { tenant, cause } => {
            let of = match tenant {
                Some(tenant) => format!("tenant {tenant}"),
                None => "the whole service".to_owned(),
            };
            let why = match cause {
                EndCause::EndOfService => "the service ends",
                EndCause::Incident => "of an incident",
            };
            let keys = document.facts.keys.unwrap_or_default();
            format!("destroy all keys of {of}, {keys} now, because {why}; none is made again")
        }
    };
    crate::label::clean(&text, MAX_WORDS)
}

fn roles_in_words(roles: &[Role]) -> String {
    let words: Vec<&str> = roles
        .iter()
        .map(|role| match role {
            Role::SecurityOfficer => "security officer",
            Role::SystemAdministrator => "system administrator",
            Role::SystemOperator => "system operator",
            Role::SystemAuditor => "system auditor",
        })
        .collect();
    words.join(" and ")
}
