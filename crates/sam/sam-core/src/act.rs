//! Making acts: what is fixed before the signer sees it (`sap.md` R2, §4).

use core_types::{B64, ClientId, Digest32, KeyAlg, Level, Random, TenantId, UnixTime};
use sam_api::ssa::PrepareItem;
use sap::act::{
    Act, ActClient, ActKey, Brand, EnrolAct, Item, MAX_ITEMS, MAX_LABEL, MAX_LIFE, Person,
    Replaced, SignAct, Since, Version1,
};
use sap::enrol::{Invite, InvitedBy};
use sap::manage::OfficerAct;
use sap::proof::Method;
use sap::sign_open::SignOpenAct;

use crate::Reason;
use crate::label;

/// Longest renewal chain in seconds.
pub const MAX_RENEW: i64 = 3600;
/// Longest life of a request in seconds.
pub const MAX_REQUEST_LIFE: i64 = 24 * 3600;

/// Who issues acts, and under which conditions.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// Name of the SAM.
    pub sam: &'a str,
    /// Tenant.
    pub tenant: &'a TenantId,
    /// How the tenant is shown.
    pub brand: Option<&'a Brand>,
    /// Store epoch.
    pub epoch: Digest32,
    /// Policy version.
    pub policy: u32,
}

/// Everything a sign act says beside its issuer.
#[derive(Debug, Clone)]
pub struct SignContent {
    /// Level of the key.
    pub level: Level,
    /// Evaluations on which that level rests by the operator's word alone.
    pub declared: Vec<String>,
    /// The signer.
    pub person: Person,
    /// The key.
    pub key: ActKey,
    /// Kind of key: fixes the algorithms.
    pub alg: KeyAlg,
    /// Who asked.
    pub client: ActClient,
    /// What will be signed.
    pub items: Vec<Item>,
    /// Seconds from minting for which the rest may be signed by renewal; 0 for none.
    pub renew: i64,
    /// What the signer should remember.
    pub since: Since,
    /// Where the page goes afterwards.
    pub return_uri: String,
    /// End of the request; the act doesn't outlive it.
    pub until: UnixTime,
}

/// Mints a sign act at `now`.
///
/// The algorithms are those of the key whose hash is that of every item.
///
/// # Errors
/// [`Reason::Expired`] when the request has ended, [`Reason::AlgorithmNotApproved`] when the items' hashes fit no
/// algorithm of the key.
pub fn mint_sign(
    issuer: Issuer<'_>,
    content: SignContent,
    now: UnixTime,
    random: &dyn Random,
) -> Result<SignAct, Reason> {
    if now >= content.until {
        return Err(Reason::Expired);
    }
    let algs: Vec<_> = content
        .alg
        .sig_algs()
        .into_iter()
        .filter(|alg| content.items.iter().any(|i| i.hash_alg() == alg.hash()))
        .collect();
    let served = |item: &Item| algs.iter().any(|alg| alg.hash() == item.hash_alg());
    if algs.is_empty() || !content.items.iter().all(served) {
        return Err(Reason::AlgorithmNotApproved);
    }
    Ok(SignAct {
        v: Version1,
        sam: issuer.sam.to_owned(),
        tenant: issuer.tenant.clone(),
        brand: issuer.brand.cloned(),
        nonce: random.digest32(),
        iat: now,
        exp: now.plus(MAX_LIFE).min(content.until),
        epoch: issuer.epoch,
        policy: issuer.policy,
        level: content.level,
        declared: content.declared,
        person: content.person,
        key: content.key,
        client: content.client,
        algs,
        items: content.items,
        renew: renew_until(content.renew, now),
        since: content.since,
        return_uri: content.return_uri,
    })
}

/// Mints an act to sign without items at `now`: so many signatures, for so many seconds. Nothing of `content.items` and `content.renew`
/// goes into it.
///
/// # Errors
/// [`Reason::Expired`] when the request has ended, [`Reason::AlgorithmNotApproved`] when the key has no algorithm.
pub fn mint_sign_open(
    issuer: Issuer<'_>,
    content: SignContent,
    (count, seconds): (u32, i64),
    now: UnixTime,
    random: &dyn Random,
) -> Result<SignOpenAct, Reason> {
    if now >= content.until {
        return Err(Reason::Expired);
    }
    let algs = content.alg.sig_algs();
    if algs.is_empty() {
        return Err(Reason::AlgorithmNotApproved);
    }
    let until = now.plus(seconds);
    Ok(SignOpenAct {
        v: Version1,
        sam: issuer.sam.to_owned(),
        tenant: issuer.tenant.clone(),
        nonce: random.digest32(),
        iat: now,
        exp: now.plus(MAX_LIFE).min(content.until).min(until),
        epoch: issuer.epoch,
        policy: issuer.policy,
        level: content.level,
        person: content.person,
        key: content.key,
        client: content.client,
        algs,
        count,
        until,
        since: content.since,
        brand: issuer.brand.cloned(),
        return_uri: content.return_uri,
    })
}

/// The end of a renewal chain that may run for so many seconds; 0 if there is none.
fn renew_until(seconds: i64, now: UnixTime) -> i64 {
    match seconds {
        ..=0 => 0,
        asked => now.plus(asked.min(MAX_RENEW)).0,
    }
}

/// Everything an enrol act says beside its issuer.
#[derive(Debug, Clone, Copy)]
pub struct EnrolContent<'a> {
    /// The invitation.
    pub invite: &'a Invite,
    /// Who invited.
    pub by: InvitedBy,
    /// Ceiling of the voucher.
    pub ceiling: Level,
    /// Methods that may be enrolled.
    pub methods: &'a [Method],
    /// What it ends.
    pub replaces: Option<&'a Replaced>,
    /// RP ID of the SIC.
    pub rp_id: &'a str,
    /// Where the page goes afterwards.
    pub return_uri: &'a str,
}

/// Mints an enrol act at `now`.
///
/// # Errors
/// [`Reason::Expired`] when the voucher has ended.
pub fn mint_enrol(
    issuer: Issuer<'_>,
    content: EnrolContent<'_>,
    now: UnixTime,
    random: &dyn Random,
) -> Result<EnrolAct, Reason> {
    let invite = content.invite;
    if now >= invite.exp {
        return Err(Reason::Expired);
    }
    Ok(EnrolAct {
        v: Version1,
        sam: issuer.sam.to_owned(),
        tenant: issuer.tenant.clone(),
        brand: issuer.brand.cloned(),
        nonce: random.digest32(),
        iat: now,
        exp: now.plus(MAX_LIFE).min(invite.exp),
        epoch: issuer.epoch,
        policy: issuer.policy,
        level: content.ceiling,
        person: Person {
            id: invite.person.clone(),
            name: invite.subject.common_name.clone(),
        },
        voucher: invite.voucher.clone(),
        by: content.by,
        methods: content.methods.to_vec(),
        keys: invite.keys.clone(),
        replaces: content.replaces.cloned(),
        exportable: invite.exportable,
        one_time: invite.one_time,
        rp_id: content.rp_id.to_owned(),
        return_uri: content.return_uri.to_owned(),
    })
}

/// Everything an officer's act says beside its issuer.
#[derive(Debug, Clone)]
pub struct OfficerContent {
    /// Level at which the proof has to count.
    pub level: Level,
    /// The account, with the person's name.
    pub person: Person,
    /// What, as a code.
    pub what: String,
    /// SHA-256 of the exact bytes that are approved.
    pub document: Digest32,
    /// One line in words.
    pub text: String,
    /// How many persons have to approve.
    pub needs: u8,
    /// What the officer should remember.
    pub since: Since,
    /// Where the page goes afterwards.
    pub return_uri: String,
    /// End of the proposal; the act doesn't outlive it.
    pub until: UnixTime,
}

/// Mints an officer's act at `now`.
///
/// # Errors
/// [`Reason::Expired`] when the proposal has ended.
pub fn mint_officer(
    issuer: Issuer<'_>,
    content: OfficerContent,
    now: UnixTime,
    random: &dyn Random,
) -> Result<OfficerAct, Reason> {
    if now >= content.until {
        return Err(Reason::Expired);
    }
    Ok(OfficerAct {
        v: Version1,
        sam: issuer.sam.to_owned(),
        tenant: issuer.tenant.clone(),
        brand: issuer.brand.cloned(),
        nonce: random.digest32(),
        iat: now,
        exp: now.plus(MAX_LIFE).min(content.until),
        epoch: issuer.epoch,
        policy: issuer.policy,
        level: content.level,
        person: content.person,
        what: content.what,
        document: content.document,
        text: label::clean(&content.text, MAX_LABEL),
        needs: content.needs,
        since: content.since,
        return_uri: content.return_uri,
    })
}

/// An item of a request, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedItem {
    /// As the act names it.
    pub item: Item,
    /// DER of a document's signedAttrs. Keys that sign messages sign this.
    pub attrs: Option<B64>,
}

/// Items of a request, checked: number, digest lengths, labels cleaned. `build_doc` checks or builds the signedAttrs
/// of a document and returns their DER.
///
/// # Errors
/// [`Reason::Invalid`] naming the member, or what `build_doc` said.
pub fn check_items(
    asked: Vec<PrepareItem>,
    build_doc: impl Fn(&PrepareItem, Option<&[u8]>) -> Result<Vec<u8>, Reason>,
) -> Result<Vec<CheckedItem>, Reason> {
    if asked.is_empty() || asked.len() > MAX_ITEMS {
        return Err(Reason::Invalid("items"));
    }
    asked
        .into_iter()
        .map(|item| {
            if item.h.0.len() != item.ha.len() {
                return Err(Reason::Invalid("items.h"));
            }
            let label = label::clean(&item.label, MAX_LABEL);
            let Some(doc) = &item.doc else {
                let (ha, h) = (item.ha, item.h);
                let item = Item::Hash { ha, h, label };
                return Ok(CheckedItem { item, attrs: None });
            };
            let attrs = build_doc(&item, doc.signed_attrs.as_ref().map(|a| a.0.as_slice()))?;
            Ok(CheckedItem {
                item: Item::Doc {
                    ha: item.ha,
                    d: item.ha.digest(&attrs).into(),
                    m: core_types::sha256(&[&attrs]),
                    ranges: doc.ranges,
                    h: item.h,
                    label,
                },
                attrs: Some(B64(attrs)),
            })
        })
        .collect()
}

/// Reads an act that the SAM made itself and found by its digest, so that its signature needs no check.
///
/// # Errors
/// [`Reason::Malformed`] when it isn't an act.
pub fn read_act(jws: &str) -> Result<Act, Reason> {
    let part = jws.split('.').nth(1).ok_or(Reason::Malformed)?;
    let bytes = core_types::bytes::from_b64u(part).map_err(|_| Reason::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Reason::Malformed)
}

/// The client as the act names it: a name from the SAM's own record, or the SSA's word, cleaned. `signed`: the SAM
/// verified the client's signature over the request.
pub fn act_client(
    id: ClientId,
    known_name: Option<&str>,
    ssa_name: &str,
    signed: bool,
) -> ActClient {
    ActClient {
        id,
        name: label::clean(known_name.unwrap_or(ssa_name), MAX_LABEL),
        known: known_name.is_some(),
        signed,
    }
}

/// Whether `uri` lies under one of the registered prefixes: same scheme, host and port, path beginning with the
/// prefix's, no user, no fragment, no dots that climb.
pub fn return_uri_allowed(uri: &str, prefixes: &[String]) -> bool {
    let plain = uri.len() <= 2048
        && uri.bytes().all(|b| (0x21..0x7f).contains(&b))
        && !uri.contains(['#', '@', '\\', '"', '<', '>'])
        && !uri.contains("/..")
        && !uri.to_ascii_lowercase().contains("%2e");
    plain
        && prefixes.iter().any(|prefix| {
            // A prefix that ends within a path segment or in the authority must end at a boundary of it.
            uri.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', '?'])
            })
        })
}

#[cfg(test)]
mod tests {
    use core_types::HashAlg;

    use super::*;

    fn item(h: usize) -> PrepareItem {
        PrepareItem {
            ha: HashAlg::Sha256,
            h: B64(vec![1; h]),
            label: "a\u{202e}b".into(),
            doc: None,
        }
    }

    fn none(_: &PrepareItem, _: Option<&[u8]>) -> Result<Vec<u8>, Reason> {
        Err(Reason::Malformed)
    }

    // shows: T-USE-DTBSR-FORGE
    #[test]
    fn items_are_counted_measured_and_cleaned() {
        assert_eq!(check_items(vec![], none), Err(Reason::Invalid("items")));
        let many = vec![item(32); MAX_ITEMS + 1];
        assert_eq!(check_items(many, none), Err(Reason::Invalid("items")));
        for length in [0, 20, 31, 33, 48] {
            let wrong = check_items(vec![item(length)], none);
            assert_eq!(wrong, Err(Reason::Invalid("items.h")), "{length}");
        }
        let good = check_items(vec![item(32); MAX_ITEMS], none).unwrap();
        assert_eq!(good[MAX_ITEMS - 1].item.label(), "ab");
    }

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn the_page_returns_only_to_registered_places() {
        let prefixes = [
            "https://ssa.example/return".to_owned(),
            "http://localhost:1/".to_owned(),
        ];
        for good in [
            "https://ssa.example/return",
            "https://ssa.example/return?x=1",
            "https://ssa.example/return/1",
            "http://localhost:1/r",
        ] {
            assert!(return_uri_allowed(good, &prefixes), "{good}");
        }
        for bad in [
            "https://ssa.example.evil/return",
            "https://ssa.example/returned",
            "https://ssa.example@evil/return",
            "https://ssa.example/return/../evil",
            "https://ssa.example/return/%2e%2e/evil",
            "https://ssa.example/return#x",
            "http://localhost:12/r",
            "javascript:alert(1)",
            "",
        ] {
            assert!(!return_uri_allowed(bad, &prefixes), "{bad}");
        }
    }
}
