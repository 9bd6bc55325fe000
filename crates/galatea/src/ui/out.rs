//! Standard output for results, standard error for everything else.

use std::fmt::Display;
use std::io::{self, Write};

/// One line of results.
///
/// # Errors
/// If nobody reads it: a broken pipe ends the program quietly.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// The figures of a command as one line of JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(value)
}

/// One line beside the results.
pub(crate) fn note(text: impl Display) {
    // Losing a remark is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// 1234567 as "1,234,567".
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds as "4.2 s", "3 min 05 s" or "2 h 07 min".
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_round_to_two_units() {
        for (seconds, text) in [(4.25, "4.2 s"), (59.7, "1 min 00 s"), (185.0, "3 min 05 s"), (7620.0, "2 h 07 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
