//! `info` (CSC 11.1).

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use core_types::{DtbsForm, KeyAlg};
use csc_types::{Info, InfoQuery, SignAlgorithms, SignatureFormats, algo_list};
use serde_json::{Value, json};

use super::refusals::Fault;
use super::{Call, answer};
use crate::Ssa;

/// What `info.methods` names.
const METHODS: [&str; 11] = [
    "info",
    "auth/revoke",
    "credentials/list",
    "credentials/info",
    "credentials/authorize",
    "credentials/extendTransaction",
    "signatures/signHash",
    "oauth2/authorize",
    "oauth2/pushed_authorize",
    "oauth2/token",
    "oauth2/revoke",
];

/// Some drafts say `GET`, which does no harm.
pub(super) async fn info_by_get(State(ssa): State<Ssa>) -> Response {
    answer(Ok::<_, Fault>(describe(&ssa, None)))
}

pub(super) async fn info(ssa: &Ssa, _: &Call, body: Bytes) -> Result<Info, Fault> {
    let query = InfoQuery::parse(&body)?;
    Ok(describe(ssa, query.lang.as_deref()))
}

/// What version 1 tells: neither formats nor algorithms, and its own methods.
pub(super) fn in_v1(told: Value, _: &[u8]) -> Value {
    let kept = [
        "name",
        "logo",
        "region",
        "lang",
        "description",
        "authType",
        "oauth2",
    ];
    let mut v1: serde_json::Map<_, _> = kept
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), told.get(name)?.clone())))
        .collect();
    v1.insert("specs".to_owned(), json!(csc_types::v1::SPECS));
    let methods: Vec<&str> = METHODS
        .into_iter()
        .filter(|name| *name != "oauth2/pushed_authorize")
        .collect();
    v1.insert("methods".to_owned(), json!(methods));
    Value::Object(v1)
}

fn describe(ssa: &Ssa, lang: Option<&str>) -> Info {
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
    Info {
        specs: csc_types::SPECS.to_owned(),
        name: config.name.clone(),
        logo: Some(format!("{}/static/icon.svg", config.base_url)),
        region: config.region.clone(),
        lang: lang.tag().to_owned(),
        description,
        auth_type: vec!["oauth2code".to_owned(), "oauth2client".to_owned()],
        oauth2: Some(config.base_url.clone()),
        oauth2_issuer: None,
        oauth2_servers: Vec::new(),
        supports_rar: Some(true),
        supported_hash_types: vec!["dtbsr".to_owned(), "sdr".to_owned()],
        asynchronous_operation_mode: Some(false),
        methods: METHODS.map(str::to_owned).to_vec(),
        validation_info: Some(false),
        sign_algorithms: SignAlgorithms {
            algos,
            algo_params: Vec::new(),
        },
        // signDoc isn't among the methods; clients insist on these members, so they name what applications can make
        // with the values of signHash.
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
