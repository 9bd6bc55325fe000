//! The README's demonstration, in its short form.

use crate::{Outcome, process, readme};
use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// What the last line of the demonstration must report, each a finite number that is not negative.
const KEYS: [&str; 5] =
    ["nelbo_bits_per_document", "entropy_bits_per_document", "grammatical_share", "train_seconds", "total_seconds"];

/// The README's command with the switches that make it short and its result readable.
pub(crate) fn line(root: &Path) -> Result<String> {
    Ok(readme::command(root, "cargo run --release -- demo")? + " --smoke --json")
}

/// Runs the demonstration and checks the report on its last line.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let mut last = String::new();
    let success = process::watch(process::shell(root, &line(root)?), |stream, line| {
        process::pass_on(stream, line);
        if stream == process::Stream::Out && !line.trim().is_empty() {
            line.clone_into(&mut last);
        }
    })?;
    if !success {
        return Ok(Outcome::Failed);
    }
    let complaints = check(&last);
    for complaint in &complaints {
        eprintln!("error: the demonstration's last line {complaint}");
    }
    Ok(if complaints.is_empty() { Outcome::Passed } else { Outcome::Failed })
}

fn check(last: &str) -> Vec<String> {
    let Ok(Value::Object(report)) = serde_json::from_str(last) else {
        return vec![format!("must be a JSON object, found `{last}`")];
    };
    let mut complaints = Vec::new();
    for key in KEYS {
        match report.get(key).map(|value| (value, value.as_f64())) {
            None => complaints.push(format!("has no `{key}`")),
            Some((_, Some(number))) if number >= 0.0 => {}
            Some((value, _)) => complaints.push(format!("has `{key}` = {value}, expected a number of at least 0")),
        }
    }
    if report.get("grammatical_share").and_then(Value::as_f64).is_some_and(|share| share > 1.0) {
        complaints.push("has a `grammatical_share` above 1".to_owned());
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"nelbo_bits_per_document": 21.5, "entropy_bits_per_document": 20.25,
        "grammatical_share": 1, "train_seconds": 2.5, "total_seconds": 3.0, "more": "is welcome"}"#;

    #[test]
    fn a_full_report_passes() {
        assert_eq!(check(GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_missing_or_senseless_number_is_named() {
        for key in KEYS {
            let complaints = check(&GOOD.replace(key, "other"));
            assert_eq!(complaints.len(), 1);
            assert!(complaints[0].contains(key));
        }
        assert_eq!(check(&GOOD.replace("21.5", "null")).len(), 1);
        assert_eq!(check(&GOOD.replace("2.5", "-1")).len(), 1);
        assert_eq!(check(&GOOD.replace(": 1,", ": 1.5,")).len(), 1);
    }

    #[test]
    fn what_is_not_an_object_is_rejected() {
        for last in ["", "done", "[1]", "{\"cut\": "] {
            assert_eq!(check(last).len(), 1, "{last}");
        }
    }
}
