//! A program that answers works with times, one line each (benches/peers/README.md).

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any set-up takes: a compiler in the peer may run for minutes.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) struct Child {
    process: std::process::Child,
    /// None once the program is told that nothing more comes.
    works: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Its name and version, as it gave them.
    pub(super) version: String,
}

impl Child {
    /// Starts a program and waits until it says that it is ready.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().with_context(|| format!("could not start {command:?}"))?;
        let works = process.stdin.take();
        let out = process.stdout.take().context("standard output is piped above")?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let mut child = Self { process, works, answers, version: String::new() };
        let first = child.answer("ready").map_err(anyhow::Error::msg).with_context(|| format!("{command:?}"))?;
        child.version = first["ready"].as_str().context("the first line names the program under `ready`")?.to_owned();
        Ok(child)
    }

    /// The number that the program answers to `line` under `key`, or why there is none.
    pub(super) fn ask(&mut self, line: &str, key: &str) -> Result<f64, String> {
        let works = self.works.as_mut().ok_or("it was told to end")?;
        writeln!(works, "{line}").and_then(|()| works.flush()).map_err(|_| "it has ended".to_owned())?;
        let answer = self.answer(line)?;
        if let Some(why) = answer["unsupported"].as_str() {
            return Err(why.to_owned());
        }
        answer[key].as_f64().ok_or_else(|| format!("expected a number `{key}`, found {answer}"))
    }

    /// Whether the program has ended by itself.
    pub(super) fn ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    fn answer(&mut self, line: &str) -> Result<Value, String> {
        let text =
            self.answers.recv_timeout(PATIENCE).map_err(|_| format!("it ended without an answer to `{line}`"))?;
        serde_json::from_str(&text).map_err(|_| format!("expected a JSON object, found `{text}`"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The end of its input ends it; one that hangs is ended.
        self.works = None;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if self.ended() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Milliseconds from a process's birth to its end.
pub(super) fn lifetime(mut command: Command) -> Result<f64, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = || said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    if output.status.success() { Ok(ms) } else { Err(last()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn child(script: &str) -> Result<Child> {
        Child::start(crate::process::shell(Path::new("."), script))
    }

    #[test]
    fn a_program_answers_line_by_line_and_ends_with_its_input() {
        let mut child = child(
            r#"echo '{"ready":"sh 1"}'; while read w; do case $w in
               a) echo '{"work":"a","ms":1.5}';; *) echo '{"work":"b","unsupported":"no b"}';; esac; done"#,
        )
        .expect("sh is there");
        assert_eq!(child.version, "sh 1");
        assert_eq!(child.ask("a", "ms"), Ok(1.5));
        assert_eq!(child.ask("b", "ms"), Err("no b".into()));
        assert!(child.ask("a", "mib").is_err_and(|why| why.contains("`mib`")));
    }

    #[test]
    fn a_program_that_ends_early_is_an_answer_too() {
        let mut ended = child(r#"echo '{"ready":"sh"}'; read w"#).expect("sh is there");
        assert!(ended.ask("a", "ms").is_err_and(|why| why.contains("without an answer")));
        assert!(child("echo hello").is_err());
        assert!(child("exit 1").is_err());
    }

    #[test]
    fn a_failing_process_has_no_lifetime() {
        assert!(lifetime(crate::process::shell(Path::new("."), "true")).is_ok_and(|ms| ms > 0.0));
        let why = lifetime(crate::process::shell(Path::new("."), "echo why >&2; exit 1"));
        assert_eq!(why, Err("why".into()));
    }
}
