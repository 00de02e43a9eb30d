//! The frame around every page.

use askama::Template;

use crate::statics::css_path;
use crate::{Lang, Messages};

/// A link in the bar.
#[derive(Debug, Clone, Copy)]
pub struct NavLink<'a> {
    /// Where it leads.
    pub href: &'a str,
    /// Its words.
    pub label: &'a str,
    /// Whether the reader is there.
    pub current: bool,
}

/// One page. The caller renders its own template to `body_html` and hands it over; everything else is escaped here.
#[derive(Template)]
#[template(path = "page.html")]
pub struct Page<'a> {
    /// Language of the page.
    pub lang: Lang,
    /// Document title as 「状態: 対象」; the product's name is added.
    pub title: &'a str,
    /// Name in the bar and in the title; empty = the product's.
    pub name: &'a str,
    /// Address of a picture beside the name, on the same origin; empty = none.
    pub logo: &'a str,
    /// Address of a style sheet after the common one, on the same origin; empty = none.
    pub style: &'a str,
    /// What this surface is called beside the product's name, such as 「承認」; may be empty.
    pub surface: &'a str,
    /// Host name shown in the bar; empty = none. The approval page shows where the reader is.
    pub host: &'a str,
    /// Where the product's name leads; empty = nowhere.
    pub home: &'a str,
    /// Links in the bar.
    pub nav: &'a [NavLink<'a>],
    /// Same page in the other language, from [`Lang::switch_url`]; empty = no switch.
    pub switch: &'a str,
    /// Development: a bar on top says that signatures have no effect.
    pub dev: bool,
    /// Script modules of the page, by address on the same origin.
    pub scripts: &'a [&'a str],
    /// Seconds after which a browser without scripts loads the page again; 0 = never.
    pub again: u32,
    /// Line at the foot with the operator's contact; empty = none.
    pub contact: &'a str,
    /// Finished HTML of the content, made by a template that escapes.
    pub body_html: &'a str,
}

impl<'a> Page<'a> {
    /// A page with nothing but title and content.
    pub fn new(lang: Lang, title: &'a str, body_html: &'a str) -> Self {
        Self {
            lang,
            title,
            name: "",
            logo: "",
            style: "",
            surface: "",
            host: "",
            home: "",
            nav: &[],
            switch: "",
            dev: false,
            scripts: &[],
            again: 0,
            contact: "",
            body_html,
        }
    }

    /// The whole document.
    pub fn to_html(&self) -> String {
        // The template writes to a string, which can't fail.
        self.render().unwrap_or_default()
    }

    fn m(&self) -> Messages {
        Messages::new(self.lang)
    }

    fn named(&self) -> String {
        match self.name {
            "" => self.m().t("product"),
            name => name.to_owned(),
        }
    }

    fn comes_again(&self) -> bool {
        self.again != 0
    }

    fn css(&self) -> &'static str {
        css_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_what_it_is_given_and_names_its_language() {
        let page = Page {
            surface: "<b>",
            name: "<b>",
            logo: "/brand/\"<b>",
            style: "/brand/style.css",
            switch: "/x?lang=en",
            dev: true,
            ..Page::new(Lang::Ja, "\"><script>", "<p>ok</p>")
        };
        let html = page.to_html();
        assert!(html.contains("<html lang=\"ja\">"), "{html}");
        assert!(html.contains("<p>ok</p>"));
        assert!(!html.contains("<script>") && !html.contains("<b>"));
        assert!(html.contains("開発用の環境です"));
        assert!(html.contains("hreflang=\"en\" lang=\"en\""));
        let plain = Page::new(Lang::En, "t", "");
        let html = plain.to_html();
        assert!(!html.contains("devbar") && !html.contains("http-equiv"));
        let again = Page { again: 7, ..plain }.to_html();
        let meta = r#"<noscript><meta http-equiv="refresh" content="7"></noscript>"#;
        assert!(again.contains(meta), "{again}");
    }
}
