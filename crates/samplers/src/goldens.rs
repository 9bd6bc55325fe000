//! The samplers against the traces of the original implementations, with the originals' own random numbers.

use crate::draws::{At, Draws, stream};
use crate::*;
use galatea_fixtures::Fixture;
use galatea_processes::{Categorical, Denoiser, EmbeddingDenoiser, Limit, Variance};
use galatea_schedules::{Linear, LogLinear, Schedule, grid};
use ndarray::{Array2, ArrayRef2, ArrayRef3, Ix2, Ix3};
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

/// Recorded normals, whole tensors \[batch · len, d\]: the start, the given embeddings, one per step.
struct Normals {
    start: Vec<f64>,
    known: Vec<f64>,
    steps: Vec<Vec<f64>>,
}

impl Draws for Normals {
    fn uniforms(&mut self, _: u32, _: At, _: &mut [f64]) {
        unreachable!("the Gaussian sampler draws no uniforms")
    }
    fn normals(&mut self, stream: u32, at: At, _: Option<f64>, out: &mut [f64]) {
        let tensor = match stream {
            stream::START => &self.start,
            stream::KNOWN => &self.known,
            _ => &self.steps[at.step as usize],
        };
        out.copy_from_slice(&tensor[at.row as usize * out.len()..][..out.len()]);
    }
}

/// The recorded predictions in order; where they were rounded, moved a little, so that the sampler has to round again.
struct Recall {
    predictions: ndarray::Array4<f32>,
    call: usize,
    nudge: f32,
}

impl EmbeddingDenoiser for Recall {
    type Error = Infallible;
    fn denoise(&mut self, _: &ArrayRef3<f32>, _: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        x_0_hat.assign(&self.predictions.index_axis(ndarray::Axis(0), self.call));
        x_0_hat.iter_mut().enumerate().for_each(|(i, x)| *x += if i % 2 == 0 { self.nudge } else { -self.nudge });
        self.call += 1;
        Ok(())
    }
}

/// The step noises that Diffusion-LM used: with a bound, what lies beyond it was redrawn in order.
fn step_noises(golden: &Fixture, mut next: usize, stride: usize, bound: f64) -> Vec<Vec<f64>> {
    let redraw = |noise: &mut Vec<f64>, next: &mut usize| {
        while noise.iter().any(|z| z.abs() > bound) {
            let mut again = draw_of(golden, *next).into_iter();
            *next += 1;
            let beyond = noise.iter_mut().filter(|z| z.abs() > bound);
            beyond.for_each(|z| *z = again.next().expect("one redraw for each"));
            assert_eq!(again.next(), None, "no redraw is left over");
        }
    };
    (0..10)
        .map(|_| {
            let mut noise = draw_of(golden, next);
            next += 1;
            redraw(&mut noise, &mut next);
            next += stride - 1;
            noise
        })
        .collect()
}

#[test]
fn embedding_sampling_equals_diffusion_lm() {
    let large = Method::Ddpm(Variance::Large);
    let head = fixture("diffusion_lm_head");
    let table = head.get("param.word_embedding.weight").mapv(|x| x as f32);
    let table = table.into_dimensionality::<Ix2>().expect("[vocab, d]");
    for (name, method, clamp, bound, infill) in [
        ("ancestral", large, Clamp::Never, f64::INFINITY, false),
        ("ancestral_rounding", large, Clamp::Nearest, 1.0, false),
        ("ddim", Method::Ddim { eta: 0.0 }, Clamp::Nearest, f64::INFINITY, false),
        ("ddim_eta05", Method::Ddim { eta: 0.5 }, Clamp::Never, f64::INFINITY, false),
        ("infill", large, Clamp::Nearest, f64::INFINITY, true),
    ] {
        let golden = fixture(&format!("diffusion_lm_{name}"));
        let mut fixed = Fixed::none(2, 8);
        let (mut known, mut start, mut steps) = (vec![], draw_of(&golden, 0), vec![]);
        if infill {
            let (given, ids) = (golden.get("partial_mask"), golden.ids("infill_ids"));
            for (i, &id) in ids.iter().enumerate() {
                if given[[i / 8, i % 8, 0]] == 0.0 {
                    fixed.set(i / 8, i % 8, id).expect("inside");
                }
            }
            assert!(fixed.free() > 0 && fixed.free() < 16);
            known = start;
            start = draw_of(&golden, 1);
            // The last step has no second draw; nothing follows it.
            steps.extend(step_noises(&golden, 2, 2, bound));
        } else {
            steps.extend(step_noises(&golden, 1, 1, bound));
        }
        let alpha_bars = golden.vec("alphas_cumprod");
        let noisy = alpha_bars.iter().enumerate().rev().map(|(i, &a)| ((i + 1) as f64 / 10.0, a));
        let levels = Levels::from_pairs(noisy.chain([(0.0, 1.0)])).expect("descends");
        let options = EmbeddingOptions {
            method,
            clamp,
            known: Known::Clean,
            head_bias: Some(head.vec_f32("param.lm_head.bias")),
            ..Default::default()
        };
        let predictions = golden.get("pred_xstart_trace").mapv(|x| x as f32);
        let predictions = predictions.into_dimensionality().expect("[step, batch, len, d]");
        let nudge = if clamp == Clamp::Nearest { 0.01 } else { 0.0 };
        let denoiser = Recall { predictions, call: 0, nudge };
        let draws = Box::new(Normals { start, known, steps });
        let mut sampler = Embedding::with_draws(denoiser, &table, levels, fixed, options, draws).expect("sound");
        for step in 0..10 {
            let canvas = sampler.next().expect("another step").expect("infallible");
            let row = |name: &str| {
                let trace = golden.get(name).index_axis(ndarray::Axis(0), step);
                trace.into_dimensionality::<Ix3>().expect("[batch, len, d]").to_owned()
            };
            let far = |ours: &ArrayRef3<f32>, theirs: &ndarray::Array3<f64>| {
                ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
            };
            let x_0_hat = far(sampler.x_0_hat(), &row("pred_xstart_trace"));
            let z = far(sampler.z(), &row("x_trace"));
            // The original adds up in float32.
            assert!(x_0_hat < 1e-6 && z < 2e-5, "{name}, step {step}: x_0_hat {x_0_hat:e}, x {z:e}");
            if step == 9 {
                assert_eq!(canvas.ids.iter().copied().collect::<Vec<_>>(), golden.ids("final_ids"), "{name}");
            }
        }
        assert!(sampler.next().is_none());
    }
}
