//! Stopping keys, changing how to approve, and what happened. Stopping works by the login alone; everything else is put
//! before the SAM as a request without power, and approved on the SIC page.

use askama::Template;
use axum::body::Bytes;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use core_types::{Digest32, FactorId, KeyId, Level, VoucherId};
use sam_api::Refusal;
use sam_api::ssa::{
    AskRequest, FactorInfo, FactorsRequest, Happened, HistoryEntry, HistoryRequest, KeyInfo,
    KeyState, NoticeRequest, ReceiptRequest, SignaturesRequest, SignedEntry, StopCause,
    StopRequest, Wish,
};
use sap::messages::MAX_NOTICE;
use sap::proof::Method;
use serde::Deserialize;
use service_kit::CallError;
use web_ui::{Arg, Messages};

use super::{Content, Trouble, Visit, found, go, login, own_form, show, sorry, source};
use crate::Ssa;
use crate::session::Session;

/// Life of a request at the SAM in seconds.
const REQUEST_LIFE: i64 = 600;
const PAGE: &str = "/signing";

#[derive(Template)]
#[template(path = "signing.html")]
struct View {
    m: Messages,
    token: String,
    keys: Vec<KeyView>,
    registrations: Vec<RegistrationView>,
    signed: Vec<EntryView>,
    history: Vec<EntryView>,
    /// It is also told by mail.
    mailed: bool,
}

struct KeyView {
    id: String,
    subject: String,
    kind: &'static str,
    state: &'static str,
    mark: &'static str,
    why: String,
    gone: String,
    stops: bool,
    changes: u32,
    /// What can be asked for, as in [`wish`].
    wishes: Vec<&'static str>,
    /// It may be handed over.
    leaves: bool,
    /// It is for one act.
    one_time: bool,
}

struct RegistrationView {
    id: String,
    /// What these methods approve for; nothing that is gone.
    keys: Vec<OfRegistration>,
    factors: Vec<FactorView>,
    /// No passkey can be added with what is there.
    weak: bool,
    wishes: Vec<&'static str>,
    /// Keys from elsewhere may join it.
    brings: bool,
}

struct OfRegistration {
    id: String,
    subject: String,
    kind: &'static str,
}

struct FactorView {
    id: String,
    method: &'static str,
    made: String,
    level: String,
    locked: bool,
    wishes: Vec<&'static str>,
}

struct EntryView {
    what: String,
    time: String,
    of: String,
    /// Digest of the act, if there is a receipt.
    act: String,
    /// What officers decided it, to be quoted.
    decided: String,
    /// With it a key was handed over.
    handed: bool,
}

/// `GET /signing`
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    shown(&ssa, &visit)
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

async fn shown(ssa: &Ssa, visit: &Visit) -> Result<Response, Trouble> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Ok(login::first(PAGE));
    };
    let person = session.person;
    let not_now = |_| Trouble::NotNow;
    let keys = ssa.keys_of(&person).await.map_err(not_now)?;
    let asked = FactorsRequest {
        person: person.clone(),
    };
    let factors = ssa.sam().factors(&asked).await.map_err(not_now)?.factors;
    let asked = SignaturesRequest {
        person: person.clone(),
    };
    let signed = ssa.sam().signatures(&asked).await.map_err(not_now)?.entries;
    let asked = HistoryRequest { person };
    let history = ssa.sam().history(&asked).await.map_err(not_now)?;
    let providers = ssa.about().await.is_some_and(|about| about.providers);
    let words = visit.words();
    let view = View {
        token: browser.form_token(),
        keys: keys.iter().map(|key| key_view(&words, key)).collect(),
        registrations: registrations(&words, &keys, &factors, providers),
        signed: signed.iter().map(|e| signed_view(&words, e)).collect(),
        mailed: history.mailed,
        history: history
            .entries
            .iter()
            .map(|e| entry_view(&words, e))
            .collect(),
        m: words,
    };
    let body = view.render().unwrap_or_default();
    let title = view.m.t("portal-signing-title");
    let content = Content {
        inside: true,
        leads: source(&ssa.config().sic_url).into_iter().collect(),
        ..Content::new(&title, &body)
    };
    Ok(show(ssa, visit, content))
}

fn key_view(words: &Messages, key: &KeyInfo) -> KeyView {
    let at = |id: &str, time| words.f(id, &[("time", Arg::Own(&words.time(time)))]);
    let stop = key.stop.as_ref();
    let gone = |stop: &sam_api::ssa::StopInfo| match stop.unrecoverable_after {
        Some(time) => at("portal-gone", time),
        None => words.t("portal-gone-soon"),
    };
    let (state, mark) = match key.state {
        KeyState::Pending => ("portal-key-pending", "wait"),
        KeyState::Active => ("portal-key-active", ""),
        KeyState::Suspended => ("portal-key-suspended", "no"),
        KeyState::Destroyed => ("portal-key-destroyed", "no"),
    };
    let own = |cause| matches!(cause, Some(StopCause::Signer | StopCause::Login));
    let wishes = match (key.state, stop.map(|s| s.cause)) {
        (KeyState::Destroyed, _) => vec![],
        (KeyState::Suspended, cause) if own(cause) => vec!["resume", "destroy"],
        _ => vec!["destroy"],
    };
    let destroyed = key.state == KeyState::Destroyed;
    KeyView {
        id: key.key.to_string(),
        subject: web_ui::clean(&key.subject.common_name),
        kind: key.alg.name(),
        state,
        mark,
        why: stop.map_or_else(String::new, |s| at(s.cause.message(destroyed), s.at)),
        gone: stop.filter(|_| destroyed).map_or_else(String::new, gone),
        stops: key.state == KeyState::Active,
        leaves: key.exportable && key.state == KeyState::Active,
        one_time: key.one_time,
        changes: key.changes,
        wishes,
    }
}

fn registrations(
    words: &Messages,
    keys: &[KeyInfo],
    factors: &[FactorInfo],
    providers: bool,
) -> Vec<RegistrationView> {
    let mut all: Vec<&VoucherId> = factors.iter().map(|f| &f.registration).collect();
    all.sort();
    all.dedup();
    let view = |id: &&VoucherId| {
        let own: Vec<_> = factors.iter().filter(|f| f.registration == **id).collect();
        let has_pin = own.iter().any(|f| f.method == Method::PinTotp);
        let living = |k: &&KeyInfo| k.registration == **id && k.state != KeyState::Destroyed;
        let for_keys: Vec<_> = keys.iter().filter(living).map(of_registration).collect();
        // A weaker factor never adds a stronger one, and a passkey counts at level 2: who has nothing like it is told before
        // making one in vain.
        let weak = own.iter().all(|f| f.level < Level::Two);
        let mut wishes = vec![];
        if !weak {
            wishes.push("factor-add-passkey");
        }
        if !has_pin {
            wishes.push("factor-add-pin-totp");
        }
        if providers && own.iter().any(|f| f.method != Method::Collected) {
            wishes.push("factor-add-idp");
        }
        if !for_keys.is_empty() {
            wishes.push("leave");
        }
        RegistrationView {
            brings: own.iter().any(|f| f.method != Method::Collected),
            id: id.to_string(),
            keys: for_keys,
            factors: own.iter().map(|f| factor_view(words, f)).collect(),
            weak,
            wishes,
        }
    };
    all.iter().map(view).collect()
}

fn of_registration(key: &KeyInfo) -> OfRegistration {
    OfRegistration {
        id: key.key.to_string(),
        subject: web_ui::clean(&key.subject.common_name),
        kind: key.alg.name(),
    }
}

fn factor_view(words: &Messages, factor: &FactorInfo) -> FactorView {
    let (method, mut wishes) = match factor.method {
        Method::PinTotp => ("portal-factor-pin-totp", vec!["factor-pin"]),
        Method::Device => ("portal-factor-device", vec!["factor-pin"]),
        Method::Passkey => ("portal-factor-passkey", vec![]),
        Method::Idp => ("portal-factor-idp", vec![]),
        Method::Collected => ("portal-factor-collected", vec![]),
    };
    if factor.locked_until.is_some() {
        wishes.push("factor-unlock");
    }
    wishes.push("factor-remove");
    let level = u64::from(u8::from(factor.level));
    FactorView {
        id: factor.factor.to_string(),
        method,
        made: words.f(
            "portal-factor-made",
            &[("time", Arg::Own(&words.time(factor.created)))],
        ),
        level: words.n("portal-factor-level", level),
        locked: factor.locked_until.is_some(),
        wishes,
    }
}

fn entry_view(words: &Messages, entry: &HistoryEntry) -> EntryView {
    let of = entry.key.as_ref().map(ToString::to_string);
    let of = of.or_else(|| entry.factor.as_ref().map(ToString::to_string));
    EntryView {
        what: words.t(entry.what.message()),
        time: words.time(entry.at),
        of: of.unwrap_or_default(),
        // Of an enrolment there is evidence, but nothing was approved by a factor yet.
        act: entry
            .act
            .filter(|_| entry.what != Happened::Enrolled)
            .map(|act| act.to_string())
            .unwrap_or_default(),
        decided: entry
            .proposal
            .map(|proposal| {
                words.f(
                    "portal-decided",
                    &[("proposal", Arg::Text(&proposal.to_string()))],
                )
            })
            .unwrap_or_default(),
        handed: entry.what == Happened::HandedOver,
    }
}

fn signed_view(words: &Messages, entry: &SignedEntry) -> EntryView {
    EntryView {
        what: words.n("portal-signed", u64::from(entry.count)),
        time: words.time(entry.at),
        of: format!("{} · {}", web_ui::clean(entry.client.as_str()), entry.key),
        act: entry.act.to_string(),
        decided: String::new(),
        handed: false,
    }
}

/// `GET /signing/receipt/{act}`: the evidence of an act, for the person to keep.
pub(super) async fn receipt(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(act): Path<String>,
) -> Response {
    let found = async {
        let Some(session) = ssa.session(visit.browser.as_ref()).await? else {
            return Ok(login::first(PAGE));
        };
        let request = ReceiptRequest {
            person: session.person,
            act: Digest32::parse(&act).map_err(|_| Trouble::NotFound)?,
        };
        let answer = ssa.sam().receipt(&request).await.map_err(|e| refused(&e))?;
        let name = format!(
            "attachment; filename=\"natsuin-{}.json\"",
            &act[..act.len().min(12)]
        );
        let headers = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::CONTENT_DISPOSITION, name),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Ok((headers, answer.bundle).into_response())
    };
    found
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The form of the stop button.
#[derive(Deserialize)]
pub(super) struct StopForm {
    token: String,
    key: String,
    changes: u32,
}

/// `POST /signing/stop`: at once, by the login alone.
pub(super) async fn stop(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<StopForm>,
) -> Response {
    let done = async {
        let session = of_form(&ssa, &visit, &headers, &form.token).await?;
        let request = StopRequest {
            person: session.person,
            key: KeyId::parse(form.key).map_err(|_| Trouble::BadRequest)?,
            changes: form.changes,
        };
        ssa.sam().stop(&request).await.map_err(|e| refused(&e))?;
        Ok(go(PAGE))
    };
    done.await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The form of everything that takes a proof.
#[derive(Deserialize)]
pub(super) struct AskForm {
    token: String,
    #[serde(rename = "do")]
    what: String,
    of: String,
}

/// `POST /signing/ask`: puts a request before the SAM and sends the browser to the SIC page.
pub(super) async fn ask(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<AskForm>,
) -> Response {
    let asked = async {
        let session = of_form(&ssa, &visit, &headers, &form.token).await?;
        let wish = wish(&form.what, form.of).ok_or(Trouble::BadRequest)?;
        put(&ssa, session, wish, PAGE).await
    };
    asked
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// Puts a wish before the SAM, and sends the browser to the SIC page and from there to this page.
pub(super) async fn put(
    ssa: &Ssa,
    session: Session,
    wish: Wish,
    after: &str,
) -> Result<Response, Trouble> {
    let request = AskRequest {
        person: session.person,
        wish,
        return_uri: format!("{}{after}", ssa.config().base_url),
        ttl: REQUEST_LIFE,
    };
    let prepared = ssa.sam().ask(&request).await.map_err(|e| refused(&e))?;
    // The fragment never reaches a log or a Referer.
    Ok(found(&format!(
        "{}/a#{}",
        ssa.config().sic_url,
        prepared.rid
    )))
}

/// What a form asks for. `of`: a key, a factor or a registration.
fn wish(what: &str, of: String) -> Option<Wish> {
    let key = || KeyId::parse(of.clone()).ok();
    let factor = || FactorId::parse(of.clone()).ok();
    let registration = || VoucherId::parse(of.clone()).ok();
    let add = |method| {
        Some(Wish::AddFactor {
            registration: registration()?,
            method,
        })
    };
    match what {
        "suspend" => Some(Wish::Suspend { key: key()? }),
        "resume" => Some(Wish::Resume { key: key()? }),
        "destroy" => Some(Wish::Destroy { key: key()? }),
        "leave" => Some(Wish::Leave {
            registration: registration()?,
        }),
        "factor-add-passkey" => add(Method::Passkey),
        "factor-add-pin-totp" => add(Method::PinTotp),
        "factor-add-idp" => add(Method::Idp),
        "factor-remove" => Some(Wish::RemoveFactor { factor: factor()? }),
        "factor-pin" => Some(Wish::ChangePin { factor: factor()? }),
        "factor-unlock" => Some(Wish::UnlockFactor { factor: factor()? }),
        _ => None,
    }
}

/// `POST /notice`: an authority's signed notice about a certificate. It speaks for itself; whoever brings it.
pub(super) async fn notice(State(ssa): State<Ssa>, body: Bytes) -> Response {
    let text = std::str::from_utf8(&body).ok().map(str::trim);
    let Some(text) = text.filter(|t| !t.is_empty() && t.len() <= MAX_NOTICE) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = NoticeRequest {
        notice: text.to_owned(),
    };
    match ssa.sam().notice(&request).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(CallError::Refused(Refusal::Used)) => StatusCode::CONFLICT,
        Err(CallError::Refused(Refusal::NotNow)) => StatusCode::SERVICE_UNAVAILABLE,
        Err(CallError::Refused(_)) => StatusCode::FORBIDDEN,
        Err(CallError::Unreachable | CallError::Unknown) => StatusCode::SERVICE_UNAVAILABLE,
    }
    .into_response()
}

/// The session of a form that was sent by one of our pages.
pub(super) async fn of_form(
    ssa: &Ssa,
    visit: &Visit,
    headers: &HeaderMap,
    token: &str,
) -> Result<Session, Trouble> {
    let browser = visit.browser.as_ref();
    let (Some(browser), Some(session)) = (browser, ssa.session(browser).await?) else {
        return Err(Trouble::LinkExpired);
    };
    match own_form(ssa, headers, browser, token) {
        true => Ok(session),
        false => Err(Trouble::ForeignForm),
    }
}

pub(super) fn refused(error: &CallError<Refusal>) -> Trouble {
    match error {
        CallError::Refused(Refusal::Level { requirement }) => Trouble::Level(requirement.clone()),
        CallError::Refused(Refusal::NotFound) => Trouble::NotFound,
        CallError::Refused(Refusal::Used) => Trouble::Changed,
        CallError::Refused(Refusal::NotNow) | CallError::Unreachable | CallError::Unknown => {
            Trouble::NotNow
        }
        CallError::Refused(_) => Trouble::Impossible,
    }
}

#[cfg(test)]
mod tests {
    use web_ui::Lang;

    use super::*;

    #[test]
    fn every_button_asks_for_something_and_every_text_exists() {
        let wishes = [
            "suspend",
            "resume",
            "destroy",
            "leave",
            "factor-add-passkey",
            "factor-add-pin-totp",
            "factor-add-idp",
            "factor-remove",
            "factor-pin",
            "factor-unlock",
        ];
        for lang in Lang::ALL {
            let words = Messages::new(lang);
            for what in wishes {
                assert!(wish(what, "id".to_owned()).is_some(), "{what}");
                assert!(
                    what == "suspend" || words.has(&format!("portal-{what}")),
                    "{what}"
                );
            }
            for cause in [
                StopCause::Signer,
                StopCause::Login,
                StopCause::Hold,
                StopCause::Revoked,
                StopCause::Expired,
                StopCause::Left,
                StopCause::FactorsLost,
                StopCause::WrongValue,
                StopCause::HandedOver,
                StopCause::Provider,
                StopCause::Used,
            ] {
                for gone in [false, true] {
                    assert!(words.has(cause.message(gone)));
                }
            }
        }
        assert!(wish("sign", "id".to_owned()).is_none());
    }
}
