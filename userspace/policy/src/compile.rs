//! From `recipes/policy/*.toml` to a table. Every refusal names file, line and, where one is near, the word that was
//! probably meant.
//!
//! ```toml
//! [overlay]                       # in one file at the most
//! public_key = "64 hexadecimal digits"
//!
//! [allow]
//! rngd = ["device.mmio.rng virtio:entropy", "policy.delegate"]
//! [deny]
//! pong = ["statefs.write /state/keys/", "proc.spawn"]
//! ```
//! A line is an action, a resource if it is about one, and a bound (`20/s`) if it has one.

use crate::{Action, Overlay, RATE_MAX, RESOURCE_BYTES_MAX, Rule, Subject, Table, is_resource, overlap};
use serde::Deserialize;
use shell_line::nearest;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;
use system_manifest::CompileError;
use toml::Spanned;

/// One file of the policy.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// What refusals and explanations call it.
    pub name: String,
    /// Its text.
    pub text: String,
}

type Lines = BTreeMap<Spanned<String>, Vec<Spanned<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    overlay: Option<SourceOverlay>,
    sequence: Option<u64>,
    #[serde(default)]
    allow: Lines,
    #[serde(default)]
    deny: Lines,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceOverlay {
    public_key: Spanned<String>,
}

/// Compiles the files of a policy. `subjects` are those whom a line may be about, with their service ids.
pub fn compile(files: &[PolicyFile], subjects: &[(String, u64)]) -> Result<Table, CompileError> {
    let mut compiler = Compiler { subjects, table: Table::default() };
    for file in files {
        let place = compiler.open(file)?;
        let source = place.parse()?;
        if source.sequence.is_some() {
            return Err(place.error(0, "`sequence` is of overlays: `nx policy sign`", None));
        }
        if let Some(overlay) = &source.overlay {
            compiler.overlay_key(&place, overlay)?;
        }
        compiler.lines(&place, &source)?;
    }
    compiler.finish(files)
}

/// Compiles the file of an overlay, which is like the others but for `sequence` in place of `[overlay]`.
pub fn compile_overlay(file: &PolicyFile, subjects: &[(String, u64)]) -> Result<Overlay, CompileError> {
    let mut compiler = Compiler { subjects, table: Table::default() };
    let place = compiler.open(file)?;
    let source = place.parse()?;
    let Some(sequence) = source.sequence.filter(|_| source.overlay.is_none()) else {
        return Err(place.error(0, "an overlay has a `sequence`, and no `[overlay]`", None));
    };
    compiler.lines(&place, &source)?;
    let table = compiler.finish(std::slice::from_ref(file))?;
    Ok(Overlay { sequence, table })
}

/// A file that is being read.
struct Place<'a> {
    file: &'a PolicyFile,
    number: u16,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.file.text.as_bytes().get(..offset).unwrap_or(self.file.text.as_bytes());
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn error(&self, offset: usize, message: impl ToString, suggestion: Option<&str>) -> CompileError {
        CompileError {
            file: self.file.name.clone(),
            line: self.line(offset),
            message: message.to_string(),
            suggestion: suggestion.map(str::to_string),
        }
    }

    fn parse(&self) -> Result<Source, CompileError> {
        toml::from_str(&self.file.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.error(offset, error.message(), None)
        })
    }
}

struct Compiler<'a> {
    subjects: &'a [(String, u64)],
    table: Table,
}

impl Compiler<'_> {
    fn open<'f>(&mut self, file: &'f PolicyFile) -> Result<Place<'f>, CompileError> {
        let place = Place { file, number: self.table.files.len() as u16 };
        self.table.files.push(file.name.clone());
        Ok(place)
    }

    fn overlay_key(&mut self, place: &Place<'_>, overlay: &SourceOverlay) -> Result<(), CompileError> {
        let (text, offset) = (overlay.public_key.get_ref(), overlay.public_key.span().start);
        let key = key_of_hex(text)
            .ok_or_else(|| place.error(offset, "the public key is not 64 hexadecimal digits", None))?;
        match self.table.overlay_key.replace(key) {
            Some(_) => Err(place.error(offset, "a second public key for overlays", None)),
            None => Ok(()),
        }
    }

    fn lines(&mut self, place: &Place<'_>, source: &Source) -> Result<(), CompileError> {
        let all = [(true, &source.allow), (false, &source.deny)];
        for (allows, subjects) in all {
            for (name, lines) in subjects {
                let subject = self.subject(place, name)?;
                for line in lines {
                    let rule = self.rule(place, subject, allows, line)?;
                    self.add(place, line.span().start, rule)?;
                }
            }
        }
        Ok(())
    }

    /// The place of a subject among those of the whole recipe; made small at the end.
    fn subject(&self, place: &Place<'_>, name: &Spanned<String>) -> Result<u16, CompileError> {
        let word = name.get_ref();
        match self.subjects.iter().position(|(known, _)| known == word) {
            Some(found) => Ok(found as u16),
            None => {
                let near = nearest(word, self.subjects.iter().map(|(known, _)| known.as_str()));
                Err(place.error(name.span().start, format!("unknown subject `{word}`"), near))
            }
        }
    }

    fn rule(
        &self,
        place: &Place<'_>,
        subject: u16,
        allows: bool,
        line: &Spanned<String>,
    ) -> Result<Rule, CompileError> {
        let offset = line.span().start;
        let mut words: Vec<&str> = line.get_ref().split_ascii_whitespace().collect();
        let rate = match words.last().and_then(|word| word.strip_suffix("/s")) {
            Some(number) => {
                words.pop();
                let rate = number.parse().ok().filter(|rate| (1..=RATE_MAX).contains(rate) && allows);
                let message = format!("`{number}/s` is no bound: 1 to {RATE_MAX}, of what is allowed");
                rate.ok_or_else(|| place.error(offset, message, None))?
            }
            None => 0,
        };
        let (word, resource) = match words[..] {
            [word] => (word, ""),
            [word, resource] if is_resource(resource) => (word, resource),
            [_, resource] => {
                let message = format!(
                    "`{resource}` is no resource: 1 to {RESOURCE_BYTES_MAX} visible bytes, no part of it empty, `.` or `..`"
                );
                return Err(place.error(offset, message, None));
            }
            _ => return Err(place.error(offset, "a line is `ACTION [RESOURCE] [RATE/s]`", None)),
        };
        let action = Action::from_name(word).ok_or_else(|| {
            let near = nearest(word, Action::ALL.iter().map(|action| action.name()));
            place.error(offset, format!("unknown action `{word}`"), near)
        })?;
        let line = place.line(offset) as u16;
        Ok(Rule { subject, action, resource: resource.to_string(), allows, rate, file: place.number, line })
    }

    /// Adds a line unless one that is there already is about some of the same.
    fn add(&mut self, place: &Place<'_>, offset: usize, rule: Rule) -> Result<(), CompileError> {
        let about = |other: &&Rule| (other.subject, other.action) == (rule.subject, rule.action);
        let other =
            self.table.rules.iter().filter(about).find(|other| overlap(&other.resource, &rule.resource));
        let Some(other) = other else {
            self.table.rules.push(rule);
            return Ok(());
        };
        let verb = match (other.allows == rule.allows, other.resource == rule.resource) {
            (false, _) => "contradicts",
            (true, true) => "repeats",
            (true, false) => "overlaps with",
        };
        let name = self.subjects.get(usize::from(rule.subject)).map_or("", |(name, _)| name.as_str());
        let message = format!(
            "this line {verb} {}:{} ({name}, {})",
            self.table.file_of(other),
            other.line,
            rule.action
        );
        Err(place.error(offset, message, None))
    }

    /// Keeps the subjects that a line is about, by rising id, and puts the lines into their order.
    fn finish(mut self, files: &[PolicyFile]) -> Result<Table, CompileError> {
        let mut used: Vec<u16> = self.table.rules.iter().map(|rule| rule.subject).collect();
        let of = |place: &u16| self.subjects.get(usize::from(*place)).cloned().unwrap_or_default();
        used.sort_by_key(|place| of(place).1);
        used.dedup();
        self.table.subjects = used.iter().map(of).map(|(name, id)| Subject { id, name }).collect();
        for rule in &mut self.table.rules {
            rule.subject = used.iter().position(|place| *place == rule.subject).unwrap_or(0) as u16;
        }
        self.table.rules.sort();
        let name = files.last().map_or_else(String::new, |file| file.name.clone());
        let broken = |error: crate::TableError| CompileError {
            file: name,
            line: 1,
            message: error.to_string(),
            suggestion: None,
        };
        self.table.check().map_err(broken)?;
        Ok(self.table)
    }
}

/// The key in the text of a key's file: its first line that does not begin with `#`.
pub fn key_of_file(text: &str) -> Option<[u8; 32]> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    key_of_hex(lines.next()?)
}

/// The 32 bytes that 64 hexadecimal digits say.
fn key_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(key)
}
