//! Separation of roles among those who manage clients: a person is judged by all of their certificates together.

use std::collections::BTreeMap;

use core_types::{OfficerId, PeerId};
use sap::office::{Role, excluded};
use service_kit::Trouble;

use super::ClientOfficer;

/// Checks that nobody holds roles that exclude each other (`I-7.1.1.4`, `I-7.1.1.6`, `I-7.1.1.7`), by whichever certificates.
/// `auditors`: names in the certificates of those who read the log, which is an auditor's role.
///
/// # Errors
/// [`Trouble`] `roles-not-separate` that names the person and the requirement.
pub fn check(officers: &[ClientOfficer], auditors: &[PeerId]) -> Result<(), Trouble> {
    let mut people: BTreeMap<&OfficerId, Vec<Role>> = BTreeMap::new();
    for one in officers {
        let roles = people.entry(&one.officer).or_default();
        roles.push(one.role);
        if auditors.contains(&one.peer) {
            roles.push(Role::SystemAuditor);
        }
    }
    for (person, roles) in people {
        // Administrators may do here what operators may, so that nobody needs both.
        if let Some(requirement) = excluded(&roles, false) {
            return Err(Trouble::new(
                "roles-not-separate",
                format!("{person} would have roles that exclude each other ({requirement})"),
                "give one person one role in officers.people, and no certificate of theirs to audit.reading.auditors; an \
                 administrator may do here what an operator may",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(certificate: &str, person: &str, role: Role) -> ClientOfficer {
        ClientOfficer {
            peer: PeerId::parse(certificate).unwrap(),
            officer: OfficerId::parse(person).unwrap(),
            role,
        }
    }

    // shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer
    #[test]
    fn a_person_with_two_certificates_has_one_role() {
        for one in Role::ALL {
            for other in Role::ALL {
                let two = [
                    listed("sato.one", "sato", one),
                    listed("sato.two", "sato", other),
                ];
                let told = check(&two, &[]);
                assert_eq!(told.is_ok(), one == other, "{one:?} {other:?}");
                if let Err(trouble) = told {
                    assert_eq!(trouble.code, "roles-not-separate");
                    assert!(trouble.what.starts_with("sato ") && trouble.what.contains("I-7.1.1."));
                }
                // Two persons may have any two.
                let apart = [
                    listed("sato.one", "sato", one),
                    listed("ito.one", "ito", other),
                ];
                assert!(check(&apart, &[]).is_ok());
            }
        }
    }

    // shows: I-7.1.1.6-officer-not-auditor, I-7.1.1.7-admin-operator-not-auditor-officer
    #[test]
    fn who_reads_the_log_is_an_auditor_and_nothing_else() {
        let (reader, other) = ("sato.one", "watanabe.one");
        let auditors = [reader, other].map(|name| PeerId::parse(name).unwrap());
        for role in Role::ALL {
            let told = check(&[listed(reader, "sato", role)], &auditors);
            assert_eq!(told.is_ok(), role == Role::SystemAuditor, "{role:?}");
            // By the certificate that isn't the one of the office, too.
            let two = [
                listed("sato.two", "sato", role),
                listed(reader, "sato", role),
            ];
            assert_eq!(check(&two, &auditors).is_ok(), role == Role::SystemAuditor);
            assert!(check(&[listed("sato.two", "sato", role)], &auditors).is_ok());
        }
    }
}
