//! Links between the repository's pages lead somewhere.

use super::Finding;
use std::collections::BTreeSet;

/// Links of a Markdown page to files that are not there.
pub(super) fn check(path: &str, page: &str, paths: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in targets(page) {
        let file = target.split(['#', '?']).next().unwrap_or_default();
        if file.is_empty() || is_foreign(&target) {
            continue;
        }
        let found = resolve(path, file).is_some_and(|to| {
            let folder = format!("{to}/");
            to.is_empty() || paths.contains(&to) || paths.iter().any(|path| path.starts_with(&folder))
        });
        if !found {
            findings.push(Finding::error(
                path,
                line,
                format!("the link `{target}` leads to no file of the repository"),
            ));
        }
    }
    findings
}

/// Another scheme, or a Rust path, which rustdoc resolves where the page is a crate's documentation.
fn is_foreign(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:") || target.contains("::")
}

/// The link's file seen from the root; none where it leaves the repository.
fn resolve(page: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !file.starts_with('/') {
        parts.extend(page.split('/'));
        parts.pop();
    }
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The targets of `[text](target)` and `[label]: target` outside of code, each with its line from 1.
fn targets(page: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    let mut fence: Option<&str> = None;
    for (i, line) in page.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark)) {
            match fence {
                None => fence = Some(mark),
                Some(open) if open == mark => fence = None,
                Some(_) => {}
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        let prose = without_code(line);
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            targets.extend(rest.find(')').map(|end| (i + 1, first_word(&rest[..end]))));
        }
        if trimmed.starts_with('[')
            && !trimmed.starts_with("[^")
            && let Some((_, target)) = prose.split_once("]: ")
        {
            targets.push((i + 1, first_word(target)));
        }
    }
    targets
}

/// The target without its title and angle brackets.
fn first_word(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// The line without its inline code: every other piece between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, page: &str) -> usize {
        let paths = ["README.md", "docs/notation.md", "docs/derivations/bayes.md", "kernels/src/op.rs"];
        check(path, page, &paths.map(str::to_owned).into()).len()
    }

    #[test]
    fn links_to_files_and_folders_resolve_from_their_page() {
        for page in [
            "[n](docs/notation.md)",
            "[n](./docs/notation.md#names \"title\")",
            "[`op`](<kernels/src/op.rs>)",
            "[d](docs/) and [e](docs/derivations)",
            "[n]: docs/notation.md",
            "[here](#below) and [root](/README.md)",
        ] {
            assert_eq!(broken("README.md", page), 0, "{page}");
        }
        assert_eq!(broken("docs/notation.md", "[up](../README.md), [down](derivations/bayes.md)"), 0);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for page in ["[n](notation.md)", "[n](docs/notation)", "[n]: docs/none.md", "[out](../../shared/x.md)"] {
            assert_eq!(broken("README.md", page), 1, "{page}");
        }
        assert_eq!(broken("docs/notation.md", "[a](README.md) [b](bayes.md)"), 2);
    }

    #[test]
    fn other_sites_rust_paths_and_code_are_left_alone() {
        let page = "[a](https://example.org/x.md) [b](mailto:a@b.c) [c](crate::Philox) `[d](none.md)`\n```\n[e](none.md)\n```\n[^1]: words";
        assert_eq!(broken("README.md", page), 0);
    }
}
