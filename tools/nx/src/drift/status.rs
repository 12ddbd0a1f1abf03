//! Every task and RFC has a legal status, and the index lists every RFC.

use super::Document;

/// What a status may say.
const LEGAL: [&str; 4] = ["Draft", "In progress", "In review", "Done"];
const INDEX: &str = "docs/rfcs/README.md";

pub(super) fn check(documents: &[Document]) -> Vec<String> {
    let mut findings = Vec::new();
    let index = documents.iter().find(|document| document.path == INDEX).map(|index| index.text.as_str());
    for document in documents {
        let Some(name) = plan_name(&document.path) else { continue };
        match of(&document.text) {
            None => findings.push(format!("{}: it has no status", document.path)),
            Some(status) => findings.extend(illegal(status).map(|part| {
                format!("{}: status `{part}`; it must be one of {}", document.path, LEGAL.join(", "))
            })),
        }
        if document.path.starts_with("docs/rfcs/") && !index.is_some_and(|text| text.contains(name)) {
            findings.push(format!("{INDEX}: {name} is not listed"));
        }
    }
    findings
}

/// The file name of a task or RFC that is no template.
fn plan_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix("docs/rfcs/").or_else(|| path.strip_prefix("tasks/"))?;
    let number = name.strip_prefix("RFC-").or_else(|| name.strip_prefix("TASK-"))?;
    number.starts_with(|c: char| c.is_ascii_digit()).then_some(name)
}

/// The status that a document gives itself, in its front matter or in its first table.
pub(super) fn of(text: &str) -> Option<&str> {
    text.lines().take(20).find_map(|line| {
        let table = line.strip_prefix("| Status |").map(|rest| rest.trim_end().trim_end_matches('|'));
        table.or_else(|| line.strip_prefix("status:")).map(str::trim)
    })
}

/// Parts of a status, one a phase, that end in no legal word.
fn illegal(status: &str) -> impl Iterator<Item = &str> {
    status.split('·').map(str::trim).filter(|part| {
        let word = part.rsplit(':').next().unwrap_or(part).trim();
        !LEGAL.contains(&word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::document;

    fn with_index(other: Document) -> Vec<String> {
        check(&[document(INDEX, "| [0001](RFC-0001-a.md) | a |"), other])
    }

    #[test]
    fn a_status_is_by_phase_or_as_a_whole() {
        let rfc = "# A\n\n| | |\n| --- | --- |\n| Status | phase 1 (x): Done · phase 2: Draft |\n";
        assert!(with_index(document("docs/rfcs/RFC-0001-a.md", rfc)).is_empty());
        assert!(
            with_index(document("tasks/TASK-0001-a.md", "---\ntitle: a\nstatus: In progress\n---\n"))
                .is_empty()
        );
    }

    #[test]
    fn test_reject_a_status_that_is_none_of_the_words() {
        let found = with_index(document("tasks/TASK-0001-a.md", "---\nstatus: nearly\n---\n"));
        assert_eq!(
            found,
            ["tasks/TASK-0001-a.md: status `nearly`; it must be one of Draft, In progress, In review, Done"]
        );
        assert_eq!(
            with_index(document("tasks/TASK-0001-a.md", "# A\n")),
            ["tasks/TASK-0001-a.md: it has no status"]
        );
    }

    #[test]
    fn test_reject_an_rfc_that_the_index_does_not_list() {
        let found = with_index(document("docs/rfcs/RFC-0002-b.md", "| Status | Done |\n"));
        assert_eq!(found, ["docs/rfcs/README.md: RFC-0002-b.md is not listed"]);
    }

    #[test]
    fn templates_have_no_status() {
        assert!(with_index(document("tasks/TASK-TEMPLATE.md", "# A\n")).is_empty());
    }
}
