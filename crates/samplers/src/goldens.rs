//! The samplers against the traces of the original implementations, with the originals' own random numbers.

use crate::draws::{At, Draws, stream};
use crate::*;
use galatea_fixtures::Fixture;
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_schedules::{Linear, LogLinear, Schedule, grid};
use ndarray::{Array2, ArrayRef2, ArrayRef3, Ix2};
use std::convert::Infallible;

fn fixture(name: &str) -> Fixture {
    Fixture::read(format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

fn draw_of(golden: &Fixture, index: usize) -> Vec<f64> {
    let prefix = format!("rnd.{index:03}.");
    let name = golden.names().find(|name| name.starts_with(&prefix)).expect("a recorded draw").to_owned();
    golden.vec(&name)
}

/// Recorded uniforms \[batch · len, vocab\] per step, one for every token of every position.
struct Recorded {
    start: Vec<f64>,
    uniforms: Vec<Vec<f64>>,
}

impl Draws for Recorded {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        assert_eq!(stream, stream::TOKENS);
        out.copy_from_slice(&self.uniforms[at.step as usize][at.row as usize * out.len()..][..out.len()]);
    }
    fn below(&mut self, _: u32, at: At, _: usize) -> usize {
        self.start[at.row as usize] as usize
    }
}

/// The table function, which also notes what it was asked.
struct TableFunction {
    pos: Array2<f64>,
    own: Array2<f64>,
    left: Array2<f64>,
    right: Array2<f64>,
    asked: std::sync::Arc<std::sync::Mutex<Vec<Vec<u32>>>>,
}

impl TableFunction {
    fn new(golden: &Fixture) -> Self {
        let table = |name: &str| {
            let array = golden.get(&format!("table.{name}")).clone();
            array.into_dimensionality::<Ix2>().expect("a table of two axes")
        };
        let (pos, own, left, right) = (table("pos"), table("own"), table("left"), table("right"));
        Self { pos, own, left, right, asked: std::sync::Arc::default() }
    }
}

impl Denoiser for TableFunction {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        self.asked.lock().expect("one thread").push(x_t.iter().copied().collect());
        let len = x_t.ncols();
        for ((b, l, v), logit) in logits.indexed_iter_mut() {
            let at = |l: usize| x_t[[b, l]] as usize;
            let mut sum = self.pos[[l, v]] as f32 + self.own[[at(l), v]] as f32;
            if l > 0 {
                sum += self.left[[at(l - 1), v]] as f32;
            }
            if l + 1 < len {
                sum += self.right[[at(l + 1), v]] as f32;
            }
            *logit = sum;
        }
        Ok(())
    }
}

/// Runs an ancestral trace and compares every canvas and, where told, the canvases that the denoiser saw.
fn compare_ancestral(
    name: &str,
    limit: Limit,
    schedule: &impl Schedule,
    time: TimeDependence,
    noise_removal: NoiseRemoval,
) {
    let golden = fixture(name);
    let steps = 6;
    let (first, start) = match limit {
        Limit::Mask(_) => (0, vec![]),
        Limit::Uniform => (1, draw_of(&golden, 0)),
    };
    let drawn = steps + usize::from(noise_removal == NoiseRemoval::Sample);
    let uniforms = (0..drawn).map(|i| draw_of(&golden, first + i)).collect();
    let draws = Recorded { start, uniforms };
    let denoiser = TableFunction::new(&golden);
    let asked = std::sync::Arc::clone(&denoiser.asked);
    let process = Categorical::new(20, limit).expect("twenty ids");
    let levels = Levels::new(schedule, &grid::with_floor(steps, 1e-5)).expect("descends");
    let options = AncestralOptions { time, noise_removal, idiom: Idiom::Guarded64, ..Default::default() };
    let fixed = Fixed::none(2, 10);
    let mut sampler =
        Ancestral::with_draws(denoiser, process, levels, fixed, options, Box::new(draws)).expect("sound arguments");
    let expected = golden.ids("x_steps");
    for (step, expected) in expected.chunks(20).enumerate() {
        let canvas = sampler.next().expect("another step").expect("infallible");
        assert_eq!(canvas.ids.iter().copied().collect::<Vec<_>>(), expected, "{name}, step {step}");
    }
    let last = sampler.finish().expect("infallible");
    assert_eq!(last.ids.iter().copied().collect::<Vec<_>>(), golden.ids("x_final"), "{name}, the end");
    // Where no mask is left we save the original's last call.
    let asked = asked.lock().expect("one thread");
    let calls: Vec<u32> = asked.concat();
    assert_eq!(calls, golden.ids("calls.x")[..calls.len()], "{name}, calls");
    assert!(asked.len() >= steps, "{name}");
}

#[test]
fn ancestral_sampling_equals_mdlm() {
    let mask = Limit::Mask(19);
    let (free, conditioned) = (TimeDependence::Free, TimeDependence::Conditioned);
    compare_ancestral("mdlm_ddpm", mask, &LogLinear::default(), conditioned, NoiseRemoval::Argmax);
    compare_ancestral("mdlm_ddpm_cache", mask, &Linear, free, NoiseRemoval::Argmax);
    compare_ancestral("mdlm_ddpm_cache_timecond", mask, &Linear, conditioned, NoiseRemoval::Argmax);
}

#[test]
fn ancestral_sampling_equals_udlm_and_duo() {
    let (schedule, time) = (LogLinear::default(), TimeDependence::Conditioned);
    compare_ancestral("udlm_ancestral_uniform", Limit::Uniform, &schedule, time, NoiseRemoval::Off);
    compare_ancestral("duo_ancestral", Limit::Uniform, &schedule, time, NoiseRemoval::Sample);
}
