//! Logging in with a certificate: from the portal to the listener that asks for one, and back. What the listener saw comes
//! back under a handle that only its answer had, and counts only in the browser that left: so nobody can have another
//! person's card log them in, or lead somebody into a login of their own.

use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use service_kit::PeerCertificates;
use store_kit::{StoreError, transaction};

use super::login::{Destination, allowed, arrive, back_to_login, first};
use super::{Trouble, Visit, found, go, own_form, sorry, with_cookie};
use crate::certificates::{CertificateFault, stable_id};
use crate::links::Kind;
use crate::passkeys::tidy_name;
use crate::session::{Browser, Session};
use crate::trips::{Leg, Shown, Trip, Wish};
use crate::{Ssa, crypt};

/// The button on the login page, and the one that binds a certificate. Missing members count as empty.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Leaving {
    pub(super) token: String,
    pub(super) flow: String,
    pub(super) next: String,
    pub(super) name: String,
}

/// `POST /login/certificate`
pub(super) async fn leave(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Response {
    let left = async {
        let browser = own_browser(&ssa, &visit, &headers, &form.token)?;
        let (flow, next) = (form.flow, allowed(&form.next).to_owned());
        let to = Destination::find(&ssa, browser, flow.clone(), next.clone()).await?;
        to.ok_or(Trouble::LinkExpired)?;
        set_out(&ssa, browser, Wish::LogIn { flow, next }).await
    };
    left.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `POST /security/certificate`
pub(super) async fn leave_to_bind(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Leaving>,
) -> Response {
    let left = async {
        let browser = own_browser(&ssa, &visit, &headers, &form.token)?;
        let session = ssa.session(Some(browser)).await?;
        if !session.is_some_and(|session| session.is_recent(ssa.now())) {
            return Ok(first("/security"));
        }
        let name = tidy_name(
            &form.name,
            &visit.words().t("portal-certificate-name-default"),
        );
        set_out(&ssa, browser, Wish::Bind { name }).await
    };
    left.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

pub(super) fn own_browser<'v>(
    ssa: &Ssa,
    visit: &'v Visit,
    headers: &HeaderMap,
    token: &str,
) -> Result<&'v Browser, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
    match own_form(ssa, headers, browser, token) {
        true => Ok(browser),
        false => Err(Trouble::ForeignForm),
    }
}

async fn set_out(ssa: &Ssa, browser: &Browser, wish: Wish) -> Result<Response, Trouble> {
    let origin = ssa.certificate_login().ok_or(Trouble::NotFound)?;
    let trip = Trip {
        wish,
        leg: Leg::ToCertificate,
    };
    let (id, now) = (browser.id(), ssa.now());
    let handle = transaction!(ssa.store(), "set-out", |tx| {
        ssa.set_out(tx, &id, &trip, now).await
    })?;
    Ok(go(&format!("{origin}/certificate/{}", handle.expose())))
}

/// `GET /certificate/{handle}`, on the listener that asks for certificates.
pub(super) async fn show(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(handle): Path<String>,
    shown: Option<axum::Extension<PeerCertificates>>,
) -> Response {
    match turned_back(&ssa, &handle, shown.map(|shown| shown.0)).await {
        Ok(Some(address)) => found(&address),
        Ok(None) => sorry(&ssa, &visit, Trouble::LinkExpired),
        Err(error) => sorry(&ssa, &visit, error.into()),
    }
}

async fn turned_back(
    ssa: &Ssa,
    handle: &str,
    shown: Option<PeerCertificates>,
) -> Result<Option<String>, StoreError> {
    let now = ssa.now();
    let came = transaction!(ssa.store(), "certificate-asked", |tx| {
        ssa.come_back(tx, handle, None, now).await
    })?;
    let Some((trip, browser)) = came.filter(|(trip, _)| matches!(trip.leg, Leg::ToCertificate))
    else {
        return Ok(None);
    };
    let certificates = shown.as_ref().map_or(&[][..], |shown| &shown.0);
    let judged = ssa.judge_login_certificate(certificates).await;
    let told = judged.map(|certificate| Shown {
        id: stable_id(&certificate),
        text: certificate.subject_text(),
    });
    let back = Trip {
        wish: trip.wish,
        leg: Leg::FromCertificate(told.map_err(|fault| fault.code().to_owned())),
    };
    let handle = transaction!(ssa.store(), "certificate-shown", |tx| {
        ssa.set_out(tx, &browser, &back, now).await
    })?;
    let base = &ssa.config().base_url;
    Ok(Some(format!(
        "{base}/login/certificate/{}",
        handle.expose()
    )))
}

/// `GET /login/certificate/{handle}`
pub(super) async fn back(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(handle): Path<String>,
) -> Response {
    came_back(&ssa, &visit, &handle)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn came_back(ssa: &Ssa, visit: &Visit, handle: &str) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::LinkExpired)?;
    let now = ssa.now();
    let came = transaction!(ssa.store(), "certificate-back", |tx| {
        ssa.come_back(tx, handle, Some(browser), now).await
    })?;
    let Some((
        Trip {
            wish,
            leg: Leg::FromCertificate(shown),
        },
        _,
    )) = came
    else {
        return Err(Trouble::LinkExpired);
    };
    match wish {
        Wish::LogIn { flow, next } => log_in(ssa, visit, browser, flow, next, shown).await,
        Wish::Bind { name } => bind(ssa, browser, &name, shown).await,
    }
}

async fn log_in(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    flow: String,
    next: String,
    shown: Result<Shown, String>,
) -> Result<Response, Trouble> {
    let to = Destination::find(ssa, browser, flow, next).await?;
    let to = to.ok_or(Trouble::LinkExpired)?;
    let fresh = browser.renewed(crypt::draw(ssa.random()));
    let now = ssa.now();
    let (person, problem) = match shown {
        Ok(shown) => {
            let person = transaction!(ssa.store(), "login-certificate", |tx| {
                let (kind, method) = (Kind::Certificate, Kind::Certificate.method());
                ssa.log_in_by_link(tx, kind, method, &shown, &fresh, (now, now))
                    .await
            })?;
            (person, "portal-certificate-unknown".to_owned())
        }
        Err(code) => {
            // Codes are ours; one of another version says nothing.
            let fault = CertificateFault::ALL.into_iter().find(|f| f.code() == code);
            let reason = fault.unwrap_or(CertificateFault::Untrusted).code();
            transaction!(ssa.store(), "certificate-refused", |tx| {
                ssa.link_refused(tx, Kind::Certificate, None, reason, now)
                    .await
            })?;
            (None, format!("portal-{reason}"))
        }
    };
    if person.is_some() {
        let next = arrive(ssa, browser, &fresh, to).await?;
        return Ok(with_cookie(ssa, go(&next), &fresh));
    }
    let error = visit.words().t(&problem);
    Ok(back_to_login(ssa, visit, browser, to, String::new(), error).await?)
}

async fn bind(
    ssa: &Ssa,
    browser: &Browser,
    name: &str,
    shown: Result<Shown, String>,
) -> Result<Response, Trouble> {
    let session = ssa.session(Some(browser)).await?;
    let Some(session) = session.filter(|session| session.is_recent(ssa.now())) else {
        return Ok(first("/security"));
    };
    let shown = shown.map_err(|code| {
        let fault = CertificateFault::ALL.into_iter().find(|f| f.code() == code);
        fault.unwrap_or(CertificateFault::Untrusted)
    });
    let shown = match shown {
        Ok(shown) => shown,
        Err(fault) => {
            ssa.bind_refused(Kind::Certificate, session.person, fault.code())
                .await?;
            return Err(Trouble::Certificate(fault));
        }
    };
    add(ssa, session, Kind::Certificate, name, &shown).await
}

/// Binds what was shown to the person of this session.
pub(super) async fn add(
    ssa: &Ssa,
    session: Session,
    kind: Kind,
    name: &str,
    shown: &Shown,
) -> Result<Response, Trouble> {
    let now = ssa.now();
    let added = transaction!(ssa.store(), "bind-identity", |tx| {
        ssa.add_link(tx, &session, kind, name, shown, now).await
    })?;
    if added {
        return Ok(go("/security"));
    }
    ssa.bind_refused(kind, session.person, "identity-bound")
        .await?;
    Err(Trouble::Bound)
}
