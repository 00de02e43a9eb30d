//! A registration authority's word, where the reader knows its key: who was invited, how their identity was proved, up to which
//! level; and that the certificate is for this key.

use serde::Deserialize;

use super::EvidenceFault;
use super::documents::{Act, Enrolment, Key, Signed};
use super::jws::{self, Jwk};
use super::shown::InvitedShown;

/// Payload of an invitation, as far as it is read.
#[derive(Deserialize)]
struct Invite {
    voucher: String,
    tenant: String,
    person: String,
    subject: Subject,
    assurance: String,
    ceiling: u8,
    exp: i64,
}

#[derive(Deserialize)]
struct Subject {
    common_name: String,
}

/// Payload of the approval of a certificate, as far as it is read.
#[derive(Deserialize)]
struct Certify {
    spki: String,
    subject: Subject,
}

/// Registration authorities that the reader knows.
pub(super) fn known(authorities: &[String]) -> Result<Vec<Jwk>, EvidenceFault> {
    let parsed = authorities.iter().map(|key| serde_json::from_str(key));
    let parsed: Result<Vec<Jwk>, _> = parsed.collect();
    parsed.map_err(|_| EvidenceFault::Anchor("an authority's key"))
}

/// The payload and who signed it.
fn signed<'k>(text: &str, typ: &str, known: &'k [Jwk]) -> Option<(Vec<u8>, &'k Jwk)> {
    known
        .iter()
        .find_map(|key| Some((jws::verify(text, typ, key)?, key)))
}

/// Checks the invitation with which a person enrolled by `act`. Nothing where no authority invited, or none is known.
pub(super) fn invited(
    known: &[Jwk],
    enrolment: &Enrolment,
    act: &Act,
) -> Result<Option<InvitedShown>, EvidenceFault> {
    if act.by.as_deref() != Some("ra") || known.is_empty() {
        return Ok(None);
    }
    let (payload, key) = signed(&enrolment.invite, "natsuin-invite+jws", known).ok_or(
        EvidenceFault::Broken("the invitation isn't by an authority that you know"),
    )?;
    let invite: Invite = serde_json::from_slice(&payload)
        .map_err(|_| EvidenceFault::Form("the invitation's members"))?;
    let same = act.voucher.as_ref() == Some(&invite.voucher)
        && act.tenant == invite.tenant
        && act.person.id == invite.person
        && act.person.name == invite.subject.common_name
        && act.level <= invite.ceiling
        && enrolment.at < invite.exp;
    match same {
        true => Ok(Some(InvitedShown {
            authority: key.thumbprint(),
            assurance: invite.assurance,
            ceiling: invite.ceiling,
        })),
        false => Err(EvidenceFault::Broken(
            "the authority invited somebody else, or to something else",
        )),
    }
}

/// Whether known authorities approved the certificate for this key, as the evidence of each signature says, and there is one. Every
/// word that is there has to be right, whether or not another is missing. `invited`: the name in the authority's invitation.
pub(super) fn certified<'s>(
    known: &[Jwk],
    made: impl Iterator<Item = &'s Signed>,
    key: &Key,
    invited: Option<&str>,
) -> Result<bool, EvidenceFault> {
    let broken = EvidenceFault::Broken;
    let (mut any, mut all) = (false, true);
    for signature in made {
        // Where none is known nothing can be said of it.
        let text = signature.certify.as_deref().filter(|_| !known.is_empty());
        let Some(text) = text else {
            all = false;
            continue;
        };
        any = true;
        let (payload, _) = signed(text, "natsuin-certify+jws", known).ok_or(broken(
            "the certificate isn't approved by an authority that you know",
        ))?;
        let certify: Certify = serde_json::from_slice(&payload)
            .map_err(|_| EvidenceFault::Form("the members of a certificate's approval"))?;
        if certify.spki != key.spki {
            return Err(broken("the authority approved another key's certificate"));
        }
        if invited.is_some_and(|name| name != certify.subject.common_name) {
            return Err(broken(
                "the authority approved another person's certificate",
            ));
        }
    }
    Ok(any && all)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    struct Authority {
        pair: EcdsaKeyPair,
        public: Jwk,
    }

    impl Authority {
        fn new() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let point = pair.public_key().as_ref();
            let half = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let public = json!({
                "kty": "EC", "crv": "P-256", "x": half(&point[1..33]), "y": half(&point[33..]),
            });
            let public = serde_json::from_value(public).unwrap();
            Self { pair, public }
        }

        /// Evidence of a signature with its approval of a certificate for this key and person.
        fn certifies(&self, spki: &str, name: &str) -> Signed {
            let header = json!({
                "alg": "ES256", "typ": "natsuin-certify+jws", "kid": self.public.thumbprint(),
            });
            let payload = json!({ "spki": spki, "subject": { "common_name": name } });
            let parts = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let signed = parts.join(".");
            let value = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
            let value = URL_SAFE_NO_PAD.encode(value.unwrap());
            made(Some(&format!("{signed}.{value}")))
        }
    }

    fn made(certify: Option<&str>) -> Signed {
        let made = json!({
            "act": "", "approval": "", "alg": "", "indices": [], "values": [], "certify": certify, "at": 0, "clock": "",
        });
        serde_json::from_value(made).unwrap()
    }

    // shows: T-INS-OPERATOR, T-REG-IMPERSONATE
    #[test]
    fn every_word_of_an_authority_has_to_be_right_wherever_another_is_missing() {
        let (own, other) = (Authority::new(), Authority::new());
        let key = Key {
            id: String::new(),
            spki: "own".to_owned(),
            cert: String::new(),
            subject: String::new(),
        };
        let known = [own.public.clone()];
        let judged =
            |made: &[Signed], known: &[Jwk]| certified(known, made.iter(), &key, Some("P"));
        let good = || own.certifies("own", "P");
        assert_eq!(judged(&[good(), good()], &known), Ok(true));
        assert_eq!(judged(&[good()], &[]), Ok(false));
        assert_eq!(judged(&[], &known), Ok(false), "nobody said anything");
        for wrong in [
            other.certifies("own", "P"),
            own.certifies("another", "P"),
            own.certifies("own", "Q"),
        ] {
            let both = [made(None), wrong];
            assert!(judged(&both, &known).is_err());
            let [missing, wrong] = both;
            assert!(judged(&[good(), wrong], &known).is_err());
            assert_eq!(judged(&[good(), missing], &known), Ok(false));
        }
    }
}
