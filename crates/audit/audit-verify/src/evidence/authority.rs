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

/// Whether known authorities approved the certificate for this key, as the evidence of each signature says.
pub(super) fn certified<'s>(
    known: &[Jwk],
    made: impl Iterator<Item = &'s Signed>,
    key: &Key,
) -> Result<bool, EvidenceFault> {
    let mut all = !known.is_empty();
    for signature in made {
        let Some(text) = signature.certify.as_deref().filter(|_| all) else {
            all = false;
            continue;
        };
        let broken = EvidenceFault::Broken;
        let (payload, _) = signed(text, "natsuin-certify+jws", known).ok_or(broken(
            "the certificate isn't approved by an authority that you know",
        ))?;
        let certify: Certify = serde_json::from_slice(&payload)
            .map_err(|_| EvidenceFault::Form("the members of a certificate's approval"))?;
        if certify.spki != key.spki {
            return Err(broken("the authority approved another key's certificate"));
        }
    }
    Ok(all)
}
