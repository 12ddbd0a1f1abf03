//! The scripts of the interactive test: what is typed at the console, and what must come back.
//!
//! A script is a TOML file in `tests/qemu/interactive/`; that folder's README shows every key.

use crate::disk::Condition;
use crate::identity::BoardSecret;
use anyhow::{Context, Result, bail, ensure};
use regex::{Regex, escape};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A boot and what is done with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What is proven.
    pub about: String,
    /// Harts of the machine.
    #[serde(default = "one")]
    pub smp: usize,
    /// RAM of the machine.
    #[serde(default = "reference_memory")]
    pub memory: String,
    /// Boot arguments.
    #[serde(default)]
    pub append: String,
    /// What is done to the initial image first.
    #[serde(default)]
    pub image: Damage,
    /// virtio devices, as QEMU calls them; those of the reference machine when left out.
    pub devices: Option<Vec<String>>,
    /// The disk, made anew; none when left out.
    pub disk: Option<Condition>,
    /// The secret of the board; none when left out.
    pub secret: Option<BoardSecret>,
    /// Whether the virtio slots have the registers of before virtio 1.0.
    #[serde(default)]
    pub legacy_virtio: bool,
    /// What is done to the device tree first.
    pub device_tree: Option<Replacement>,
    /// Seconds that a step may take when it does not say otherwise.
    #[serde(default = "step_seconds")]
    pub seconds: u64,
    /// The steps, in order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

fn one() -> usize {
    1
}

fn reference_memory() -> String {
    "128M".to_string()
}

fn step_seconds() -> u64 {
    30
}

/// How an initial image is spoiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// Not at all.
    #[default]
    None,
    /// One bit in its middle is flipped.
    FlippedBit,
    /// Its second half is missing.
    Truncated,
    /// There is none.
    Absent,
}

impl Damage {
    /// The spoiled bytes; `None` when there is no image at all.
    pub fn apply(self, mut image: Vec<u8>) -> Option<Vec<u8>> {
        let middle = image.len() / 2;
        match self {
            Damage::None => {}
            Damage::FlippedBit => image.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1),
            Damage::Truncated => image.truncate(middle),
            Damage::Absent => return None,
        }
        Some(image)
    }
}

/// Bytes of the device tree that are overwritten wherever they stand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// What stands there.
    pub replace: String,
    /// What is put there: as long.
    pub with: String,
}

impl Replacement {
    /// The changed device tree.
    pub fn apply(&self, mut tree: Vec<u8>) -> Result<Vec<u8>> {
        let (old, new) = (self.replace.as_bytes(), self.with.as_bytes());
        ensure!(!old.is_empty() && old.len() == new.len(), "`replace` and `with` must be of one length");
        let mut places = 0;
        let mut at = 0;
        while let Some(offset) = tree[at..].windows(old.len()).position(|window| window == old) {
            at += offset;
            tree[at..at + new.len()].copy_from_slice(new);
            at += new.len();
            places += 1;
        }
        ensure!(places > 0, "the device tree does not contain `{}`", self.replace);
        Ok(tree)
    }
}

/// One thing typed and what must follow it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A line that is typed, with Enter after it.
    #[serde(rename = "type")]
    pub line: Option<String>,
    /// Keys that are typed as they stand, without Enter.
    pub keys: Option<String>,
    /// So many bytes of noise that are typed.
    pub noise_bytes: Option<usize>,
    /// What must come, in this order. `{name}` stands for what `keep` kept.
    #[serde(default)]
    pub expect: Vec<String>,
    /// What must not come before that.
    #[serde(default)]
    pub reject: Vec<String>,
    /// Names for what a pattern with one group finds in this step's output.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// The machine must end in this step.
    #[serde(default)]
    pub ends: bool,
    /// Seconds that it may take.
    pub seconds: Option<u64>,
}

impl Step {
    /// What is typed; `{name}` in a line stands for what was kept.
    pub fn input(&self, kept: &Kept) -> Result<Vec<u8>> {
        let mut bytes = noise(self.noise_bytes.unwrap_or(0));
        bytes.extend(self.keys.as_deref().unwrap_or_default().bytes());
        if let Some(line) = &self.line {
            bytes.extend(filled(line, kept)?.bytes());
            bytes.push(b'\r');
        }
        Ok(bytes)
    }

    /// In a few words.
    pub fn name(&self) -> String {
        if let Some(line) = &self.line {
            return format!("type `{line}`");
        }
        if let Some(keys) = &self.keys {
            return format!("press {keys:?}");
        }
        match self.noise_bytes {
            Some(bytes) => format!("type {bytes} bytes of noise"),
            None => format!("wait for {:?}", self.expect),
        }
    }
}

impl Script {
    /// Reads and checks a script.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let script: Script = toml::from_str(text).with_context(|| format!("{file} cannot be read"))?;
        ensure!(!script.steps.is_empty(), "{file} has no step");
        for step in &script.steps {
            let proves = !step.expect.is_empty() || step.ends;
            ensure!(proves, "{file}: a step expects nothing: {}", step.name());
            for pattern in step.keep.values() {
                let pattern = Regex::new(pattern).with_context(|| format!("{file}: bad pattern"))?;
                ensure!(pattern.captures_len() == 2, "{file}: `{pattern}` must have one group");
            }
        }
        Ok(script)
    }
}

/// What a step's output says so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This must still come.
    Lacks(String),
    /// This came and must not.
    Forbidden(String),
    /// All that was expected came.
    Complete,
}

/// What was kept from step to step.
pub type Kept = BTreeMap<String, String>;

/// Judges a step by its output.
pub fn progress(step: &Step, output: &str, kept: &Kept) -> Result<Progress> {
    let mut rest = output;
    let mut lacks = None;
    for expected in &step.expect {
        let expected = filled(expected, kept)?;
        match rest.find(&expected) {
            Some(at) => rest = &rest[at + expected.len()..],
            None => {
                lacks = Some(expected);
                break;
            }
        }
    }
    for rejected in &step.reject {
        let rejected = filled(rejected, kept)?;
        if output.contains(&rejected) {
            return Ok(Progress::Forbidden(rejected));
        }
    }
    Ok(lacks.map_or(Progress::Complete, Progress::Lacks))
}

/// Keeps what a complete step is to keep.
pub fn keep(step: &Step, output: &str, kept: &mut Kept) -> Result<()> {
    for (name, pattern) in &step.keep {
        let found = Regex::new(pattern)?.captures(output).and_then(|groups| groups.get(1));
        let Some(found) = found else { bail!("`{pattern}` matches nothing in the output") };
        kept.insert(name.clone(), found.as_str().to_string());
    }
    Ok(())
}

fn filled(text: &str, kept: &Kept) -> Result<String> {
    let mut result = text.to_string();
    for (name, value) in kept {
        result = result.replace(&format!("{{{name}}}"), value);
    }
    let open = Regex::new(&format!("{}[a-z_]+{}", escape("{"), escape("}")))?;
    match open.find(&result) {
        Some(name) => bail!("nothing was kept as {}", name.as_str()),
        None => Ok(result),
    }
}

/// The same noise each time (SplitMix64): every byte but those that end a line.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u8
    };
    (0..length)
        .map(|_| match next() {
            b'\r' | b'\n' => b'?',
            byte => byte,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_expected_must_come_in_order() {
        let step = step("expect = ['first', 'nexus> ']");
        let lacks = |output: &str| progress(&step, output, &Kept::new()).unwrap();
        assert_eq!(lacks("nexus> first"), Progress::Lacks("nexus> ".to_string()));
        assert_eq!(lacks("second"), Progress::Lacks("first".to_string()));
        assert_eq!(lacks("first\nnexus> "), Progress::Complete);
    }

    #[test]
    fn test_reject_what_must_not_come() {
        let step = step("expect = ['nexus> ']\nreject = ['leaked']");
        let seen = progress(&step, "leaked 4 pages\nnexus> ", &Kept::new()).unwrap();
        assert_eq!(seen, Progress::Forbidden("leaked".to_string()));
    }

    #[test]
    fn what_was_kept_can_be_expected_later() {
        let mut kept = Kept::new();
        keep(&step("expect = ['used']\nkeep = { used = 'used (\\d+)' }"), "used 42 pages", &mut kept)
            .unwrap();
        let later = step("expect = ['used {used} pages']");
        assert_eq!(progress(&later, "used 42 pages", &kept).unwrap(), Progress::Complete);
        assert_ne!(progress(&later, "used 43 pages", &kept).unwrap(), Progress::Complete);
        assert!(progress(&later, "used 42 pages", &Kept::new()).is_err());
    }

    #[test]
    fn a_line_ends_with_enter_and_keys_do_not() {
        let kept = Kept::from([("handle".to_string(), "5.1".to_string())]);
        let input = |text: &str| step(text).input(&kept).ok();
        assert_eq!(input("type = 'ps'\nexpect = ['x']").as_deref(), Some(&b"ps\r"[..]));
        assert_eq!(
            input("type = 'holders {handle}'\nexpect = ['x']").as_deref(),
            Some(&b"holders 5.1\r"[..])
        );
        assert_eq!(input("type = 'holders {nothing}'\nexpect = ['x']"), None);
        assert_eq!(input("keys = \"\\u0003\"\nexpect = ['x']").as_deref(), Some(&b"\x03"[..]));
    }

    #[test]
    fn noise_is_the_same_each_time_and_ends_no_line() {
        let bytes = noise(100_000);
        assert_eq!(bytes, noise(100_000));
        assert!(!bytes.contains(&b'\r') && !bytes.contains(&b'\n'));
        assert_eq!(bytes.iter().collect::<std::collections::BTreeSet<_>>().len(), 254);
    }

    #[test]
    fn damage_is_what_its_name_says() {
        let image = vec![0; 10];
        assert_eq!(Damage::None.apply(image.clone()), Some(image.clone()));
        assert_eq!(Damage::FlippedBit.apply(image.clone()), Some(vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
        assert_eq!(Damage::Truncated.apply(image.clone()), Some(vec![0; 5]));
        assert_eq!(Damage::Absent.apply(image), None);
    }

    #[test]
    fn a_device_tree_is_changed_wherever_the_bytes_stand() {
        let change = Replacement { replace: "uart".to_string(), with: "trau".to_string() };
        assert_eq!(change.apply(b"a uart, uart".to_vec()).unwrap(), b"a trau, trau");
        assert!(change.apply(b"nothing".to_vec()).is_err());
        assert!(Replacement { replace: "a".into(), with: "bc".into() }.apply(b"a".to_vec()).is_err());
    }

    #[test]
    fn test_reject_scripts_that_prove_nothing_or_say_unknown_words() {
        for text in [
            "about = 'x'\nstep = []",
            "about = 'x'\n[[step]]\ntype = 'ps'",
            "about = 'x'\n[[step]]\nwait = 1",
        ] {
            assert!(Script::parse(text, "test").is_err(), "{text}");
        }
    }
}
