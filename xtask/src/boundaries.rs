//! The walls between zones: dependencies are data (`boundaries.toml`), and every edge is compared with them.
//!
//! Edges that exist only for tests (dev-dependencies) are free; ordinary and build dependencies are not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

/// Checks the workspace and prints what it found; an error if there is anything to object to.
pub fn run(root: &Path) -> Result<()> {
    let graph = Graph::new(&Workspace::read()?)?;
    let problems = Boundaries::read(root)?.check(&graph);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!(
            "{} edges or rules are against boundaries.toml",
            problems.len()
        );
    }
    let edges: usize = graph.crates.values().map(|node| node.ours.len()).sum();
    println!(
        "boundaries: {} crates, {edges} edges between them, all allowed",
        graph.crates.len()
    );
    Ok(())
}

/// `boundaries.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundaries {
    rule: Vec<Rule>,
    #[serde(default)]
    unreachable: Vec<Unreachable>,
    #[serde(default)]
    only: Vec<Only>,
    #[serde(default)]
    ban: Vec<Ban>,
}

/// What a zone or a crate may depend on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    who: String,
    may: Vec<String>,
    why: String,
}

/// What must not be reachable, over any number of edges.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unreachable {
    from: Vec<String>,
    to: Vec<String>,
    why: String,
}

/// A third-party package and everybody who may name it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    package: String,
    r#in: Vec<String>,
    why: String,
}

/// Third-party packages that some zones or crates may not name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    packages: Vec<String>,
    r#in: Vec<String>,
    why: String,
}

/// The workspace's crates and what each depends on, tests apart.
#[derive(Debug, Default)]
pub struct Graph {
    crates: BTreeMap<String, Node>,
}

#[derive(Debug, Default)]
struct Node {
    zone: String,
    ours: BTreeSet<String>,
    third: BTreeSet<String>,
    complaint: Option<String>,
}

impl Boundaries {
    /// # Errors
    /// The file is missing or not in its format.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("boundaries.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("can't read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Everything that is wrong, one line each.
    pub fn check(&self, graph: &Graph) -> Vec<String> {
        let mut problems = self.check_names(graph);
        problems.extend(graph.crates.values().filter_map(|n| n.complaint.clone()));
        for (name, node) in &graph.crates {
            let Some(rule) = self.rule_for(name, &node.zone) else {
                problems.push(format!(
                    "{name}: no rule for it nor for its zone {:?}",
                    node.zone
                ));
                continue;
            };
            for target in &node.ours {
                if !graph.any_is(&rule.may, target) {
                    problems.push(format!(
                        "{name} -> {target}: not allowed (rule for {:?}: {})",
                        rule.who, rule.why
                    ));
                }
            }
        }
        problems.extend(self.check_unreachable(graph));
        problems.extend(self.check_third_parties(graph));
        problems
    }

    fn rule_for(&self, name: &str, zone: &str) -> Option<&Rule> {
        let find = |who: &str| self.rule.iter().find(|rule| rule.who == who);
        find(name).or_else(|| find(zone))
    }

    /// A misspelt name would silently forbid nothing, so it is an error.
    fn check_names(&self, graph: &Graph) -> Vec<String> {
        let mut problems = Vec::new();
        let zones: BTreeSet<&str> = graph.crates.values().map(|n| n.zone.as_str()).collect();
        let known = |name: &str| zones.contains(name) || graph.crates.contains_key(name);
        let rules = self
            .rule
            .iter()
            .flat_map(|r| r.may.iter().chain([&r.who]))
            .chain(
                self.unreachable
                    .iter()
                    .flat_map(|u| u.from.iter().chain(&u.to)),
            )
            .chain(self.ban.iter().flat_map(|b| &b.r#in));
        for name in rules.collect::<BTreeSet<_>>() {
            if !known(name) {
                problems.push(format!(
                    "boundaries.toml: {name:?} is neither a zone nor a crate"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for rule in &self.rule {
            if !seen.insert(&rule.who) {
                problems.push(format!("boundaries.toml: two rules for {:?}", rule.who));
            }
        }
        problems
    }

    fn check_unreachable(&self, graph: &Graph) -> Vec<String> {
        let mut problems = Vec::new();
        for wall in &self.unreachable {
            for (name, node) in &graph.crates {
                if !wall.from.iter().any(|w| w == name || *w == node.zone) {
                    continue;
                }
                for target in graph.reachable(name) {
                    if graph.any_is(&wall.to, &target) {
                        problems.push(format!(
                            "{name} reaches {target}, which it must not ({})",
                            wall.why
                        ));
                    }
                }
            }
        }
        problems
    }

    fn check_third_parties(&self, graph: &Graph) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, node) in &graph.crates {
            for only in &self.only {
                let named = node.third.contains(&only.package);
                if named && !only.r#in.iter().any(|w| w == name || *w == node.zone) {
                    problems.push(format!(
                        "{name} -> {}: only {:?} may name it ({})",
                        only.package, only.r#in, only.why
                    ));
                }
            }
            for ban in &self.ban {
                if !ban.r#in.iter().any(|w| w == name || *w == node.zone) {
                    continue;
                }
                for package in ban.packages.iter().filter(|p| node.third.contains(*p)) {
                    problems.push(format!("{name} -> {package}: banned there ({})", ban.why));
                }
            }
        }
        problems
    }
}

impl Graph {
    /// The edges of the workspace's manifests.
    ///
    /// # Errors
    /// A package lies nowhere.
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let mut graph = Self::default();
        for package in &workspace.packages {
            let name = &package.name;
            let (zone, folder) = package
                .place()
                .with_context(|| format!("{name} lies nowhere"))?;
            let mut node = Node {
                zone: zone.to_owned(),
                ..Node::default()
            };
            if folder != name {
                node.complaint = Some(format!(
                    "{name}: its folder is called {folder:?}; folder and package have one name"
                ));
            }
            for dependency in &package.dependencies {
                if dependency.kind.as_deref() == Some("dev") {
                    continue;
                }
                match dependency.path {
                    Some(_) => node.ours.insert(dependency.name.clone()),
                    None => node.third.insert(dependency.name.clone()),
                };
            }
            graph.crates.insert(name.clone(), node);
        }
        Ok(graph)
    }

    /// Is `target` one of these crates, or in one of these zones?
    fn any_is(&self, names: &[String], target: &str) -> bool {
        let zone = self.crates.get(target).map(|node| node.zone.as_str());
        names
            .iter()
            .any(|n| n == target || Some(n.as_str()) == zone)
    }

    fn reachable(&self, from: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            for target in self.crates.get(name).iter().flat_map(|node| &node.ours) {
                if found.insert(target.clone()) {
                    open.push(target);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    const RULES: &str = r#"
        rule = [
            { who = "base", may = ["base"], why = "-" },
            { who = "cm", may = ["base", "cm"], why = "-" },
            { who = "sam", may = ["base", "sam", "cm-api"], why = "-" },
            { who = "ssa", may = ["base", "sam-api"], why = "the face" },
            { who = "cm-api", may = ["base"], why = "-" },
        ]
        unreachable = [{ from = ["ssa"], to = ["cm"], why = "no keys" }]
        only = [{ package = "cryptoki", in = ["cm-core"], why = "tokens" }]
        ban = [{ packages = ["reqwest"], in = ["sam", "cm"], why = "no way out" }]
    "#;

    /// (crate, zone, dependencies); those with a zone of our own are ours.
    fn graph(crates: &[(&str, &str, &[&str])]) -> Graph {
        let mut graph = Graph::default();
        for (name, zone, dependencies) in crates {
            let mut node = Node {
                zone: (*zone).to_owned(),
                ..Node::default()
            };
            for dependency in *dependencies {
                let ours = crates.iter().any(|(name, ..)| name == dependency);
                let set = if ours {
                    &mut node.ours
                } else {
                    &mut node.third
                };
                set.insert((*dependency).to_owned());
            }
            graph.crates.insert((*name).to_owned(), node);
        }
        graph
    }

    fn check(crates: &[(&str, &str, &[&str])]) -> Vec<String> {
        toml::from_str::<Boundaries>(RULES)
            .unwrap()
            .check(&graph(crates))
    }

    fn with<'a>(name: &str, dependencies: &'a [&'a str]) -> Vec<(&'a str, &'a str, &'a [&'a str])> {
        let mut crates: Vec<(&str, &str, &[&str])> = vec![
            ("core-types", "base", &[]),
            ("cm-api", "cm", &["core-types"]),
            ("cm-core", "cm", &["cm-api", "cryptoki"]),
            ("sam-api", "sam", &["core-types"]),
            ("sam-core", "sam", &["sam-api", "cm-api"]),
            ("ssa-service", "ssa", &["sam-api", "reqwest"]),
        ];
        for entry in &mut crates {
            if entry.0 == name {
                entry.2 = dependencies;
            }
        }
        crates
    }

    // shows: I-5.1.1-functional-model
    #[test]
    fn the_workspace_keeps_its_walls() {
        let graph = Graph::new(&Workspace::read().unwrap()).unwrap();
        let problems = Boundaries::read(&shell::root()).unwrap().check(&graph);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn every_crate_takes_the_workspace_lints() {
        for package in Workspace::read().unwrap().packages {
            let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
            let manifest: toml::Table = manifest.parse().unwrap();
            let lints = manifest.get("lints").and_then(|l| l.get("workspace"));
            assert_eq!(
                lints.and_then(toml::Value::as_bool),
                Some(true),
                "{} lacks `[lints] workspace = true`",
                package.name
            );
        }
    }

    #[test]
    fn an_allowed_graph_passes() {
        assert_eq!(check(&with("", &[])), Vec::<String>::new());
    }

    #[test]
    fn an_edge_too_many_is_caught() {
        let problems = check(&with("ssa-service", &["sam-api", "cm-api"]));
        assert!(problems[0].starts_with("ssa-service -> cm-api: not allowed"));
        let problems = check(&with("core-types", &["sam-api"]));
        assert!(problems[0].starts_with("core-types -> sam-api"));
    }

    #[test]
    fn a_wall_is_caught_round_a_corner() {
        // The edge sam-api -> cm-api is in the zone's rule; what it opens to the SSA is not.
        let problems = check(&with("sam-api", &["cm-api"]));
        assert_eq!(
            problems,
            ["ssa-service reaches cm-api, which it must not (no keys)"]
        );
    }

    #[test]
    fn a_crate_rule_replaces_its_zone_rule() {
        let problems = check(&with("cm-api", &["cm-core"]));
        assert!(problems[0].starts_with("cm-api -> cm-core: not allowed"));
    }

    #[test]
    fn guarded_packages_are_caught() {
        let problems = check(&with("sam-api", &["cryptoki"]));
        assert!(problems[0].starts_with("sam-api -> cryptoki: only"));
        let problems = check(&with("cm-api", &["reqwest"]));
        assert!(problems[0].starts_with("cm-api -> reqwest: banned there"));
    }

    #[test]
    fn names_that_nobody_bears_are_caught() {
        let mut rules: Boundaries = toml::from_str(RULES).unwrap();
        rules.ban[0].r#in.push("smm".to_owned());
        let problems = rules.check(&graph(&with("", &[])));
        assert_eq!(
            problems,
            [r#"boundaries.toml: "smm" is neither a zone nor a crate"#]
        );
    }

    #[test]
    fn a_crate_without_a_rule_is_caught() {
        let mut crates = with("", &[]);
        crates.push(("newcomer", "outside", &[]));
        assert!(check(&crates)[0].starts_with("newcomer: no rule"));
    }

    #[test]
    fn metadata_is_read_with_kinds_folders_and_zones() {
        let text = r#"{"target_directory":"/w/target","packages":[
            {"name":"a","manifest_path":"/w/crates/base/a/Cargo.toml","targets":[],"dependencies":[
                {"name":"b","kind":null,"path":"/w/crates/cm/b"},
                {"name":"c","kind":"dev","path":"/w/crates/cm/c"},
                {"name":"d","kind":"build","path":null}]},
            {"name":"b","manifest_path":"/w/crates/cm/wrong/Cargo.toml","targets":[],"dependencies":[]},
            {"name":"tool","manifest_path":"/w/tool/Cargo.toml","targets":[],"dependencies":[]}]}"#;
        let graph = Graph::new(&Workspace::parse(text).unwrap()).unwrap();
        let a = &graph.crates["a"];
        assert_eq!((a.zone.as_str(), a.ours.len()), ("base", 1));
        assert!(a.third.contains("d"));
        assert!(graph.crates["b"].complaint.is_some());
        assert_eq!(graph.crates["tool"].zone, "tool");
    }
}
