//! `nx lint-figures`: how long files and functions are and how much is commented.
//!
//! The figures inform; nothing is judged by them. Two things are: `unsafe` without a reason, and a file of
//! more than [`LINES_MAX`] lines whose head does not say `Long because …`.

use crate::documents::undocumented_unsafe;
use crate::project::Project;
use crate::sources::{SourceFile, rust_files};
use anyhow::{Result, bail};

/// Lines of a file that gives no reason for being longer.
const LINES_MAX: usize = 500;
/// How that reason begins.
const REASON: &str = "Long because";

/// What is measured of a set of files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    file_lines: Vec<usize>,
    function_lines: Vec<usize>,
    comment_lines: usize,
    lines: usize,
}

impl Figures {
    fn of(files: &[SourceFile]) -> Self {
        let mut figures = Figures::default();
        for file in files {
            let lines: Vec<&str> = file.text.lines().collect();
            figures.file_lines.push(lines.len());
            figures.lines += lines.iter().filter(|line| !line.trim().is_empty()).count();
            figures.comment_lines += lines.iter().filter(|line| line.trim_start().starts_with("//")).count();
            figures.function_lines.extend(function_lengths(&lines));
        }
        figures.file_lines.sort_unstable();
        figures.function_lines.sort_unstable();
        figures
    }

    fn row(&self, name: &str) -> String {
        let at = |values: &[usize], percent: usize| {
            let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(0)
        };
        format!(
            "{name:<12} {:>5} {:>8} / {:<5} {:>8} / {:<5} {:>6} %",
            self.file_lines.len(),
            at(&self.file_lines, 50),
            at(&self.file_lines, 90),
            at(&self.function_lines, 50),
            at(&self.function_lines, 90),
            self.comment_lines * 100 / self.lines.max(1),
        )
    }
}

/// Prints the figures; an error lists what breaks one of the two rules.
pub fn run(project: &Project) -> Result<()> {
    println!("{:<12} {:>5} {:>16} {:>16} {:>8}", "", "files", "lines p50 / p90", "fn p50 / p90", "comment");
    let parts: [(&str, &[&str]); 4] = [
        ("kernel", &["source/kernel"]),
        ("userland", &["source/init", "source/libs", "source/drivers", "source/services", "source/apps"]),
        ("logic", &["userspace"]),
        ("tools", &["tools", "tests"]),
    ];
    let mut findings = Vec::new();
    for (name, folders) in parts {
        let files = rust_files(project, folders)?;
        if !files.is_empty() {
            println!("{}", Figures::of(&files).row(name));
        }
        findings.extend(files.iter().filter_map(too_long));
    }
    findings
        .extend(undocumented_unsafe(project)?.into_iter().map(|at| format!("{at}: unsafe without SAFETY")));
    if !findings.is_empty() {
        bail!("{}", findings.join("\n  "));
    }
    Ok(())
}

fn too_long(file: &SourceFile) -> Option<String> {
    let lines = file.text.lines().count();
    let head = file.text.lines().take_while(|line| line.starts_with("//!"));
    let excused = head.into_iter().any(|line| line.contains(REASON));
    let path = &file.path;
    (lines > LINES_MAX && !excused)
        .then(|| format!("{path}: {lines} lines, and its head gives no `{REASON} …`"))
}

/// Lines of each function, by the indentation that rustfmt gives its end.
fn function_lengths(lines: &[&str]) -> Vec<usize> {
    let mut lengths = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        if !begins_function(line) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let rest = &lines[start..];
        let opens = rest.iter().position(|line| line.ends_with(['{', '}', ';']));
        let Some(opens) = opens.filter(|&at| rest[at].ends_with('{')) else { continue };
        if let Some(length) = rest[opens..].iter().position(|line| *line == end) {
            lengths.push(opens + length + 1);
        }
    }
    lengths
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    words.find(|word| !modifiers.contains(word)) == Some("fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_head_to_end() {
        let text = "pub fn a() {\n    b();\n}\n\nimpl X {\n    fn c(\n        d: u8,\n    ) -> u8 {\n        d\n    }\n    fn e();\n}\n";
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(function_lengths(&lines), [3, 5]);
    }

    #[test]
    fn test_reject_a_long_file_without_a_reason() {
        let long =
            |head: &str| SourceFile { path: "a.rs".into(), text: format!("{head}\n{}", "x\n".repeat(500)) };
        assert!(too_long(&long("//! A.")).is_some());
        assert!(too_long(&long("//! A. Long because it is one table.")).is_none());
    }
}
