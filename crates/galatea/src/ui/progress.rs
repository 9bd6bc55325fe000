//! How far training is: a bar on a terminal, a line every few seconds elsewhere.

use super::out;
use galatea_train::StepReport;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);
/// The bar's length: progress may be of steps or of seconds, so it is a fraction.
const FULL: u64 = 10_000;

/// A bar of `total` steps on a terminal, nothing elsewhere.
pub(crate) fn count(total: u64, what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:14} {pos}/{len} {msg}  {eta}").expect("a constant template");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
        .with_message(what.to_owned())
}

/// Shows a training run on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    begin: Instant,
    shown: Option<Instant>,
    /// The fraction that was done when this session began.
    from: f64,
    loss: Smooth,
}

impl Progress {
    /// Progress that begins at the fraction `from`.
    pub(crate) fn new(quiet: bool, from: f64) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let style =
                ProgressStyle::with_template("{bar:14} {percent:>3}%  {wide_msg}").expect("a constant template");
            let bar = ProgressBar::with_draw_target(Some(FULL), ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            bar
        });
        Self { bar, quiet, begin: Instant::now(), shown: None, from, loss: Smooth::default() }
    }

    /// After a step: `rate` in tokens per second.
    pub(crate) fn update(&mut self, report: &StepReport, rate: f64) {
        let loss = self.loss.next(report.loss);
        if self.quiet {
            return;
        }
        let left = seconds_left(self.begin.elapsed().as_secs_f64(), self.from, report.progress);
        let message = message(report.step, loss, rate, left);
        if let Some(bar) = &self.bar {
            bar.set_position((report.progress * FULL as f64) as u64);
            bar.set_message(message);
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            self.shown = Some(Instant::now());
            out::note(format_args!("{:>3.0}%  {message}", 100.0 * report.progress));
        }
    }

    /// Runs `write` with the bar out of the way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A mean in which a value counts less the older it is.
#[derive(Default)]
struct Smooth {
    sum: f64,
    weight: f64,
}

impl Smooth {
    fn next(&mut self, value: f64) -> f64 {
        const KEEP: f64 = 0.95;
        (self.sum, self.weight) = (KEEP * self.sum + value, KEEP * self.weight + 1.0);
        self.sum / self.weight
    }
}

/// Seconds to the end at the pace of the `elapsed` ones, which brought the run from the fraction `from` to `now`.
fn seconds_left(elapsed: f64, from: f64, now: f64) -> Option<f64> {
    (now > from && elapsed > 0.5).then(|| elapsed * (1.0 - now) / (now - from))
}

fn message(step: u32, loss: f64, rate: f64, left: Option<f64>) -> String {
    let eta = left.map_or("-".to_owned(), out::duration);
    format!("step {step}  loss {loss:.4}  {} tokens/s  ETA {eta}", out::grouped(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_smooth_value_is_itself_and_constants_stay() {
        let mut smooth = Smooth::default();
        for _ in 0..50 {
            assert!((smooth.next(3.5) - 3.5).abs() < 1e-12);
        }
        assert!(smooth.next(4.5) < 3.6);
    }

    #[test]
    fn a_resumed_run_counts_its_own_pace() {
        assert_eq!(seconds_left(10.0, 0.5, 0.75), Some(10.0));
        assert_eq!(seconds_left(10.0, 0.0, 0.25), Some(30.0));
        assert_eq!(seconds_left(10.0, 0.5, 0.5), None);
    }

    #[test]
    fn a_message_has_everything() {
        assert_eq!(message(12, 1.5, 12345.6, Some(61.0)), "step 12  loss 1.5000  12,345 tokens/s  ETA 1 min 01 s");
    }
}
