//! The requirement catalogue, `specs/requirements.toml`: what is asked.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The parts of the catalogue that conformity is about; its other tables are data for the product's tests.
#[derive(Debug, Deserialize)]
pub struct Catalogue {
    #[serde(rename = "requirement")]
    pub requirements: Vec<Requirement>,
    #[serde(rename = "threat")]
    pub threats: Vec<Threat>,
}

/// A normative statement of the guideline.
#[derive(Clone, Debug, Deserialize)]
pub struct Requirement {
    pub id: String,
    pub part: String,
    pub section: String,
    pub title: String,
    pub kind: Kind,
    pub strength: String,
    pub levels: Vec<u8>,
    /// How a test or a reviewer shows that it is met.
    #[serde(default)]
    pub check: String,
    /// Ids of the threats that it answers.
    #[serde(default)]
    pub threats: Vec<String>,
}

/// Who has to meet a requirement.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Software enforces it.
    System,
    /// Software and organisation together.
    Mixed,
    /// Organisation or premises.
    Operator,
}

impl Kind {
    /// As the catalogue writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Mixed => "mixed",
            Self::Operator => "operator",
        }
    }
}

/// A threat that requirements answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Threat {
    pub id: String,
    pub title: String,
}

impl Catalogue {
    /// # Errors
    /// The file is missing, not in its format, or has an id twice.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("specs/requirements.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("can't read {}", path.display()))?;
        let catalogue: Self =
            toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let mut seen = BTreeSet::new();
        for id in catalogue.ids() {
            if !seen.insert(id) {
                bail!("{} has {id} twice", path.display());
            }
        }
        for requirement in &catalogue.requirements {
            if let Some(id) = requirement
                .threats
                .iter()
                .find(|id| !seen.contains(id.as_str()))
            {
                bail!(
                    "{}: {} answers {id}, which is no threat",
                    path.display(),
                    requirement.id
                );
            }
        }
        Ok(catalogue)
    }

    /// All ids, requirements first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let requirements = self.requirements.iter().map(|r| r.id.as_str());
        requirements.chain(self.threats.iter().map(|t| t.id.as_str()))
    }

    /// The known id that begins most like `wrong`, for a helpful message.
    pub fn nearest(&self, wrong: &str) -> &str {
        let common = |id: &str| {
            id.bytes()
                .zip(wrong.bytes())
                .take_while(|(a, b)| a == b)
                .count()
        };
        self.ids().max_by_key(|id| common(id)).unwrap_or_default()
    }
}
