//! What the service is and promises, for whoever looks before having an account.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use sam_api::ssa::ClockInfo;
use web_ui::{Arg, Messages};

use super::{Content, Visit, show};
use crate::Ssa;

#[derive(Template)]
#[template(path = "about.html")]
struct View {
    m: Messages,
    service: String,
    /// What the level means, in a sentence; nothing while the SAM can't be asked.
    level: String,
    /// What is declared of the clock, and what is so; nothing while the SAM can't be asked.
    time: Vec<String>,
    documents: Vec<DocumentView>,
    contact: String,
}

struct DocumentView {
    name: &'static str,
    url: String,
    version: String,
}

/// How exact times are, as sentences.
fn exactness(words: Messages, clock: &ClockInfo) -> Vec<String> {
    let Some(bound) = clock.bound_ms else {
        return vec![words.t("portal-about-time-unsynchronised")];
    };
    let mut told = vec![words.n("portal-about-time-declared", bound.into())];
    told.extend(
        clock
            .error_ms
            .map(|error| words.n("portal-about-time-measured", error.into())),
    );
    if clock.state != "synchronised" {
        told.push(words.t("portal-about-time-beyond"));
    }
    told
}

/// `GET /about`: for everybody (`I-A2.01-conformity`, `I-A2.14-contact`).
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    let words = visit.words();
    let published = &ssa.config().published;
    let documents = published.documents();
    let about = ssa.about().await;
    let clock = about.as_ref().and_then(|about| about.clock(ssa.now()));
    let view = View {
        m: words,
        service: web_ui::clean(&ssa.config().name),
        level: about.as_ref().map_or_else(String::new, |about| {
            let n = u64::from(u8::from(about.ceiling));
            words.f("portal-about-level", &[("n", Arg::Num(n))])
        }),
        time: clock.map_or_else(Vec::new, |clock| exactness(words, clock)),
        documents: documents
            .map(|(name, document)| DocumentView {
                name,
                url: document.url.clone(),
                version: web_ui::clean(&document.version),
            })
            .into(),
        contact: published.contact.clone(),
    };
    let body = view.render().unwrap_or_default();
    let title = words.t("portal-about-title");
    let content = Content {
        inside: matches!(ssa.session(visit.browser.as_ref()).await, Ok(Some(_))),
        ..Content::new(&title, &body)
    };
    show(&ssa, &visit, content)
}
