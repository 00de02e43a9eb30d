//! `info` (CSC 11.1).

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use core_types::{DtbsForm, KeyAlg, UnixTime};
use csc_types::{
    DocumentInfo, Info, InfoQuery, ServiceInfo, SignAlgorithms, SignatureFormats, TimeInfo,
    algo_list,
};
use serde_json::{Value, json};

use super::refusals::Fault;
use super::{Call, answer};
use crate::about::Heard;
use crate::published::{Document, GUIDELINE};
use crate::{Config, Ssa};

/// What `info.methods` names, in the versions that have it.
fn methods(ssa: &Ssa, v1: bool) -> Vec<String> {
    let all = [
        ("info", true),
        ("auth/login", true),
        ("auth/revoke", true),
        ("credentials/list", true),
        ("credentials/info", true),
        ("credentials/authorize", true),
        ("credentials/authorizeCheck", false),
        ("credentials/create", false),
        ("credentials/delete", false),
        ("credentials/getChallenge", false),
        ("credentials/sendOTP", true),
        ("credentials/extendTransaction", true),
        ("signatures/signDoc", false),
        ("signatures/signHash", true),
        ("signatures/signPolling", false),
        ("signatures/timestamp", true),
        ("oauth2/authorize", true),
        ("oauth2/pushed_authorize", false),
        ("oauth2/token", true),
        ("oauth2/revoke", true),
    ];
    let offered = |name: &str| match name {
        "auth/login" => ssa.config().login_client.is_some(),
        "credentials/create" => !ssa.config().creations.is_empty(),
        "signatures/signDoc" => ssa.worker().is_some(),
        "signatures/timestamp" => !ssa.config().time_stampers.is_empty(),
        _ => true,
    };
    let of_version = all.into_iter().filter(|(_, in_v1)| *in_v1 || !v1);
    of_version
        .filter(|(name, _)| offered(name))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Some drafts say `GET`, which does no harm.
pub(super) async fn info_by_get(State(ssa): State<Ssa>) -> Response {
    answer(Ok::<_, Fault>(describe(&ssa, false, None).await))
}

pub(super) async fn info(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Info, Fault> {
    let query = InfoQuery::parse(&body)?;
    Ok(describe(ssa, call.v1, query.lang.as_deref()).await)
}

/// What version 1 tells: neither formats nor algorithms.
pub(super) fn in_v1(told: Value, _: &[u8]) -> Value {
    let kept = [
        "name",
        "logo",
        "region",
        "lang",
        "description",
        "authType",
        "oauth2",
        "methods",
    ];
    let mut v1: serde_json::Map<_, _> = kept
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), told.get(name)?.clone())))
        .collect();
    v1.insert("specs".to_owned(), json!(csc_types::v1::SPECS));
    Value::Object(v1)
}

async fn describe(ssa: &Ssa, v1: bool, lang: Option<&str>) -> Info {
    let config = ssa.config();
    let lang = lang
        .and_then(web_ui::Lang::from_tag)
        .unwrap_or(web_ui::Lang::En);
    let words = web_ui::Messages::new(lang);
    let description = match config.development {
        true => format!("{} {}", words.t("info-description"), words.t("dev-bar")),
        false => words.t("info-description"),
    };
    let mut algos: Vec<String> = Vec::new();
    // signHash takes digests, so that keys which sign messages can't be reached through it.
    let digests = |key: &KeyAlg| key.form() == DtbsForm::Digest;
    for oid in KeyAlg::ALL.into_iter().filter(digests).flat_map(algo_list) {
        if !algos.contains(&oid) {
            algos.push(oid);
        }
    }
    let mut auth_type = vec!["oauth2code".to_owned(), "oauth2client".to_owned()];
    if config.login_client.is_some() {
        auth_type.push("basic".to_owned());
    }
    let named = config.branding.name(lang);
    let logo = match config.branding.addresses().logo {
        none if none.is_empty() => "/static/icon.svg".to_owned(),
        logo => logo,
    };
    let about = ssa.about().await;
    Info {
        specs: csc_types::SPECS.to_owned(),
        name: named.unwrap_or(&config.name).to_owned(),
        logo: Some(format!("{}{logo}", config.base_url)),
        region: config.region.clone(),
        lang: lang.tag().to_owned(),
        description,
        auth_type,
        oauth2: Some(config.base_url.clone()),
        oauth2_issuer: None,
        oauth2_servers: Vec::new(),
        supports_rar: Some(true),
        supported_hash_types: vec!["dtbsr".to_owned(), "sdr".to_owned()],
        asynchronous_operation_mode: Some(true),
        methods: methods(ssa, v1),
        validation_info: Some(false),
        sign_algorithms: SignAlgorithms {
            algos,
            algo_params: Vec::new(),
        },
        // For every client by its contract, or for all of them by `fapi`.
        oauth2_fapi_support: Some(true),
        service: Some(service(config, about.as_ref(), ssa.now())),
        // Of `signDoc`, or what applications can make with the values of signHash: clients insist on these members.
        signature_formats: SignatureFormats {
            formats: vec!["C".to_owned(), "P".to_owned()],
            envelope_properties: vec![
                vec!["Detached".to_owned(), "Attached".to_owned()],
                vec!["Certification".to_owned(), "Revision".to_owned()],
            ],
        },
        conformance_levels: vec!["AdES-B-B".to_owned(), "AdES-B-T".to_owned()],
    }
}

fn service(config: &Config, about: Option<&Heard>, now: UnixTime) -> ServiceInfo {
    let document = |(kind, document): (&str, &Document)| DocumentInfo {
        kind: kind.to_owned(),
        version: document.version.clone(),
        url: document.url.clone(),
    };
    ServiceInfo {
        guideline: GUIDELINE.to_owned(),
        level: about.map(|about| u8::from(about.ceiling)),
        time: about.and_then(|about| {
            let clock = about.clock(now)?;
            Some(TimeInfo {
                state: clock.state.clone(),
                declared_error_ms: clock.bound_ms,
                measured_error_ms: clock.error_ms,
                asked: about.asked.0,
                how: config.published.practice.url.clone(),
            })
        }),
        documents: config.published.documents().map(document).into(),
        contact: config.published.contact.clone(),
        about: format!("{}/about", config.base_url),
    }
}
