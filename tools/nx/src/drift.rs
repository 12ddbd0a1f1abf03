//! `nx drift`: what documents say against what is there.
//!
//! Each check yields findings, one line each with file and line. Documents about work that has not begun
//! (a task or RFC with the status Draft) may name markers and commands that do not exist yet.

mod commands;
mod links;
mod markers;
mod quotes;
mod status;

use crate::documents::{Arguments as PageArguments, Page, run as run_page};
use crate::project::Project;
use crate::sources::{SourceFile, markdown_files};
use anyhow::{Result, bail};

pub use commands::Doors;

/// Runs every check; an error lists every finding.
pub fn run(project: &Project, doors: &Doors) -> Result<()> {
    let documents: Vec<Document> = markdown_files(project)?.into_iter().map(Document::new).collect();
    let mut findings = stale_pages(project);
    findings.extend(markers::check(project, &documents)?);
    findings.extend(commands::check(&documents, doors));
    findings.extend(links::check(project, &documents));
    findings.extend(quotes::check(project, &documents));
    findings.extend(status::check(&documents));
    if !findings.is_empty() {
        bail!("{} findings\n  {}", findings.len(), findings.join("\n  "));
    }
    println!("drift: none; {} documents agree with the sources", documents.len());
    Ok(())
}

fn stale_pages(project: &Project) -> Vec<String> {
    let check = PageArguments { check: true };
    Page::ALL
        .iter()
        .filter_map(|page| run_page(project, *page, &check).err())
        .map(|e| format!("{e:#}"))
        .collect()
}

/// A Markdown file, taken apart as far as the checks need.
pub(crate) struct Document {
    path: String,
    text: String,
}

/// A piece of code in a document.
pub(crate) struct Code<'a> {
    line: usize,
    text: &'a str,
    /// Whether it stands in a block of its own.
    in_block: bool,
}

impl Document {
    fn new(file: SourceFile) -> Self {
        Document { path: file.path, text: file.text }
    }

    /// Whether it speaks of work that has not begun.
    fn is_draft(&self) -> bool {
        let is_plan = self.path.starts_with("tasks/") || self.path.starts_with("docs/rfcs/");
        is_plan && status::of(&self.text).is_none_or(|status| status.contains("Draft"))
    }

    /// Every code span and every line of a code block.
    fn code(&self) -> Vec<Code<'_>> {
        let mut code = Vec::new();
        let mut in_block = false;
        for (index, text) in self.text.lines().enumerate() {
            let line = index + 1;
            if text.trim_start().starts_with("```") {
                in_block = !in_block;
            } else if in_block {
                code.push(Code { line, text, in_block });
            } else {
                code.extend(text.split('`').skip(1).step_by(2).map(|text| Code { line, text, in_block }));
            }
        }
        code
    }

    /// Lines outside of code blocks, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut in_block = false;
        self.text.lines().enumerate().filter_map(move |(index, text)| {
            let fence = text.trim_start().starts_with("```");
            in_block ^= fence;
            (!in_block && !fence).then_some((index + 1, text))
        })
    }
}

#[cfg(test)]
pub(crate) fn document(path: &str, text: &str) -> Document {
    Document { path: path.to_string(), text: text.to_string() }
}
