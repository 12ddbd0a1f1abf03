//! Every command that a document names exists.

use super::Document;
use crate::project::Project;
use anyhow::Result;
use std::collections::BTreeSet;

/// The commands that there are.
pub struct Doors {
    /// Recipes of the justfile.
    pub recipes: BTreeSet<String>,
    /// Targets of the Makefile.
    pub targets: BTreeSet<String>,
    /// Subcommands of `nx`, with those below them as `test os`.
    pub subcommands: BTreeSet<String>,
}

impl Doors {
    /// Reads the justfile and the Makefile; `nx` knows its own subcommands.
    pub fn of(project: &Project, nx: &clap::Command) -> Result<Self> {
        let mut subcommands = BTreeSet::new();
        for one in nx.get_subcommands() {
            subcommands.insert(one.get_name().to_string());
            let below = one.get_subcommands().map(|two| format!("{} {}", one.get_name(), two.get_name()));
            subcommands.extend(below);
        }
        Ok(Doors {
            recipes: names_before_colon(&project.read("justfile")?),
            targets: names_before_colon(&project.read("Makefile")?),
            subcommands,
        })
    }

    /// The command at the beginning of a text that does not exist.
    fn missing(&self, text: &str) -> Option<String> {
        let mut words = text.split_whitespace().filter(|word| !is_assignment(word));
        let door = words.next()?;
        let word = words.next().filter(|word| is_word(word))?;
        let known = match door {
            "just" => self.recipes.contains(word),
            "make" => self.targets.contains(word),
            "nx" | "scripts/nx" => {
                let groups = self.subcommands.iter().any(|name| name.starts_with(&format!("{word} ")));
                match words.next().filter(|next| groups && is_word(next)) {
                    Some(next) => self.subcommands.contains(&format!("{word} {next}")),
                    None => self.subcommands.contains(word),
                }
            }
            _ => true,
        };
        (!known).then(|| format!("{door} {word}"))
    }
}

pub(super) fn check(documents: &[Document], doors: &Doors) -> Vec<String> {
    let mut findings = Vec::new();
    for document in documents.iter().filter(|document| !document.is_draft()) {
        for code in document.code() {
            let text = code.text.trim_start_matches("$ ");
            if let Some(missing) = doors.missing(text) {
                findings.push(format!("{}:{}: there is no `{missing}`", document.path, code.line));
            }
        }
    }
    findings
}

/// `name:` or `name argument='x':` at the beginning of a line, as both files write it.
fn names_before_colon(text: &str) -> BTreeSet<String> {
    let heads = text.lines().filter(|line| !line.starts_with([' ', '\t', '#', '.']) && !line.contains(":="));
    heads
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(head, _)| head.split_whitespace().next())
        .map(|name| name.trim_start_matches('@').to_string())
        .collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::document;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn findings(text: &str) -> Vec<String> {
        let doors = Doors {
            recipes: set(&["test-os"]),
            targets: set(&["run"]),
            subcommands: set(&["build", "test", "test os"]),
        };
        check(&[document("README.md", text)], &doors)
    }

    #[test]
    fn commands_that_exist_may_be_named() {
        let text =
            "`just test-os`, `make run`, `nx build kernel`, `nx test os --smp 2`, `SMP=2 just test-os`";
        assert!(findings(text).is_empty());
    }

    #[test]
    fn test_reject_commands_that_do_not_exist() {
        let text = "`just fly`\n`make tea`\n```\n$ nx dance\n```\n`nx test flight`";
        let expected = [
            "README.md:1: there is no `just fly`",
            "README.md:2: there is no `make tea`",
            "README.md:4: there is no `nx dance`",
            "README.md:6: there is no `nx test`",
        ];
        assert_eq!(findings(text), expected);
    }

    #[test]
    fn plain_text_is_no_command() {
        assert!(
            findings("You just fly; `nx` and `just` and `make X` are doors. `make it so` aside.").len() == 1
        );
    }

    #[test]
    fn recipes_and_targets_are_read_from_the_lines_that_begin_them() {
        let names = names_before_colon(
            "nx := 'x'\n# c: d\ntest-os smp='1': build\n    echo a: b\n@quiet:\n.PHONY: a\n",
        );
        assert_eq!(names, set(&["test-os", "quiet"]));
    }
}
