//! Errors as a person reads them, and the exit code that a script reads.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The command line asked for something that cannot be: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage {
    message: String,
    hint: String,
}

impl Usage {
    /// What is wrong, and a sentence that says what to do.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  hint: {}", self.message, self.hint)
    }
}

impl std::error::Error for Usage {}

/// A hint below an error that is not the command line's fault.
#[derive(Debug)]
pub(crate) struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  hint: {}", text(&self.error), self.hint)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}

/// Adds a hint to an error.
pub(crate) fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { error: error.into(), hint: hint.into() }.into()
}

/// Whether somebody closed our standard output, as `| head` does.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Usage>() || cause.downcast_ref::<galatea_train::Error>().is_some_and(galatea_train::Error::is_usage)
    })
}

/// The error and its causes, those left out whose text the error already holds.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes an error and chooses the exit code: 2 for what the command line asked, 1 for what went wrong, and quietly 0 where
/// the reader of our output has gone.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    // If standard error is gone too there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "error: {}", text(error).trim_end());
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = io::Error::other("the disk is full");
        let outer = anyhow::Error::new(inner).context("cannot write a.txt: the disk is full");
        assert_eq!(text(&outer), "cannot write a.txt: the disk is full");
        let outer = anyhow::Error::new(io::Error::other("no room")).context("cannot write a.txt");
        assert_eq!(text(&outer), "cannot write a.txt: no room");
    }

    #[test]
    fn usage_is_seen_through_a_hint() {
        assert!(is_usage(&hinted(Usage::new("a", "b"), "c")));
        assert!(is_usage(&anyhow::Error::new(Usage::new("a", "b")).context("while reading")));
        assert!(!is_usage(&hinted(io::Error::other("a"), "c")));
    }

    #[test]
    fn a_hint_is_the_last_line() {
        assert_eq!(text(&hinted(io::Error::other("no room"), "make some")), "no room\n  hint: make some");
    }
}
