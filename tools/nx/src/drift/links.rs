//! Every relative link leads to a file.

use super::Document;
use crate::project::Project;
use std::path::Path;

pub(super) fn check(project: &Project, documents: &[Document]) -> Vec<String> {
    let mut findings = Vec::new();
    for document in documents {
        let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
        for (line, text) in document.prose() {
            for target in targets(text) {
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !project.root().join(folder).join(file).exists() {
                    findings.push(format!("{}:{line}: the link `{target}` leads nowhere", document.path));
                }
            }
        }
    }
    findings
}

/// Targets of the links in a line that are not addresses on a network.
fn targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    let ends = after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    ends.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::document;

    #[test]
    fn a_link_leads_from_its_own_folder() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("docs")).unwrap();
        std::fs::write(directory.path().join("docs/a.md"), "").unwrap();
        let project = Project::at(directory.path());
        let good =
            document("docs/b.md", "[a](a.md), [part](a.md#x), [here](#x), [out](https://example.org/a)");
        assert!(check(&project, &[good]).is_empty());
        let bad = document("README.md", "\n[a](a.md)");
        assert_eq!(check(&project, &[bad]), ["README.md:2: the link `a.md` leads nowhere"]);
    }

    #[test]
    fn code_blocks_hold_no_links() {
        let project = Project::at(Path::new("/nonexistent"));
        assert!(check(&project, &[document("a.md", "```\n[a](b)\n```\n")]).is_empty());
    }
}
