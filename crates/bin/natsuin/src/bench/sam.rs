//! `natsuin bench sam`: what the SAM's decisions cost, without network and store, on one core.
//!
//! A passkey's proof stands beside the bare verification of its signature; an act beside SHA-256 of its text.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use core_types::random::SystemRandom;
use core_types::{
    B64, ClientId, Digest32, FactorId, HashAlg, KeyAlg, KeyId, Level, PersonId, Random as _,
    SigAlg, TenantId, UnixTime, sha256,
};
use jose::SigningKey;
use sam_api::ssa::PrepareItem;
use sam_core::ActState;
use sam_core::act::{Issuer, SignContent, check_items, mint_sign, read_act};
use sam_core::passkey::{Assertion, Passkey, RelyingParty, verify_assertion, verify_registration};
use sam_core::state::{Asked, Now, Plan, Subject};
use sap::act::{ActClient, ActKey, Person, Since};
use sap::messages::ApproveRequest;
use sap::proof::Method;
use sap::{Act, Proof, TYP_ACT, act_digest};
use serde::Serialize;
use soft_passkey::{Behaviour, SoftPasskey};

use super::measure::{f64_of, millis, now};
use crate::output::Out;

const ITEMS: [usize; 3] = [1, 100, 10_000];
const ORIGIN: &str = "https://sic.example";
const RP_ID: &str = "sic.example";
const TIME: UnixTime = UnixTime(1_800_000_000);
const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);
/// Proofs made beforehand and verified in turn.
const PROOFS: usize = 256;

/// Everything in microseconds of one core.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    schema: &'static str,
    passkey: PasskeyCost,
    acts: Vec<ActCost>,
}

/// A proof by passkey, from its JSON to *yes*.
#[derive(Debug, Serialize)]
struct PasskeyCost {
    verify_us: f64,
    /// One bare ECDSA P-256 verification of a message of the same length.
    ecdsa_us: f64,
    ratio: f64,
}

/// An act with so many hashes.
#[derive(Debug, Serialize)]
struct ActCost {
    items: usize,
    bytes: usize,
    /// Checking the request's items, minting, writing and signing the act: *open*.
    mint_us: f64,
    /// Checking its text against its name, reading it and matching all hashes with it: *sign*.
    use_us: f64,
    /// SHA-256 of its text.
    sha256_us: f64,
    /// One bare ECDSA P-256 signature and its verification.
    ecdsa_sign_verify_us: f64,
}

/// Measures, and prints as it goes.
pub(super) fn run(span: Duration, out: Out) -> Result<Results> {
    out.say("one core; the SAM's decisions alone: no network, no store");
    let passkey = passkey(span)?;
    out.say(&format!(
        "passkey proof    verify {:>8.1} µs   ECDSA P-256 verify {:>6.1} µs   ratio {:>5.2}",
        passkey.verify_us, passkey.ecdsa_us, passkey.ratio
    ));
    let mut acts = Vec::new();
    for items in ITEMS {
        let row = act(items, span)?;
        out.say(&format!(
            "act of {:>6}    open {:>10.1} µs   sign {:>10.1} µs   SHA-256 of its {:>8} bytes {:>8.1} µs   \
             ECDSA P-256 sign + verify {:>6.1} µs",
            row.items, row.mint_us, row.use_us, row.bytes, row.sha256_us, row.ecdsa_sign_verify_us
        ));
        acts.push(row);
    }
    Ok(Results {
        schema: "natsuin.bench-sam/1",
        passkey,
        acts,
    })
}

/// Microseconds of one of many runs of `work`, which gets the number of the run.
fn each(span: Duration, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let begun = now();
    let mut runs = 0;
    while begun.elapsed() < span {
        work(runs)?;
        runs += 1;
    }
    Ok(millis(begun.elapsed()) * 1000.0 / f64_of(runs).max(1.0))
}

fn relying_party() -> RelyingParty {
    RelyingParty {
        origin: ORIGIN.to_owned(),
        rp_id: RP_ID.to_owned(),
    }
}

fn passkey(span: Duration) -> Result<PasskeyCost> {
    let rp = relying_party();
    let mut device = SoftPasskey::new(Behaviour::honest(ORIGIN, RP_ID), &SystemRandom)?;
    let enrolment = SystemRandom.digest32();
    let (passkey, _) = verify_registration(&rp, enrolment, &device.register(enrolment)?)?;
    let mut requests = Vec::with_capacity(PROOFS);
    for _ in 0..PROOFS {
        let proof = device.prove(SystemRandom.digest32())?;
        requests.push(serde_json::to_vec(&ApproveRequest { proof, new: None })?);
    }
    let verify_us = each(span, |run| proven(&rp, &passkey, &requests[run % PROOFS]))?;

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    // Authenticator data and the hash of the client data.
    let message = [7; 37 + 32];
    let value = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &message)?;
    let ecdsa_us = each(span, |_| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref())
            .verify(&message, value.as_ref())?;
        Ok(())
    })?;
    Ok(PasskeyCost {
        verify_us,
        ecdsa_us,
        ratio: verify_us / ecdsa_us.max(1e-9),
    })
}

fn proven(rp: &RelyingParty, passkey: &Passkey, request: &[u8]) -> Result<()> {
    let request: ApproveRequest = serde_json::from_slice(request)?;
    let Proof::Passkey {
        act,
        id,
        auth_data,
        client_data,
        sig,
    } = &request.proof
    else {
        bail!("no passkey's proof");
    };
    let assertion = Assertion {
        id: &id.0,
        auth_data: &auth_data.0,
        client_data: &client_data.0,
        sig: &sig.0,
    };
    verify_assertion(rp, *act, passkey, assertion)?;
    Ok(())
}

/// What an act is minted from.
struct Scene {
    key: SigningKey,
    tenant: TenantId,
    person: PersonId,
    client: ClientId,
    signing_key: KeyId,
    hashes: Vec<B64>,
}

impl Scene {
    fn new(items: usize) -> Result<Self> {
        let (key, _) = SigningKey::generate().map_err(|_| anyhow::anyhow!("no key"))?;
        Ok(Self {
            key,
            tenant: TenantId::parse("bench")?,
            person: PersonId::parse("person")?,
            client: ClientId::parse("client")?,
            signing_key: KeyId::parse("key")?,
            hashes: (0..items)
                .map(|_| B64(SystemRandom.digest32().0.to_vec()))
                .collect(),
        })
    }

    /// As `open` does it, from the request's items.
    fn mint(&self) -> Result<(String, ActState)> {
        let asked = self.hashes.iter().enumerate().map(|(i, h)| PrepareItem {
            ha: HashAlg::Sha256,
            h: h.clone(),
            label: format!("document-{i}.pdf"),
            doc: None,
        });
        let checked = check_items(asked.collect(), |_, _| Ok(Vec::new())).map_err(said)?;
        let items = checked.into_iter().map(|c| c.item).collect();
        let issuer = Issuer {
            sam: "sam.example",
            tenant: &self.tenant,
            brand: None,
            epoch: Digest32([1; 32]),
            policy: 1,
        };
        let content = SignContent {
            level: Level::One,
            declared: Vec::new(),
            person: Person {
                id: self.person.clone(),
                name: "髙橋 花子".to_owned(),
            },
            key: ActKey {
                id: self.signing_key.clone(),
                version: 1,
                spki: Digest32([2; 32]),
                cert: Digest32([3; 32]),
                subject: "CN=髙橋 花子,C=JP".to_owned(),
            },
            alg: KeyAlg::P256,
            client: ActClient {
                id: self.client.clone(),
                name: "Bench".to_owned(),
                known: true,
                signed: false,
            },
            items,
            renew: 0,
            since: Since::default(),
            return_uri: "https://ssa.example/".to_owned(),
            until: TIME.plus(600),
        };
        let act = mint_sign(issuer, content, TIME, &SystemRandom).map_err(said)?;
        let subject = Subject::Sign {
            request: Digest32([4; 32]),
            key: self.signing_key.clone(),
            key_version: 1,
            client: self.client.clone(),
            service: "ssa".to_owned(),
            open_until: None,
            one_time: false,
        };
        let count = act.items.len();
        let act = Act::Sign(act);
        let payload = serde_json::to_vec(&act)?;
        let jws = self
            .key
            .sign(TYP_ACT, &payload)
            .map_err(|_| anyhow::anyhow!("the act can't be signed"))?;
        let state = ActState::minted(subject, act.head(), count);
        Ok((jws, state))
    }

    /// As `sign` does it, from the stored text.
    fn plan(&self, jws: &str, digest: Digest32, state: &ActState, grant: Digest32) -> Result<()> {
        if act_digest(jws) != digest {
            bail!("another act");
        }
        let Act::Sign(act) = read_act(jws).map_err(said)? else {
            bail!("no act to sign");
        };
        let asked = Asked {
            grant,
            client: &self.client,
            key: &self.signing_key,
            alg: ALG,
            hashes: &self.hashes,
            idempotency_key: None,
        };
        match state.plan(&act, asked, world(), 30).map_err(said)? {
            Plan::Take(_) => Ok(()),
            Plan::Fetch | Plan::GiveUp(_) => bail!("the act was used before"),
        }
    }
}

fn world() -> Now {
    Now {
        time: TIME,
        epoch: Digest32([1; 32]),
        policy: 1,
    }
}

fn said(reason: sam_core::Reason) -> anyhow::Error {
    anyhow::anyhow!("the SAM refused: {reason:?}")
}

fn act(items: usize, span: Duration) -> Result<ActCost> {
    let scene = Scene::new(items)?;
    let mint_us = each(span, |_| scene.mint().map(drop))?;
    let (jws, state) = scene.mint()?;
    let (digest, grant) = (act_digest(&jws), SystemRandom.digest32());
    let factor = FactorId::parse("factor")?;
    let state = state
        .approve(digest, digest, Method::Passkey, factor, world())
        .and_then(|state| state.bind(grant, world()))
        .map_err(said)?;
    let use_us = each(span, |_| scene.plan(&jws, digest, &state, grant))?;
    let sha256_us = each(span, |_| {
        std::hint::black_box(sha256(&[jws.as_bytes()]));
        Ok(())
    })?;
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    let ecdsa_sign_verify_us = each(span, |_| {
        let value = pair.sign(&random, &digest.0)?;
        public.verify(&digest.0, value.as_ref()).context("ECDSA")
    })?;
    Ok(ActCost {
        items,
        bytes: jws.len(),
        mint_us,
        use_us,
        sha256_us,
        ecdsa_sign_verify_us,
    })
}
