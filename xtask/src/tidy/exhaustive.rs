//! The matches over the ops stay exhaustive, so that a new op lists every place that must know it.

use super::source::{closing, whole_words};
use super::{Finding, Source};
use std::collections::BTreeMap;

/// Stands on its own line above (or inside the function of) a match that must name every variant.
const MARKER: &str = "// exhaustive: no wildcard arm";

/// The files that hold such a match, as far as they exist.
const FILES: [&str; 8] = [
    "crates/autograd/src/vjp.rs",
    "crates/autograd/src/vjp/mod.rs",
    "kernels/src/cpu.rs",
    "kernels/src/cpu/mod.rs",
    "kernels/src/cuda/plan.rs",
    "kernels/src/cost.rs",
    "kernels/src/slots.rs",
    "kernels/src/shapes.rs",
];

/// The files of [`FILES`] without a marker.
pub(super) fn marked(sources: &BTreeMap<String, Source>) -> Vec<Finding> {
    let present = FILES.iter().filter_map(|path| sources.get_key_value(*path));
    let unmarked = present.filter(|(_, source)| markers(source).next().is_none());
    unmarked
        .map(|(path, _)| Finding::error(path, None, format!("its match over the ops wants `{MARKER}` above it")))
        .collect()
}

/// Arms that catch whatever is left, in the matches that follow a marker.
pub(super) fn wildcards(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for marker in markers(source) {
        let line = source.line_of(marker);
        let Some(start) = whole_words(&source.code[marker..], "match").next().map(|i| marker + i) else {
            findings.push(Finding::error(path, line, "no match follows this marker"));
            continue;
        };
        for (offset, pattern) in arms(&source.code, start) {
            if is_wildcard(pattern) {
                let message = format!("the arm `{}` hides variants; name them", pattern.trim());
                findings.push(Finding::error(path, source.line_of(offset), message));
            }
        }
    }
    findings
}

fn markers(source: &Source) -> impl Iterator<Item = usize> + '_ {
    let mut offset = 0;
    source.comments.split_inclusive('\n').filter_map(move |line| {
        let start = offset;
        offset += line.len();
        line.trim_start().starts_with(MARKER).then_some(start)
    })
}

/// The patterns of the match at `start`, guards included, each with the offset of its arrow.
fn arms(code: &str, start: usize) -> Vec<(usize, &str)> {
    let Some(open) = body(code, start) else { return Vec::new() };
    let end = closing(code, open);
    let bytes = code.as_bytes();
    let mut arms = Vec::new();
    let mut pattern = open + 1;
    let mut i = open + 1;
    while i + 1 < end {
        match bytes[i] {
            b'(' | b'[' | b'{' => {
                let block = bytes[i] == b'{';
                i = closing(code, i);
                // A block that follows the arrow ends the arm; one in a pattern (`Op::Add { .. }`) belongs to it.
                if block && !code[i..].trim_start().starts_with(['=', '|']) && !guarded(code, i, end) {
                    pattern = i;
                }
            }
            b',' => {
                i += 1;
                pattern = i;
            }
            b'=' if bytes[i + 1] == b'>' => {
                arms.push((i, &code[pattern..i]));
                i += 2;
                pattern = i;
            }
            _ => i += 1,
        }
    }
    arms
}

/// Whether an arm's guard (`if`) follows at `i`.
fn guarded(code: &str, i: usize, end: usize) -> bool {
    whole_words(&code[i..end], "if").next() == Some(code[i..end].len() - code[i..end].trim_start().len())
}

/// The brace that opens the arms: the first one outside of brackets after the keyword.
fn body(code: &str, start: usize) -> Option<usize> {
    let mut i = start;
    while i < code.len() {
        match code.as_bytes()[i] {
            b'{' => return Some(i),
            b'(' | b'[' => i = closing(code, i),
            _ => i += 1,
        }
    }
    None
}

/// A pattern that matches everything: `_`, `(_, _)`, `..`, or a mere name. With a guard it hides nothing.
fn is_wildcard(pattern: &str) -> bool {
    if whole_words(pattern, "if").next().is_some() {
        return false;
    }
    pattern.split('|').any(|alternative| {
        let alternative = alternative.rsplit('@').next().unwrap_or_default();
        let parts = alternative.split(|c: char| "(), \n&".contains(c)).filter(|part| !part.is_empty());
        let mut parts = parts.filter(|part| !matches!(*part, "ref" | "mut" | "_" | "..")).peekable();
        !alternative.trim().is_empty() && parts.all(is_binding)
    })
}

fn is_binding(part: &str) -> bool {
    let name = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    name && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !matches!(part, "true" | "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<usize> {
        let text = format!("fn f(op: &Op) {{\n    {MARKER}\n    match op {{\n{body}\n    }}\n}}\n");
        wildcards("a.rs", &Source::parse(&text)).into_iter().filter_map(|finding| finding.line).collect()
    }

    #[test]
    fn a_match_that_names_every_variant_passes() {
        let arms = [
            "Op::Add { n, .. } => add(n),",
            "Op::Mul(_) => match n { 0 => a(), _ => b() },",
            "Op::Fill { .. } | Op::Copy => { let x = |_| 1; x(0) }",
            "Op::Neg | Op::Exp { n } if n > 0 => {}",
            "Op::Norm { eps } if eps > 0.0 => vec![_a, _b],",
            "NONE => if a { b } else { c },",
            "Op::Pair(left, _) => g::<A, B>(left),",
        ];
        assert_eq!(found(&arms.join("\n")), Vec::<usize>::new());
    }

    #[test]
    fn every_spelling_of_a_wildcard_is_found() {
        for arm in
            ["_ => {}", "other => f(other),", "_ | Op::Mul => {}", "ref all => {}", "(_, _) => {}", "x @ _ => {}"]
        {
            assert_eq!(found(&format!("Op::Add {{ .. }} => {{}}\n{arm}")), vec![5], "{arm}");
            assert_eq!(found(&format!("Op::Add => g::<A, B>(),\n{arm}")), vec![5], "{arm}");
            assert_eq!(found(&format!("Op::Add => if a {{ b }} else {{ c }}\n{arm}")), vec![5], "{arm}");
        }
    }

    #[test]
    fn a_guarded_arm_hides_nothing() {
        assert_eq!(found("_ if early => return,\nOp::Add => {}"), Vec::<usize>::new());
    }

    #[test]
    fn an_unmarked_match_is_free_and_a_marker_in_a_string_is_no_marker() {
        let text = format!("fn f() {{ let s = \"\n{MARKER}\n\"; match s {{ _ => 1 }} }}");
        assert_eq!(wildcards("a.rs", &Source::parse(&text)), Vec::new());
    }

    #[test]
    fn a_marker_without_a_match_is_an_error() {
        assert_eq!(wildcards("a.rs", &Source::parse(&format!("{MARKER}\nfn f() {{}}\n"))).len(), 1);
    }

    #[test]
    fn a_file_of_the_table_must_carry_the_marker() {
        let bare = Source::parse("fn cost(op: &Op) {}");
        let marked_source = Source::parse(&format!("{MARKER}\nmatch op {{}}"));
        let sources = BTreeMap::from([("kernels/src/cost.rs".to_owned(), bare.clone()), ("other.rs".to_owned(), bare)]);
        assert_eq!(marked(&sources).len(), 1);
        assert_eq!(marked(&BTreeMap::from([("kernels/src/cost.rs".to_owned(), marked_source)])), Vec::new());
    }
}
