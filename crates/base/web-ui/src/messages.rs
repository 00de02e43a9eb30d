//! Messages by id in both languages (Fluent syntax).

use std::collections::BTreeSet;
use std::sync::OnceLock;

use core_types::UnixTime;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};

use crate::Lang;
use crate::show::{clean, isolate, jst_date, jst_time};

/// Every file of messages: surface, Japanese, English.
const FILES: [(&str, &str, &str); 10] = [
    file(
        "common",
        include_str!("../messages/ja/common.ftl"),
        include_str!("../messages/en/common.ftl"),
    ),
    file(
        "sic",
        include_str!("../messages/ja/sic.ftl"),
        include_str!("../messages/en/sic.ftl"),
    ),
    file(
        "portal",
        include_str!("../messages/ja/portal.ftl"),
        include_str!("../messages/en/portal.ftl"),
    ),
    file(
        "life",
        include_str!("../messages/ja/life.ftl"),
        include_str!("../messages/en/life.ftl"),
    ),
    file(
        "sca",
        include_str!("../messages/ja/sca.ftl"),
        include_str!("../messages/en/sca.ftl"),
    ),
    file(
        "office",
        include_str!("../messages/ja/office.ftl"),
        include_str!("../messages/en/office.ftl"),
    ),
    file(
        "audit",
        include_str!("../messages/ja/audit.ftl"),
        include_str!("../messages/en/audit.ftl"),
    ),
    file(
        "alert",
        include_str!("../messages/ja/alert.ftl"),
        include_str!("../messages/en/alert.ftl"),
    ),
    file(
        "problem",
        include_str!("../messages/ja/problem.ftl"),
        include_str!("../messages/en/problem.ftl"),
    ),
    file(
        "cli",
        include_str!("../messages/ja/cli.ftl"),
        include_str!("../messages/en/cli.ftl"),
    ),
];

const fn file(
    name: &'static str,
    ja: &'static str,
    en: &'static str,
) -> (&'static str, &'static str, &'static str) {
    (name, ja, en)
}

type Bundle = FluentBundle<FluentResource>;

/// A value that stands inside a message.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// Text from outside, such as a name: shown cleaned and isolated from the direction of the text around it.
    Text(&'a str),
    /// Our own text, such as a formatted time or an address.
    Own(&'a str),
    /// A number; plural forms go by it.
    Num(u64),
}

/// The messages in one language. Cheap to copy; made for templates: `{{ m.t("product") }}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// The language.
    pub lang: Lang,
}

impl Messages {
    /// The messages in `lang`.
    pub fn new(lang: Lang) -> Self {
        Self { lang }
    }

    /// A message without values. An id that doesn't exist is shown as itself, so that a test or a reader sees it.
    pub fn t(&self, id: &str) -> String {
        self.f(id, &[])
    }

    /// A message with values.
    pub fn f(&self, id: &str, args: &[(&str, Arg<'_>)]) -> String {
        let mut values = FluentArgs::new();
        for (name, arg) in args {
            match arg {
                Arg::Text(text) => values.set(*name, isolate(&clean(text))),
                Arg::Own(text) => values.set(*name, (*text).to_owned()),
                Arg::Num(n) => values.set(*name, *n),
            }
        }
        self.formatted(id, &values)
    }

    fn formatted(&self, id: &str, values: &FluentArgs<'_>) -> String {
        let bundle = bundle(self.lang);
        let Some(pattern) = bundle.get_message(id).and_then(|m| m.value()) else {
            return id.to_owned();
        };
        let mut errors = Vec::new();
        bundle
            .format_pattern(pattern, Some(values), &mut errors)
            .into_owned()
    }

    /// A message with one number.
    pub fn n(&self, id: &str, n: u64) -> String {
        self.f(id, &[("n", Arg::Num(n))])
    }

    /// Whether the id exists; for tests of other crates.
    pub fn has(&self, id: &str) -> bool {
        bundle(self.lang).has_message(id)
    }

    /// Day, minute and second in Japanese time with the zone named: 「2026年11月22日(日) 14:05:12 日本時間」.
    pub fn time(&self, at: UnixTime) -> String {
        format!("{} {}", jst_time(self.lang, at), self.t("jst"))
    }

    /// The day in Japanese time: 「2026年11月22日(日)」.
    pub fn date(&self, at: UnixTime) -> String {
        jst_date(self.lang, at)
    }

    /// All messages of a surface (`common`, `sic`, …) as (id, text), for pages that hold their texts themselves.
    /// Values stay as `{name}`; a message with plural forms gives its `other` form.
    pub fn catalogue(&self, surface: &str) -> Vec<(String, String)> {
        let Some((_, ja, en)) = FILES.iter().find(|(name, ..)| *name == surface) else {
            return Vec::new();
        };
        let source = match self.lang {
            Lang::Ja => ja,
            Lang::En => en,
        };
        let names = names(source);
        ids(source)
            .into_iter()
            .map(|id| (id.clone(), self.template(&id, &names)))
            .collect()
    }

    /// The message with its values left as `{name}`.
    fn template(&self, id: &str, names: &BTreeSet<&str>) -> String {
        let mut values = FluentArgs::new();
        for name in names {
            values.set(*name, format!("{{{name}}}"));
        }
        self.formatted(id, &values)
    }
}

/// Names of the values that messages use.
fn names(source: &str) -> BTreeSet<&str> {
    let parts = source.split("{ $").skip(1);
    parts
        .filter_map(|part| part.split([' ', '}']).next())
        .collect()
}

fn ids(source: &str) -> Vec<String> {
    source
        .lines()
        .filter(|l| l.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|l| l.split_once('='))
        .map(|(id, _)| id.trim().to_owned())
        .collect()
}

fn bundle(lang: Lang) -> &'static Bundle {
    static JA: OnceLock<Bundle> = OnceLock::new();
    static EN: OnceLock<Bundle> = OnceLock::new();
    match lang {
        Lang::Ja => JA.get_or_init(|| build(lang)),
        Lang::En => EN.get_or_init(|| build(lang)),
    }
}

fn build(lang: Lang) -> Bundle {
    let tags = lang.tag().parse().into_iter().collect();
    let mut bundle = Bundle::new_concurrent(tags);
    // Values are isolated by kind in `Messages::f`: numbers and times of our own need no marks around them.
    bundle.set_use_isolating(false);
    for (_, ja, en) in FILES {
        let source = match lang {
            Lang::Ja => ja,
            Lang::En => en,
        };
        // A file with a mistake gives what could be read; the test below refuses it.
        let resource = FluentResource::try_new(source.to_owned()).unwrap_or_else(|(r, _)| r);
        bundle.add_resource_overriding(resource);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_and_has_the_same_ids_in_both_languages() {
        let mut all = BTreeSet::new();
        for (name, ja, en) in FILES {
            for (lang, source) in [("ja", ja), ("en", en)] {
                let read = FluentResource::try_new(source.to_owned());
                assert!(
                    read.is_ok(),
                    "{lang}/{name}.ftl: {:?}",
                    read.err().map(|e| e.1)
                );
            }
            let set = |s: &str| ids(s).into_iter().collect::<BTreeSet<_>>();
            let (ja, en) = (set(ja), set(en));
            assert_eq!(ja, en, "{name}.ftl: ids differ between ja and en");
            for id in ja {
                assert!(
                    all.insert(id.clone()),
                    "{name}.ftl: {id} stands in another file too"
                );
            }
        }
    }

    #[test]
    fn both_languages_use_the_same_values() {
        let names = |text: &str| {
            names(text)
                .into_iter()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        let entries = |source: &str| {
            let mut out: Vec<(String, String)> = Vec::new();
            for line in source.lines().filter(|l| !l.starts_with('#')) {
                match line.split_once('=') {
                    Some((id, rest)) if line.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                        out.push((id.trim().to_owned(), rest.to_owned()));
                    }
                    _ => {
                        if let Some(last) = out.last_mut() {
                            last.1.push_str(line);
                        }
                    }
                }
            }
            out.into_iter()
                .map(|(id, t)| (id, names(&t)))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        for (name, ja, en) in FILES {
            assert_eq!(entries(ja), entries(en), "{name}.ftl");
        }
    }

    /// Words of the glossary that mislead, and tones that don't fit.
    #[test]
    fn no_forbidden_word_is_used() {
        let ja_never = [
            "捺印する",
            "押印",
            "認証する",
            "電子印鑑",
            "秘密鍵",
            "FIDO",
            "WebAuthn",
            "認証コード",
            "OTP",
            "安全度",
            "キャンセル",
            "法的に有効",
            "不正な操作",
            "させていただ",
            "!",
            "!",
            "請求元",
        ];
        let en_never = [
            "FIDO",
            "WebAuthn",
            "private key",
            "legally valid",
            "legally binding",
            "Please",
            " please ",
            "!",
            "OTP",
            "stars",
            "unexpected error",
            "oops",
        ];
        for (name, ja, en) in FILES {
            let text = |s: &str| {
                let own = |l: &&str| !l.starts_with('#');
                s.lines().filter(own).collect::<Vec<_>>().join("\n")
            };
            let (ja, en) = (text(ja), text(en));
            for word in ja_never {
                assert!(!ja.contains(word), "ja/{name}.ftl has {word:?}");
            }
            for word in en_never {
                assert!(!en.contains(word), "en/{name}.ftl has {word:?}");
            }
            // 認証 alone never names a login or an approval.
            for (at, _) in ja.match_indices("認証") {
                let rest = &ja[at + "認証".len()..];
                let face = ja[..at].ends_with('顔');
                assert!(
                    face || rest.starts_with("アプリ") || rest.starts_with("局"),
                    "ja/{name}.ftl: 認証 alone in …{}…",
                    rest.chars().take(12).collect::<String>()
                );
            }
        }
    }

    #[test]
    fn values_and_plurals_are_filled_in() {
        let (ja, en) = (Messages::new(Lang::Ja), Messages::new(Lang::En));
        assert_eq!(ja.n("level", 2), "レベル2");
        assert_eq!(en.n("error-summary", 1), "One thing needs correcting.");
        assert_eq!(en.n("error-summary", 3), "3 things need correcting.");
        let shown = en.f(
            "error-not-your-turn-do",
            &[("name", Arg::Text("a\u{202e}b"))],
        );
        assert_eq!(
            shown,
            "We'll mail you after \u{2068}a\u{fffd}b\u{2069} signs."
        );
        assert_eq!(en.t("no-such-id"), "no-such-id");
    }

    #[test]
    fn a_catalogue_keeps_the_names_of_values() {
        let list = Messages::new(Lang::Ja).catalogue("common");
        let level = list.iter().find(|(id, _)| id == "level").unwrap();
        assert_eq!(level.1, "レベル{n}");
        for (lang, surface) in [(Lang::Ja, "sic"), (Lang::En, "sic")] {
            for (id, text) in Messages::new(lang).catalogue(surface) {
                assert!(
                    !text.contains("{$"),
                    "{id}: a value has a name the catalogue doesn't know"
                );
            }
        }
    }
}
