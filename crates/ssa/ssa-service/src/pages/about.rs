//! What the service is and promises, for whoever looks before having an account.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
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
    documents: Vec<DocumentView>,
    contact: String,
}

struct DocumentView {
    name: &'static str,
    url: String,
    version: String,
}

/// `GET /about`: for everybody (`I-A2.01-conformity`, `I-A2.14-contact`).
pub(super) async fn page(State(ssa): State<Ssa>, visit: Visit) -> Response {
    let words = visit.words();
    let published = &ssa.config().published;
    let documents = published.documents();
    let view = View {
        m: words,
        service: web_ui::clean(&ssa.config().name),
        level: ssa.about().await.map_or_else(String::new, |about| {
            let n = u64::from(u8::from(about.ceiling));
            words.f("portal-about-level", &[("n", Arg::Num(n))])
        }),
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
