//! A code block below `<!-- quoted from PATH -->` stands in that file, word for word.

use super::Document;
use crate::project::Project;

const BEFORE: &str = "<!-- quoted from ";
const AFTER: &str = " -->";

pub(super) fn check(project: &Project, documents: &[Document]) -> Vec<String> {
    let mut findings = Vec::new();
    for document in documents {
        for quote in quotes(&document.text) {
            let (line, path) = (quote.line, quote.path);
            let complaint = match (quote.code, project.read(path)) {
                (None, _) => "no code block follows the quotation's source".to_string(),
                (_, Err(_)) => format!("`{path}`, of which it quotes, cannot be read"),
                (Some(code), Ok(text)) if !text.contains(&code) => format!("this does not stand in `{path}`"),
                _ => continue,
            };
            findings.push(format!("{}:{line}: {complaint}", document.path));
        }
    }
    findings
}

struct Quote<'a> {
    line: usize,
    path: &'a str,
    /// The code block's lines; `None` when there is no block.
    code: Option<String>,
}

fn quotes(text: &str) -> Vec<Quote<'_>> {
    let mut lines = text.lines().enumerate().peekable();
    let mut found = Vec::new();
    while let Some((index, line)) = lines.next() {
        let Some(path) = line.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)) else {
            continue;
        };
        let code = lines.next_if(|(_, line)| line.starts_with("```")).map(|_| {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```"));
            block.map(|line| format!("{line}\n")).collect()
        });
        found.push(Quote { line: index + 1, path, code });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::document;

    fn findings(text: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.rs"), "fn one() {\n    two();\n}\nfn three() {}\n").unwrap();
        check(&Project::at(directory.path()), &[document("page.md", text)])
    }

    #[test]
    fn words_of_the_file_are_a_quotation_and_other_blocks_are_none() {
        let page = "<!-- quoted from a.rs -->\n```rust\n    two();\n}\n```\n\n```rust\nfree();\n```\n";
        assert!(findings(page).is_empty());
    }

    #[test]
    fn test_reject_a_quotation_that_differs() {
        let page = "text\n<!-- quoted from a.rs -->\n```rust\ntwo();\nthree();\n```\n";
        assert_eq!(findings(page), ["page.md:2: this does not stand in `a.rs`"]);
    }

    #[test]
    fn test_reject_a_quotation_of_nothing_or_of_no_file() {
        assert_eq!(
            findings("<!-- quoted from a.rs -->\n\n```\nfn three() {}\n```\n"),
            ["page.md:1: no code block follows the quotation's source"]
        );
        assert_eq!(
            findings("<!-- quoted from b.rs -->\n```\nx\n```\n"),
            ["page.md:1: `b.rs`, of which it quotes, cannot be read"]
        );
    }
}
