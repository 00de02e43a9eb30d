//! `natsuin audit search`: entries by date, type, person, key and outcome, from a stopped stack, an export, or the
//! listeners that zones have for auditors. Entries of several zones are joined in order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use audit_log::{Archived, Class, Event, MOST_FOUND, Outcome, Query};
use audit_reader::{Entry, Wanted, csv_header, csv_line, json, line};
use audit_service::{SEARCH, SearchAnswer, SearchRequest};
use audit_verify::Known;
use core_types::bytes::{b64u, from_b64u};
use core_types::{KeyId, PersonName, UnixTime};
use serde_json::{Value, json};
use service_kit::daemon::TlsFiles;
use service_kit::http::HttpOptions;
use service_kit::{CallError, Client};
use store_kit::Store;
use web_ui::Arg;

use super::{ZONES, meant, opened, place};
use crate::output::{Exit, Failure, Out};
use crate::stores::choice;

/// Options of `natsuin audit search`.
#[derive(Debug, clap::Args)]
pub struct SearchArgs {
    /// Directory of a stopped development stack.
    #[arg(long, default_value = "natsuin-dev")]
    pub data: PathBuf,
    /// `postgres://…` if the stack keeps its rows there, or `@FILE` with it.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Search an export instead, which is checked in the same pass.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["store", "urls"])]
    pub export: Option<PathBuf>,
    /// Directory with the logs' public keys, `ZONE.pub`, taken when the logs began. Default: those in the export.
    #[arg(long, value_name = "DIR", requires = "export")]
    pub keys: Option<PathBuf>,
    /// Ask a running zone's listener for auditors instead; may be given more than once. Each reading is an entry there.
    #[arg(long = "url", value_name = "URL", requires_all = ["cert", "cert_key", "ca"])]
    pub urls: Vec<String>,
    /// Your certificate (PEM), whose name the zone lists among its auditors.
    #[arg(long, value_name = "PEM")]
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "PEM")]
    pub cert_key: Option<PathBuf>,
    /// CA of the zones' certificates (PEM).
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
    /// Zone (cm, sam or ssa); default: all.
    #[arg(long = "zone", value_parser = ZONES)]
    pub zones: Vec<String>,
    /// From this time on, such as 2026-11-22T00:00:00+09:00, or a day in Japan.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Type such as key.used, or a beginning such as key. with its dot; may be given more than once.
    #[arg(long = "type", value_name = "TYPE")]
    pub kinds: Vec<String>,
    /// Person it is about; in an export, which doesn't say who anybody is, the name that entries have.
    #[arg(long, allow_hyphen_values = true)]
    pub person: Option<String>,
    /// Key it is about.
    #[arg(long, allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Outcome.
    #[arg(long, value_parser = ["success", "failure", "intent"])]
    pub outcome: Option<String>,
    /// Class.
    #[arg(long, value_parser = ["transaction", "access"])]
    pub class: Option<String>,
    /// Most entries of a page.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Where the page before ended.
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// All pages.
    #[arg(long)]
    pub all: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Form of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A sentence for each entry.
    Text,
    /// A JSON object for each entry.
    Jsonl,
    /// CSV with a header.
    Csv,
}

/// Searches and prints.
///
/// # Errors
/// [`Failure`] when options, stores, exports or listeners can't be used.
pub async fn run(args: SearchArgs, out: Out) -> Result<Exit, Failure> {
    let wanted = wanted(&args)?;
    let sources = sources(&args).await?;
    let mut after = args
        .after
        .as_deref()
        .map(places)
        .transpose()?
        .unwrap_or_default();
    let limit = args.limit.clamp(1, MOST_FOUND);
    let (mut all, mut found, mut notes) = (Vec::new(), 0, Notes::default());
    if args.format == Format::Csv {
        out.say(csv_header());
    }
    let more = loop {
        let (entries, more) = page(&sources, &wanted, &mut after, limit, &mut notes).await?;
        found += entries.len();
        for entry in &entries {
            match args.format {
                _ if out.json => all.push(json(out.m(), entry)),
                Format::Text => out.say(&line(out.m(), entry)),
                Format::Jsonl => out.say(&json(out.m(), entry).to_string()),
                Format::Csv => out.say(&csv_line(out.m(), entry)),
            }
        }
        if !more || !args.all {
            break more;
        }
    };
    let next = more.then(|| b64u(serde_json::to_vec(&after).unwrap_or_default()));
    out.note(&match found {
        0 => out.m().t("audit-nothing-found"),
        n => out.m().n("audit-found", n as u64),
    });
    if let Some(next) = &next {
        out.note(&out.m().f("audit-more", &[("next", Arg::Own(next))]));
    }
    for (zone, archive, at) in &notes.archived {
        let values = [
            ("zone", Arg::Text(zone)),
            ("archive", Arg::Text(archive)),
            ("at", Arg::Text(at)),
        ];
        out.note(&out.m().f("audit-found-archived", &values));
    }
    for (zone, at) in &notes.faults {
        let values = [("zone", Arg::Text(zone)), ("place", Arg::Text(at))];
        out.note(&out.m().f("audit-not-proven", &values));
    }
    let good = notes.faults.is_empty();
    out.object(&json!({
        "schema": "natsuin.audit-search/1", "ok": good, "entries": all, "next": next,
        "faults": notes.faults, "archived": notes.archived,
    }));
    Ok(if good { Exit::Good } else { Exit::Negative })
}

/// Where entries come from.
enum Source {
    Stored(&'static str, Store),
    Exported {
        zone: &'static str,
        dir: PathBuf,
        key: String,
    },
    Asked(String, Client),
}

/// What is to be known beside what was found.
#[derive(Default)]
struct Notes {
    /// Of exports: the first place of each that isn't proven.
    faults: BTreeMap<String, String>,
    /// What wasn't searched because it lies in an archive: source, archive, end.
    archived: BTreeSet<(String, String, String)>,
}

impl Notes {
    fn tell(&mut self, source: &str, archived: &[Archived]) {
        self.archived.extend(archived.iter().map(|part| {
            (
                source.to_owned(),
                part.archive.to_string(),
                part.last.rfc3339(),
            )
        }));
    }
}

/// What a source has next.
struct Page {
    entries: Vec<Entry>,
    more: bool,
}

/// The next entries of all sources in order of time, and whether there are more. `after`: by source, where it stands.
async fn page(
    sources: &[Source],
    wanted: &Wanted,
    after: &mut BTreeMap<String, String>,
    limit: usize,
    notes: &mut Notes,
) -> Result<(Vec<Entry>, bool), Failure> {
    let mut heads = Vec::new();
    for source in sources {
        let from = after.get(source.name()).map(String::as_str);
        let page = source.page(wanted, from, limit, notes).await?;
        heads.push((source, page.more, page.entries.into_iter().peekable()));
    }
    let mut entries = Vec::new();
    while entries.len() < limit {
        let times = heads.iter_mut().enumerate();
        let times = times.filter_map(|(i, (_, _, rest))| Some((rest.peek()?.at, i)));
        let Some((_, first)) = times.min() else { break };
        let (source, _, rest) = &mut heads[first];
        if let Some(entry) = rest.next() {
            after.insert(source.name().to_owned(), source.place(&entry));
            entries.push(entry);
        }
    }
    let more = heads
        .iter_mut()
        .any(|(_, more, rest)| *more || rest.peek().is_some());
    Ok((entries, more))
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::Stored(zone, _) | Self::Exported { zone, .. } => zone,
            Self::Asked(url, _) => url,
        }
    }

    /// Where a search goes on behind the entry.
    fn place(&self, entry: &Entry) -> String {
        match self {
            Self::Exported { .. } => entry.seq.to_string(),
            _ => format!("{}/{}/{}", entry.at.0, entry.n, entry.node),
        }
    }

    async fn page(
        &self,
        wanted: &Wanted,
        after: Option<&str>,
        limit: usize,
        notes: &mut Notes,
    ) -> Result<Page, Failure> {
        match self {
            Self::Stored(zone, store) => stored(zone, store, (wanted, after), limit, notes).await,
            Self::Exported { zone, dir, key } => {
                let after = after.map(str::parse).transpose().map_err(|_| no_place())?;
                let known = Known {
                    key: key.trim(),
                    ..Known::default()
                };
                let found = audit_reader::search_export(dir, known, wanted, after, limit);
                let found = found.map_err(|e| unusable(format!("{zone}: {e}")))?;
                if let Some(bad) = &found.report.first_bad {
                    notes.faults.insert((*zone).to_owned(), place(bad));
                }
                notes
                    .archived
                    .extend(found.report.archived.iter().map(|part| {
                        (
                            (*zone).to_owned(),
                            part.archive.clone(),
                            format!("#{}", part.size - 1),
                        )
                    }));
                Ok(Page {
                    entries: found.entries,
                    more: found.next.is_some(),
                })
            }
            Self::Asked(url, client) => asked(url, client, (wanted, after), limit, notes).await,
        }
    }
}

async fn stored(
    zone: &str,
    store: &Store,
    (wanted, after): (&Wanted, Option<&str>),
    limit: usize,
    notes: &mut Notes,
) -> Result<Page, Failure> {
    let mut query = Query {
        from: wanted.from.unwrap_or(UnixTime(0)),
        until: wanted.until.unwrap_or(UnixTime(i64::MAX)),
        kinds: wanted.kinds.clone(),
        person: wanted.person.as_deref().map(person).transpose()?,
        key: wanted.key.as_deref().map(key).transpose()?,
        outcome: wanted.outcome.as_deref().and_then(Outcome::parse),
        class: wanted.class.as_deref().and_then(Class::parse),
        after: after.map(str::parse).transpose().map_err(|_| no_place())?,
        limit,
    };
    let mut entries = Vec::new();
    // A search gives up after so many rows that don't fit, and says where to go on.
    loop {
        query.limit = limit - entries.len();
        let found = audit_log::search(store, &query).await;
        let found =
            found.map_err(|e| unusable(format!("the log of {zone} can't be searched: {e}")))?;
        notes.tell(zone, &found.archived);
        for found in found.entries {
            let entry = read(found.entry.seq, &found.entry.body, found.person)?;
            entries.push(entry.come_from(found.from));
        }
        query.after = found.next;
        if entries.len() >= limit || query.after.is_none() {
            return Ok(Page {
                entries,
                more: query.after.is_some(),
            });
        }
    }
}

async fn asked(
    url: &str,
    client: &Client,
    (wanted, after): (&Wanted, Option<&str>),
    limit: usize,
    notes: &mut Notes,
) -> Result<Page, Failure> {
    let mut request = SearchRequest {
        from: wanted.from.map(|t| t.0),
        until: wanted.until.map(|t| t.0),
        kinds: wanted.kinds.clone(),
        person: wanted.person.as_deref().map(person).transpose()?,
        key: wanted.key.as_deref().map(key).transpose()?,
        outcome: wanted.outcome.clone(),
        class: wanted.class.clone(),
        after: after.map(str::to_owned),
        limit: None,
    };
    let mut entries = Vec::new();
    loop {
        request.limit = Some(limit - entries.len());
        let body = serde_json::to_vec(&request).unwrap_or_default();
        let answer: SearchAnswer = match client.forward(SEARCH, body).await {
            Ok((200, body)) => {
                let read = serde_json::from_slice(&body);
                read.map_err(|e| unreachable(url, &format!("answers something else: {e}")))?
            }
            Ok((403, _)) => {
                let todo = "ask for your certificate's name in `auditors` of [audit.reading]";
                let what = format!("{url} doesn't let you read");
                return Err(Failure::new(Exit::Input, "not-allowed", what, todo));
            }
            Ok((400, why)) => {
                let what = format!("{url}: {}", web_ui::clean(&String::from_utf8_lossy(&why)));
                return Err(Failure::new(
                    Exit::Input,
                    "search",
                    what,
                    "change the search",
                ));
            }
            Ok((status, _)) => return Err(unreachable(url, &format!("answers {status}"))),
            Err(CallError::Unreachable) => return Err(unreachable(url, "can't be reached")),
            Err(_) => return Err(unreachable(url, "gave no answer")),
        };
        notes.tell(url, &answer.archived);
        for found in answer.entries {
            let entry = read(found.seq, &found.body, found.person)?;
            entries.push(entry.come_from(found.from));
        }
        request.after = answer.next;
        if entries.len() >= limit || request.after.is_none() {
            return Ok(Page {
                entries,
                more: request.after.is_some(),
            });
        }
    }
}

fn read(seq: i64, text: &str, person: Option<String>) -> Result<Entry, Failure> {
    let seq = u64::try_from(seq).unwrap_or_default();
    Entry::parse(seq, text, person).ok_or_else(|| {
        let what = format!("entry {seq} can't be read");
        let todo = "the log may be altered: run `natsuin audit verify` on an export";
        Failure::new(Exit::Negative, "entry", what, todo)
    })
}

fn wanted(args: &SearchArgs) -> Result<Wanted, Failure> {
    let known = |kind: &str| {
        let begins = |k: &&str| kind.ends_with('.') && k.starts_with(kind);
        Event::KINDS.iter().any(|k| *k == kind || begins(k))
    };
    if let Some(kind) = args.kinds.iter().find(|kind| !known(kind)) {
        let what = format!("there is no type of event {kind}");
        let todo = "see docs/operator (logs.md); a beginning ends with a dot";
        return Err(Failure::new(Exit::Input, "type", what, todo));
    }
    Ok(Wanted {
        from: args.from.as_deref().map(time).transpose()?,
        until: args.until.as_deref().map(time).transpose()?,
        kinds: args.kinds.clone(),
        person: args.person.clone(),
        key: args.key.clone(),
        outcome: args.outcome.clone(),
        class: args.class.clone(),
    })
}

/// A point in time, or the beginning of a day in Japan.
fn time(text: &str) -> Result<UnixTime, Failure> {
    let day = || UnixTime::from_rfc3339(&format!("{text}T00:00:00+09:00"));
    UnixTime::from_rfc3339(text).or_else(day).ok_or_else(|| {
        let todo = "write it as 2026-11-22 or 2026-11-22T14:05:12+09:00";
        Failure::new(Exit::Input, "time", format!("{text} isn't a time"), todo)
    })
}

fn person(text: &str) -> Result<PersonName, Failure> {
    let todo = "give the person's id, of another tenant's person TENANT/ID";
    PersonName::parse(text).map_err(|e| Failure::new(Exit::Input, "person", e.to_string(), todo))
}

fn key(text: &str) -> Result<KeyId, Failure> {
    let todo = "give the key's id";
    KeyId::parse(text).map_err(|e| Failure::new(Exit::Input, "key", e.to_string(), todo))
}

fn places(token: &str) -> Result<BTreeMap<String, String>, Failure> {
    let bytes = from_b64u(token).ok();
    let read = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let read = read.and_then(|value| serde_json::from_value(value).ok());
    read.ok_or_else(no_place)
}

fn no_place() -> Failure {
    let todo = "give --after as the page before told it, with the same sources";
    Failure::new(Exit::Input, "after", "this isn't where a page ended", todo)
}

fn unusable(what: String) -> Failure {
    let todo = "check the directory, the store or the export";
    Failure::new(Exit::Input, "audit-search", what, todo)
}

fn unreachable(url: &str, what: &str) -> Failure {
    let todo = "check the address, [audit.reading] of the zone, and the certificates";
    Failure::new(
        Exit::Unreachable,
        "auditor-listener",
        format!("{url} {what}"),
        todo,
    )
}

async fn sources(args: &SearchArgs) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    if let ([_, ..], Some(chain), Some(key), Some(ca)) =
        (&args.urls[..], &args.cert, &args.cert_key, &args.ca)
    {
        let files = TlsFiles {
            chain: chain.clone(),
            key: key.clone(),
            ca: ca.clone(),
        };
        let options = HttpOptions {
            ca_pem: Some(files.ca_pem()?),
            identity: Some(files.identity()?),
            ..HttpOptions::default()
        };
        for url in &args.urls {
            let url = url.trim_end_matches('/').to_owned();
            sources.push(Source::Asked(url.clone(), Client::new(url, &options)?));
        }
        return Ok(sources);
    }
    for zone in meant(&args.zones) {
        sources.push(match &args.export {
            Some(export) => {
                let dir = export.join(zone);
                let file = args
                    .keys
                    .as_ref()
                    .map_or_else(|| dir.join("log.pub"), |k| k.join(format!("{zone}.pub")));
                let key = std::fs::read_to_string(&file)
                    .map_err(|e| unusable(format!("{} can't be read: {e}", file.display())))?;
                Source::Exported { zone, dir, key }
            }
            None => {
                let choice = choice(args.store.as_deref())?;
                Source::Stored(zone, opened(&args.data, &choice, zone).await?)
            }
        });
    }
    Ok(sources)
}
