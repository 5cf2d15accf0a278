//! Relabelling, as Prometheus has it.

use md5::{Digest as _, Md5};
use periplus_model::{Labels, LabelsBuilder, re2};
use regex::Regex;
use serde::Deserialize;

/// A step of relabelling.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relabel {
    /// Labels whose values are looked at, joined.
    pub source_labels: Vec<String>,
    /// What joins them.
    pub separator: String,
    /// The label that is written.
    pub target_label: String,
    /// What the joined values are held against, whole.
    pub regex: String,
    /// The modulus of `hashmod`.
    pub modulus: u64,
    /// What is written.
    pub replacement: String,
    /// What is done.
    pub action: Action,
}

/// What a step does, named as Prometheus names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Default for Relabel {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: "(.*)".to_owned(),
            modulus: 0,
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

impl Relabel {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        self.compiled()?;
        let wants_target = matches!(
            self.action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if wants_target && self.target_label.is_empty() {
            return Err(format!(
                "relabel configuration for {:?} requires target_label",
                self.action
            ));
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        Ok(())
    }

    fn compiled(&self) -> Result<Regex, String> {
        re2::check(self.regex.as_bytes()).map_err(|e| e.to_string())?;
        Regex::new(&format!("^(?s:{})$", self.regex)).map_err(|e| e.to_string())
    }
}

/// The labels after all steps; `None` where one drops them, or nothing is left.
#[must_use]
pub fn relabel(steps: &[Relabel], labels: Labels) -> Option<Labels> {
    let mut b = labels.to_builder();
    for s in steps {
        if !step(s, &mut b) {
            return None;
        }
    }
    Some(b.build()).filter(|l| !l.is_empty())
}

/// Whether the labels are kept.
fn step(s: &Relabel, b: &mut LabelsBuilder) -> bool {
    let values: Vec<String> =
        s.source_labels.iter().map(|n| b.get(n).unwrap_or_default().to_owned()).collect();
    let value = values.join(&s.separator);
    // Checked when the configuration was read.
    let Ok(re) = s.compiled() else { return true };
    match s.action {
        Action::Keep => return re.is_match(&value),
        Action::Drop => return !re.is_match(&value),
        Action::KeepEqual => return b.get(&s.target_label).unwrap_or_default() == value,
        Action::DropEqual => return b.get(&s.target_label).unwrap_or_default() != value,
        Action::Replace => {
            if let Some(found) = re.captures(&value) {
                let (mut name, mut with) = (String::new(), String::new());
                found.expand(&s.target_label, &mut name);
                found.expand(&s.replacement, &mut with);
                b.set(name, with);
            }
        }
        Action::Lowercase => _ = b.set(s.target_label.clone(), value.to_lowercase()),
        Action::Uppercase => _ = b.set(s.target_label.clone(), value.to_uppercase()),
        Action::HashMod => {
            let digest = Md5::digest(value.as_bytes());
            let last = digest.last_chunk::<8>().copied().unwrap_or_default();
            let n = u64::from_be_bytes(last) % s.modulus.max(1);
            b.set(s.target_label.clone(), n.to_string());
        }
        Action::LabelMap => {
            for (n, v) in &b.build() {
                if let Some(found) = re.captures(n) {
                    let mut name = String::new();
                    found.expand(&s.replacement, &mut name);
                    b.set(name, v);
                }
            }
        }
        Action::LabelDrop | Action::LabelKeep => {
            for (n, _) in &b.build() {
                if re.is_match(n) == (s.action == Action::LabelDrop) {
                    b.del(n);
                }
            }
        }
    }
    true
}

impl Relabel {
    /// Takes the label `name` away.
    #[must_use]
    pub fn drop_label(name: &str) -> Self {
        Self { regex: regex::escape(name), action: Action::LabelDrop, ..Self::default() }
    }
}
