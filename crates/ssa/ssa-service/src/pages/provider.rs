//! Logging in at an OpenID provider: from the portal to it and back. As with certificates, an answer counts once and in the
//! browser that left, and logs in only whom its person bound it to after a login of another kind.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use core_types::UnixTime;
use store_kit::transaction;
use web_ui::{Arg, Messages};

use super::certificate::{Leaving, add, own_browser};
use super::login::{Destination, allowed, arrive, back_to_login, first};
use super::{Content, Trouble, Visit, go, show, sorry, with_cookie};
use crate::links::Kind;
use crate::passkeys::tidy_name;
use crate::providers::{Answer, Provider, ProviderFault, Secrets};
use crate::session::Browser;
use crate::trips::{Leg, Shown, Trip, Wish};
use crate::{Ssa, crypt};

/// How far a provider's clock may be behind, in seconds.
const SKEW: i64 = 30;

#[derive(Template)]
#[template(path = "leaving.html")]
struct LeavingView {
    m: Messages,
    heading: String,
    link: String,
}

/// `POST /login/provider/{id}`
pub(super) async fn leave(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(form): Form<Leaving>,
) -> Response {
    let left = async {
        let browser = own_browser(&ssa, &visit, &headers, &form.token)?;
        let provider = ssa.provider(&id).ok_or(Trouble::NotFound)?;
        let (flow, next) = (form.flow, allowed(&form.next).to_owned());
        let to = Destination::find(&ssa, browser, flow.clone(), next.clone()).await?;
        let to = to.ok_or(Trouble::LinkExpired)?;
        let again = to.wants_fresh();
        let wish = Wish::LogIn { flow, next };
        match set_out(&ssa, &visit, browser, provider, (wish, again)).await? {
            Ok(page) => Ok(page),
            Err(fault) => refused(&ssa, &visit, browser, to, fault).await,
        }
    };
    left.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `POST /security/provider/{id}`
pub(super) async fn leave_to_bind(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(form): Form<Leaving>,
) -> Response {
    let left = async {
        let browser = own_browser(&ssa, &visit, &headers, &form.token)?;
        let session = ssa.session(Some(browser)).await?;
        if !session.is_some_and(|session| session.is_recent(ssa.now())) {
            return Ok(first("/security"));
        }
        let provider = ssa.provider(&id).ok_or(Trouble::NotFound)?;
        let wish = Wish::Bind {
            name: tidy_name(&form.name, &provider.name),
        };
        let left = set_out(&ssa, &visit, browser, provider, (wish, true)).await?;
        left.map_err(Trouble::Provider)
    };
    left.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The page that goes on to the provider by itself: a redirect would be held to the form's policy, and nobody knows before
/// where a provider's own redirects lead. With the wish: whether the person has to prove themselves there anew.
async fn set_out(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    provider: &Provider,
    (wish, again): (Wish, bool),
) -> Result<Result<Response, ProviderFault>, Trouble> {
    let [nonce, verifier] = [(); 2].map(|()| crypt::draw(ssa.random()).expose().to_owned());
    let trip = Trip {
        wish,
        leg: Leg::ToProvider {
            provider: provider.id.clone(),
            nonce: nonce.clone(),
            verifier: verifier.clone(),
        },
    };
    let (id, now) = (browser.id(), ssa.now());
    let state = transaction!(ssa.store(), "set-out", |tx| {
        ssa.set_out(tx, &id, &trip, now).await
    })?;
    let secrets = Secrets {
        nonce: &nonce,
        verifier: &verifier,
    };
    let there = match ssa.at_provider(provider, &state, secrets, again).await {
        Ok(there) => there,
        Err(fault) => return Ok(Err(fault)),
    };
    let words = visit.words();
    let title = words.f(
        "portal-leaving-title",
        &[("name", Arg::Text(&provider.name))],
    );
    let view = LeavingView {
        m: words,
        heading: title.clone(),
        link: there.to_string(),
    };
    let body = view.render().unwrap_or_default();
    let content = Content {
        switch: false,
        ..Content::new(&title, &body)
    };
    let mut response = show(ssa, visit, content);
    let on = HeaderValue::try_from(format!("0; url={there}"));
    let on = on.map_err(|_| Trouble::Internal)?;
    response.headers_mut().insert(header::REFRESH, on);
    Ok(Ok(response))
}

/// `GET /login/provider/{id}/back`
pub(super) async fn back(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(id): Path<String>,
    Query(answer): Query<Answer>,
) -> Response {
    came_back(&ssa, &visit, &id, &answer)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn came_back(
    ssa: &Ssa,
    visit: &Visit,
    id: &str,
    answer: &Answer,
) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::LinkExpired)?;
    let provider = ssa.provider(id).ok_or(Trouble::NotFound)?;
    let now = ssa.now();
    let came = transaction!(ssa.store(), "provider-back", |tx| {
        ssa.come_back(tx, &answer.state, Some(browser), now).await
    })?;
    let Some((Trip { wish, leg }, _)) = came else {
        return Err(Trouble::LinkExpired);
    };
    let Leg::ToProvider {
        provider: left_for,
        nonce,
        verifier,
    } = leg
    else {
        return Err(Trouble::LinkExpired);
    };
    let secrets = Secrets {
        nonce: &nonce,
        verifier: &verifier,
    };
    // Each provider has its own way back: an answer on another's is mixed up, and its code goes to nobody.
    let identified = match left_for == provider.id {
        true => ssa.answered_by(provider, answer, secrets).await,
        false => Err(ProviderFault::MixedUp),
    };
    match wish {
        Wish::LogIn { flow, next } => log_in(ssa, visit, browser, (flow, next), identified).await,
        Wish::Bind { name } => bind(ssa, browser, &name, identified).await,
    }
}

async fn log_in(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    (flow, next): (String, String),
    identified: Result<(Shown, u8, UnixTime), ProviderFault>,
) -> Result<Response, Trouble> {
    let to = Destination::find(ssa, browser, flow, next).await?;
    let to = to.ok_or(Trouble::LinkExpired)?;
    let (shown, assurance, proved) = match identified {
        Ok(identified) => identified,
        Err(fault) => return refused(ssa, visit, browser, to, fault).await,
    };
    let proved = match to.since(ssa.now()) {
        // The login page would come again and again, and nobody would know why.
        Some(since) if proved < since.plus(-SKEW) => {
            return refused(ssa, visit, browser, to, ProviderFault::Stale).await;
        }
        Some(since) => proved.max(since),
        None => proved,
    };
    let fresh = browser.renewed(crypt::draw(ssa.random()));
    let (kind, now) = (Kind::Provider, ssa.now());
    let person = transaction!(ssa.store(), "login-provider", |tx| {
        // Its session there may be older than this login: what wants a fresh one here counts from then.
        let method = kind.method_at(assurance);
        ssa.log_in_by_link(tx, kind, method, &shown, &fresh, (proved, now))
            .await
    })?;
    if person.is_some() {
        let next = arrive(ssa, browser, &fresh, to).await?;
        return Ok(with_cookie(ssa, go(&next), &fresh));
    }
    let error = visit.words().t("portal-provider-unknown");
    Ok(back_to_login(ssa, visit, browser, to, String::new(), error).await?)
}

/// The login page again, with what was wrong.
async fn refused(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    to: Destination,
    fault: ProviderFault,
) -> Result<Response, Trouble> {
    let now = ssa.now();
    transaction!(ssa.store(), "provider-refused", |tx| {
        ssa.link_refused(tx, Kind::Provider, None, fault.code(), now)
            .await
    })?;
    let error = visit.words().t(fault.text());
    Ok(back_to_login(ssa, visit, browser, to, String::new(), error).await?)
}

async fn bind(
    ssa: &Ssa,
    browser: &Browser,
    name: &str,
    identified: Result<(Shown, u8, UnixTime), ProviderFault>,
) -> Result<Response, Trouble> {
    let session = ssa.session(Some(browser)).await?;
    let Some(session) = session.filter(|session| session.is_recent(ssa.now())) else {
        return Ok(first("/security"));
    };
    match identified {
        Ok((shown, ..)) => add(ssa, session, Kind::Provider, name, &shown).await,
        Err(fault) => {
            ssa.bind_refused(Kind::Provider, session.person, fault.code())
                .await?;
            Err(Trouble::Provider(fault))
        }
    }
}
