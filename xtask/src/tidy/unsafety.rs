//! Unsafe code is rare, explained where it stands, and listed.

use super::Finding;
use super::source::{Source, without_attributes};
use std::collections::BTreeMap;

/// The packages that forbid it.
const SAFE: [&str; 11] = [
    "crates/random",
    "crates/schedules",
    "crates/processes",
    "crates/samplers",
    "crates/autograd",
    "crates/models",
    "crates/train",
    "crates/text",
    "crates/galatea",
    "crates/fixtures",
    "crates/testkit",
];

/// The packages that may use it, whose README lists every file that does.
const UNSAFE: [&str; 2] = ["kernels", "crates/tensor"];

/// Crate roots of the safe packages without `#![forbid(unsafe_code)]`.
pub(super) fn forbidden(sources: &BTreeMap<String, Source>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in SAFE {
        for root in ["lib", "main"].map(|name| format!("{folder}/src/{name}.rs")) {
            if sources.get(&root).is_some_and(|source| !source.code.contains("#![forbid(unsafe_code)]")) {
                findings.push(Finding::error(&root, None, "this crate wants `#![forbid(unsafe_code)]`"));
            }
        }
    }
    findings
}

/// Files with unsafe code that their package's README does not list.
pub(super) fn listed(sources: &BTreeMap<String, Source>, pages: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in UNSAFE {
        let readme = format!("{folder}/README.md");
        let list = pages.get(&readme).map_or("", String::as_str);
        for (path, source) in sources {
            let Some(short) = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/')) else { continue };
            if !list.contains(short)
                && let Some(first) = source.words("unsafe").next()
            {
                let message = format!("has unsafe code, and {readme} does not list `{short}`");
                findings.push(Finding::error(path, source.line_of(first), message));
            }
        }
    }
    findings
}

/// Unsafe code without the reason why it is sound directly above it.
pub(super) fn undocumented(path: &str, source: &Source) -> Vec<Finding> {
    let code = without_attributes(&source.code);
    let lines = Lines { code: code.lines().collect(), comments: source.comments.lines().collect() };
    let mut findings = Vec::new();
    for offset in source.words("unsafe") {
        let Some(kind) = Kind::of(&source.code[offset + "unsafe".len()..]) else { continue };
        let line = source.line_of(offset);
        let comment = lines.comment_above(line);
        let explained = match kind {
            Kind::Block => comment.contains("SAFETY:"),
            Kind::Contract => comment.contains("SAFETY:") || comment.contains("# Safety"),
        };
        if !explained {
            let message = match kind {
                Kind::Block => "unsafe without `// SAFETY:` directly above: the invariant, and who establishes it",
                Kind::Contract => "unsafe without `# Safety` in its doc: what the caller must guarantee",
            };
            findings.push(Finding::error(path, line, message));
        }
    }
    findings
}

/// What follows the keyword.
enum Kind {
    /// A block, an implementation or a foreign block: we claim something.
    Block,
    /// A function or a trait: we ask for something.
    Contract,
}

impl Kind {
    /// None where nothing is claimed or asked: an attribute (`unsafe(no_mangle)`) or the type of a function.
    fn of(rest: &str) -> Option<Self> {
        let rest = rest.trim_start();
        if rest.starts_with('{') || starts_with_word(rest, "impl") {
            return Some(Self::Block);
        }
        if starts_with_word(rest, "trait") {
            return Some(Self::Contract);
        }
        let foreign = starts_with_word(rest, "extern");
        let rest = if foreign { rest["extern".len()..].trim_start() } else { rest };
        // The name of the calling convention, blank inside its quotes.
        let rest = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')).map_or(rest, |(_, rest)| rest);
        let rest = rest.trim_start();
        if foreign && rest.starts_with('{') {
            return Some(Self::Block);
        }
        let name = rest.strip_prefix("fn")?;
        (name.starts_with(char::is_whitespace)).then_some(Self::Contract)
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

struct Lines<'a> {
    /// Without attributes.
    code: Vec<&'a str>,
    comments: Vec<&'a str>,
}

impl Lines<'_> {
    /// The comment that belongs to the statement or item of which `line` (from 1) is a part: the one directly above the
    /// line, or above the line where the statement begins.
    fn comment_above(&self, line: usize) -> String {
        let mut comment = String::new();
        for i in (0..line - 1).rev() {
            let (code, words) = (self.code[i].trim(), self.comments[i].trim());
            // An earlier statement, an opening brace or an earlier argument: what stands above it is not ours.
            if code.ends_with([';', '{', '}', ',']) {
                break;
            }
            comment = format!("{words}\n{comment}");
        }
        comment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Option<usize>> {
        undocumented("a.rs", &Source::parse(text)).into_iter().map(|finding| finding.line).collect()
    }

    fn one(path: &str, text: &str) -> BTreeMap<String, Source> {
        BTreeMap::from([(path.to_owned(), Source::parse(text))])
    }

    #[test]
    fn a_reason_directly_above_is_enough() {
        for text in [
            "// SAFETY: the caller checked n.\nunsafe { f() }",
            "// SAFETY: a reason\n// of two lines.\n#[allow(\n    a,\n    b\n)]\nlet x = unsafe { f() };",
            "// SAFETY: above the statement.\nlet x =\n    unsafe { f() };",
            "// SAFETY: no interior pointers.\nunsafe impl Send for A {}",
            "/// Reads.\n///\n/// # Safety\n/// `p` is valid.\n#[inline]\npub unsafe fn f(p: *const u8) {}",
            "/// # Safety\n/// The CPU has AVX2.\n#[target_feature(enable = \"avx2\")]\nunsafe extern \"C\" fn f() {}",
            "// SAFETY: libc.\nunsafe extern \"C\" { fn getpid() -> i32; }",
            "/// # Safety\n/// Zero is a value.\npub unsafe trait Zero {}",
        ] {
            assert!(lines(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn unsafe_without_its_own_reason_is_found() {
        for (text, line) in [
            ("unsafe { f() }", 1),
            ("// The caller checked n.\nunsafe { f() }", 2),
            ("// SAFETY: a.\nunsafe impl Send for A {}\nunsafe impl Sync for A {}", 3),
            ("// SAFETY: a.\nlet x = unsafe { f() };\nlet y = unsafe { g() };", 3),
            ("match a {\n    // SAFETY: a.\n    A => unsafe { f() },\n    B => unsafe { g() },\n}", 4),
            ("/// Reads.\npub unsafe fn f(p: *const u8) {}", 2),
            ("fn f() {\n    // SAFETY: of another block.\n    {\n        unsafe { g() }\n    }\n}", 4),
        ] {
            assert_eq!(lines(text), [Some(line)], "{text}");
        }
    }

    #[test]
    fn types_attributes_names_and_strings_are_not_unsafe_code() {
        for text in [
            "type F = unsafe extern \"C\" fn(u32) -> u32;",
            "struct A { f: unsafe fn(u32) }",
            "#[unsafe(no_mangle)]\nfn f() {}",
            "#![forbid(unsafe_code)]",
            "let s = \"unsafe { f() }\"; // unsafe { f() }",
        ] {
            assert!(lines(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_safe_crates_forbid_it() {
        assert_eq!(forbidden(&one("crates/text/src/lib.rs", "// #![forbid(unsafe_code)]\n")).len(), 1);
        assert_eq!(forbidden(&one("crates/galatea/src/main.rs", "fn main() {}\n")).len(), 1);
        assert!(forbidden(&one("crates/text/src/lib.rs", "//! Text.\n#![forbid(unsafe_code)]\n")).is_empty());
        assert!(forbidden(&one("kernels/src/lib.rs", "")).is_empty());
    }

    #[test]
    fn a_file_with_unsafe_code_is_in_the_readme() {
        let sources = one("kernels/src/cpu/gemm.rs", "unsafe { f() }");
        let page = |text: &str| BTreeMap::from([("kernels/README.md".to_owned(), text.to_owned())]);
        assert!(listed(&sources, &page("| `src/cpu/gemm.rs` | SIMD |")).is_empty());
        assert_eq!(listed(&sources, &page("| `src/cpu.rs` | SIMD |")).len(), 1);
        assert_eq!(listed(&sources, &BTreeMap::new()).len(), 1);
        assert!(listed(&one("kernels/src/op.rs", "fn f() {}"), &BTreeMap::new()).is_empty());
    }
}
