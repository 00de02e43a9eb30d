//! Keys that come in and keys that leave: what the person wants is put before the SAM as any other wish. No private key ever
//! passes here, sealed or not, but one that is sealed to a receiver of the person's.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use core_types::bytes::from_b64u;
use core_types::{B64, Digest32, KeyId, Level, OriginCase, VoucherId};
use jose::Jwk;
use sam_api::ssa::{HandedOverRequest, Wish};
use serde::Deserialize;
use serde_json::json;
use web_ui::Messages;

use super::signing::{of_form, put, refused};
use super::{Content, Trouble, Visit, login, show, sorry, source};
use crate::Ssa;

/// Longest text of a public key or certificate.
const LONGEST: usize = 16 * 1024;

/// Where a key was made, and the level it is to have: as the form names it, and the text.
const CASES: [(&str, &str, OriginCase, Level); 4] = [
    ("3-i", "portal-import-own", OriginCase::Signer, Level::One),
    (
        "2-ii",
        "portal-import-ca-signer",
        OriginCase::CaThroughSigner,
        Level::One,
    ),
    ("2-i", "portal-import-ca", OriginCase::CaDirect, Level::One),
    (
        "2-i-2",
        "portal-import-ca-2",
        OriginCase::CaDirect,
        Level::Two,
    ),
];

#[derive(Template)]
#[template(path = "import.html")]
struct ImportView {
    m: Messages,
    token: String,
    of: String,
    key: String,
    cases: Vec<(&'static str, &'static str)>,
}

#[derive(Template)]
#[template(path = "hand_over.html")]
struct HandOverView {
    m: Messages,
    token: String,
    of: String,
}

#[derive(Template)]
#[template(path = "device_key.html")]
struct DeviceView {
    m: Messages,
    token: String,
    of: String,
    key: String,
}

/// What another program says of the key: `natsuin key import` opens this page with it.
#[derive(Deserialize)]
pub(super) struct ImportQuery {
    #[serde(default)]
    key: String,
}

/// `GET /signing/import/{registration}`
pub(super) async fn import_page(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(of): Path<String>,
    Query(query): Query<ImportQuery>,
) -> Response {
    let view = |m, token| ImportView {
        m,
        token,
        of: web_ui::clean(&of),
        key: web_ui::clean(&query.key),
        cases: CASES.iter().map(|(id, text, ..)| (*id, *text)).collect(),
    };
    let path = format!("/signing/import/{of}");
    form_page(&ssa, &visit, &path, "portal-import", view).await
}

/// `GET /signing/hand-over/{key}`
pub(super) async fn hand_over_page(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(of): Path<String>,
) -> Response {
    let view = |m, token| HandOverView {
        m,
        token,
        of: web_ui::clean(&of),
    };
    let path = format!("/signing/hand-over/{of}");
    form_page(&ssa, &visit, &path, "portal-hand-over", view).await
}

/// `GET /signing/device/{registration}`
pub(super) async fn device_page(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(of): Path<String>,
    Query(query): Query<ImportQuery>,
) -> Response {
    let view = |m, token| DeviceView {
        m,
        token,
        of: web_ui::clean(&of),
        key: web_ui::clean(&query.key),
    };
    let path = format!("/signing/device/{of}");
    form_page(&ssa, &visit, &path, "portal-device-key", view).await
}

/// A page with a form that leads to the SIC page.
async fn form_page<T: Template>(
    ssa: &Ssa,
    visit: &Visit,
    path: &str,
    title: &str,
    view: impl FnOnce(Messages, String) -> T,
) -> Response {
    let shown = async {
        let browser = visit.browser.as_ref();
        let (Some(browser), Some(_)) = (browser, ssa.session(browser).await?) else {
            return Ok(login::first(path));
        };
        let words = visit.words();
        let body = view(words, browser.form_token())
            .render()
            .unwrap_or_default();
        let title = words.t(title);
        let content = Content {
            inside: true,
            leads: source(&ssa.config().sic_url).into_iter().collect(),
            ..Content::new(&title, &body)
        };
        Ok(show(ssa, visit, content))
    };
    shown
        .await
        .unwrap_or_else(|trouble| sorry(ssa, visit, trouble))
}

/// The form of a key that is to come in.
#[derive(Deserialize)]
pub(super) struct ImportForm {
    token: String,
    of: String,
    key: String,
    case: String,
}

/// `POST /signing/import`: on to the SIC page, and from there to the certificate.
pub(super) async fn import(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<ImportForm>,
) -> Response {
    let asked = async {
        let session = of_form(&ssa, &visit, &headers, &form.token).await?;
        let (_, _, case, level) = CASES
            .iter()
            .find(|(id, ..)| *id == form.case)
            .ok_or(Trouble::BadRequest)?;
        let registration = VoucherId::parse(form.of).map_err(|_| Trouble::BadRequest)?;
        let after = format!("/enrolled/{registration}");
        let wish = Wish::Import {
            registration,
            spki: B64(public_key(&form.key).ok_or(Trouble::NotAKey)?),
            case: *case,
            level: *level,
        };
        put(&ssa, session, wish, &after).await
    };
    asked
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The form of a key that is to leave.
#[derive(Deserialize)]
pub(super) struct HandOverForm {
    token: String,
    of: String,
    receiver: String,
}

/// `POST /signing/hand-over`
pub(super) async fn hand_over(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<HandOverForm>,
) -> Response {
    let asked = async {
        let session = of_form(&ssa, &visit, &headers, &form.token).await?;
        let wish = Wish::HandOver {
            key: KeyId::parse(form.of).map_err(|_| Trouble::BadRequest)?,
            receiver: jwk(&form.receiver).ok_or(Trouble::NotAKey)?,
        };
        put(&ssa, session, wish, "/signing").await
    };
    asked
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The form of a device key that is to be added.
#[derive(Deserialize)]
pub(super) struct DeviceForm {
    token: String,
    of: String,
    key: String,
}

/// `POST /signing/device`
pub(super) async fn device(
    State(ssa): State<Ssa>,
    visit: Visit,
    headers: HeaderMap,
    Form(form): Form<DeviceForm>,
) -> Response {
    let asked = async {
        let session = of_form(&ssa, &visit, &headers, &form.token).await?;
        let wish = Wish::AddDevice {
            registration: VoucherId::parse(form.of).map_err(|_| Trouble::BadRequest)?,
            key: jwk(&form.key).ok_or(Trouble::NotAKey)?,
        };
        put(&ssa, session, wish, "/signing").await
    };
    asked
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The public key in the line that `natsuin key receive` and `natsuin device enrol` show.
fn jwk(text: &str) -> Option<Jwk> {
    let text = Some(text.trim()).filter(|text| text.len() <= LONGEST)?;
    serde_json::from_str(text).ok()
}

/// `GET /signing/handed-over/{act}`: the sealed key, for its receiver.
pub(super) async fn handed_over(
    State(ssa): State<Ssa>,
    visit: Visit,
    Path(act): Path<String>,
) -> Response {
    let fetched = async {
        let Some(session) = ssa.session(visit.browser.as_ref()).await? else {
            return Ok(login::first("/signing"));
        };
        let request = HandedOverRequest {
            person: session.person,
            act: Digest32::parse(&act).map_err(|_| Trouble::NotFound)?,
        };
        let answer = ssa.sam().handed_over(&request).await;
        let answer = answer.map_err(|e| refused(&e))?;
        let file = json!({
            "format": "natsuin-handed-over/1",
            "key": answer.key,
            "act": request.act,
            "sealed": answer.sealed,
        });
        let name = format!("attachment; filename=\"natsuin-key-{}.json\"", answer.key);
        let headers = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::CONTENT_DISPOSITION, name),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Ok((headers, file.to_string()).into_response())
    };
    fetched
        .await
        .unwrap_or_else(|trouble| sorry(&ssa, &visit, trouble))
}

/// The SubjectPublicKeyInfo (DER) in what a person has: a certificate or public key in PEM, or base64url of the DER.
fn public_key(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() > LONGEST {
        return None;
    }
    let key = if text.contains("-----BEGIN CERTIFICATE-----") {
        let certificates = pki::Certificate::parse_pem(text).ok()?;
        certificates.first()?.spki().to_vec()
    } else if text.contains("-----BEGIN ") {
        let keys = pki::pem::decode_all("PUBLIC KEY", text).ok()?;
        keys.into_iter().next()?
    } else {
        from_b64u(text).ok()?
    };
    Some(key).filter(|key| pki::key_alg(key).is_some())
}

#[cfg(test)]
mod tests {
    use core_types::bytes::b64u;
    use rcgen::PublicKeyData as _;
    use web_ui::Lang;

    use super::*;

    #[test]
    fn a_public_key_is_taken_as_people_have_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let spki = key.subject_public_key_info();
        assert_eq!(public_key(&key.public_key_pem()), Some(spki.clone()));
        assert_eq!(
            public_key(&format!(" {}\n", b64u(&spki))),
            Some(spki.clone())
        );
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let cert = params.self_signed(&key).unwrap();
        assert_eq!(public_key(&cert.pem()), Some(spki));
        // What must not be sent here isn't looked at.
        for other in [&key.serialize_pem(), "", "x", "-----BEGIN CERTIFICATE-----"] {
            assert_eq!(public_key(other), None);
        }
        assert_eq!(public_key(&"A".repeat(LONGEST + 4)), None);
    }

    #[test]
    fn every_choice_has_its_text() {
        for lang in Lang::ALL {
            let words = Messages::new(lang);
            assert!(CASES.iter().all(|(_, text, ..)| words.has(text)));
        }
    }
}
