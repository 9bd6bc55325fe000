//! Running other programs in the workspace's root.

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Which of the two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// `cargo` with `arguments` in `root`, as the person's shell would start it.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(arguments);
    command
}

/// A command line in `root`, read by the shell, exactly as the README prints it.
pub(crate) fn shell(root: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(root).args(["-c", line]);
    command
}

/// Runs to the end with the terminal's own streams; true when it succeeded.
pub(crate) fn succeeds(mut command: Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    Ok(status.success())
}

/// Runs to the end, showing every line to `see` as it comes; true when it succeeded.
pub(crate) fn watch(mut command: Command, mut see: impl FnMut(Stream, &str)) -> Result<bool> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
    let out = child.stdout.take().expect("stdout is piped above");
    let err = child.stderr.take().expect("stderr is piped above");
    let (sender, lines) = channel();
    thread::scope(|scope| {
        let second = sender.clone();
        scope.spawn(move || forward(out, Stream::Out, &sender));
        scope.spawn(move || forward(err, Stream::Err, &second));
        lines.into_iter().for_each(|(stream, line)| see(stream, &line));
    });
    let status = child.wait().with_context(|| format!("could not wait for {command:?}"))?;
    Ok(status.success())
}

/// Passes a line on to our own stream of the same kind.
pub(crate) fn pass_on(stream: Stream, line: &str) {
    // A reader that has closed its end (`| head`) must not stop the run, so a failed write is let go.
    let _ = match stream {
        Stream::Out => writeln!(std::io::stdout(), "{line}"),
        Stream::Err => writeln!(std::io::stderr(), "{line}"),
    };
}

/// Standard output of a command that must succeed; its standard error is passed through.
pub(crate) fn output(mut command: Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed something that is not UTF-8"))
}

/// The workspace's target folder.
pub(crate) fn target(root: &Path) -> Result<PathBuf> {
    let text = output(cargo(root, &["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` named no target_directory")?;
    Ok(PathBuf::from(target))
}

fn forward(pipe: impl Read, stream: Stream, lines: &Sender<(Stream, String)>) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        if lines.send((stream, String::from_utf8_lossy(&line).into_owned())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_seen_once_with_its_stream() {
        let mut seen = Vec::new();
        let command = shell(Path::new("."), "echo one; echo two >&2; echo three");
        assert!(watch(command, |stream, line| seen.push((stream, line.to_owned()))).expect("sh is there"));
        seen.sort_by_key(|(stream, _)| *stream == Stream::Err);
        let expected = [(Stream::Out, "one"), (Stream::Out, "three"), (Stream::Err, "two")];
        assert_eq!(seen, expected.map(|(stream, line)| (stream, line.to_owned())));
    }

    #[test]
    fn a_failing_command_is_told_apart_from_a_passing_one() {
        assert!(!watch(shell(Path::new("."), "exit 3"), |_, _| ()).expect("sh is there"));
        assert!(!succeeds(shell(Path::new("."), "exit 3")).expect("sh is there"));
        assert!(output(shell(Path::new("."), "exit 3")).is_err());
        assert_eq!(output(shell(Path::new("."), "printf word")).expect("it succeeds"), "word");
    }
}
