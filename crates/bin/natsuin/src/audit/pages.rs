//! `natsuin audit pages`: whether the approval page's host serves what was declared. Whoever takes that host over can serve what they
//! like, to some and not to others, and `/digests.json` with it. So the files are fetched as browsers fetch them, and held against
//! the list that officers have signed and the SAM's log names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_verify::Known;
use core_types::{Digest32, sha256};
use reqwest::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_SECURITY_POLICY, HeaderMap, USER_AGENT};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::daemon;
use service_kit::http::HttpOptions;
use web_ui::Arg;

use crate::output::{Exit, Failure, Out};

/// Longest file in bytes.
const LONGEST: usize = 16 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Browsers that it passes for, by what they say they are.
const BROWSERS: [(&str, &str); 4] = [
    (
        "Chrome",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    (
        "Firefox",
        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    ),
    (
        "Safari",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    ),
    (
        "iPhone",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    ),
];
/// Headers with which an unchanged page does something else.
const FOREIGN: [&str; 3] = ["link", "refresh", "set-cookie"];
/// Without these in its policy, an unchanged page could be made to run something else.
const POLICY: [&str; 2] = ["default-src 'none'", "script-src 'self'"];
/// The list that the host itself gives out.
const LIST: &str = "/digests.json";
/// What is wrong when nothing came.
const AWAY: &str = "away";

/// Options of `natsuin audit pages`.
#[derive(Debug, clap::Args)]
pub struct PagesArgs {
    /// Origin of the page, such as https://sign-example.jp.
    #[arg(long)]
    pub url: String,
    /// What it consists of, as `natsuin-sic digests` printed it: the file that the SAM's signed configuration names as `pages`.
    #[arg(long, value_name = "FILE")]
    pub digests: PathBuf,
    /// An export of the logs, of which the SAM's has to name that file as the last one.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Directory with the logs' public keys, `ZONE.pub`, taken when the logs began. Default: those in the export.
    #[arg(long, value_name = "DIR", requires = "export")]
    pub keys: Option<PathBuf>,
    /// CA of the page's certificate (PEM).
    #[arg(long, value_name = "PEM")]
    pub trust: Option<PathBuf>,
}

/// A file that isn't as it was declared.
#[derive(Debug, Serialize)]
struct Fault {
    path: String,
    browser: &'static str,
    what: &'static str,
}

/// Looks at every file of the page as each browser would get it.
///
/// # Errors
/// [`Failure`] when list or export can't be used, or don't belong together.
pub async fn run(args: PagesArgs, out: Out) -> Result<Exit, Failure> {
    let text = std::fs::read_to_string(&args.digests)
        .map_err(|e| unusable(format!("{} can't be read: {e}", args.digests.display())))?;
    let declared: BTreeMap<String, Digest32> = serde_json::from_str(&text)
        .map_err(|_| unusable(format!("{} is no such list", args.digests.display())))?;
    let place = match &args.export {
        Some(export) => Some(place_in_log(export, args.keys.as_deref(), &text)?),
        None => None,
    };
    if args.export.is_some() && args.keys.is_none() {
        out.note(&out.m().t("audit-key-of-export"));
    }
    let options = HttpOptions {
        ca_pem: args.trust.as_deref().map(daemon::text).transpose()?,
        timeout: Some(PATIENCE),
        ..HttpOptions::default()
    };
    let http = service_kit::http::client(&options)?;
    let url = args.url.trim_end_matches('/');
    let mut faults = Vec::new();
    for (browser, agent) in BROWSERS {
        let visit = Visit {
            http: &http,
            url,
            agent,
        };
        for (path, what) in visit.all(&declared).await {
            faults.push(Fault {
                path,
                browser,
                what,
            });
        }
    }
    let m = out.m();
    for fault in &faults {
        let what = m.t(&format!("audit-pages-{}", fault.what));
        out.say(&m.f(
            "audit-pages-fault",
            &[
                ("path", Arg::Text(&fault.path)),
                ("browser", Arg::Own(fault.browser)),
                ("what", Arg::Own(&what)),
            ],
        ));
    }
    let files = u64::try_from(declared.len()).unwrap_or(u64::MAX);
    if faults.is_empty() {
        let told = [("n", Arg::Num(files)), ("url", Arg::Text(url))];
        out.say(&m.f("audit-pages-good", &told));
    }
    out.object(&json!({
        "schema": "natsuin.audit-pages/1", "ok": faults.is_empty(), "url": url, "files": files,
        "declared": place, "faults": faults,
    }));
    Ok(match faults.as_slice() {
        [] => Exit::Good,
        some if some.iter().all(|fault| fault.what == AWAY) => Exit::Unreachable,
        _ => Exit::Negative,
    })
}

/// Where the log names the list as the last one of its kind. Nothing of an export is believed that doesn't verify.
fn place_in_log(export: &Path, keys: Option<&Path>, list: &str) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Entry {
        kind: String,
        detail: serde_json::Value,
    }
    let dir = export.join("sam");
    let file = keys.map_or_else(|| dir.join("log.pub"), |keys| keys.join("sam.pub"));
    let key = std::fs::read_to_string(&file)
        .map_err(|e| unusable(format!("{} can't be read: {e}", file.display())))?;
    let known = Known {
        key: key.trim(),
        zone: Some("sam"),
        ..Known::default()
    };
    let mut last: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let each = |seq, text: &str| {
        let entry = serde_json::from_str::<Entry>(text).ok();
        let declared = entry.filter(|entry| entry.kind == "pages.declared");
        let told = |entry: &Entry, member: &str| entry.detail[member].as_str().map(str::to_owned);
        if let Some(entry) = declared
            && let (Some(whose), Some(list)) = (told(&entry, "whose"), told(&entry, "evidence"))
        {
            last.insert(whose, (seq, list));
        }
    };
    let report = audit_verify::verify_each(&dir, known, each)
        .map_err(|e| unusable(format!("{}: {e}", dir.display())))?;
    if !report.ok {
        let todo = "run `natsuin audit verify` on it";
        let what = "the export of the SAM's log doesn't verify, so that nothing it says counts";
        return Err(Failure::new(Exit::Negative, "pages", what, todo));
    }
    let own = sha256(&[list.as_bytes()]).to_string();
    let found = last.values().find(|(_, list)| *list == own);
    let found = found.map(|(seq, _)| *seq);
    found.ok_or_else(|| {
        let todo = "take the file that the SAM's signed configuration names as `pages`, and an export from after its start; if they are \
                    these, find out who exchanged the list";
        let what = "the SAM's log doesn't name this list as the last one";
        Failure::new(Exit::Negative, "pages", what, todo)
    })
}

fn unusable(what: String) -> Failure {
    let todo = "give the list that `natsuin-sic digests` printed, and an export of the logs";
    Failure::new(Exit::Input, "pages", what, todo)
}

/// A file as a browser asks for it.
struct Asked<'d> {
    path: &'d str,
    language: &'d str,
    digest: Digest32,
    is_page: bool,
}

/// What a browser gets.
struct Visit<'v> {
    http: &'v reqwest::Client,
    url: &'v str,
    agent: &'v str,
}

impl Visit<'_> {
    /// What isn't as declared: paths, and what is wrong.
    async fn all(&self, declared: &BTreeMap<String, Digest32>) -> Vec<(String, &'static str)> {
        let mut wrong = Vec::new();
        for asked in asked(declared) {
            if let Err(what) = self.look(&asked).await {
                wrong.push((asked.path.to_owned(), what));
            }
        }
        // The page doesn't read it, but whoever trusts the host's own list should know that it is another one.
        match self.get(LIST, "ja", false).await {
            Ok(text) if serde_json::from_slice(&text).ok().as_ref() == Some(declared) => {}
            Ok(_) => wrong.push((LIST.to_owned(), "other-list")),
            Err(what) => wrong.push((LIST.to_owned(), what)),
        }
        wrong
    }

    async fn look(&self, asked: &Asked<'_>) -> Result<(), &'static str> {
        let body = self.get(asked.path, asked.language, asked.is_page).await?;
        match sha256(&[body.as_slice()]) == asked.digest {
            true => Ok(()),
            false => Err("other-bytes"),
        }
    }

    async fn get(
        &self,
        path: &str,
        language: &str,
        is_page: bool,
    ) -> Result<Vec<u8>, &'static str> {
        let (accept, dest, mode, site) = match is_page {
            true => (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                "document",
                "navigate",
                "none",
            ),
            false => ("*/*", of_kind(path), "cors", "same-origin"),
        };
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .header(USER_AGENT, self.agent)
            .header(ACCEPT, accept)
            .header(ACCEPT_LANGUAGE, language)
            .header("sec-fetch-dest", dest)
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-site", site);
        let mut answer = request.send().await.map_err(|_| AWAY)?;
        if answer.status().as_u16() != 200 {
            return Err("other-status");
        }
        check_headers(answer.headers(), is_page)?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|_| AWAY)? {
            if body.len() + part.len() > LONGEST {
                return Err("other-bytes");
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}

/// What a browser wants a file for.
fn of_kind(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "mjs")) => "script",
        Some((_, "css")) => "style",
        _ => "empty",
    }
}

fn check_headers(headers: &HeaderMap, is_page: bool) -> Result<(), &'static str> {
    if FOREIGN.iter().any(|name| headers.contains_key(*name)) {
        return Err("other-headers");
    }
    let policy = headers.get(CONTENT_SECURITY_POLICY);
    let policy = policy.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let strict = POLICY.iter().all(|part| policy.contains(part));
    match is_page && !strict {
        true => Err("other-headers"),
        false => Ok(()),
    }
}

/// Everything that is declared, pages first, each also as a browser of that language opens it.
fn asked(declared: &BTreeMap<String, Digest32>) -> Vec<Asked<'_>> {
    let mut all = Vec::new();
    for (path, digest) in declared {
        let of_page = path.split_once("?lang=");
        let file = Asked {
            path,
            language: of_page.map_or("ja", |(_, language)| language),
            digest: *digest,
            is_page: of_page.is_some(),
        };
        if let Some((bare, _)) = of_page {
            all.push(Asked { path: bare, ..file });
        }
        all.push(file);
    }
    all.sort_by_key(|file| !file.is_page);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_as_links_lead_there_and_as_their_switch_does() {
        let declared = ["/a?lang=en", "/a?lang=ja", "/sic/approve.mjs"];
        let declared = declared.map(|path| (path.to_owned(), sha256(&[path.as_bytes()])));
        let declared = BTreeMap::from(declared);
        let asked = asked(&declared);
        let said: Vec<_> = asked.iter().map(|a| (a.path, a.language)).collect();
        assert_eq!(
            said,
            [
                ("/a", "en"),
                ("/a?lang=en", "en"),
                ("/a", "ja"),
                ("/a?lang=ja", "ja"),
                ("/sic/approve.mjs", "ja"),
            ]
        );
        assert_eq!(asked[0].digest, asked[1].digest);
        assert!(asked[3].is_page && !asked[4].is_page);
    }

    #[test]
    fn what_turns_an_unchanged_page_into_another_is_noticed() {
        let page = |policy: &str, more: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
            for (name, value) in more {
                headers.insert(*name, value.parse().unwrap());
            }
            check_headers(&headers, true).is_ok()
        };
        let strict = "default-src 'none'; script-src 'self'";
        assert!(page(strict, &[]));
        assert!(!page("default-src 'none'", &[]));
        for (name, value) in [
            ("refresh", "0; url=/x"),
            ("link", "</x.css>; rel=stylesheet"),
            ("set-cookie", "a=b"),
        ] {
            assert!(!page(strict, &[(name, value)]), "{name}");
        }
        assert!(check_headers(&HeaderMap::new(), false).is_ok(), "of a file");
    }
}
