//! The ladder: every marker that a boot prints, in order, with what it proves.
//!
//! `tests/qemu/ladder.toml` is the truth; `docs/testing/ladder.md` is printed from it.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Where the ladder stands in the repository.
pub const LADDER_FILE: &str = "tests/qemu/ladder.toml";

/// Every phase and every marker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// The phases, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// The markers, in order.
    #[serde(rename = "marker")]
    pub markers: Vec<Marker>,
}

/// A stretch of the boot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// What happens in it.
    pub about: String,
    /// Seconds that may pass in it without a new marker.
    pub seconds: u64,
}

/// A line that is printed after something was seen to work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// The line, without its origin.
    pub text: String,
    /// Whether the line only begins with `text`.
    #[serde(default)]
    pub prefix: bool,
    /// Name of its phase.
    pub phase: String,
    /// The one process that may print it.
    pub author: String,
    /// What was seen before it was printed.
    pub proves: String,
    /// Profiles that require it; every boot does when empty.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Neighbours with the same word here may come in any order.
    pub any_order: Option<String>,
    /// Whether it may come again: how often it does depends on the time that passes.
    #[serde(default)]
    pub repeats: bool,
}

impl Marker {
    /// Whether a line's text is this marker.
    pub fn matches(&self, text: &str) -> bool {
        if self.prefix { text.starts_with(&self.text) } else { text == self.text }
    }

    /// Whether a run with these profiles must show it.
    pub fn is_required(&self, profiles: &[String]) -> bool {
        self.profiles.is_empty() || self.profiles.iter().any(|profile| profiles.contains(profile))
    }
}

impl Ladder {
    /// Reads and checks the text of a ladder file.
    pub fn parse(text: &str) -> Result<Self> {
        let ladder: Ladder = toml::from_str(text).with_context(|| format!("{LADDER_FILE} cannot be read"))?;
        ladder.check().with_context(|| format!("{LADDER_FILE} contradicts itself"))?;
        Ok(ladder)
    }

    /// The phase's place in the order.
    pub fn phase_index(&self, name: &str) -> Result<usize> {
        let index = self.phases.iter().position(|phase| phase.name == name);
        index.with_context(|| {
            let known: Vec<&str> = self.phases.iter().map(|phase| phase.name.as_str()).collect();
            format!("there is no phase `{name}`; there are {}", known.join(", "))
        })
    }

    /// The marker with this text.
    pub fn marker(&self, text: &str) -> Option<&Marker> {
        self.markers.iter().find(|marker| marker.text == text)
    }

    fn check(&self) -> Result<()> {
        let mut texts = BTreeSet::new();
        let mut latest = 0;
        for marker in &self.markers {
            ensure!(!marker.text.is_empty() && !marker.proves.is_empty(), "a marker says nothing");
            ensure!(texts.insert(&marker.text), "marker `{}` stands twice", marker.text);
            let phase = self.phase_index(&marker.phase)?;
            ensure!(phase >= latest, "marker `{}` stands behind those of a later phase", marker.text);
            latest = phase;
        }
        for marker in self.markers.iter().filter(|marker| marker.prefix) {
            let also =
                self.markers.iter().find(|other| other.text != marker.text && marker.matches(&other.text));
            if let Some(also) = also {
                bail!("marker `{}` begins with marker `{}`", also.text, marker.text);
            }
        }
        Ok(())
    }

    /// The reference page.
    pub fn document(&self) -> String {
        let mut page = String::from(
            "# The ladder\n\n\
             Every marker that a self-test boot prints, in order. A marker is printed by its author after the\n\
             behaviour was seen, and counts from nobody else. `scripts/qemu-test.sh` judges a boot by this list.\n\n\
             Generated from `tests/qemu/ladder.toml` by `nx ladder`.\n",
        );
        for phase in &self.phases {
            let markers: Vec<&Marker> =
                self.markers.iter().filter(|marker| marker.phase == phase.name).collect();
            if markers.is_empty() {
                continue;
            }
            let _ = write!(page, "\n## {}\n\n{}\n\n", phase.name, phase.about);
            page.push_str("| marker | author | proves | required |\n| --- | --- | --- | --- |\n");
            for marker in markers {
                page.push_str(&row(marker));
            }
        }
        page
    }
}

fn row(marker: &Marker) -> String {
    let more = if marker.prefix { " …" } else { "" };
    let required = if marker.profiles.is_empty() { "always".to_string() } else { marker.profiles.join(", ") };
    let proves = marker.proves.replace('|', "\\|");
    format!("| `{}`{more} | {} | {proves} | {required} |\n", marker.text, marker.author)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: &str = r#"
        [[phase]]
        name = "bring-up"
        about = "The kernel."
        seconds = 10
        [[phase]]
        name = "end"
        about = "The end."
        seconds = 5
        [[marker]]
        text = "neuron vers."
        prefix = true
        phase = "bring-up"
        author = "neuron"
        proves = "it runs"
        [[marker]]
        text = "KINIT: cpu1 online"
        phase = "bring-up"
        author = "neuron"
        proves = "the second hart runs"
        profiles = ["smp"]
        [[marker]]
        text = "ping: ready"
        phase = "bring-up"
        author = "ping"
        proves = "it answers"
        any_order = "services"
        [[marker]]
        text = "pong: ready"
        phase = "bring-up"
        author = "pong"
        proves = "it answers"
        any_order = "services"
        [[marker]]
        text = "SELFTEST: end"
        phase = "end"
        author = "selftest-client"
        proves = "everything above"
    "#;

    #[test]
    fn the_page_lists_each_marker_under_its_phase() {
        let page = Ladder::parse(SMALL).unwrap().document();
        assert!(page.contains("## bring-up\n\nThe kernel.\n"));
        assert!(page.contains("| `neuron vers.` … | neuron | it runs | always |\n"));
        assert!(page.contains("| `KINIT: cpu1 online` | neuron | the second hart runs | smp |\n"));
    }

    #[test]
    fn test_reject_a_marker_that_stands_twice() {
        let text = SMALL.replace("ping: ready", "pong: ready");
        assert!(format!("{:#}", Ladder::parse(&text).unwrap_err()).contains("stands twice"));
    }

    #[test]
    fn test_reject_a_marker_of_an_unknown_phase() {
        let text = SMALL.replace("phase = \"end\"", "phase = \"last\"");
        assert!(format!("{:#}", Ladder::parse(&text).unwrap_err()).contains("no phase `last`"));
    }

    #[test]
    fn test_reject_phases_out_of_order() {
        let text = SMALL.replacen("phase = \"bring-up\"", "phase = \"end\"", 1);
        assert!(format!("{:#}", Ladder::parse(&text).unwrap_err()).contains("later phase"));
    }

    #[test]
    fn test_reject_a_marker_that_another_ones_prefix_covers() {
        let text = SMALL.replace("KINIT: cpu1 online", "neuron vers. 2");
        assert!(format!("{:#}", Ladder::parse(&text).unwrap_err()).contains("begins with"));
    }

    #[test]
    fn test_reject_unknown_keys() {
        assert!(Ladder::parse(&SMALL.replace("seconds = 10", "second = 10")).is_err());
    }
}
