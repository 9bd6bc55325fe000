//! What is compared with whom, and by which factor we mean to be faster.

/// A program that does the works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    Galatea,
    Torch,
    Candle,
    Burn,
}

pub(super) const PEERS: [Program; 3] = [Program::Torch, Program::Candle, Program::Burn];

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Galatea => "galatea",
            Self::Torch => "torch",
            Self::Candle => "candle",
            Self::Burn => "burn",
        }
    }

    /// Its name with that of the way it does a work.
    pub(super) fn named(self, variant: &str) -> String {
        format!("{} {variant}", self.name()).trim_end().to_owned()
    }

    /// The ways this program can do a work; a peer is as fast as its fastest.
    fn variants(self, work: &str) -> &'static [&'static str] {
        match (self, work.split(' ').next()) {
            (Self::Torch, Some("sample")) if work.ends_with("dtype=bf16") => {
                &["eager", "compile", "weights", "weights-compile"]
            }
            (Self::Torch, Some("step" | "sample")) => &["eager", "compile"],
            _ => &[""],
        }
    }

    /// A line for every way this program can do a work, each with the name of the way.
    pub(super) fn lines(self, work: &str) -> Vec<(&'static str, String)> {
        let line = |variant: &'static str| match variant {
            "" => (variant, work.to_owned()),
            _ => (variant, format!("{work} variant={variant}")),
        };
        self.variants(work).iter().copied().map(line).collect()
    }
}

/// How a work is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Milliseconds of one run in a program that has run it before.
    Time,
    /// Milliseconds from the birth of a process to its end: it loads a saved model and draws the first token.
    Start,
    /// The most memory, in MiB, of a process that did nothing but this work.
    Memory,
}

impl Measure {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Time | Self::Start => "ms",
            Self::Memory => "MiB",
        }
    }
}

/// One work and its opponents, each with the least factor between its number and ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    /// The line that names it.
    pub(super) work: String,
    pub(super) measure: Measure,
    pub(super) peers: Vec<(Program, f64)>,
}

impl Comparison {
    /// Its name in tables.
    pub(super) fn name(&self) -> String {
        match self.measure {
            Measure::Time | Measure::Start => self.work.clone(),
            Measure::Memory => format!("memory {}", self.work),
        }
    }
}

/// M x K x N of the products: those of the seed's layers at two batches, its head, and a square.
const SHAPES: [[usize; 3]; 8] = [
    [256, 768, 768],
    [256, 768, 3072],
    [256, 3072, 768],
    [256, 768, 2048],
    [256, 768, 30000],
    [2048, 768, 768],
    [2048, 768, 3072],
    [1024, 1024, 1024],
];

/// As fast as the peer.
const EVEN: f64 = 1.0;
/// Other crates, on a training step and on sampling.
const CANDLE: f64 = 8.0;
const BURN: f64 = 3.0;
/// Six tenths of the peer's memory.
const LEAN: f64 = 1.0 / 0.6;

/// Everything that is compared, in the order of the table. The larger batch is torch's alone: all programs hold their model
/// at once, and four of them at batch 16 are more than a small machine has.
pub(super) fn all() -> Vec<Comparison> {
    use Measure::{Memory, Start, Time};
    use Program::{Burn, Candle, Torch};
    let of = |measure, work: &str, peers: &[(Program, f64)]| Comparison {
        work: work.to_owned(),
        measure,
        peers: peers.to_vec(),
    };
    let crates = [(Candle, CANDLE), (Burn, BURN)];
    let with_crates = |torch: f64| [&[(Torch, torch)][..], &crates].concat();
    let mut all = vec![
        of(Time, "step batch=2 dtype=f32", &with_crates(1.5)),
        of(Time, "step batch=16 dtype=f32", &[(Torch, 1.5)]),
        of(Time, "step batch=2 dtype=bf16", &[(Torch, 3.0)]),
        of(Time, "step batch=16 dtype=bf16", &[(Torch, 3.0)]),
        of(Time, "sample len=128 steps=32 dtype=f32", &with_crates(EVEN)),
        of(Time, "sample len=128 steps=32 dtype=bf16", &[(Torch, 4.0)]),
    ];
    for (dtype, peers) in [("f32", &[(Torch, EVEN), (Candle, EVEN), (Burn, EVEN)][..]), ("bf16", &[(Torch, 1.2)])] {
        let product = |[m, k, n]: [usize; 3]| of(Time, &format!("gemm m={m} k={k} n={n} dtype={dtype}"), peers);
        all.extend(SHAPES.map(product));
    }
    all.push(of(Start, "start", &[(Torch, 10.0)]));
    all.push(of(Memory, "step batch=2 dtype=f32", &[(Torch, LEAN), (Candle, EVEN), (Burn, EVEN)]));
    all.push(of(Memory, "step batch=2 dtype=bf16", &[(Torch, LEAN)]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_has_a_name_of_its_own_and_an_opponent() {
        let all = all();
        let names: std::collections::BTreeSet<String> = all.iter().map(Comparison::name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|comparison| !comparison.peers.is_empty()));
    }

    #[test]
    fn only_torch_has_several_ways() {
        let lines = Program::Torch.lines("step batch=2 dtype=f32");
        assert_eq!(lines[1], ("compile", "step batch=2 dtype=f32 variant=compile".to_owned()));
        assert_eq!(Program::Torch.lines("sample len=128 steps=32 dtype=bf16").len(), 4);
        assert_eq!(Program::Torch.lines("gemm m=1 k=1 n=1 dtype=f32"), [("", "gemm m=1 k=1 n=1 dtype=f32".to_owned())]);
        assert_eq!(Program::Candle.lines("step batch=2 dtype=f32").len(), 1);
    }
}
