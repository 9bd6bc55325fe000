//! What deciding costs beside the network: statistics of a row of logits against a copy of it, and a pass of every order.
//!
//! A pass asks a network that answers at once, ranks and draws at eight open positions, and writes where the order says; then the
//! bench opens what was written. One call is one pass, on one thread; every logit is read at least once, so the floor is
//! that of reading them.

use galatea_benches::{Bench, Launch, normals};
use galatea_kernels::Cost;
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Filter, Fixed, Levels, Refining, RefiningOptions, Sampler, Score, Selection,
    Unmasking, UnmaskingOptions, row_stats,
};
use galatea_schedules::{Linear, grid};
use galatea_tensor::DType;
use ndarray::{ArrayRef2, ArrayRef3};
use std::convert::Infallible;
use std::hint::black_box;

/// Open positions of a pass.
const OPEN: usize = 8;
/// GPT-2's vocabulary with a mask, and DiffusionGemma's.
const VOCABS: [usize; 2] = [50_258, 262_144];

fn main() {
    let mut bench = Bench::from_args();
    bench.per_token(OPEN as u64);
    for vocab in VOCABS {
        rows(&mut bench, vocab);
        orders(&mut bench, vocab);
    }
    bench.finish();
}

/// Reading `bytes`, with nothing to compute.
fn traffic(bytes: usize) -> [Launch; 1] {
    let bytes = bytes as u64;
    [Launch { cost: Cost { flops: 0, bytes }, footprint: bytes, dtype: DType::F32 }]
}

fn logits(vocab: usize) -> Vec<f32> {
    normals(OPEN * vocab, 0).into_iter().map(|x| 3.0 * x).collect()
}

fn rows(bench: &mut Bench, vocab: usize) {
    let bytes = 4 * OPEN * vocab;
    bench.run("samplers", &format!("memcpy/{vocab}"), 1, &traffic(2 * bytes), || {
        let (from, mut to) = (logits(vocab), vec![0.0; OPEN * vocab]);
        move || black_box(&mut to).copy_from_slice(black_box(&from))
    });
    bench.run("samplers", &format!("row_stats/{vocab}"), 1, &traffic(bytes), || {
        let logits = logits(vocab);
        move || {
            for row in logits.chunks_exact(vocab) {
                black_box(row_stats(black_box(row)));
            }
        }
    });
}

/// A network whose answer is always the same and costs nothing after the first time.
struct Instant {
    logits: Vec<f32>,
    told: bool,
}

impl Denoiser for Instant {
    type Error = Infallible;
    fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        if !self.told {
            logits.iter_mut().zip(&self.logits).for_each(|(to, from)| *to = *from);
            self.told = true;
        }
        Ok(())
    }
}

fn instant(vocab: usize) -> Instant {
    Instant { logits: logits(vocab), told: false }
}

fn orders(bench: &mut Bench, vocab: usize) {
    let one = Selection::Threshold { least: 2.0, slack: 0.0 };
    let bound = Selection::EntropyBound { gamma: 0.0 };
    let drawn = Filter::default();
    let nucleus = Filter { top_p: 0.9, ..Filter::default() };
    let unmasking = [
        ("confidence, greedy", one, Score::Confidence, Filter::greedy()),
        ("confidence of a draw", one, Score::Confidence, drawn.clone()),
        ("confidence, nucleus", one, Score::Confidence, nucleus),
        ("margin", one, Score::Margin, drawn.clone()),
        ("entropy", one, Score::Entropy, drawn.clone()),
        ("random", one, Score::Random, drawn.clone()),
        ("left to right", one, Score::LeftToRight, drawn.clone()),
        ("entropy bound", bound, Score::Entropy, drawn),
    ];
    let traffic = traffic(4 * OPEN * vocab);
    let mask = vocab as u32 - 1;
    let masked = Categorical::new(vocab, Limit::Mask(mask)).expect("ids enough");
    for (name, selection, score, filter) in unmasking {
        bench.run("samplers", &format!("{name}/{vocab}"), 1, &traffic, || {
            let options = UnmaskingOptions { filter, selection, score, ..Default::default() };
            let mut sampler = Unmasking::new(instant(vocab), masked, Fixed::none(1, OPEN), options).expect("sound");
            move || {
                sampler.advance().expect("an open position").expect("infallible");
                for position in 0..OPEN {
                    sampler.write(0, position, mask).expect("it is not fixed");
                }
            }
        });
    }
    let uniform = Categorical::new(vocab, Limit::Uniform).expect("ids enough");
    bench.run("samplers", &format!("ancestral, uniform/{vocab}"), 1, &traffic, || {
        let levels = Levels::new(&Linear, &grid::uniform(1_000_000)).expect("a grid descends");
        let options = AncestralOptions::default();
        let mut sampler =
            Ancestral::new(instant(vocab), uniform, levels, Fixed::none(1, OPEN), options).expect("sound");
        move || {
            sampler.advance().expect("a million steps").expect("infallible");
        }
    });
    bench.run("samplers", &format!("entropy bound, random tokens again/{vocab}"), 1, &traffic, || {
        let options = RefiningOptions { steps: 1_000_000, stability: None, ..Default::default() };
        let mut sampler = Refining::new(instant(vocab), uniform, Fixed::none(1, OPEN), options).expect("sound");
        move || {
            sampler.advance().expect("a million steps").expect("infallible");
        }
    });
}
