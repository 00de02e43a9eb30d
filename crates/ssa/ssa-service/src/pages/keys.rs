//! A person's keys, and the way back from the SIC page to certificates.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use core_types::{OriginCase, VoucherId};
use sam_api::ssa::{KeyInfo, KeyLevel, KeyState, LevelPart};
use sap::level::references;
use web_ui::{Arg, Messages};

use super::{Content, Trouble, Visit, found, go, login, show, sorry};
use crate::Ssa;
use crate::enrol::{self, EnrolError, Enrolled};
use crate::keys::read_certificate;
use crate::port::CertifyError;
use crate::session::Session;

#[derive(Template)]
#[template(path = "keys.html")]
struct View {
    m: Messages,
    token: String,
    name: String,
    keys: Vec<Card>,
    /// Where to get missing certificates; empty if none is missing.
    finish: String,
    /// Where to set up how to approve; empty if nothing waits.
    begin: String,
}

/// One key as it is shown.
struct Card {
    id: String,
    kind: &'static str,
    /// Message of the state, and class of its mark.
    state: &'static str,
    mark: &'static str,
    subject: String,
    issuer: String,
    until: String,
    /// Days left when they are under 60.
    left: String,
    because: String,
    higher: String,
    /// Requirements of the next level that aren't met, as the catalogue names them.
    needs: String,
    /// Evaluations that the level rests on by the operator's word.
    declared: Vec<String>,
    origin: String,
    /// It is for one act.
    one_time: bool,
    made: String,
}

/// `GET /keys`
pub(super) async fn list(State(ssa): State<Ssa>, visit: Visit) -> Response {
    listed(&ssa, &visit)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn listed(ssa: &Ssa, visit: &Visit) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Ok(login::first("/keys"));
    };
    let keys = ssa
        .keys_of(&session.person)
        .await
        .map_err(|_| Trouble::NotNow)?;
    let mut tx = ssa.store().read("keys-page").await?;
    let name = crate::users::name_of(&mut tx, &session.person).await?;
    let vouchers = enrol::vouchers_of(&mut tx, &session.person).await?;
    drop(tx);
    let mut waiting = keys.iter().filter(|key| key.state == KeyState::Pending);
    let waiting = waiting.next().map(|key| key.registration.to_string());
    let first = vouchers.first().filter(|_| keys.is_empty()).cloned();
    let link = |voucher: Option<String>, path: &str| {
        voucher.map_or_else(String::new, |voucher| format!("{path}{voucher}"))
    };
    let view = View {
        m: visit.words(),
        token: browser.form_token(),
        name: web_ui::clean(&name.unwrap_or_default()),
        finish: link(waiting, "/enrolled/"),
        begin: link(first, "/enrol/"),
        keys: keys.iter().map(|key| card(ssa, visit, key)).collect(),
    };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-keys-title");
    let content = Content {
        inside: true,
        ..Content::new(&title, &body)
    };
    Ok(show(ssa, visit, content))
}

fn card(ssa: &Ssa, visit: &Visit, key: &KeyInfo) -> Card {
    let words = visit.words();
    let cert = key.chain.first().and_then(|cert| read_certificate(&cert.0));
    let now = ssa.now();
    let over = cert.as_ref().is_some_and(|cert| now >= cert.not_after);
    let (state, mark) = match (key.state, over) {
        (KeyState::Pending, _) => ("portal-key-pending", "wait"),
        (KeyState::Suspended, _) => ("portal-key-suspended", "no"),
        (KeyState::Destroyed, _) => ("portal-key-destroyed", "no"),
        (KeyState::Active, true) => ("portal-key-expired", "no"),
        (KeyState::Active, false) => ("portal-key-active", ""),
    };
    let days = cert
        .as_ref()
        .map(|cert| (cert.not_after.0 - now.0).div_euclid(86_400));
    let left = days
        .filter(|days| (0..60).contains(days))
        .map(i64::unsigned_abs);
    let because = match key.level.because {
        LevelPart::Generation => "portal-level-generation",
        LevelPart::Import => "portal-level-import",
        LevelPart::Retention => "portal-level-retention",
        LevelPart::Authorization => "portal-level-authorization",
        LevelPart::Enrolment => "portal-level-enrolment",
        LevelPart::Service => "portal-level-service",
    };
    let level = u64::from(u8::from(key.level.level));
    let higher = match level {
        1 => words.t("level-2-needs"),
        2 => words.t("portal-level-3-needs"),
        _ => String::new(),
    };
    Card {
        id: key.key.to_string(),
        kind: key.alg.name(),
        state,
        mark,
        subject: web_ui::clean(&key.subject.common_name),
        issuer: cert
            .as_ref()
            .map(|cert| web_ui::clean(&cert.issuer))
            .unwrap_or_default(),
        until: cert
            .as_ref()
            .map(|cert| words.date(cert.not_after))
            .unwrap_or_default(),
        left: left
            .map(|days| words.n("portal-key-left", days))
            .unwrap_or_default(),
        because: words.f(because, &[("n", Arg::Num(level))]),
        higher,
        needs: key.level.needs.join(", "),
        declared: declared(&key.level),
        origin: words.t(match key.origin_case {
            OriginCase::ProviderDevice => "portal-key-origin-hsm",
            OriginCase::ProviderSoftware => "portal-key-origin-software",
            OriginCase::CaDirect => "portal-key-origin-ca",
            OriginCase::CaThroughSigner | OriginCase::Signer => "portal-key-origin-copies",
        }),
        one_time: key.one_time,
        made: words.date(key.created),
    }
}

/// The references, each once.
fn declared(level: &KeyLevel) -> Vec<String> {
    let references = references(&level.declared);
    references.iter().map(|r| web_ui::clean(r)).collect()
}

/// `GET /enrol/{voucher}`: on to the SIC page, if the SSA can send there.
pub(super) async fn enrol(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(voucher): Path<String>,
) -> Response {
    let sent = async {
        let Some(session) = ssa.session(visit.browser.as_ref()).await? else {
            return Ok(login::first(&format!("/enrol/{voucher}")));
        };
        let invitation = invitation_of(&ssa, &session, &voucher).await?;
        match ssa.sic_link(&invitation) {
            Some(link) => Ok(found(&link)),
            // The link is the RA's to give.
            None => Ok(super::sign_up::ask_for_the_letter(&ssa, &visit)),
        }
    };
    sent.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `GET /enrolled/{voucher}`: where the SIC page sends the browser after enrolment. Loading it again goes on where it
/// ended.
pub(super) async fn enrolled(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(voucher): Path<String>,
) -> Response {
    let done = async {
        let Some(session) = ssa.session(visit.browser.as_ref()).await? else {
            return Ok(login::first(&format!("/enrolled/{voucher}")));
        };
        let invitation = invitation_of(&ssa, &session, &voucher).await?;
        match complete(&ssa, &invitation.voucher).await? {
            Enrolled::Open => Ok(go(&format!("/enrol/{voucher}"))),
            Enrolled::Dead => Err(Trouble::LinkUsed),
            Enrolled::Done { .. } => Ok(go("/keys")),
        }
    };
    done.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn complete(ssa: &Ssa, voucher: &VoucherId) -> Result<Enrolled, Trouble> {
    ssa.complete_enrolment(voucher).await.map_err(|error| {
        tracing::warn!(%error, "an enrolment could not be completed");
        match error {
            EnrolError::Certify(CertifyError::Refused(_)) => Trouble::Refused,
            _ => Trouble::NotNow,
        }
    })
}

/// The invitation with this voucher, if it is this person's.
async fn invitation_of(
    ssa: &Ssa,
    session: &Session,
    voucher: &str,
) -> Result<enrol::Invitation, Trouble> {
    let mut tx = ssa.store().read("invitation").await?;
    let invitation = enrol::find_by_voucher(&mut tx, voucher).await?;
    let own = invitation.filter(|invitation| invitation.person == session.person);
    own.ok_or(Trouble::LinkExpired)
}
