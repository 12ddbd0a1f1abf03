//! Every marker that a document names is in the ladder, and its author prints it.

use super::{Code, Document};
use crate::ladder::{LADDER_FILE, Ladder};
use crate::project::Project;
use anyhow::Result;

/// How a text in a document begins that can only be a marker.
const BEGINNINGS: [&str; 4] = ["SELFTEST: ", "KSELFTEST: ", "KINIT: ", "init: "];
/// How a text of one line can end that is a marker.
const ENDINGS: [&str; 1] = [": ready"];
/// What stands in a text that speaks of several markers at once.
const PLACEHOLDERS: [char; 4] = ['…', '<', '{', '*'];

pub(super) fn check(project: &Project, documents: &[Document]) -> Result<Vec<String>> {
    let ladder = Ladder::parse(&project.read(LADDER_FILE)?)?;
    Ok(documents
        .iter()
        .filter(|document| !document.is_draft())
        .flat_map(|one| unknown(&ladder, one))
        .collect())
}

fn unknown(ladder: &Ladder, document: &Document) -> Vec<String> {
    let is_unknown = |code: &Code<'_>| {
        is_marker(code.text) && !ladder.markers.iter().any(|marker| marker.matches(code.text))
    };
    let finding = |code: Code<'_>| {
        format!("{}:{}: marker `{}` is not in {LADDER_FILE}", document.path, code.line, code.text)
    };
    document.code().into_iter().filter(|code| !code.in_block).filter(is_unknown).map(finding).collect()
}

fn is_marker(text: &str) -> bool {
    let shaped = BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || ENDINGS.iter().any(|ending| text.ends_with(ending) && text.len() > ending.len());
    // `init: …` and text that leaves something open name no single marker.
    shaped && !text.contains(PLACEHOLDERS) && !text.contains("expect ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::document;
    use crate::ladder::tests::SMALL;

    fn findings(text: &str) -> Vec<String> {
        unknown(&Ladder::parse(SMALL).unwrap(), &document("docs/x.md", text))
    }

    #[test]
    fn a_marker_of_the_ladder_may_be_named() {
        assert!(findings("It prints `pong: ready` and `SELFTEST: end`.").is_empty());
    }

    #[test]
    fn test_reject_a_marker_that_is_not_in_the_ladder() {
        let expected = format!("docs/x.md:2: marker `SELFTEST: ipc ok` is not in {LADDER_FILE}");
        assert_eq!(findings("First.\nThen `SELFTEST: ipc ok`.\n"), [expected]);
    }

    #[test]
    fn text_that_stands_for_several_markers_is_none() {
        assert!(findings("`SELFTEST: … ok`, `init: start <svc>`, `KINIT: cpu{N} online`").is_empty());
    }
}
