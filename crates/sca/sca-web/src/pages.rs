//! The pages: templates filled from a [`View`].

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse as _, Response};
use signing_job::{Outcome, TimeSource, Verdict};
use web_ui::{Lang, Messages, Page, group4};

use crate::app::App;
use crate::problem::Problem;
use crate::view::{Choice, Stage, View, size_text, words};

/// What a page needs besides its content.
pub(crate) struct Frame<'a> {
    pub(crate) app: &'a App,
    pub(crate) lang: Lang,
    /// Path and query of this page, for the switch of languages.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

impl Frame<'_> {
    pub(crate) fn m(&self) -> Messages {
        Messages::new(self.lang)
    }

    fn respond(&self, status: StatusCode, title: &str, body: &str) -> Response {
        let m = self.m();
        let surface = m.t("sca-surface");
        let switch = self.lang.switch_url(self.path, self.query);
        let page = Page {
            surface: &surface,
            home: "/",
            switch: &switch,
            dev: self.app.config.dev,
            contact: &self.app.config.contact,
            ..Page::new(self.lang, title, body)
        };
        let mut response = (status, Html(page.to_html())).into_response();
        let private = axum::http::HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, private);
        response
    }
}

#[derive(Template)]
#[template(path = "upload.html")]
struct UploadPage<'a> {
    m: Messages,
    csrf: &'a str,
    limit: String,
    problem: Option<(String, String)>,
    earlier: &'a [(String, String)],
}

/// The first page. `earlier`: id and name of this browser's documents.
pub(crate) fn upload(
    frame: &Frame<'_>,
    csrf: &str,
    earlier: &[(String, String)],
    problem: Option<&Problem>,
) -> Response {
    let m = frame.m();
    let limit = size_text(frame.app.config.max_upload);
    let words = problem.map(|p| words(&m, p));
    let page = UploadPage {
        m,
        csrf,
        limit,
        problem: words,
        earlier,
    };
    let status = problem.map_or(StatusCode::OK, |p| p.status);
    let title = m.t(if problem.is_some() {
        "sca-title-refused"
    } else {
        "sca-upload-h1"
    });
    frame.respond(status, &title, &page.render().unwrap_or_default())
}

#[derive(Template)]
#[template(path = "document.html")]
struct DocumentPage<'a> {
    m: Messages,
    csrf: &'a str,
    v: &'a View,
    size: String,
    problem: Option<(String, String)>,
    /// The signer said no, which is no error.
    quiet: bool,
    /// The browser was or is to be sent away.
    away: bool,
    /// It wasn't yet.
    can_go: bool,
    /// Name of the prepared file that the approval page can compare.
    prepared: Option<&'a str>,
    resume: bool,
}

impl DocumentPage<'_> {
    fn before(&self) -> String {
        self.m.n("sca-before-n", self.v.signatures as u64)
    }
}

#[derive(Template)]
#[template(path = "choose.html")]
struct ChoosePage<'a> {
    m: Messages,
    csrf: &'a str,
    v: &'a View,
    choices: &'a [Choice],
}

#[derive(Template)]
#[template(path = "working.html")]
struct WorkingPage<'a> {
    m: Messages,
    v: &'a View,
}

#[derive(Template)]
#[template(path = "result.html")]
struct ResultPage<'a> {
    m: Messages,
    v: &'a View,
    o: &'a Outcome,
    size: String,
    time: String,
    hash: String,
}

impl ResultPage<'_> {
    fn facts(&self) -> Vec<String> {
        let r = &self.o.verification_result;
        let unchanged = if r.unchanged {
            "sca-unchanged"
        } else {
            "sca-changed"
        };
        let ids = [
            unchanged.to_owned(),
            format!("sca-certificate-{}", r.certificate),
            format!("sca-revocation-{}", r.revocation),
            format!("sca-time-{}", r.time),
        ];
        ids.iter().map(|id| self.m.t(id)).collect()
    }

    fn status(&self) -> (&'static str, String) {
        match self.o.verification_result.verdict {
            Verdict::Passed => ("", self.m.t("sca-passed")),
            Verdict::Undetermined => ("part", self.m.t("sca-undetermined")),
            Verdict::Failed => ("no", self.m.t("sca-failed")),
        }
    }

    fn by_authority(&self) -> bool {
        self.o.time_source == TimeSource::Timestamp
    }
}

/// The page of a document in whatever state it is.
pub(crate) fn document(frame: &Frame<'_>, csrf: &str, v: &View) -> Response {
    let m = frame.m();
    let status = v.problem.as_ref().map_or(StatusCode::OK, |p| p.status);
    let titled = |id: &str| m.f(id, &[("name", web_ui::Arg::Text(&v.name))]);
    match &v.stage {
        Stage::Signed(o) => {
            let hash = group4(&o.sha256);
            let time = m.time(o.signing_time);
            let page = ResultPage {
                m,
                v,
                o,
                size: size_text(o.size),
                time,
                hash,
            };
            let body = page.render().unwrap_or_default();
            frame.respond(StatusCode::OK, &titled("sca-title-signed"), &body)
        }
        Stage::Choose(choices) => {
            let body = ChoosePage {
                m,
                csrf,
                v,
                choices,
            }
            .render()
            .unwrap_or_default();
            frame.respond(StatusCode::OK, &titled("sca-title-choose"), &body)
        }
        Stage::Working => {
            let body = WorkingPage { m, v }.render().unwrap_or_default();
            frame.respond(StatusCode::OK, &titled("sca-title-working"), &body)
        }
        Stage::Ready | Stage::Authorize { .. } | Stage::Resume => {
            let problem = v.problem.as_ref().map(|p| words(&m, p));
            let page = DocumentPage {
                m,
                csrf,
                v,
                size: size_text(v.size),
                problem,
                quiet: v.problem == Some(Problem::CANCELLED),
                away: matches!(v.stage, Stage::Authorize { .. }),
                can_go: matches!(v.stage, Stage::Authorize { next: Some(_), .. }),
                prepared: match &v.stage {
                    Stage::Authorize { prepared, .. } => prepared.as_deref(),
                    _ => None,
                },
                resume: matches!(v.stage, Stage::Resume),
            };
            let title = if v.problem.is_some() {
                "sca-title-stopped"
            } else {
                "sca-title-document"
            };
            frame.respond(status, &titled(title), &page.render().unwrap_or_default())
        }
    }
}

#[derive(Template)]
#[template(path = "leave.html")]
struct LeavePage<'a> {
    m: Messages,
    host: String,
    next: &'a str,
}

/// Sends the browser on. A page of its own, because browsers hold a form's redirects against `form-action`, and
/// nobody knows all the origins on the way of a provider.
pub(crate) fn leave(frame: &Frame<'_>, next: &str) -> Response {
    let m = frame.m();
    let host = url::Url::parse(next)
        .ok()
        .and_then(|u| u.host_str().map(str::to_owned))
        .unwrap_or_default();
    let body = LeavePage { m, host, next }.render().unwrap_or_default();
    let mut response = frame.respond(StatusCode::OK, &m.t("sca-leave-h1"), &body);
    if let Ok(refresh) = format!("0; url={next}").parse() {
        response.headers_mut().insert("refresh", refresh);
    }
    response
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    m: Messages,
    what: String,
    todo: String,
}

/// A problem that belongs to no document.
pub(crate) fn problem(frame: &Frame<'_>, problem: &Problem) -> Response {
    let m = frame.m();
    let (what, todo) = words(&m, problem);
    let title = what.clone();
    let body = ProblemPage { m, what, todo }.render().unwrap_or_default();
    frame.respond(problem.status, &title, &body)
}
