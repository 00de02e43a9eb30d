//! Which roles nobody holds together: the one rule, for everybody who keeps a list of officers.

use super::Role;

/// Pairs that nobody holds, and the requirement that says so.
const EXCLUDED: [(Role, Role, &str); 5] = {
    use Role::{SecurityOfficer, SystemAdministrator, SystemAuditor, SystemOperator};
    const NEVER: &str = "I-7.1.1.7-admin-operator-not-auditor-officer";
    [
        (
            SecurityOfficer,
            SystemAuditor,
            "I-7.1.1.6-officer-not-auditor",
        ),
        (SystemAdministrator, SecurityOfficer, NEVER),
        (SystemAdministrator, SystemAuditor, NEVER),
        (SystemOperator, SecurityOfficer, NEVER),
        (SystemOperator, SystemAuditor, NEVER),
    ]
};

/// The requirement that keeps one person from holding these roles; none for a single role, and for administrator and operator
/// where it is declared that they are one person (`both`). A role counts once, however often it is named.
pub fn excluded(roles: &[Role], both: bool) -> Option<&'static str> {
    let mut sorted = roles.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == Role::ALL.len() {
        return Some("I-7.1.1.4-not-all-roles-one-person");
    }
    let holds = |role| sorted.contains(&role);
    let pair = |(one, other, _): &&(Role, Role, &str)| holds(*one) && holds(*other);
    match EXCLUDED.iter().find(pair) {
        Some((_, _, requirement)) => Some(*requirement),
        None if sorted.len() > 1 && !both => Some("I-7.1.1.4-not-two-roles-one-person"),
        None => None,
    }
}
