//! What a check compared, and how far apart the two were.

use galatea_fixtures::{relative, relative_to_max};
use serde::Serialize;

/// How a difference is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The largest |a - b| over the largest |b|.
    RelativeToMax,
    /// The largest |a - b| / |b|, element by element.
    Relative,
    /// The largest |a - b|.
    Absolute,
    /// The number of elements that differ.
    Exact,
}

impl Measure {
    /// The word of the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::RelativeToMax => "rel",
            Self::Relative => "rel each",
            Self::Absolute => "abs",
            Self::Exact => "differ",
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared.
    pub what: String,
    /// How.
    pub measure: Measure,
    /// How far apart; infinite where shapes differ or a number is NaN. (JSON has no infinity: null there.)
    pub error: f64,
    /// How far apart they may be.
    pub tolerance: f64,
}

impl Comparison {
    /// Whether the two agree.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }

    /// The error in units of the tolerance, to find the worst.
    fn severity(&self) -> f64 {
        match self.measure {
            Measure::Exact => self.error,
            Measure::RelativeToMax | Measure::Relative | Measure::Absolute => self.error / self.tolerance,
        }
    }
}

/// The comparisons of one fixture.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) comparisons: Vec<Comparison>,
}

impl Report {
    /// The largest |found - truth| over the largest |truth|.
    pub fn relative(&mut self, what: impl Into<String>, found: &[f64], truth: &[f64], tolerance: f64) {
        self.compare(what.into(), Measure::RelativeToMax, tolerance, (found, truth), relative_to_max);
    }

    /// As [`relative`](Self::relative), for numbers of our kernels.
    pub fn relative_f32(&mut self, what: impl Into<String>, found: &[f32], truth: &[f64], tolerance: f64) {
        let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
        self.relative(what, &found, truth, tolerance);
    }

    /// The largest |found - truth| / |truth| element by element; below `floor` the difference is over the floor.
    pub fn relative_each(&mut self, what: impl Into<String>, found: &[f64], truth: &[f64], floor: f64, tolerance: f64) {
        self.compare(what.into(), Measure::Relative, tolerance, (found, truth), |a, b| relative(a, b, floor));
    }

    /// The largest |found - truth|. Equal infinities agree.
    pub fn absolute(&mut self, what: impl Into<String>, found: &[f64], truth: &[f64], tolerance: f64) {
        let differ = |a: &[f64], b: &[f64]| {
            a.iter()
                .zip(b)
                .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
                .fold(0.0, |m: f64, x: f64| if x.is_nan() { f64::INFINITY } else { m.max(x) })
        };
        self.compare(what.into(), Measure::Absolute, tolerance, (found, truth), differ);
    }

    /// Integers that must be equal.
    pub fn exact(&mut self, what: impl Into<String>, found: &[u32], truth: &[u32]) {
        let same_length = found.len() == truth.len();
        let differ = found.iter().zip(truth).filter(|(a, b)| a != b).count() as f64;
        let error = if same_length { differ } else { f64::INFINITY };
        self.comparisons.push(Comparison { what: what.into(), measure: Measure::Exact, error, tolerance: 0.0 });
    }

    fn compare(
        &mut self,
        what: String,
        measure: Measure,
        tolerance: f64,
        (found, truth): (&[f64], &[f64]),
        difference: impl Fn(&[f64], &[f64]) -> f64,
    ) {
        let error = if found.len() == truth.len() { difference(found, truth) } else { f64::INFINITY };
        self.comparisons.push(Comparison { what, measure, error, tolerance });
    }

    /// The comparison that used most of its tolerance.
    pub fn worst(&self) -> Option<&Comparison> {
        self.comparisons.iter().max_by(|a, b| a.severity().total_cmp(&b.severity()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_never_passes() {
        let mut report = Report::default();
        report.relative("nan", &[f64::NAN], &[1.0], 1e9);
        report.absolute("nan", &[f64::NAN], &[1.0], 1e9);
        report.relative_each("nan", &[1.0], &[f64::NAN], 1e-9, 1e9);
        report.exact("short", &[1], &[1, 2]);
        report.relative("short", &[1.0], &[1.0, 2.0], 1.0);
        assert!(report.comparisons.iter().all(|comparison| !comparison.passed()), "{report:?}");
    }

    #[test]
    fn the_worst_is_the_one_nearest_its_tolerance() {
        let mut report = Report::default();
        report.absolute("far", &[1.0], &[1.5], 10.0);
        report.absolute("near", &[1.0], &[1.01], 0.02);
        report.exact("same", &[1], &[1]);
        assert_eq!(report.worst().expect("three").what, "near");
        report.exact("other", &[1], &[2]);
        assert_eq!(report.worst().expect("four").what, "other");
    }
}
