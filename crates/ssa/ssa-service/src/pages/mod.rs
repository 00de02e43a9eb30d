//! What people see: the portal, and the pages around an authorization. Server-rendered; only passkeys need a script, and pages that
//! wait have one.

mod about;
mod certificate;
pub(crate) mod device;
mod home;
mod keys;
mod log_out;
pub(crate) mod login;
mod moving;
mod passkey;
mod provider;
mod requests;
mod security;
mod sign_up;
mod signing;
mod trouble;
pub(crate) mod waiting;

use std::convert::Infallible;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use url::Url;
use web_ui::{Csp, Lang, Messages, NavLink, Page};

use crate::Ssa;
use crate::branding;
use crate::limits::Origin;
use crate::session::Browser;

pub(crate) use trouble::{Trouble, sorry};

/// Longest form of the portal in bytes: the longest holds a public key or a passkey's attestation.
const FORM_LIMIT: usize = 64 << 10;

pub(crate) fn router() -> Router<Ssa> {
    Router::new()
        .route("/", get(home::home))
        .route("/about", get(about::page))
        .route("/login", get(login::page).post(login::submit))
        .route("/login/passkey", post(passkey::log_in))
        .route("/login/certificate", post(certificate::leave))
        .route("/login/certificate/{handle}", get(certificate::back))
        .route("/security/certificate", post(certificate::leave_to_bind))
        .route("/login/provider/{id}", post(provider::leave))
        .route("/login/provider/{id}/back", get(provider::back))
        .route("/security/provider/{id}", post(provider::leave_to_bind))
        .route("/links/{id}/remove", post(security::remove_link))
        .route("/logout", post(log_out::log_out))
        .route("/logout/everywhere", post(log_out::log_out_everywhere))
        .route("/logout/others", post(log_out::log_out_others))
        .route("/security", get(security::page))
        .route("/passkeys", post(passkey::register))
        .route("/passkeys/begin", post(passkey::begin))
        .route("/passkeys/{id}/name", post(security::rename))
        .route("/passkeys/{id}/remove", post(security::remove))
        .route("/keys", get(keys::list))
        .route("/device", get(device::page).post(device::submit))
        .route("/device/{code}", get(device::with_code))
        .route("/requests", get(requests::page).post(requests::open))
        .route("/requests/{label}", get(requests::decided))
        .route("/requests/{label}/waiting", get(requests::waits))
        .route("/signing", get(signing::page))
        .route("/signing/receipt/{act}", get(signing::receipt))
        .route("/signing/stop", post(signing::stop))
        .route("/signing/ask", post(signing::ask))
        .route("/signing/import/{registration}", get(moving::import_page))
        .route("/signing/import", post(moving::import))
        .route("/signing/hand-over/{key}", get(moving::hand_over_page))
        .route("/signing/hand-over", post(moving::hand_over))
        .route("/signing/device/{registration}", get(moving::device_page))
        .route("/signing/device", post(moving::device))
        .route("/signing/handed-over/{act}", get(moving::handed_over))
        .route("/notice", post(signing::notice))
        .route("/invitation", post(sign_up::register))
        .route("/enrol/{voucher}", get(keys::enrol))
        .route("/enrolled/{voucher}", get(keys::enrolled))
        .route("/i/{code}", get(sign_up::invitation))
        .route(
            "/i/{code}/account",
            get(sign_up::account).post(sign_up::choose),
        )
        .route("/i/{code}/app", get(sign_up::app).post(sign_up::confirm))
        .route("/i/{code}/passkey", get(security::offer))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .merge(passkey::SCRIPT.router())
        .merge(waiting::SCRIPT.router())
        .merge(branding::router())
        .merge(web_ui::static_router())
        .fallback(trouble::nothing_here)
}

/// The page on the listener that asks for certificates.
pub(crate) fn router_for_certificates() -> Router<Ssa> {
    Router::new()
        .route("/certificate/{handle}", get(certificate::show))
        .merge(branding::router())
        .merge(web_ui::static_router())
        .fallback(trouble::nothing_here)
}

/// Who asks for a page, and in which language.
pub(crate) struct Visit {
    pub(crate) browser: Option<Browser>,
    pub(crate) lang: Lang,
    /// The reader chose the language on this very request.
    chose: bool,
    path: String,
    query: Option<String>,
}

impl Visit {
    pub(crate) fn words(&self) -> Messages {
        Messages::new(self.lang)
    }
}

impl FromRequestParts<Ssa> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, ssa: &Ssa) -> Result<Self, Infallible> {
        let lang = Lang::from_request_parts(parts, ssa).await?;
        let query = parts.uri.query().map(str::to_owned);
        let mut given = query.as_deref().unwrap_or_default().split('&');
        let origin = Origin::of(&parts.extensions);
        let browser = Browser::of(&parts.headers, ssa.config().https());
        Ok(Self {
            browser: browser.map(|browser| browser.at(origin)),
            lang,
            chose: given.any(|pair| pair.starts_with("lang=")),
            path: parts.uri.path().to_owned(),
            query,
        })
    }
}

/// A page to be shown.
pub(crate) struct Content<'a> {
    pub(crate) title: &'a str,
    /// Finished HTML of a template that escapes.
    pub(crate) body: &'a str,
    /// Origins that forms of this page may lead to in the end.
    pub(crate) leads: Vec<String>,
    /// Show the portal's links: somebody is logged in.
    pub(crate) inside: bool,
    pub(crate) status: StatusCode,
    /// The page isn't there for another address in another language.
    pub(crate) switch: bool,
    /// Script modules, by address on this origin.
    pub(crate) scripts: &'a [&'a str],
    /// Seconds after which browsers without scripts load the page again; 0 = never.
    pub(crate) again: u32,
}

impl<'a> Content<'a> {
    pub(crate) fn new(title: &'a str, body: &'a str) -> Self {
        Self {
            title,
            body,
            leads: Vec::new(),
            inside: false,
            status: StatusCode::OK,
            switch: true,
            scripts: &[],
            again: 0,
        }
    }
}

/// Renders a page with its security headers.
pub(crate) fn show(ssa: &Ssa, visit: &Visit, content: Content<'_>) -> Response {
    let words = visit.words();
    let labels = [
        "portal-nav-keys",
        "portal-nav-requests",
        "portal-nav-signing",
        "portal-nav-security",
    ]
    .map(|id| words.t(id));
    let link = |href, label| NavLink {
        href,
        label,
        current: visit.path == href,
    };
    let nav = [
        link("/keys", &labels[0]),
        link("/requests", &labels[1]),
        link("/signing", &labels[2]),
        link("/security", &labels[3]),
    ];
    let switch = match content.switch {
        true => visit.lang.switch_url(&visit.path, visit.query.as_deref()),
        false => String::new(),
    };
    let branding = &ssa.config().branding;
    let (addresses, contact) = (branding.addresses(), branding.contact.as_deref());
    let page = Page {
        name: branding.name(visit.lang).unwrap_or_default(),
        logo: &addresses.logo,
        style: &addresses.style,
        home: "/",
        nav: if content.inside { &nav } else { &[] },
        switch: &switch,
        dev: ssa.config().development,
        contact: contact.unwrap_or(&ssa.config().name),
        scripts: content.scripts,
        again: content.again,
        ..Page::new(visit.lang, content.title, content.body)
    };
    let mut response = (content.status, Html(page.to_html())).into_response();
    let csp = Csp {
        form: content.leads,
        https: ssa.config().https(),
        ..Csp::default()
    };
    let headers = response.headers_mut();
    headers.extend(csp.headers());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // With `no-referrer` browsers would send `Origin: null` with our own forms.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    if visit.chose {
        let cookie = format!(
            "lang={}; Path=/; SameSite=Lax; Max-Age=31536000",
            visit.lang.tag()
        );
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// On to another of our own pages, also after a form.
pub(crate) fn go(path: &str) -> Response {
    redirect(StatusCode::SEE_OTHER, path)
}

/// To the SIC page.
pub(crate) fn found(address: &str) -> Response {
    redirect(StatusCode::FOUND, address)
}

/// Back to a client's registered URI.
pub(crate) fn leave(target: &Url) -> Response {
    redirect(StatusCode::FOUND, target.as_str())
}

fn redirect(status: StatusCode, to: &str) -> Response {
    let Ok(location) = HeaderValue::try_from(to) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (status, headers).into_response()
}

/// Sets the browser's cookie along with an answer.
pub(crate) fn with_cookie(ssa: &Ssa, mut response: Response, browser: &Browser) -> Response {
    let cookie = browser.set_cookie(ssa.config().https());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Whether a form was sent by one of our pages in this browser: by what the browser says (Fetch Metadata, `Origin`)
/// and by the token in the form.
pub(crate) fn own_form(ssa: &Ssa, headers: &HeaderMap, browser: &Browser, token: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let origin = match text("origin") {
        None => true,
        Some("null") => headers.contains_key("sec-fetch-site"),
        Some(origin) => origin == ssa.config().base_url,
    };
    site && origin && browser.sent(token)
}

/// The source that `form-action` needs for a redirect to this address.
pub(crate) fn source(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    Some(match url.origin() {
        origin @ url::Origin::Tuple(..) => origin.ascii_serialization(),
        url::Origin::Opaque(_) => format!("{}:", url.scheme()),
    })
}
