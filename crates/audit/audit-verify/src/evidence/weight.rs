//! Up to which level a proof counts (guideline, part I 3.5.1 and 3.5.2, part II 3.2), in the checker's own words.

use super::EvidenceFault;
use super::documents::{Act, Approval};

/// Levels of the guideline.
const LOWEST: u8 = 1;
const HIGHEST: u8 = 3;

/// The highest level at which a proof like this counts, whatever an operator allows; nothing for one that isn't known.
fn most(approval: &Approval) -> Option<u8> {
    match approval.proof.method.as_str() {
        "passkey" => {
            let passkey = approval.factor.passkey.as_ref()?;
            // It stays in its authenticator, whose model is vouched for.
            let vouched = passkey.attestation.as_deref() == Some("vouched");
            Some(if vouched && !passkey.backup_eligible {
                HIGHEST
            } else {
                2
            })
        }
        // Two elements; nobody vouches for where the key is kept.
        "device" => Some(2),
        // Whoever shows a look-alike page can use what is typed there.
        "pin-totp" | "idp" => Some(2),
        // Somebody else than the person had the secrets.
        "collected" => Some(LOWEST),
        _ => None,
    }
}

/// Whether the proof counts at the level that the act has.
pub(super) fn check(act: &Act, approval: &Approval) -> Result<(), EvidenceFault> {
    let broken = EvidenceFault::Broken;
    if !(LOWEST..=HIGHEST).contains(&act.level) {
        return Err(broken("there is no such level as the act has"));
    }
    if most(approval).is_none_or(|most| act.level > most) {
        return Err(broken("such a proof doesn't count at the act's level"));
    }
    if act.kind == "sign-open" && act.level > LOWEST {
        return Err(broken(
            "what nobody was shown is signed at level 1 and no higher",
        ));
    }
    Ok(())
}

/// What a reader should know of a proof that counts.
pub(super) fn remark(act: &Act, approval: &Approval) -> Option<&'static str> {
    match (approval.proof.method.as_str(), act.level) {
        ("pin-totp" | "idp", 2) => Some("counts-by-the-operators-policy"),
        ("passkey", HIGHEST) => Some("the-sams-word-for-the-authenticator"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn act(kind: &str, level: u8) -> Act {
        let act = json!({
            "kind": kind, "sam": "s", "tenant": "t", "epoch": "e", "iat": 0, "exp": 1, "policy": 1, "level": level,
            "person": { "id": "p", "name": "P" },
        });
        serde_json::from_value(act).unwrap()
    }

    fn approval(method: &str, passkey: &Value) -> Approval {
        let approval = json!({
            "act": "", "statement": "", "proof": { "method": method }, "at": 0, "policy": 1, "clock": "", "software": "",
            "factor": { "id": "f", "act": "", "created": 0, "passkey": passkey },
        });
        serde_json::from_value(approval).unwrap()
    }

    // shows: I-3.5.1-keyauth-L2, I-3.5.1-keyauth-L3, I-3.5.2-L3-pattern, II-3.2-keyauth-L2-mfa
    #[test]
    fn each_proof_counts_up_to_its_level_and_no_higher() {
        let passkey = |backup_eligible: bool, attestation: Option<&str>| json!({ "id": "", "key": {}, "backup_eligible": backup_eligible, "attestation": attestation });
        let none = Value::Null;
        for (method, factor, most) in [
            ("passkey", passkey(false, Some("vouched")), 3),
            ("passkey", passkey(true, Some("vouched")), 2),
            ("passkey", passkey(false, Some("certified")), 2),
            ("passkey", passkey(false, Some("own")), 2),
            ("passkey", passkey(false, Some("none")), 2),
            ("passkey", passkey(false, None), 2),
            ("passkey", none.clone(), 0),
            ("device", none.clone(), 2),
            ("pin-totp", none.clone(), 2),
            ("idp", none.clone(), 2),
            ("collected", none.clone(), 1),
            ("login", none.clone(), 0),
        ] {
            let approval = approval(method, &factor);
            for level in 0..5 {
                let good = check(&act("sign", level), &approval).is_ok();
                let counts = (1..=most).contains(&level);
                assert_eq!(good, counts, "{method} {factor} at level {level}");
                let open = check(&act("sign-open", level), &approval).is_ok();
                assert_eq!(open, counts && level == 1, "{method} at level {level}");
            }
        }
    }

    #[test]
    fn what_rests_on_the_operators_or_the_services_word_is_said() {
        let vouched =
            json!({ "id": "", "key": {}, "backup_eligible": false, "attestation": "vouched" });
        for (method, level, said) in [
            ("passkey", 2, None),
            ("passkey", 3, Some("the-sams-word-for-the-authenticator")),
            ("pin-totp", 1, None),
            ("pin-totp", 2, Some("counts-by-the-operators-policy")),
            ("idp", 2, Some("counts-by-the-operators-policy")),
            ("device", 2, None),
        ] {
            let remark = remark(&act("sign", level), &approval(method, &vouched));
            assert_eq!(remark, said, "{method} at level {level}");
        }
    }
}
