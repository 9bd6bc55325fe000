//! From samples to one table a person can read.

use super::plan::{Comparison, Program};
use super::{Entry, Measured};
use crate::bench::three_digits;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One work, one peer in its fastest way, and us.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) work: String,
    pub(super) peer: Program,
    pub(super) variant: &'static str,
    pub(super) unit: &'static str,
    pub(super) theirs: f64,
    pub(super) ours: f64,
    pub(super) target: f64,
}

impl Line {
    /// How many times ours theirs is: above one, ours is less.
    pub(super) fn ratio(&self) -> f64 {
        self.theirs / self.ours
    }

    pub(super) fn reached(&self) -> bool {
        self.ratio() >= self.target
    }

    pub(super) fn peer_name(&self) -> String {
        self.peer.named(self.variant)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "work": self.work, "peer": self.peer.name(), "variant": self.variant, "unit": self.unit,
            "peer_median": self.theirs, "ours_median": self.ours, "ratio": self.ratio(), "target": self.target,
            "reached": self.reached() })
    }
}

pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// Series whose samples lie further from their median than this share of it, in the middle, were disturbed.
const DISTURBED: f64 = 0.1;

/// What a reader must know about the machine while the samples were taken, if anything.
pub(super) fn warning(measured: &[Measured]) -> Option<String> {
    let series: Vec<&[f64]> = measured.iter().flat_map(|m| &m.entries).map(|entry| entry.samples.as_slice()).collect();
    let disturbed = series.iter().filter(|samples| {
        let middle = median(samples);
        let distances: Vec<f64> = samples.iter().map(|sample| (sample - middle).abs()).collect();
        median(&distances) > DISTURBED * middle
    });
    let (count, all, percent) = (disturbed.count(), series.len(), 100.0 * DISTURBED);
    let text = format!(
        "\n**Other programs were running**: {count} of {all} series scatter by more than {percent} %. Programs suffer from that \
         unequally; measure again on a quiet machine before quoting a ratio.\n"
    );
    (count > 0).then_some(text)
}

/// A line for every pair, and for every peer the geometric mean over the products of one type.
pub(super) fn lines(measured: &[Measured]) -> Vec<Line> {
    let mut lines: Vec<Line> = measured.iter().flat_map(pairs).collect();
    let mut products: BTreeMap<(&str, Program), Vec<Line>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.work.starts_with("gemm ")) {
        let dtype = if line.work.ends_with("bf16") { "bf16" } else { "f32" };
        products.entry((dtype, line.peer)).or_default().push(line.clone());
    }
    for ((dtype, peer), all) in products {
        let mean = |of: fn(&Line) -> f64| (all.iter().map(|line| of(line).ln()).sum::<f64>() / all.len() as f64).exp();
        let work = format!("gemm dtype={dtype}, geometric mean of {}", all.len());
        let (theirs, ours, target) = (mean(|line| line.theirs), mean(|line| line.ours), mean(|line| line.target));
        lines.push(Line { work, peer, variant: "", unit: all[0].unit, theirs, ours, target });
    }
    lines
}

fn pairs(Measured { comparison, entries }: &Measured) -> Vec<Line> {
    let Comparison { peers, measure, .. } = comparison;
    let of = |program: Program| {
        let own = entries.iter().filter(move |entry| entry.program == program);
        own.map(|entry: &Entry| (entry.variant, median(&entry.samples))).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let Some((_, ours)) = of(Program::Galatea) else { return Vec::new() };
    let line = |&(peer, target): &(Program, f64)| {
        let (variant, theirs) = of(peer)?;
        Some(Line { work: comparison.name(), peer, variant, unit: measure.unit(), theirs, ours, target })
    };
    peers.iter().filter_map(line).collect()
}

/// The page: what was measured where, then the table.
pub(super) fn markdown(lines: &[Line], heading: &str) -> String {
    let mut text = format!("# Beside other programs\n\n{heading}\n");
    text += "| work | peer | the peer's | ours | ratio | target | reached |\n|---|---|---|---|---|---|---|\n";
    for line in lines {
        text += &format!(
            "| {} | {} | {} {unit} | {} {unit} | {:.2} | {:.2} | {} |\n",
            line.work,
            line.peer_name(),
            three_digits(line.theirs),
            three_digits(line.ours),
            line.ratio(),
            line.target,
            if line.reached() { "yes" } else { "no" },
            unit = line.unit,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::plan::Measure;
    use super::*;

    fn measured(work: &str, entries: &[(Program, &'static str, &[f64])]) -> Measured {
        let comparison = Comparison {
            work: work.into(),
            measure: Measure::Time,
            peers: vec![(Program::Torch, 1.5), (Program::Burn, 1.0)],
        };
        let entry = |&(program, variant, samples): &(Program, &'static str, &[f64])| {
            let samples = samples.to_vec();
            Entry { program, variant, samples }
        };
        Measured { comparison, entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn a_peer_is_as_fast_as_its_fastest_way() {
        let lines = lines(&[measured(
            "step",
            &[
                (Program::Galatea, "", &[2.0, 9.0, 1.0]),
                (Program::Torch, "eager", &[5.0, 5.0]),
                (Program::Torch, "compile", &[4.0, 2.0]),
            ],
        )]);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].variant, lines[0].theirs, lines[0].ours), ("compile", 3.0, 2.0));
        assert!(lines[0].reached());
        let page = markdown(&lines, "m");
        assert!(page.contains("| step | torch compile | 3.00 ms | 2.00 ms | 1.50 | 1.50 | yes |"), "{page}");
    }

    #[test]
    fn a_disturbed_series_is_told() {
        let of = |samples| [measured("step", &[(Program::Galatea, "", samples), (Program::Burn, "", &[5.0])])];
        assert_eq!(warning(&of(&[1.0, 1.01, 9.0, 1.0, 0.99])), None);
        assert!(warning(&of(&[1.0, 2.0, 3.0])).is_some_and(|text| text.contains("1 of 2 series")));
    }

    #[test]
    fn products_end_in_their_geometric_mean() {
        let of =
            |ours, theirs| measured("gemm m=1 dtype=f32", &[(Program::Galatea, "", ours), (Program::Burn, "", theirs)]);
        let lines = lines(&[of(&[1.0], &[2.0]), of(&[4.0], &[32.0])]);
        let mean = lines.last().expect("two products and their mean");
        assert_eq!(mean.work, "gemm dtype=f32, geometric mean of 2");
        assert!((mean.ratio() - 4.0).abs() < 1e-12 && (mean.ours - 2.0).abs() < 1e-12);
    }
}
