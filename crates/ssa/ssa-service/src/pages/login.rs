//! Logging in, and the two pages inside an authorization that aren't the SIC's.

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use core_types::{SecretBytes, UnixTime};
use serde::Deserialize;
use store_kit::{StoreError, transaction};
use web_ui::{Arg, Messages};

use super::passkey::SCRIPT;
use super::{Content, Trouble, Visit, go, own_form, show, sorry, source, with_cookie};
use crate::flow::{self, Flow};
use crate::session::{self, Browser};
use crate::users::{Login, LoginOutcome};
use crate::{Ssa, clients, crypt};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginView {
    m: Messages,
    token: String,
    /// Handle of the authorization that wants a login; empty without one.
    flow: String,
    /// Page to go to; empty for the keys.
    next: String,
    name: String,
    /// What the login is for.
    why: String,
    /// What was wrong.
    error: String,
    /// This site offers passkeys.
    passkeys: bool,
    /// Certificates log in here.
    certificates: bool,
    /// Providers at which people log in: short name, name.
    providers: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentView {
    m: Messages,
    token: String,
    flow: String,
    client: String,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
}

/// The login form. Unknown members are ignored; missing ones count as empty.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Submitted {
    token: String,
    flow: String,
    next: String,
    name: String,
    password: String,
    code: String,
}

/// `GET /login`
pub(super) async fn page(
    State(ssa): State<Ssa>,
    visit: Visit,
    Query(wanted): Query<Wanted>,
) -> Response {
    let (browser, fresh) = known_or_new(&ssa, &visit);
    let view = LoginView {
        m: visit.words(),
        token: browser.form_token(),
        flow: String::new(),
        next: allowed(&wanted.next).to_owned(),
        name: String::new(),
        why: why_page(&visit, &wanted.next),
        error: String::new(),
        passkeys: ssa.relying_party().is_some(),
        certificates: ssa.certificate_login().is_some(),
        providers: providers(&ssa),
    };
    let page = show_login(&ssa, &visit, &view, Vec::new());
    if fresh {
        with_cookie(&ssa, page, &browser)
    } else {
        page
    }
}

/// The browser's cookie, or a new one.
pub(super) fn known_or_new(ssa: &Ssa, visit: &Visit) -> (Browser, bool) {
    match &visit.browser {
        Some(browser) => (browser.clone(), false),
        None => (Browser::new(crypt::draw(ssa.random())), true),
    }
}

/// Longest path of a page that a login may lead to: ours end with a name of an identifier's length.
const LONGEST_NEXT: usize = 200;

/// Pages that a login may lead to: our own, by name.
pub(super) fn allowed(next: &str) -> &str {
    if next.len() > LONGEST_NEXT {
        return "";
    }
    let plain = next
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c));
    let known = [
        "/device",
        "/keys",
        "/requests",
        "/security",
        "/signing",
        "/enrolled/",
        "/enrol/",
    ]
    .iter()
    .any(|start| next.starts_with(start));
    if plain && known { next } else { "" }
}

/// To the login page and back to `next`.
pub(super) fn first(next: &str) -> Response {
    go(&format!("/login?next={}", allowed(next)))
}

fn show_login(ssa: &Ssa, visit: &Visit, view: &LoginView, leads: Vec<String>) -> Response {
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-login-title");
    let script = SCRIPT.path();
    let scripts = [script.as_str()];
    let status = if view.error.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::FORBIDDEN
    };
    let leads = leads
        .into_iter()
        .chain(ssa.certificate_login().map(str::to_owned));
    let content = Content {
        leads: leads.collect(),
        status,
        switch: view.error.is_empty(),
        scripts: if view.passkeys { &scripts } else { &[] },
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}

/// Short names and names of the providers at which people log in.
pub(super) fn providers(ssa: &Ssa) -> Vec<(String, String)> {
    let all = ssa.config().providers.iter();
    all.map(|p| (p.id.clone(), web_ui::clean(&p.name)))
        .collect()
}

/// Why somebody who may be logged in is asked again.
fn why_page(visit: &Visit, next: &str) -> String {
    match allowed(next) {
        "/security" => visit.words().t("portal-login-again"),
        _ => String::new(),
    }
}

/// The login page of an authorization.
pub(crate) async fn for_flow(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    handle: &str,
    flow: &Flow,
) -> Result<Response, StoreError> {
    let why = why(ssa, visit, flow).await?;
    let view = LoginView {
        m: visit.words(),
        token: browser.form_token(),
        flow: handle.to_owned(),
        next: String::new(),
        name: String::new(),
        why,
        error: String::new(),
        passkeys: ssa.relying_party().is_some(),
        certificates: ssa.certificate_login().is_some(),
        providers: providers(ssa),
    };
    Ok(show_login(ssa, visit, &view, leads(ssa, flow)))
}

async fn why(ssa: &Ssa, visit: &Visit, flow: &Flow) -> Result<String, StoreError> {
    let client = client_name(ssa, flow).await?;
    let id = if flow.creates() {
        "portal-login-to-create"
    } else if flow.deletes() {
        "portal-login-to-delete"
    } else if flow.signs() {
        "portal-login-to-sign"
    } else {
        "portal-login-to-read"
    };
    Ok(visit.words().f(id, &[("app", Arg::Text(&client))]))
}

async fn client_name(ssa: &Ssa, flow: &Flow) -> Result<String, StoreError> {
    let mut tx = ssa.store().read("client").await?;
    let client = clients::find(&mut tx, flow.client.as_str()).await?;
    Ok(client.map(|client| client.name).unwrap_or_default())
}

/// Browsers hold a form to its policy through all redirects that follow (Chromium).
fn leads(ssa: &Ssa, flow: &Flow) -> Vec<String> {
    let client = source(&flow.redirect);
    client
        .into_iter()
        .chain([ssa.config().sic_url.clone()])
        .collect()
}

/// Asks whether the client may see the list of keys.
pub(crate) async fn consent(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    handle: &str,
    flow: &Flow,
) -> Result<Response, StoreError> {
    let words = visit.words();
    let client = client_name(ssa, flow).await?;
    let title = words.f("portal-consent-title", &[("app", Arg::Text(&client))]);
    let view = ConsentView {
        m: words,
        token: browser.form_token(),
        flow: handle.to_owned(),
        client: web_ui::clean(&client),
    };
    Ok(ask(ssa, visit, flow, &title, &view))
}

#[derive(Template)]
#[template(path = "creation.html")]
struct CreationView {
    m: Messages,
    token: String,
    flow: String,
    client: String,
}

/// Asks whether a new key shall be made, as the client wishes.
pub(crate) async fn creation(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    handle: &str,
    flow: &Flow,
) -> Result<Response, StoreError> {
    let words = visit.words();
    let client = client_name(ssa, flow).await?;
    let title = words.t("portal-creation-heading");
    let view = CreationView {
        m: words,
        token: browser.form_token(),
        flow: handle.to_owned(),
        client: web_ui::clean(&client),
    };
    Ok(ask(ssa, visit, flow, &title, &view))
}

/// A question about an authorization, within the portal.
fn ask(ssa: &Ssa, visit: &Visit, flow: &Flow, title: &str, view: &impl Template) -> Response {
    let body = view.render().unwrap_or_default();
    let content = Content {
        leads: leads(ssa, flow),
        inside: true,
        ..Content::new(title, &body)
    };
    show(ssa, visit, content)
}

/// `POST /login`
pub(super) async fn submit(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<Submitted>,
) -> Response {
    match submitted(&ssa, &visit, &headers, form).await {
        Ok(response) => response,
        Err(error) => sorry(&ssa, &visit, error.into()),
    }
}

async fn submitted(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: Submitted,
) -> Result<Response, StoreError> {
    let Some(browser) = &visit.browser else {
        return Ok(sorry(ssa, visit, Trouble::ForeignForm));
    };
    if !own_form(ssa, headers, browser, &form.token) {
        return Ok(sorry(ssa, visit, Trouble::ForeignForm));
    }
    let Some(to) = Destination::find(ssa, browser, form.flow, form.next).await? else {
        return Ok(sorry(ssa, visit, Trouble::LinkExpired));
    };
    // A new cookie for the session: one that was planted before the login is worth nothing after it.
    let fresh = browser.renewed(crypt::draw(ssa.random()));
    let login = Login {
        name: form.name.clone(),
        password: SecretBytes::from(form.password),
        code: form.code.chars().filter(|c| !c.is_whitespace()).collect(),
    };
    let words = visit.words();
    let error = match ssa.log_in(login, Some(&fresh)).await? {
        LoginOutcome::In(_) => {
            let next = arrive(ssa, browser, &fresh, to).await?;
            return Ok(with_cookie(ssa, go(&next), &fresh));
        }
        LoginOutcome::Wrong => words.t("portal-login-wrong"),
        LoginOutcome::Wait { seconds } => {
            let minutes = seconds.unsigned_abs().div_ceil(60);
            words.n("portal-login-wait", minutes)
        }
    };
    back_to_login(ssa, visit, browser, to, form.name, error).await
}

/// What a login is for: an authorization, or a page of ours.
pub(super) struct Destination {
    flow: Option<Flow>,
    handle: String,
    next: String,
}

impl Destination {
    /// `None` when the authorization isn't there, or not in this browser.
    pub(super) async fn find(
        ssa: &Ssa,
        browser: &Browser,
        handle: String,
        next: String,
    ) -> Result<Option<Self>, StoreError> {
        let mut flow = None;
        if !handle.is_empty() {
            let mut tx = ssa.store().read("flow").await?;
            flow = flow::find(&mut tx, &handle, &browser.id(), ssa.now()).await?;
            if flow.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Self { flow, handle, next }))
    }

    /// Since when a login counts for where it leads, if not every one does.
    pub(super) fn since(&self, now: UnixTime) -> Option<UnixTime> {
        if allowed(&self.next) == "/security" {
            // With a minute left to change something.
            return Some(now.plus(60 - session::RECENT));
        }
        let flow = self.flow.as_ref().filter(|flow| flow.wants_fresh_login());
        flow.map(|flow| flow.created)
    }

    /// Whether a login elsewhere, of which somebody still has a session, isn't enough.
    pub(super) fn wants_fresh(&self) -> bool {
        let flow = self.flow.as_ref();
        allowed(&self.next) == "/security" || flow.is_some_and(Flow::wants_fresh_login)
    }
}

/// The login page again, with what was wrong.
pub(super) async fn back_to_login(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    to: Destination,
    name: String,
    error: String,
) -> Result<Response, StoreError> {
    let next = allowed(&to.next).to_owned();
    let why = match &to.flow {
        Some(flow) => why(ssa, visit, flow).await?,
        None => why_page(visit, &next),
    };
    let leads = to.flow.as_ref().map(|flow| leads(ssa, flow));
    let view = LoginView {
        m: visit.words(),
        token: browser.form_token(),
        flow: to.handle,
        next,
        name,
        why,
        error,
        passkeys: ssa.relying_party().is_some(),
        certificates: ssa.certificate_login().is_some(),
        providers: providers(ssa),
    };
    Ok(show_login(ssa, visit, &view, leads.unwrap_or_default()))
}

/// The authorization follows its browser to the new cookie. Answers where to go.
pub(super) async fn arrive(
    ssa: &Ssa,
    old: &Browser,
    fresh: &Browser,
    to: Destination,
) -> Result<String, StoreError> {
    let now = ssa.now();
    transaction!(ssa.store(), "entered", |tx| {
        session::end(tx, old).await?;
        if let Some(mut flow) = to.flow.clone() {
            flow.browser = fresh.id();
            flow::update(tx, &flow).await?;
            if !flow.signs() {
                // The page that was answered named the client and what it gets.
                session::consent(tx, &fresh.id(), flow.client.as_str(), now).await?;
            }
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(match (to.flow, allowed(&to.next)) {
        (Some(_), _) => format!("/oauth2/continue/{}", to.handle),
        (None, "") => "/keys".to_owned(),
        (None, next) => next.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        for own in ["/enrolled/v1", "/signing", "/security"] {
            assert_eq!(allowed(own), own);
        }
        for bad in [
            "https://evil.example",
            "//evil.example",
            "/keys?x",
            "/\\evil",
            "/enrolled/%2f",
            "/other",
        ] {
            assert_eq!(allowed(bad), "", "{bad}");
        }
        assert_eq!(allowed(&format!("/keys{}", "a".repeat(LONGEST_NEXT))), "");
    }
}
