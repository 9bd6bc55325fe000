//! What must not be left in a file: unfinished work, and a library's print.

use super::Finding;
use super::source::{Source, whole_words, without_tests};

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
const NOTES: [&str; 2] = ["FIXME", "XXX"];
const PRINTS: [&str; 4] = ["print", "println", "eprint", "eprintln"];

/// Findings in one file.
pub(super) fn check(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for offset in UNFINISHED.iter().flat_map(|name| calls(&source.code, name)) {
        findings.push(Finding::error(path, source.line_of(offset), "unfinished work does not belong in the tree"));
    }
    for (offset, _) in source.code.match_indices("#[ignore") {
        findings.push(Finding::error(
            path,
            source.line_of(offset),
            "a test is never ignored; it runs or it is not there",
        ));
    }
    for text in [&source.code, &source.comments] {
        for offset in NOTES.iter().flat_map(|note| whole_words(text, note)) {
            findings.push(Finding::error(path, source.line_of(offset), "do it now or write it where plans are kept"));
        }
    }
    if is_library(path) {
        let shipped = without_tests(&source.code);
        for offset in PRINTS.iter().flat_map(|name| calls(&shipped, name)) {
            findings.push(Finding::error(
                path,
                source.line_of(offset),
                "a library never prints; return what there is to say",
            ));
        }
    }
    findings
}

/// The offsets at which the macro `name` is called.
fn calls<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    whole_words(code, name).filter(move |&i| code[i + name.len()..].starts_with('!'))
}

/// Whether the file is part of a library: no binary's, no test's, no example's, no bench's, no build script.
fn is_library(path: &str) -> bool {
    let binary = path.starts_with("xtask/") || (path.starts_with("crates/galatea/src/") && !path.ends_with("/lib.rs"));
    let folders = ["tests", "examples", "benches", "bin"];
    let file = path.rsplit('/').next().unwrap_or_default();
    let named = file == "build.rs" || file == "tests.rs" || file.ends_with("_tests.rs");
    !binary && !named && !path.split('/').any(|part| folders.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<Option<usize>> {
        check(path, &Source::parse(text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_notes_in_comments_too() {
        for line in ["todo!()", "std::unimplemented!(\"x\")", "dbg!(x);", "#[ignore]", "#[ignore = \"slow\"]"] {
            assert_eq!(lines("crates/text/tests/a.rs", &format!("\n{line}\n")), [Some(2)], "{line}");
        }
        for note in NOTES {
            assert_eq!(lines("crates/text/tests/a.rs", &format!("// {note}: later\n")), [Some(1)]);
        }
    }

    #[test]
    fn words_that_only_look_alike_pass() {
        let text = "let todo = 1; // todo! in words\nlet s = \"dbg!(FIXME)\"; // XXXL\nfn print() {}\n";
        assert!(lines("crates/text/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_library_never_prints() {
        let text = "fn f() { eprintln!(\"x\") }\n#[cfg(test)]\nmod tests { fn g() { println!(\"x\") } }\n";
        assert_eq!(lines("crates/text/src/a.rs", text), [Some(1)]);
        assert_eq!(lines("crates/galatea/src/lib.rs", text), [Some(1)]);
        for path in [
            "crates/galatea/src/main.rs",
            "crates/galatea/src/commands/demo.rs",
            "xtask/src/main.rs",
            "benches/src/lib.rs",
            "kernels/tests/parity.rs",
            "kernels/src/ops/swiglu/tests.rs",
            "crates/random/examples/a.rs",
        ] {
            assert!(lines(path, text).is_empty(), "{path}");
        }
    }
}
