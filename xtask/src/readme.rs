//! The commands that README.md promises, read from README.md, so that what is tested is what is printed there.

use anyhow::{Context, Result};
use std::path::Path;

/// The first command of README.md's `sh` blocks that starts with `start`.
pub(crate) fn command(root: &Path, start: &str) -> Result<String> {
    let path = root.join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    find(&text, start)
        .with_context(|| format!("README.md promises no `{start}`: expected it as a line of a fenced ```sh block"))
}

fn find(markdown: &str, start: &str) -> Option<String> {
    commands(markdown).into_iter().find(|command| command.starts_with(start))
}

/// Every command line of the fenced `sh` blocks, without comments, with continued lines joined.
fn commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fence: Option<bool> = None;
    let mut pending = String::new();
    for line in markdown.lines() {
        let line = line.trim();
        if let Some(info) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(info.trim() == "sh") };
            continue;
        }
        if fence != Some(true) {
            continue;
        }
        let code = line.split_once(" #").map_or(line, |(code, _comment)| code).trim_end();
        if let Some(continued) = code.strip_suffix('\\') {
            pending.push_str(continued.trim());
            pending.push(' ');
            continue;
        }
        let command = std::mem::take(&mut pending) + code;
        if !command.is_empty() && !command.starts_with('#') {
            commands.push(command);
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "\
# title
`cargo test --inline` is not a block.
```text
cargo test --not-a-shell-block
```
```sh
# two commands
cargo run --release -- demo     # a language, learned
cargo test --workspace \\
    --release
```
";

    #[test]
    fn the_command_is_the_one_in_the_shell_block() {
        assert_eq!(find(README, "cargo test").as_deref(), Some("cargo test --workspace --release"));
        assert_eq!(find(README, "cargo run").as_deref(), Some("cargo run --release -- demo"));
    }

    #[test]
    fn a_command_that_is_not_promised_is_not_found() {
        assert_eq!(find(README, "cargo bench"), None);
        assert_eq!(find("```sh\n```\ncargo test\n", "cargo test"), None);
    }
}
