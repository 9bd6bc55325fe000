//! The usable window: at which signal powers does a noisy embedding still hide its token?
//!
//! Draws tokens, adds Gaussian noise to their embeddings and reads each one back by maximum likelihood, alone, without
//! any context. Where that succeeds a denoiser has nothing to learn about language; where it fails almost always there
//! is little signal. See `docs/derivations/window.md`.
//!
//! ```text
//! cargo run --release -p galatea-processes --example window -- [vocab] [d] [samples] [normal|unit]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its table")]

use galatea_processes::Gaussian;
use galatea_random::Philox;
use galatea_schedules::{AnySchedule, Schedule};
use ndarray::{Array1, Array2, Axis};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    if arguments.is_empty() {
        measure(30_000, 768, 2000, false);
        measure(30_000, 16, 2000, true);
    } else {
        let unit = arguments.get(3).is_some_and(|kind| kind == "unit");
        measure(number(0, 30_000), number(1, 768), number(2, 2000), unit);
    }
}

fn measure(vocab: usize, d: usize, samples: usize, unit: bool) {
    let mut embeddings = normals(vocab, d, 0);
    if unit {
        for mut row in embeddings.rows_mut() {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row /= norm;
        }
    }
    let squares: Array1<f32> = embeddings.map_axis(Axis(1), |e| e.iter().map(|x| x * x).sum());
    let mean_square = f64::from(squares.mean().expect("a vocabulary"));
    // snr |e|² = 4 ln V, solved for alpha_bar.
    let snr = 4.0 * (vocab as f64).ln() / mean_square;
    let predicted = snr / (1.0 + snr);
    let kind = if unit { "unit norm" } else { "N(0, I)" };
    println!("V = {vocab}, d = {d}, rows {kind}, mean |e|² = {mean_square:.1}, {samples} samples per line");
    println!("predicted transition: alpha_bar = {predicted:.4}\n");
    println!("alpha_bar   snr |e|² / (4 ln V)   token errors");
    let mut rng = Philox::new(1, 0, 0, 0);
    for ratio in [8.0, 4.0, 2.0, 1.5, 1.0, 0.75, 0.5, 0.375, 0.25, 0.125] {
        let alpha_bar = snr * ratio / (1.0 + snr * ratio);
        let tokens: Vec<usize> = (0..samples).map(|_| rng.below(vocab)).collect();
        let share = errors(&embeddings, &squares, &tokens, alpha_bar) as f64 / samples as f64;
        let spread = (share * (1.0 - share) / samples as f64).sqrt();
        println!("{alpha_bar:9.4}   {ratio:19.3}   {:6.1} % ± {:.1}", 100.0 * share, 100.0 * spread);
    }
    println!("\nshare of the time t in [0, 1] with snr |e|² / (4 ln V)   above 1   1 to 1/8   below 1/8");
    let at = |ratio: f64| snr * ratio / (1.0 + snr * ratio);
    for name in ["linear", "linear-beta", "cosine", "sqrt"] {
        let schedule: AnySchedule = name.parse().expect("a schedule's name");
        let (first, last) = (schedule.time_of(at(1.0)), schedule.time_of(at(0.125)));
        let [above, within, below] = [first, last - first, 1.0 - last].map(|share| 100.0 * share);
        println!("{name:>53}   {above:5.1} %   {within:6.1} %   {below:7.1} %");
    }
    println!();
}

/// How many tokens are read back wrongly: argmax over k of a h·e_k - a² |e_k|² / 2, the likelihood of h under e_k.
fn errors(embeddings: &Array2<f32>, squares: &Array1<f32>, tokens: &[usize], alpha_bar: f64) -> usize {
    let (signal, spread) = Gaussian.marginal(alpha_bar);
    let (signal, spread) = (signal as f32, spread as f32);
    let step = (alpha_bar * 1e6) as u32;
    let noisy =
        embeddings.select(Axis(0), tokens) * signal + normals(tokens.len(), embeddings.ncols(), step + 1) * spread;
    let mut wrong = 0;
    for (rows, tokens) in noisy.axis_chunks_iter(Axis(0), 64).zip(tokens.chunks(64)) {
        let scores = rows.dot(&embeddings.t()) - squares * (0.5 * signal);
        for (scores, &token) in scores.rows().into_iter().zip(tokens) {
            let best = (0..scores.len()).max_by(|&i, &j| scores[i].total_cmp(&scores[j])).expect("a vocabulary");
            wrong += usize::from(best != token);
        }
    }
    wrong
}

fn normals(rows: usize, d: usize, step: u32) -> Array2<f32> {
    let mut values = Array2::zeros((rows, d));
    for (row, mut line) in values.rows_mut().into_iter().enumerate() {
        let mut rng = Philox::new(7, 1, step, row as u32);
        line.iter_mut().for_each(|x| *x = rng.normal() as f32);
    }
    values
}
