//! Texts of L tokens in S denoising steps against L autoregressive ones, from a sample of the steps.
//!
//! A denoising step computes its backbone on all L positions and its head on the m that are still masked, so its cost is a
//! function of m alone; a decoding step reads every weight and the past, so its cost is a function of the past p alone.
//! Both are measured at a few places and taken as straight between them, and a text is their sum over its steps:
//!
//! ```text
//! diffusion(S) = sum_{k < S} step(m_k),   m_k = L - floor(L k / S)
//! autoregression = sum_{p < L} step(p)
//! ```

use crate::Machine;
use crate::decode::Decoding;
use crate::row::rounded;
use crate::seed::{Sampling, cpu, decided};
use crate::stats::Spread;
use galatea_autograd::DType;
use galatea_kernels::Isa;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The arithmetic.
    pub dtype: DType,
    /// Threads.
    pub threads: usize,
    /// Tokens of a text.
    pub lens: Vec<usize>,
    /// Denoising steps; a text of fewer tokens is left out.
    pub steps: Vec<usize>,
    /// Texts at once.
    pub batches: Vec<usize>,
    /// How often a denoising step is timed at a place, unless [`Settings::budget`] ends it; a decoding step four times as
    /// often.
    pub samples: usize,
    /// Places whose samples have taken this long on average have enough.
    pub budget: Duration,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Crossover {
    /// The arithmetic.
    pub dtype: &'static str,
    /// Threads.
    pub threads: usize,
    /// The instruction level.
    pub isa: &'static str,
    /// Arithmetic at most, on all threads.
    pub peak_gflop_s: f64,
    /// Traffic at most, of as many bytes as the weights.
    pub bandwidth_gb_s: f64,
    /// What the first decoding step of one text moves: every weight once.
    pub weight_bytes: u64,
    /// Seconds that all of it took.
    pub seconds: f64,
    /// The steps that were timed.
    pub points: Vec<Point>,
    /// The texts, from those.
    pub rows: Vec<Text>,
    /// Where the two cost the same.
    pub par: Vec<Par>,
}

/// One way to write a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// In denoising steps on all positions.
    Diffusion,
    /// Token by token.
    Autoregression,
}

/// A step that was timed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Of which way.
    pub way: Way,
    /// Texts.
    pub batch: usize,
    /// Tokens of a text; the capacity of the cache.
    pub len: usize,
    /// Masks before the step; tokens before it.
    pub at: usize,
    /// Half of the samples took less.
    pub median_ms: f64,
    /// The quietest.
    pub best_ms: f64,
    /// How many.
    pub samples: usize,
    /// What the arithmetic or the traffic alone takes.
    pub floor_ms: f64,
}

/// A text: the sum of its steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Text {
    /// In which way.
    pub way: Way,
    /// Texts at once.
    pub batch: usize,
    /// Tokens of each.
    pub len: usize,
    /// Steps.
    pub steps: usize,
    /// From the medians of the steps.
    pub median_ms: f64,
    /// From their bests.
    pub best_ms: f64,
    /// From their floors.
    pub floor_ms: f64,
    /// The whole text timed once, where that is cheap: what the sums are worth.
    pub whole_ms: Option<f64>,
}

/// The most denoising steps that take no longer than autoregression; 0 if a single one does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Par {
    /// Texts at once.
    pub batch: usize,
    /// Tokens of each, and the most steps there are.
    pub len: usize,
    /// From the medians.
    pub steps: usize,
    /// From the floors.
    pub floor_steps: usize,
}

/// A whole text is timed where its sum is below this.
const CHEAP_MS: f64 = 1500.0;

/// A cost of steps by place: straight between the places where it is known, and level beyond them.
#[derive(Clone, Debug, Default)]
struct Curve(Vec<(usize, f64)>);

impl Curve {
    fn at(&self, place: usize) -> f64 {
        let after = self.0.partition_point(|&(known, _)| known < place);
        match (self.0.get(after.wrapping_sub(1)), self.0.get(after)) {
            (Some(&(x_0, y_0)), Some(&(x_1, y_1))) => y_0 + (y_1 - y_0) * (place - x_0) as f64 / (x_1 - x_0) as f64,
            (Some(&(_, y)), None) | (None, Some(&(_, y))) => y,
            (None, None) => f64::NAN,
        }
    }

    /// `len` tokens in `steps` steps, of a cost by masks.
    fn diffusion(&self, len: usize, steps: usize) -> f64 {
        (0..steps).map(|step| self.at(len - decided(len, step, steps))).sum()
    }

    /// `len` tokens, of a cost by tokens before.
    fn autoregression(&self, len: usize) -> f64 {
        (0..len).map(|past| self.at(past)).sum()
    }

    /// The most steps on `len` tokens that take `time` at most.
    fn steps_within(&self, len: usize, time: f64) -> usize {
        (1..=len).take_while(|&steps| self.diffusion(len, steps) <= time).last().unwrap_or(0)
    }
}

/// Three curves over the same places.
#[derive(Clone, Debug, Default)]
struct Curves {
    median: Curve,
    best: Curve,
    floor: Curve,
}

impl Curves {
    fn push(&mut self, point: &Point) {
        self.median.0.push((point.at, point.median_ms));
        self.best.0.push((point.at, point.best_ms));
        self.floor.0.push((point.at, point.floor_ms));
    }
}

/// Measures; `say` hears what is being set up.
///
/// # Errors
/// If a list is empty, the type is not computed in, or there is not enough memory.
pub fn measure(settings: &Settings, say: &mut dyn FnMut(&str)) -> Result<Crossover, String> {
    let begin = Instant::now();
    let Settings { dtype, threads, .. } = *settings;
    let sorted = |list: &[usize]| list.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let (lens, batches, all_steps) = (sorted(&settings.lens), sorted(&settings.batches), sorted(&settings.steps));
    let longest = *lens.last().ok_or("a comparison wants at least one length")?;
    let mut machine = Machine::default();
    let (mut points, mut rows, mut par) = (Vec::new(), Vec::new(), Vec::new());
    for &batch in &batches {
        say(&format!("autoregression: batch {batch}, up to {longest} tokens"));
        let mut decoding = Decoding::new([batch, longest], dtype, threads)?;
        let mut one_by_one = Curves::default();
        decoding.run_one(0);
        // Where a text of each length ends, and where all begin.
        let places = sorted(&lens.iter().map(|len| len - 1).chain([0]).collect::<Vec<_>>());
        // These steps are short, and a text adds up hundreds of them.
        let times = settings.times(4, &places, |at| decoding.run_one(at));
        for (at, times) in places.into_iter().zip(times) {
            let floor = machine.floor(threads, &Decoding::step_launches(batch, at, dtype)?).ns / 1e6;
            let point = point(Way::Autoregression, [batch, longest, at], &times, floor);
            one_by_one.push(&point);
            points.push(point);
        }
        for &len in &lens {
            let [median_ms, best_ms, floor_ms] =
                [&one_by_one.median, &one_by_one.best, &one_by_one.floor].map(|curve| curve.autoregression(len));
            let whole_ms = (median_ms < CHEAP_MS).then(|| {
                ms(|| {
                    decoding.run(len);
                })
            });
            rows.push(
                Text { way: Way::Autoregression, batch, len, steps: len, median_ms, best_ms, floor_ms, whole_ms }
                    .rounded(),
            );
        }
        drop(decoding);
        for &len in &lens {
            say(&format!("diffusion: batch {batch}, {len} tokens"));
            let mut sampling = Sampling::new([batch, len, 1], dtype, cpu(threads), None)?;
            let backbone = Sampling::backbone_launches([batch, len], dtype)?;
            let mut floor_of = |masked: usize| {
                let launches = Sampling::step_launches(&backbone, batch * masked, dtype);
                machine.floor(threads, &launches).ns / 1e6
            };
            let mut at_once = Curves::default();
            sampling.run_one(1);
            let places = sorted(&[1, len.div_ceil(2), len]);
            let times = settings.times(1, &places, |at| sampling.run_one(at));
            for (at, times) in places.into_iter().zip(times) {
                let point = point(Way::Diffusion, [batch, len, at], &times, floor_of(at));
                at_once.push(&point);
                points.push(point);
            }
            // A floor costs nothing to know everywhere.
            at_once.floor = Curve((1..=len).map(|masked| (masked, floor_of(masked))).collect());
            let possible: Vec<usize> = all_steps.iter().copied().filter(|&steps| steps <= len).collect();
            for (i, &steps) in possible.iter().enumerate() {
                let [median_ms, best_ms, floor_ms] =
                    [&at_once.median, &at_once.best, &at_once.floor].map(|curve| curve.diffusion(len, steps));
                let whole_ms = (i == 0 && median_ms < CHEAP_MS).then(|| {
                    ms(|| {
                        sampling.run_in(steps);
                    })
                });
                rows.push(
                    Text { way: Way::Diffusion, batch, len, steps, median_ms, best_ms, floor_ms, whole_ms }.rounded(),
                );
            }
            par.push(Par {
                batch,
                len,
                steps: at_once.median.steps_within(len, one_by_one.median.autoregression(len)),
                floor_steps: at_once.floor.steps_within(len, one_by_one.floor.autoregression(len)),
            });
        }
    }
    let weight_bytes = Decoding::step_launches(1, 0, dtype)?.iter().map(|launch| launch.cost.bytes).sum();
    Ok(Crossover {
        dtype: dtype.name(),
        threads,
        isa: Isa::detect().name(),
        peak_gflop_s: machine.peak(threads, dtype).round(),
        bandwidth_gb_s: (10.0 * machine.bandwidth(threads, weight_bytes)).round() / 10.0,
        weight_bytes,
        seconds: begin.elapsed().as_secs_f64().round(),
        points,
        rows,
        par,
    })
}

impl Settings {
    /// Milliseconds of at least one run at each of `places`, `times` as many samples as usual. All places take turns, so that
    /// what disturbs the machine for a while does not bend the curve.
    fn times(&self, times: usize, places: &[usize], mut run: impl FnMut(usize)) -> Vec<Vec<f64>> {
        let (begin, mut all) = (Instant::now(), vec![Vec::new(); places.len()]);
        for _ in 0..times * self.samples {
            for (&at, times) in places.iter().zip(&mut all) {
                times.push(ms(|| run(at)));
            }
            if begin.elapsed() >= self.budget * places.len() as u32 {
                break;
            }
        }
        all
    }
}

impl Text {
    fn rounded(self) -> Self {
        let Self { median_ms, best_ms, floor_ms, whole_ms, .. } = self;
        let [median_ms, best_ms, floor_ms] = [median_ms, best_ms, floor_ms].map(rounded);
        Self { median_ms, best_ms, floor_ms, whole_ms: whole_ms.map(rounded), ..self }
    }
}

fn point(way: Way, [batch, len, at]: [usize; 3], times: &[f64], floor_ms: f64) -> Point {
    let Spread { median, min, .. } = Spread::of(times);
    let [median_ms, best_ms, floor_ms] = [median, min, floor_ms].map(rounded);
    Point { way, batch, len, at, median_ms, best_ms, samples: times.len(), floor_ms }
}

fn ms(run: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    run();
    begin.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_straight_between_its_places() {
        let curve = Curve(vec![(0, 1.0), (4, 3.0), (8, 3.0)]);
        assert_eq!([0, 2, 4, 7, 9].map(|place| curve.at(place)), [1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!(Curve(vec![(3, 5.0)]).at(1), 5.0);
    }

    #[test]
    fn a_text_is_the_sum_of_its_steps() {
        // 1 + m: steps at 8, 6, 4 and 2 masks.
        let masks = Curve(vec![(1, 2.0), (4, 5.0), (8, 9.0)]);
        assert_eq!(masks.diffusion(8, 4), 9.0 + 7.0 + 5.0 + 3.0);
        assert_eq!(masks.diffusion(8, 8), 2.0 + 3.0 + 4.0 + 5.0 + 6.0 + 7.0 + 8.0 + 9.0);
        // 2 + p.
        assert_eq!(Curve(vec![(0, 2.0), (7, 9.0)]).autoregression(4), 2.0 + 3.0 + 4.0 + 5.0);
    }

    #[test]
    fn par_is_the_last_number_of_steps_that_is_not_slower() {
        let step = Curve(vec![(1, 2.0), (8, 2.0)]);
        assert_eq!([1.9, 2.0, 7.9, 1000.0].map(|time| step.steps_within(8, time)), [0, 1, 3, 8]);
    }
}
