//! From an invitation to an account: one question a page. The last step hands over to the SIC page, where the factors
//! for signing are made; nothing of those passes through here.

use askama::Template;
use audit_log::Event;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Form, Path, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use core_types::{PersonId, SecretBytes, UnixTime, VoucherId};
use qrcode::QrCode;
use qrcode::render::svg;
use sam_api::Refusal;
use serde::{Deserialize, Serialize};
use service_kit::CallError;
use store_kit::{StoreError, transaction};
use web_ui::{Messages, group4};

use super::{Content, Trouble, Visit, go, login, own_form, show, sorry, with_cookie};
use crate::admin::AdminError;
use crate::enrol::{self, Invitation, SignUp};
use crate::session::{self, Browser};
use crate::{Ssa, crypt, users};

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationView {
    m: Messages,
    service: String,
    name: String,
    until: String,
    next: String,
    /// The account exists: log in and go on.
    known: bool,
    letter: bool,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountView {
    m: Messages,
    token: String,
    action: String,
    login: String,
    error: String,
    terms_url: String,
    terms_version: String,
}

#[derive(Template)]
#[template(path = "app.html")]
struct AppView {
    m: Messages,
    token: String,
    action: String,
    /// SVG made here from the seed.
    qr: String,
    seed: String,
    error: String,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct LetterView {
    m: Messages,
}

/// Longest invitation of an authority, in bytes.
const INVITATION: usize = 16 << 10;

/// Answer of `POST /invitation`.
#[derive(Serialize)]
struct Registered {
    voucher: VoucherId,
    person: PersonId,
    /// Where the person signs up; without the voucher's secret, which the authority hands over, no key is made.
    link: String,
    exp: UnixTime,
}

/// `POST /invitation`: a registration authority's signed invitation (`natsuin-invite+jws`), which the SAM verifies. It speaks
/// for itself, once, whoever brings it; the answer is for the authority alone.
pub(super) async fn register(State(ssa): State<Ssa>, body: Bytes) -> Response {
    let text = std::str::from_utf8(&body).ok().map(str::trim);
    let Some(jws) = text.filter(|t| !t.is_empty() && t.len() <= INVITATION) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let invited = match ssa.register_ra_invite(jws).await {
        Ok(invited) => invited,
        Err(error) => return refusal(&error).into_response(),
    };
    let registered = Registered {
        voucher: invited.voucher,
        person: invited.person,
        link: invited.link.expose().to_owned(),
        exp: invited.exp,
    };
    let keep_nothing = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::CREATED, keep_nothing, Json(registered)).into_response()
}

fn refusal(error: &AdminError) -> StatusCode {
    match error {
        AdminError::Invalid(_) => StatusCode::BAD_REQUEST,
        AdminError::Taken(_) | AdminError::Sam(CallError::Refused(Refusal::Used)) => {
            StatusCode::CONFLICT
        }
        AdminError::Sam(CallError::Refused(Refusal::NotNow)) => StatusCode::SERVICE_UNAVAILABLE,
        AdminError::Sam(CallError::Refused(_)) => StatusCode::FORBIDDEN,
        AdminError::Sam(_) | AdminError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `GET /i/{code}`
pub(super) async fn invitation(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(code): Path<String>,
) -> Response {
    let shown = async {
        let invitation = living(&ssa, &code).await?;
        let mut tx = ssa.store().read("person").await?;
        let known = users::name_of(&mut tx, &invitation.person).await?.is_some();
        drop(tx);
        let view = InvitationView {
            m: visit.words(),
            service: web_ui::clean(&ssa.config().name),
            name: web_ui::clean(&invitation.name),
            until: visit.words().date(invitation.exp),
            next: match known {
                true => format!("/enrol/{}", invitation.voucher),
                false => format!("/i/{code}/account"),
            },
            known,
            letter: invitation.secret.is_none(),
        };
        let body = view.render().unwrap_or_default();
        let title = view.m.t("portal-invitation-title");
        Ok(show(&ssa, &visit, Content::new(&title, &body)))
    };
    shown
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// `GET /i/{code}/account`
pub(super) async fn account(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(code): Path<String>,
) -> Response {
    let shown = async {
        unfinished(&ssa, &code).await?;
        let (browser, fresh) = login::known_or_new(&ssa, &visit);
        let page = show_account(&ssa, &visit, &browser, &code, "", "");
        Ok(if fresh {
            with_cookie(&ssa, page, &browser)
        } else {
            page
        })
    };
    shown
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

fn show_account(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    code: &str,
    login: &str,
    error: &str,
) -> Response {
    let words = visit.words();
    let view = AccountView {
        m: words,
        token: browser.form_token(),
        action: format!("/i/{code}/account"),
        login: login.to_owned(),
        terms_url: ssa.config().published.terms.url.clone(),
        terms_version: ssa.config().published.terms.version.clone(),
        error: if error.is_empty() {
            String::new()
        } else {
            words.t(error)
        },
    };
    let body = view.render().unwrap_or_default();
    let title = words.t("portal-account-title");
    let content = Content {
        status: if error.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        },
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}

/// What the account page asks.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Chosen {
    token: String,
    name: String,
    password: String,
    again: String,
    /// Version of the terms of use that was on the page and is accepted.
    terms: String,
}

/// `POST /i/{code}/account`
pub(super) async fn choose(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(code): Path<String>,
    Form(form): Form<Chosen>,
) -> Response {
    let done = chosen(&ssa, &visit, &headers, &code, form).await;
    done.unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn chosen(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    code: &str,
    form: Chosen,
) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
    if !own_form(ssa, headers, browser, &form.token) {
        return Err(Trouble::ForeignForm);
    }
    let invitation = unfinished(ssa, code).await?;
    let login = form.name.trim().to_ascii_lowercase();
    let (password, again) = (
        SecretBytes::from(form.password),
        SecretBytes::from(form.again),
    );
    let again_please = |error| Ok(show_account(ssa, visit, browser, code, &login, error));
    if !users::is_login(&login) {
        return again_please("portal-account-bad-name");
    }
    if !password.ct_eq(again.expose()) {
        return again_please("portal-account-differ");
    }
    if !users::acceptable(&password, &login) {
        return again_please("portal-account-bad-password");
    }
    let version = &ssa.config().published.terms.version;
    if form.terms != *version {
        return again_please("portal-account-terms-needed");
    }
    let mut tx = ssa.store().read("login-taken").await?;
    let taken = users::taken(&mut tx, &login).await?;
    drop(tx);
    if taken {
        return again_please("portal-account-taken");
    }
    let hash = ssa.hash_password(password).await.ok_or(Trouble::Internal)?;
    let (_, seed) = ssa.new_seed(&invitation.person).ok_or(Trouble::Internal)?;
    let next = Invitation {
        state: SignUp::Chosen,
        login: Some(login),
        password: Some(hash),
        seed: Some(seed),
        browser: Some(browser.id()),
        ..invitation
    };
    let accepted = Event::TermsAccepted {
        person: next.person.clone(),
        version: core_types::sha256(&[version.as_bytes()]),
    };
    let now = ssa.now();
    let stored = transaction!(ssa.store(), "sign-up-chosen", |tx| {
        let stored = enrol::update(tx, &next).await?;
        if stored {
            ssa.audit().append(tx, accepted.clone(), now).await?;
        }
        Ok::<_, StoreError>(stored)
    })?;
    if !stored {
        return Err(Trouble::LinkUsed);
    }
    Ok(go(&format!("/i/{code}/app")))
}

/// `GET /i/{code}/app`
pub(super) async fn app(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(code): Path<String>,
) -> Response {
    let shown = async {
        let browser = visit.browser.as_ref().ok_or(Trouble::LinkExpired)?;
        match own_sign_up(&ssa, browser, &code).await? {
            Some(invitation) => show_app(&ssa, &visit, browser, &code, &invitation, ""),
            None => Ok(go(&format!("/i/{code}/account"))),
        }
    };
    shown
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

fn show_app(
    ssa: &Ssa,
    visit: &Visit,
    browser: &Browser,
    code: &str,
    invitation: &Invitation,
    error: &str,
) -> Result<Response, Trouble> {
    let seed = seed_of(ssa, invitation).ok_or(Trouble::Internal)?;
    let login = invitation.login.as_deref().unwrap_or_default();
    let uri = users::otpauth(&ssa.config().name, login, &seed);
    let words = visit.words();
    let view = AppView {
        m: words,
        token: browser.form_token(),
        action: format!("/i/{code}/app"),
        qr: picture(&uri).ok_or(Trouble::Internal)?,
        seed: group4(&String::from_utf8_lossy(otp::base32(&seed).expose())),
        error: if error.is_empty() {
            String::new()
        } else {
            words.t(error)
        },
    };
    let body = view.render().unwrap_or_default();
    let title = words.t("portal-app-title");
    let content = Content {
        leads: vec![ssa.config().sic_url.clone()],
        status: if error.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        },
        ..Content::new(&title, &body)
    };
    Ok(show(ssa, visit, content))
}

fn picture(uri: &str) -> Option<String> {
    let code = QrCode::new(uri).ok()?;
    let svg = code
        .render::<svg::Color<'_>>()
        .min_dimensions(200, 200)
        .quiet_zone(false)
        .build();
    // The declaration has no place inside a page.
    let start = svg.find("<svg")?;
    Some(svg[start..].to_owned())
}

/// The code of the app.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Confirmed {
    token: String,
    code: String,
}

/// `POST /i/{code}/app`
pub(super) async fn confirm(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Path(code): Path<String>,
    Form(form): Form<Confirmed>,
) -> Response {
    let done = confirmed(&ssa, &visit, &headers, &code, form).await;
    done.unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn confirmed(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    code: &str,
    form: Confirmed,
) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref().ok_or(Trouble::ForeignForm)?;
    if !own_form(ssa, headers, browser, &form.token) {
        return Err(Trouble::ForeignForm);
    }
    let Some(invitation) = own_sign_up(ssa, browser, code).await? else {
        return Ok(go(&format!("/i/{code}/account")));
    };
    let now = ssa.now();
    let seed = seed_of(ssa, &invitation).ok_or(Trouble::Internal)?;
    let typed: String = form.code.chars().filter(|c| !c.is_whitespace()).collect();
    let Some(step) = otp::verify(&seed, typed.as_bytes(), now, 0) else {
        return show_app(ssa, visit, browser, code, &invitation, "portal-app-wrong");
    };
    let fresh = browser.renewed(crypt::draw(ssa.random()));
    if !sign_up(ssa, &invitation, step, browser, &fresh).await? {
        return Err(Trouble::LinkUsed);
    }
    let next = match ssa.relying_party() {
        Some(_) => go(&format!("/i/{code}/passkey")),
        None => go(&format!("/enrol/{}", invitation.voucher)),
    };
    Ok(with_cookie(ssa, next, &fresh))
}

/// Makes the account and logs its person in.
async fn sign_up(
    ssa: &Ssa,
    invitation: &Invitation,
    step: i64,
    old: &Browser,
    fresh: &Browser,
) -> Result<bool, StoreError> {
    let now = ssa.now();
    let (Some(login), Some(password), Some(seed)) =
        (&invitation.login, &invitation.password, &invitation.seed)
    else {
        return Ok(false);
    };
    let done = Invitation {
        state: SignUp::Done,
        password: None,
        seed: None,
        browser: None,
        ..invitation.clone()
    };
    transaction!(ssa.store(), "sign-up", |tx| {
        let user = users::NewUser {
            person: &invitation.person,
            login,
            name: &invitation.name,
            password,
            seed,
            last_step: step,
        };
        if !enrol::update(tx, &done).await? || !users::insert(tx, &user, now).await? {
            return Ok(false);
        }
        session::end(tx, old).await?;
        session::begin(tx, fresh, &invitation.person, now).await?;
        let event = Event::AccountMade {
            person: invitation.person.clone(),
        };
        ssa.audit().append(tx, event, now).await?;
        Ok::<_, StoreError>(true)
    })
}

fn seed_of(ssa: &Ssa, invitation: &Invitation) -> Option<SecretBytes> {
    ssa.open_seed(&invitation.person, invitation.seed.as_ref()?)
}

async fn living(ssa: &Ssa, code: &str) -> Result<Invitation, Trouble> {
    let mut tx = ssa.store().read("invitation").await?;
    let found = enrol::find(&mut tx, &crypt::digest(code)).await?;
    let found = found.filter(|invitation| ssa.now() < invitation.exp);
    found.ok_or(Trouble::LinkExpired)
}

/// The invitation, unless its account exists already.
async fn unfinished(ssa: &Ssa, code: &str) -> Result<Invitation, Trouble> {
    let invitation = living(ssa, code).await?;
    let mut tx = ssa.store().read("person").await?;
    let known = users::name_of(&mut tx, &invitation.person).await?.is_some();
    if known || invitation.state == SignUp::Done {
        return Err(Trouble::LinkUsed);
    }
    Ok(invitation)
}

/// The invitation, if name and password were chosen in this browser.
async fn own_sign_up(
    ssa: &Ssa,
    browser: &Browser,
    code: &str,
) -> Result<Option<Invitation>, Trouble> {
    let invitation = unfinished(ssa, code).await?;
    let own = invitation.browser.as_deref() == Some(browser.id().as_str());
    Ok(Some(invitation).filter(|invitation| own && invitation.state == SignUp::Chosen))
}

/// Says that the way to the SIC page comes from the RA.
pub(super) fn ask_for_the_letter(ssa: &Ssa, visit: &Visit) -> Response {
    let view = LetterView { m: visit.words() };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-letter-title");
    let content = Content {
        inside: true,
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}
