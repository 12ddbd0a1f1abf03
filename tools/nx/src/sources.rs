//! The files of the repository that checks and pages read.

use crate::project::{Project, read_text};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Folders that hold nothing that is ours by hand.
const SKIPPED: [&str; 3] = ["target", "build", ".git"];

/// A file with its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Where it stands, relative to the root.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Every Rust file below these folders, in order.
pub fn rust_files(project: &Project, folders: &[&str]) -> Result<Vec<SourceFile>> {
    files(project, folders, "rs")
}

/// Every Markdown file of the repository, in order.
pub fn markdown_files(project: &Project) -> Result<Vec<SourceFile>> {
    files(project, &["."], "md")
}

fn files(project: &Project, folders: &[&str], extension: &str) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for folder in folders {
        let folder = project.path(folder);
        if folder.is_dir() {
            collect(&folder, extension, &mut found)?;
        }
    }
    let mut files = Vec::new();
    for path in found {
        let relative = path.strip_prefix(project.root()).unwrap_or(&path);
        let relative = relative.to_string_lossy().trim_start_matches("./").to_string();
        files.push(SourceFile { text: read_text(&path)?, path: relative });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    let unreadable = || format!("{} cannot be read", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(unreadable)?;
        let name = entry.file_name();
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            collect(&path, extension, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    Ok(())
}
