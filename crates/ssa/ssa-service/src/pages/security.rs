//! How a person logs in: their login passkeys and sessions. Changes want a login of just now.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use core_types::bytes::b64u;
use serde::Deserialize;
use store_kit::StoreError;
use web_ui::Messages;

use super::passkey::SCRIPT;
use super::{Content, Trouble, Visit, go, login, own_form, show, sorry};
use crate::Ssa;
use crate::enrol;
use crate::links::{self, Link};
use crate::passkeys::{LoginPasskey, MOST, tidy_name, user_handle};
use crate::session::{self, Session};

#[derive(Template)]
#[template(path = "security.html")]
struct View {
    m: Messages,
    token: String,
    /// This site offers passkeys.
    possible: bool,
    /// The login is recent enough for changes.
    recent: bool,
    full: bool,
    passkeys: Vec<Card>,
    /// Certificates log in here.
    certificates: bool,
    /// Providers at which people log in: short name, name.
    providers: Vec<(String, String)>,
    links: Vec<LinkCard>,
    links_full: bool,
    rp_id: String,
    user: String,
    ids: String,
    /// Where else the person is logged in.
    sessions: String,
    others: bool,
}

/// One passkey as it is shown.
struct Card {
    id: String,
    name: String,
    made: String,
    used: String,
    kept: &'static str,
}

/// One identity elsewhere as it is shown.
struct LinkCard {
    id: String,
    name: String,
    text: String,
    made: String,
    used: String,
}

#[derive(Template)]
#[template(path = "first_passkey.html")]
struct FirstView {
    m: Messages,
    token: String,
    next: String,
}

/// `GET /security`
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    shown(&ssa, &visit)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn shown(ssa: &Ssa, visit: &Visit) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Ok(login::first("/security"));
    };
    let words = visit.words();
    let passkeys = ssa.passkeys_of(&session.person).await?;
    let links = ssa.links_of(&session.person).await?;
    let mut tx = ssa.store().read("sessions").await?;
    let sessions = session::count(&mut tx, &session.person, ssa.now()).await?;
    drop(tx);
    let others = sessions.unsigned_abs().saturating_sub(1);
    let rp = ssa.relying_party();
    let ids: Vec<String> = passkeys.iter().map(|p| b64u(&p.passkey.id.0)).collect();
    let view = View {
        m: words,
        token: browser.form_token(),
        possible: rp.is_some(),
        recent: session.is_recent(ssa.now()),
        full: passkeys.len() >= MOST,
        passkeys: passkeys.iter().map(|p| card(words, p)).collect(),
        providers: login::providers(ssa),
        certificates: ssa.certificate_login().is_some(),
        links_full: links.len() >= links::MOST,
        links: links.iter().map(|link| link_card(words, link)).collect(),
        rp_id: rp.map(|rp| rp.rp_id).unwrap_or_default(),
        user: user_handle(&session.person).to_string(),
        ids: ids.join(" "),
        sessions: match others {
            0 => words.t("portal-sessions-only"),
            _ => words.n("portal-sessions-others", others),
        },
        others: others > 0,
    };
    let body = view.render().unwrap_or_default();
    let title = words.t("portal-security-title");
    let script = SCRIPT.path();
    let content = Content {
        inside: true,
        leads: ssa
            .certificate_login()
            .map(str::to_owned)
            .into_iter()
            .collect(),
        scripts: &[&script],
        ..Content::new(&title, &body)
    };
    Ok(show(ssa, visit, content))
}

fn card(words: Messages, passkey: &LoginPasskey) -> Card {
    Card {
        id: passkey.id.clone(),
        name: web_ui::clean(&passkey.name),
        made: words.date(passkey.created),
        used: match passkey.used {
            Some(used) => words.time(used),
            None => words.t("portal-passkey-unused"),
        },
        kept: match passkey.passkey.backup_eligible {
            true => "portal-passkey-synced",
            false => "portal-passkey-bound",
        },
    }
}

fn link_card(words: Messages, link: &Link) -> LinkCard {
    LinkCard {
        id: link.id.to_string(),
        name: web_ui::clean(&link.name),
        text: web_ui::clean(&link.text),
        made: words.date(link.created),
        used: match link.used {
            Some(used) => words.time(used),
            None => words.t("portal-passkey-unused"),
        },
    }
}

/// A change of one passkey.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Change {
    token: String,
    name: String,
}

/// `POST /passkeys/{id}/name`
pub(super) async fn rename(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(form): Form<Change>,
) -> Response {
    let (ssa, id) = (&ssa, &id);
    let name = &tidy_name(&form.name, &visit.words().t("portal-passkey-name-default"));
    changed(ssa, &visit, &headers, &form, |session| async move {
        ssa.rename_passkey(&session.person, id, name).await
    })
    .await
}

/// `POST /passkeys/{id}/remove`
pub(super) async fn remove(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(form): Form<Change>,
) -> Response {
    let (ssa, id) = (&ssa, &id);
    changed(ssa, &visit, &headers, &form, |session| async move {
        ssa.remove_passkey(&session, id).await
    })
    .await
}

/// `POST /links/{id}/remove`
pub(super) async fn remove_link(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(form): Form<Change>,
) -> Response {
    let (ssa, id) = (&ssa, &id);
    changed(ssa, &visit, &headers, &form, |session| async move {
        ssa.remove_link(&session, id).await
    })
    .await
}

/// One of the person's own things is changed, if it is there; after a login of just now.
async fn changed<F: Future<Output = Result<bool, StoreError>>>(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    form: &Change,
    change: impl FnOnce(Session) -> F,
) -> Response {
    let done = async {
        let Some(session) = allowed(ssa, visit, headers, &form.token).await? else {
            return Ok(login::first("/security"));
        };
        match change(session).await? {
            true => Ok(go("/security")),
            false => Err(Trouble::LinkExpired),
        }
    };
    done.await
        .unwrap_or_else(|trouble| sorry(ssa, visit, trouble))
}

/// The session, if this is its own form and the person proved just now who they are.
async fn allowed(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    token: &str,
) -> Result<Option<Session>, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
    if !own_form(ssa, headers, browser, token) {
        return Err(Trouble::ForeignForm);
    }
    let session = ssa.session(Some(browser)).await?;
    Ok(session.filter(|session| session.is_recent(ssa.now())))
}

/// `GET /i/{code}/passkey`: at the end of a sign-up, a login passkey is offered before the way leads to the SIC page.
pub(super) async fn offer(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(code): Path<String>,
) -> Response {
    let shown = async {
        let browser = visit.browser.as_ref();
        let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
            return Err(Trouble::LinkExpired);
        };
        let mut tx = ssa.store().read("invitation").await?;
        let found = enrol::find(&mut tx, &crate::crypt::digest(&code)).await?;
        drop(tx);
        let own = found.filter(|invitation| invitation.person == session.person);
        let invitation = own.ok_or(Trouble::LinkExpired)?;
        let view = FirstView {
            m: visit.words(),
            token: browser.form_token(),
            next: format!("/enrol/{}", invitation.voucher),
        };
        let body = view.render().unwrap_or_default();
        let title = view.m.t("portal-first-passkey-title");
        let script = SCRIPT.path();
        let content = Content {
            leads: vec![ssa.config().sic_url.clone()],
            scripts: &[&script],
            ..Content::new(&title, &body)
        };
        Ok(show(&ssa, &visit, content))
    };
    shown
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}
