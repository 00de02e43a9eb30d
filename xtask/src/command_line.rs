//! Command lines of our programs as their sources declare them (clap's derive), so that documents can be held against
//! them without building the programs.

use std::path::Path;

/// A field or a variant: its attributes, its line, and what stands in its braces.
struct Item {
    attributes: String,
    head: String,
    inner: String,
}

/// Commands that several daemons have.
const SHARED: &str = "crates/audit/audit-service/src/commands.rs";

/// The sources of one program.
pub struct Program {
    source: String,
}

impl Program {
    /// Reads `crates/bin/NAME`, and the commands that daemons share; nothing where there is no such program.
    pub fn read(root: &Path, name: &str) -> Option<Self> {
        let mut source = String::new();
        collect(&root.join("crates/bin").join(name).join("src"), &mut source);
        if source.is_empty() {
            return None;
        }
        source.push_str(&std::fs::read_to_string(root.join(SHARED)).unwrap_or_default());
        Some(Self { source })
    }

    /// Whether the program takes these words; its own name isn't among them. Values stay unread.
    ///
    /// # Errors
    /// The word that it doesn't take.
    pub fn takes(&self, words: &[&str]) -> Result<(), String> {
        let top = ["struct Cli {", "struct Args {"];
        let top = top.iter().find_map(|opening| body(&self.source, opening));
        let top = top.ok_or("no declaration of a command line was found")?;
        let mut fields = self.fields(top);
        let mut global: Vec<(String, bool)> = Vec::new();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if let Some(flag) = word.strip_prefix("--") {
                let (flag, value) = flag
                    .split_once('=')
                    .map_or((flag, false), |(f, _)| (f, true));
                let own = fields.iter().filter_map(|f| self.flag(f));
                let known: Vec<_> = own.chain(global.iter().cloned()).collect();
                let found = known.iter().find(|(name, _)| name == flag);
                let (_, wants) = found.ok_or(format!("--{flag}"))?;
                if *wants && !value {
                    words.next().ok_or(format!("--{flag} without a value"))?;
                }
                continue;
            }
            // Stands for more that the document doesn't spell out.
            if word == "…" {
                continue;
            }
            let Some(commands) = fields.iter().find_map(subcommands) else {
                let positional = |f: &Item| !f.attributes.contains("long");
                if fields.iter().any(positional) {
                    continue;
                }
                return Err(word.to_owned());
            };
            let is_global = |f: &&Item| f.attributes.contains("global");
            let kept: Vec<_> = fields.iter().filter(is_global).collect();
            global.extend(kept.into_iter().filter_map(|f| self.flag(f)));
            fields = self.variant(&commands, word).ok_or(word)?;
        }
        Ok(())
    }

    /// Fields with those of the structs that are flattened into them.
    fn fields(&self, body_text: &str) -> Vec<Item> {
        let mut found = Vec::new();
        for item in items(body_text) {
            let kind = item.head.split_once(':').map(|(_, kind)| type_name(kind));
            let inner = kind.and_then(|kind| body(&self.source, &format!("struct {kind} {{")));
            match inner.filter(|_| item.attributes.contains("flatten")) {
                Some(inner) => found.extend(self.fields(inner)),
                None => found.push(item),
            }
        }
        found
    }

    /// Name of a flag, and whether it wants a value.
    fn flag(&self, field: &Item) -> Option<(String, bool)> {
        let long = field.attributes.split_once("long")?.1;
        let (name, kind) = field.head.split_once(':')?;
        let given = long.trim_start().strip_prefix('=');
        let name = match given.and_then(|rest| rest.split('"').nth(1)) {
            Some(given) => given.to_owned(),
            None => name.split(' ').next_back()?.replace('_', "-"),
        };
        Some((name, !kind.contains("bool")))
    }

    /// Fields of a subcommand.
    fn variant(&self, commands: &str, word: &str) -> Option<Vec<Item>> {
        let variants = items(body(&self.source, &format!("enum {commands} {{"))?);
        let named = |v: &Item| {
            let name: String = v.head.chars().take_while(|c| c.is_alphanumeric()).collect();
            kebab(&name) == word
        };
        let variant = variants.into_iter().find(named)?;
        let Some((_, inside)) = variant.head.split_once('(') else {
            return Some(self.fields(&variant.inner));
        };
        let name = inside
            .trim_end_matches([',', ')', '>'])
            .trim_start_matches("Box<")
            .rsplit("::")
            .next()?
            .to_owned();
        if let Some(fields) = body(&self.source, &format!("struct {name} {{")) {
            return Some(self.fields(fields));
        }
        let commands = Item {
            attributes: "#[command(subcommand)]".to_owned(),
            head: format!("command: {name},"),
            inner: String::new(),
        };
        Some(vec![commands])
    }
}

/// Name of the enum with the subcommands, if the field is one for them.
fn subcommands(field: &Item) -> Option<String> {
    if !field.attributes.contains("subcommand") {
        return None;
    }
    Some(type_name(field.head.split_once(':')?.1))
}

/// Last part of a type's name, without `Option`.
fn type_name(kind: &str) -> String {
    let kind = kind.trim().trim_start_matches("Option<");
    let kind = kind.trim_end_matches([',', '>']);
    kind.rsplit("::").next().unwrap_or_default().to_owned()
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// What stands between the braces that `opening` ends with.
fn body<'s>(source: &'s str, opening: &str) -> Option<&'s str> {
    let rest = source.split_once(opening)?.1;
    let mut depth = 1;
    let end = rest.char_indices().find(|(_, c)| {
        depth += step(*c);
        depth == 0
    })?;
    Some(&rest[..end.0])
}

fn step(c: char) -> i32 {
    match c {
        '{' => 1,
        '}' => -1,
        _ => 0,
    }
}

fn bracket(c: char) -> i32 {
    match c {
        '[' => 1,
        ']' => -1,
        _ => 0,
    }
}

fn items(body: &str) -> Vec<Item> {
    let mut found: Vec<Item> = Vec::new();
    let (mut attributes, mut open, mut depth) = (String::new(), 0, 0);
    for line in body.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if depth == 0 && (open > 0 || line.starts_with("#[")) {
            open += line.chars().map(bracket).sum::<i32>();
            attributes.push_str(line);
            continue;
        }
        let before = depth;
        depth += line.chars().map(step).sum::<i32>();
        match found.last_mut() {
            // The closing brace belongs to neither.
            Some(_) if before > 0 && depth == 0 => {}
            Some(last) if before > 0 => {
                last.inner.push_str(line);
                last.inner.push('\n');
            }
            _ => found.push(Item {
                attributes: std::mem::take(&mut attributes),
                head: line.to_owned(),
                inner: String::new(),
            }),
        }
    }
    found
}

fn collect(folder: &Path, source: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            collect(&path, source);
        } else if path.extension().is_some_and(|e| e == "rs") {
            source.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_from_the_sources() {
        let program = Program {
            source: "struct Cli {\n /// Doc.\n #[arg(long, global = true)]\n pub json: bool,\n\
                     #[arg(long)]\n config: PathBuf,\n #[command(subcommand)]\n pub command: Option<x::Command>,\n}\n\
                     enum Command {\n Sign(SignArgs),\n #[command(subcommand)]\n Audit(AuditCommand),\n\
                     OfficerKey {\n #[arg(\n long = \"share\",\n required = true\n )]\n shares: Vec<PathBuf>,\n },\n}\n\
                     struct SignArgs {\n #[arg(required = true)]\n pub files: Vec<PathBuf>,\n #[command(flatten)]\n at: At,\n}\n\
                     struct At {\n #[arg(long)]\n pub url: String,\n}\n\
                     enum AuditCommand {\n Verify {\n dir: PathBuf,\n },\n}\n"
                .to_owned(),
        };
        let takes = |line: &str| program.takes(&line.split(' ').collect::<Vec<_>>());
        for good in [
            "--json",
            "--config c.toml sign a.pdf --url u --json",
            "--config=c.toml officer-key --share s",
            "audit verify dir --json",
        ] {
            assert_eq!(takes(good), Ok(()), "{good}");
        }
        for bad in [
            "--no",
            "seal",
            "sign a.pdf --share s",
            "sign a.pdf --config c.toml",
            "officer-key file",
            "officer-key --share",
            "audit look dir",
        ] {
            assert!(takes(bad).is_err(), "{bad}");
        }
    }
}
