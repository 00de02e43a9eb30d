//! The `role` table of the guideline: which roles exclude each other, and what each may do.

use sap::office::{Role, excluded};

use crate::Reason;

/// The roles of one person: one, or administrator and operator together where that is declared. There is no other set
/// (`I-7.1.1.4`, `I-7.1.1.6`, `I-7.1.1.7`), so that no way of assigning can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    first: Role,
    both: bool,
}

impl Roles {
    /// Checks a set of roles. `both`: that administrator and operator are one person is declared.
    ///
    /// # Errors
    /// [`Reason::NotAllowed`] naming the requirement that excludes the set, [`Reason::Invalid`] for none, doubles or a
    /// declaration that declares nothing.
    pub fn of(roles: &[Role], both: bool) -> Result<Self, Reason> {
        let mut sorted = roles.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let first = *sorted.first().ok_or(Reason::Invalid("roles"))?;
        if sorted.len() != roles.len() {
            return Err(Reason::Invalid("roles"));
        }
        if let Some(requirement) = excluded(&sorted, both) {
            return Err(Reason::NotAllowed(requirement));
        }
        match (sorted.as_slice(), both) {
            ([_], false) => Ok(Self { first, both: false }),
            ([_], true) => Err(Reason::Invalid("both")),
            // Administrator and operator, and declared: everything else is excluded.
            _ => Ok(Self { first, both: true }),
        }
    }

    /// Whether the role is among them.
    pub fn has(self, role: Role) -> bool {
        self.first == role || (self.both && role == Role::SystemOperator)
    }

    /// The roles.
    pub fn list(self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|r| self.has(*r)).collect()
    }

    /// Whether administrator and operator are one person here.
    pub fn both(self) -> bool {
        self.both
    }

    /// The word for the set. The store's constraint admits these and no others ([`WORDS`]).
    pub fn word(self) -> &'static str {
        match (self.first, self.both) {
            (_, true) => "administrator-and-operator",
            (Role::SecurityOfficer, _) => "security-officer",
            (Role::SystemAdministrator, _) => "system-administrator",
            (Role::SystemOperator, _) => "system-operator",
            (Role::SystemAuditor, _) => "system-auditor",
        }
    }

    /// Whether somebody with these roles may do it.
    pub fn may(self, deed: Deed) -> bool {
        deed.by().iter().any(|role| self.has(*role))
    }
}

/// Every word of [`Roles::word`].
pub const WORDS: [&str; 5] = [
    "security-officer",
    "system-administrator",
    "system-operator",
    "system-auditor",
    "administrator-and-operator",
];

/// What officers do beside proposing and approving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// See proposals and their approvals.
    SeeProposals,
    /// See who holds which office.
    SeePeople,
    /// See how the SAM is.
    SeeState,
    /// See how many keys are in which state, and which of them end soon.
    SeeKeys,
    /// See which applications there are, and what is agreed with them.
    SeeClients,
    /// Search the audit log (`I-7.1.4.6-deny-by-default`).
    ReadAudit,
}

impl Deed {
    fn by(self) -> &'static [Role] {
        match self {
            Self::SeeProposals | Self::SeeState => &Role::ALL,
            // Administrators have no access to what is relevant to security, operators need none.
            Self::SeePeople => &[Role::SecurityOfficer, Role::SystemAuditor],
            // Whoever runs the service tells signers of it; whoever answers for security stops keys.
            Self::SeeKeys => &[Role::SecurityOfficer, Role::SystemOperator],
            // Whoever has to do with them (`natsuin client`); auditors read the log instead.
            Self::SeeClients => &[
                Role::SecurityOfficer,
                Role::SystemAdministrator,
                Role::SystemOperator,
            ],
            Self::ReadAudit => &[Role::SystemAuditor],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The role table as the catalogue has it.
    fn excludes(role: Role) -> Vec<String> {
        let text = include_str!("../../../../../specs/requirements.toml");
        let table: toml::Table = text.parse().unwrap();
        let name = match role {
            Role::SecurityOfficer => "SecurityOfficer",
            Role::SystemAdministrator => "SystemAdministrator",
            Role::SystemOperator => "SystemOperator",
            Role::SystemAuditor => "SystemAuditor",
        };
        let roles = table["role"].as_array().unwrap();
        let row = roles
            .iter()
            .find(|r| r["id"].as_str() == Some(name))
            .unwrap();
        assert_eq!(row["privileged"].as_bool(), Some(true));
        let listed = row["excludes"].as_array().unwrap();
        listed
            .iter()
            .map(|e| e.as_str().unwrap().to_owned())
            .collect()
    }

    fn name(role: Role) -> String {
        format!("{role:?}")
    }

    // shows: I-7.1.1.2-privileged-roles-min-set
    #[test]
    fn every_set_of_roles_is_judged_as_the_table_says() {
        let all = Role::ALL;
        for bits in 0..16_u8 {
            let set: Vec<Role> = (0..4)
                .filter(|i| bits >> i & 1 == 1)
                .map(|i| all[i])
                .collect();
            let excluded = set.iter().any(|a| {
                let never = excludes(*a);
                set.iter().any(|b| a != b && never.contains(&name(*b)))
            });
            for both in [false, true] {
                let judged = Roles::of(&set, both);
                // Two that aren't excluded are administrator and operator, and only where that is declared.
                let allowed = !excluded && matches!((set.len(), both), (1, false) | (2, true));
                assert_eq!(judged.is_ok(), allowed, "{set:?} {both}");
                if let Ok(roles) = judged {
                    assert_eq!(roles.list(), set);
                    assert!(WORDS.contains(&roles.word()));
                }
            }
        }
        let twice = [Role::SystemAuditor, Role::SystemAuditor];
        assert!(Roles::of(&twice, false).is_err());
    }

    #[test]
    fn a_refused_set_names_its_requirement() {
        let why = |set: &[Role]| match Roles::of(set, false) {
            Err(Reason::NotAllowed(requirement)) => requirement,
            other => panic!("{other:?}"),
        };
        use Role::{SecurityOfficer, SystemAdministrator, SystemAuditor, SystemOperator};
        assert_eq!(
            why(&[SecurityOfficer, SystemAuditor]),
            "I-7.1.1.6-officer-not-auditor"
        );
        let never = "I-7.1.1.7-admin-operator-not-auditor-officer";
        assert_eq!(why(&[SystemAuditor, SystemOperator]), never);
        assert_eq!(
            why(&[SystemOperator, SystemAdministrator, SecurityOfficer]),
            never
        );
        assert_eq!(why(&Role::ALL), "I-7.1.1.4-not-all-roles-one-person");
        let two = "I-7.1.1.4-not-two-roles-one-person";
        assert_eq!(why(&[SystemOperator, SystemAdministrator]), two);
    }
}
