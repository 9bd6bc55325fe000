//! The rules that no compiler checks.
//!
//! Every rule is a function from texts to findings; this file alone touches the disk.

mod exhaustive;
mod layering;
mod links;
mod packages;
mod source;
mod unsafety;
mod words;

use crate::{Outcome, process};
use anyhow::{Context, Result};
use packages::Package;
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A file beyond this wants splitting.
const LONG: usize = 500;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warning,
    Error,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    path: String,
    /// Counted from 1; none where the whole file or its absence is meant.
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn error(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Self { level: Level::Error, path: path.to_owned(), line: line.into(), message: message.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        match self.line {
            Some(line) => write!(f, "{level}: {}:{line}: {}", self.path, self.message),
            None => write!(f, "{level}: {}: {}", self.path, self.message),
        }
    }
}

/// What the rules look at. Paths are relative to the root, with `/`.
#[derive(Default)]
struct Tree {
    paths: BTreeSet<String>,
    /// The Rust files.
    sources: BTreeMap<String, Source>,
    /// The Markdown files.
    pages: BTreeMap<String, String>,
    packages: Vec<Package>,
}

/// Checks the workspace in `root` and prints what it finds.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let tree = read(root)?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    let warnings = findings.len() - errors;
    let (files, pages) = (tree.sources.len(), tree.pages.len());
    println!("tidy: {errors} errors, {warnings} warnings in {files} Rust files and {pages} pages");
    Ok(if errors == 0 { Outcome::Passed } else { Outcome::Failed })
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = layering::check(&tree.packages);
    findings.extend(packages::check(&tree.packages, &tree.paths));
    findings.extend(unsafety::forbidden(&tree.sources));
    findings.extend(unsafety::listed(&tree.sources, &tree.pages));
    findings.extend(exhaustive::marked(&tree.sources));
    for (path, source) in &tree.sources {
        findings.extend(exhaustive::wildcards(path, source));
        findings.extend(unsafety::undocumented(path, source));
        findings.extend(words::check(path, source));
        findings.extend(long(path, source));
    }
    for (path, page) in &tree.pages {
        findings.extend(links::check(path, page, &tree.paths));
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

fn long(path: &str, source: &Source) -> Option<Finding> {
    let lines = source.lines();
    let message = format!("{lines} lines; a file of more than {LONG} wants splitting");
    (lines > LONG).then(|| Finding { level: Level::Warning, path: path.to_owned(), line: None, message })
}

fn read(root: &Path) -> Result<Tree> {
    let metadata = process::output(process::cargo(root, &["metadata", "--format-version", "1", "--no-deps"]))?;
    let mut tree = Tree { packages: packages::parse(&metadata)?, ..Tree::default() };
    for path in paths(root)? {
        // Only the kinds of file that some rule reads; git also lists what was deleted and not yet committed.
        let full = root.join(&path);
        if !full.is_file() {
            continue;
        }
        let text = || std::fs::read_to_string(&full).with_context(|| format!("could not read {path}"));
        if path.ends_with(".rs") {
            tree.sources.insert(path.clone(), Source::parse(&text()?));
        } else if path.ends_with(".md") {
            tree.pages.insert(path.clone(), text()?);
        }
        tree.paths.insert(path);
    }
    Ok(tree)
}

/// The files that git knows or would add, so that a new file is checked before it is committed; without git, all files
/// outside of hidden and target folders.
fn paths(root: &Path) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    if let Ok(output) = git.output()
        && output.status.success()
    {
        let list = String::from_utf8(output.stdout).context("git listed a path that is not UTF-8")?;
        return Ok(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect());
    }
    let mut found = Vec::new();
    walk(root, "", &mut found)?;
    Ok(found)
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(root.join(folder)).with_context(|| format!("could not list {folder}"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if !name.starts_with('.') && name != "target" {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_a_warning_and_a_short_one_is_nothing() {
        let finding = long("a.rs", &Source::parse(&"\n".repeat(LONG + 1))).expect("one line too many");
        assert_eq!(finding.to_string(), "warning: a.rs: 501 lines; a file of more than 500 wants splitting");
        assert_eq!(long("a.rs", &Source::parse(&"\n".repeat(LONG))), None);
    }

    #[test]
    fn a_finding_names_its_place() {
        assert_eq!(Finding::error("a.rs", 3, "why").to_string(), "error: a.rs:3: why");
        assert_eq!(Finding::error("a.rs", None, "why").to_string(), "error: a.rs: why");
    }

    #[test]
    fn the_walk_without_git_finds_this_file_and_no_hidden_folder() {
        let mut found = Vec::new();
        walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut found).expect("the package is readable");
        assert!(found.contains(&"src/tidy/mod.rs".to_owned()));
        assert!(found.iter().all(|path| !path.split('/').any(|part| part.starts_with('.'))));
    }
}
