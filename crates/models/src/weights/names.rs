//! Parameters that are several tensors of a file: q, k and v of one product, say.

use std::fmt::Write;

/// The path of a parameter whose rows are those of the tensors `prefix` + name + `suffix`, one after another; parts are (name,
/// rows). It is written `prefix{name:rows,name:rows}suffix`, or as it is for a single part.
pub(crate) fn stacked(prefix: &str, parts: &[(&str, usize)], suffix: &str) -> String {
    if let [(name, _)] = parts {
        return format!("{prefix}{name}{suffix}");
    }
    let mut path = format!("{prefix}{{");
    for (k, (name, rows)) in parts.iter().enumerate() {
        let comma = if k > 0 { "," } else { "" };
        write!(path, "{comma}{name}:{rows}").expect("a string takes all");
    }
    path.push('}');
    path.push_str(suffix);
    path
}

/// The tensors of a file that make up the parameter at `path` with these extents, in the order of its rows: names and extents.
/// Nearly every parameter is one tensor under its own name.
pub fn tensors_of(path: &str, dims: &[usize]) -> Vec<(String, Vec<usize>)> {
    parts(path, dims).unwrap_or_else(|| vec![(path.to_owned(), dims.to_vec())])
}

fn parts(path: &str, dims: &[usize]) -> Option<Vec<(String, Vec<usize>)>> {
    let (prefix, rest) = path.split_once('{')?;
    let (inner, suffix) = rest.split_once('}')?;
    let part = |part: &str| {
        let (name, rows) = part.split_once(':')?;
        let mut dims = dims.to_vec();
        *dims.first_mut()? = rows.parse().ok()?;
        Some((format!("{prefix}{name}{suffix}"), dims))
    };
    let parts: Vec<_> = inner.split(',').map(part).collect::<Option<_>>()?;
    (parts.iter().map(|(_, dims)| dims[0]).sum::<usize>() == dims[0]).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_comes_apart_into_what_it_was_made_of() {
        let parts = [("q_proj", 32), ("k_proj", 16), ("v_proj", 16)];
        let path = stacked("blocks.0.", &parts, ".weight");
        assert_eq!(path, "blocks.0.{q_proj:32,k_proj:16,v_proj:16}.weight");
        let expected = parts.map(|(name, rows)| (format!("blocks.0.{name}.weight"), vec![rows, 8]));
        assert_eq!(tensors_of(&path, &[64, 8]), expected);
        assert_eq!(tensors_of(&stacked("a.", &parts, ".bias"), &[64])[1], ("a.k_proj.bias".to_owned(), vec![16]));
    }

    #[test]
    fn what_is_no_stack_is_itself() {
        for path in ["norm.weight", "a{b", "a{b}c", "{q:3,k:x}w", "{q:3,k:3}w"] {
            assert_eq!(tensors_of(path, &[7, 2]), [(path.to_owned(), vec![7, 2])]);
        }
        assert_eq!(stacked("a.", &[("b", 3)], ".weight"), "a.b.weight");
    }
}
