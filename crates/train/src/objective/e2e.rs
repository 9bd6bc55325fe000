//! Diffusion-LM's end-to-end loss as a program: embeddings, network and rounding learn together.
//!
//! ```text
//! x_start = E[x_0] + sqrt(1 - alpha_bar_start) noise,   x_t = signal x_start + sigma noise
//! loss = mean |x_0_hat(x_t) - x_start|² + mean alpha_bar_end |x_start|² - mean log softmax(rounding(x_start))[x_0]
//! ```
//!
//! In a chain's first step the target of the first term is E\[x_0\] itself. The last term reads the true token's noised embedding and
//! not the prediction: it keeps embeddings apart.
//!
//! # Source
//! Li et al. (2022), "Diffusion-LM improves controllable text generation", section 4.1; `training_losses_e2e` of its code.

use galatea_autograd::{Chunk, Recorder, Rows, Var};
use galatea_models::Rounding;
use galatea_models::plaid::corrupt;

/// What the program is told.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Clean ids u32 [batch, len].
    pub x_0: Var,
    /// (signal, sigma) of every row [batch, 2].
    pub level: Var,
    /// The weight of a token's squared error in every row [batch, 1].
    pub weight: Var,
    /// (0, 1) for rows at the first step of a chain and (1, 0) for others, f32 [batch, 2]; nothing where there is no chain.
    pub first: Option<Var>,
    /// The noise of x_start and of x_t, [batch, len, d_embed] each, instead of draws.
    pub noise: Option<[Var; 2]>,
}

/// The signal at the ends of the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// alpha_bar of the first noisy level.
    pub start: f64,
    /// alpha_bar of the last.
    pub end: f64,
}

/// What was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The scalar to minimise.
    pub loss: Var,
    /// The start of the chain [batch, len, d_embed].
    pub x_start: Var,
    /// The noisy embeddings.
    pub x_t: Var,
    /// The prediction.
    pub x_0_hat: Var,
    /// |x_0_hat - target|² of every token [batch, len].
    pub error: Var,
    /// |x_start|² of every token.
    pub square: Var,
    /// The cross-entropy of every token.
    pub nll: Var,
}

/// Records the loss of a network that maps (recorder, x_t) to x_0_hat; its second and third term are means times `share`.
pub fn record(
    rec: &mut Recorder,
    inputs: Inputs,
    rounding: Rounding,
    ends: Ends,
    share: f64,
    network: impl FnOnce(&mut Recorder, Var) -> Var,
) -> Recorded {
    let Inputs { x_0, level, weight, first, noise } = inputs;
    let e = rec.embedding(x_0, rounding.table);
    let shape = rec.shape(e);
    let (batch, len, d) = (shape.dim(0), shape.dim(1), shape.dim(2));
    let spread = (1.0 - ends.start).max(0.0).sqrt();
    let start = rec.constant(&[batch, 2], [1.0, spread as f32].repeat(batch));
    let x_start = corrupt(rec, e, start, noise.map(|[of_start, _]| of_start));
    let x_t = corrupt(rec, x_start, level, noise.map(|[_, of_t]| of_t));
    let x_0_hat = network(rec, x_t);
    let target = match first {
        None => x_start,
        Some(first) => {
            let part = |index| Chunk { index, of: 2 };
            let (noisy, clean) = (rec.scale_rows(x_start, first, part(0)), rec.scale_rows(e, first, part(1)));
            rec.add(noisy, clean)
        }
    };
    // A row's weight, for each of its tokens.
    let zeros = rec.constant(&[batch, len, 1], vec![0.0; batch * len]);
    let w = rec.add_rows(zeros, weight, Rows::Batch);
    let (error_loss, error) = rec.squared_error(x_0_hat, target, w);
    let mean = share / (batch * len) as f64;
    let logits = rounding.logits(rec, x_start);
    let w = rec.constant(&[batch, len], vec![mean as f32; batch * len]);
    let (nll_loss, nll) = rec.cross_entropy(logits, x_0, w, None);
    let w = rec.constant(&[batch, len], vec![(mean * ends.end / d as f64) as f32; batch * len]);
    let nothing = rec.constant(&[batch, len, d], vec![0.0; batch * len * d]);
    let nothing = rec.cast(nothing, rec.precision());
    let (end_loss, square) = rec.squared_error(x_start, nothing, w);
    let loss = rec.add(error_loss, nll_loss);
    let loss = rec.add(loss, end_loss);
    Recorded { loss, x_start, x_t, x_0_hat, error, square, nll }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_autograd::{Activation, DType, Init, Part, Session};
    use galatea_fixtures::derivative;
    use galatea_kernels::Cpu;
    use galatea_models::{DiffusionLm, RoundingLogits};
    use galatea_random::Philox;

    const BATCH: usize = 2;
    const LEN: usize = 3;
    const D: usize = 4;
    const VOCAB: usize = 5;
    const ENDS: Ends = Ends { start: 0.9, end: 0.2 };
    const LEVELS: [[f64; 2]; BATCH] = [[0.8, 0.6], [0.3, 0.95]];
    const WEIGHTS: [f64; BATCH] = [0.04, 0.07];
    /// The first row is at the first step of its chain.
    const FIRST: [bool; BATCH] = [true, false];
    const X_0: [usize; BATCH * LEN] = [1, 4, 0, 2, 1, 3];
    const SHARE: f64 = 0.5;

    fn normals(count: usize, row: u32) -> Vec<f64> {
        let mut rng = Philox::new(17, 0, 0, row);
        (0..count).map(|_| f64::from(rng.normal() as f32)).collect()
    }

    fn row(of: &[f64], i: usize) -> &[f64] {
        &of[i * D..(i + 1) * D]
    }

    /// The loss as the paper has it, in f64 and in order: E, the head's rows and bias (empty where there is none), and a network that
    /// is one matrix.
    fn textbook([e, head, bias, network]: [&[f64]; 4], tied: bool, distance: bool) -> f64 {
        let (of_start, of_t) = (normals(BATCH * LEN * D, 1), normals(BATCH * LEN * D, 2));
        let head = if tied { e } else { head };
        let tokens = (BATCH * LEN) as f64;
        let mut loss = 0.0;
        for (n, &id) in X_0.iter().enumerate() {
            let ([signal, sigma], b) = (LEVELS[n / LEN], n / LEN);
            let clean = row(e, id);
            let noisy = |i: usize| clean[i] + (1.0 - ENDS.start).sqrt() * row(&of_start, n)[i];
            let x_start: Vec<f64> = (0..D).map(noisy).collect();
            let x_t: Vec<f64> = (0..D).map(|i| signal * x_start[i] + sigma * row(&of_t, n)[i]).collect();
            let target = if FIRST[b] { clean } else { &x_start };
            for i in 0..D {
                let x_0_hat: f64 = row(network, i).iter().zip(&x_t).map(|(a, x)| a * x).sum();
                loss += WEIGHTS[b] * (x_0_hat - target[i]).powi(2);
                loss += SHARE * ENDS.end * x_start[i].powi(2) / (tokens * D as f64);
            }
            let logit = |k: usize| -> f64 {
                let w = row(head, k);
                match distance {
                    true => -w.iter().zip(&x_start).map(|(w, x)| (x - w).powi(2)).sum::<f64>().sqrt(),
                    false => w.iter().zip(&x_start).map(|(w, x)| w * x).sum::<f64>() + bias[k],
                }
            };
            let total = (0..VOCAB).map(|k| logit(k).exp()).sum::<f64>().ln();
            loss += SHARE * (total - logit(id)) / tokens;
        }
        loss
    }

    /// Both heads, tied and with rows of their own: the value, and the gradient of every parameter against finite differences.
    #[test]
    fn the_program_is_the_textbooks_loss_under_every_head() {
        for (tied, logits) in [true, false]
            .into_iter()
            .flat_map(|tied| [RoundingLogits::Product, RoundingLogits::Distance].map(|logits| (tied, logits)))
        {
            let shape = DiffusionLm { d_embed: D, tied, logits, ..DiffusionLm::default() };
            let mut rec = Recorder::new();
            let dims = [BATCH, LEN, D];
            let x_0 = rec.input("x_0", &[BATCH, LEN], DType::U32);
            let mut input = |name: &str, dims: &[usize]| rec.input(name, dims, DType::F32);
            let noise = [input("of start", &dims), input("of t", &dims)];
            let (level, weight) = (input("level", &[BATCH, 2]), input("weight", &[BATCH, 1]));
            let first = input("first", &[BATCH, 2]);
            let rounding = shape.rounding(&mut rec, VOCAB);
            let inputs = Inputs { x_0, level, weight, first: Some(first), noise: Some(noise) };
            let recorded = record(&mut rec, inputs, rounding, ENDS, SHARE, |rec, z| {
                let network = rec.param("network", &[D, D], Init::Zeros);
                rec.linear(z, network, None, Activation::None)
            });
            rec.backward(recorded.loss);
            let mut session = Session::new(Cpu::new(), rec.finish(&[recorded.loss])).expect("memory");
            let narrow = |x: &[f64]| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
            session.write(x_0, &X_0.map(|id| id as u32)).expect("written");
            for (var, values) in [
                (noise[0], normals(BATCH * LEN * D, 1)),
                (noise[1], normals(BATCH * LEN * D, 2)),
                (level, LEVELS.as_flattened().to_vec()),
                (weight, WEIGHTS.to_vec()),
                (first, FIRST.iter().flat_map(|&first| if first { [0.0, 1.0] } else { [1.0, 0.0] }).collect()),
            ] {
                session.write(var, &narrow(&values)).expect("written");
            }
            let names = ["word_embedding.weight", "lm_head.weight", "lm_head.bias", "network"];
            let counts = [VOCAB * D, VOCAB * D, VOCAB, D * D];
            let values: [Vec<f64>; 4] = std::array::from_fn(|i| normals(counts[i], 10 + i as u32));
            let index =
                |session: &Session<Cpu>, name: &str| session.plan().params().iter().position(|p| p.path == name);
            for (name, values) in names.iter().zip(&values) {
                if let Some(index) = index(&session, name) {
                    session.set_param(index, Part::Value, &narrow(values)).expect("set");
                }
            }
            session.run().expect("a pass");
            let distance = logits == RoundingLogits::Distance;
            let loss = |of: &[Vec<f64>; 4]| textbook(std::array::from_fn(|i| of[i].as_slice()), tied, distance);
            let found = f64::from(session.read::<f32>(recorded.loss).expect("read")[0]);
            let truth = loss(&values);
            assert!((found - truth).abs() < 1e-6 * truth, "tied {tied}, {logits:?}: {found} instead of {truth}");
            assert_eq!(index(&session, "lm_head.weight").is_none(), tied);
            assert_eq!(index(&session, "lm_head.bias").is_none(), distance);
            for (part, name) in names.iter().enumerate() {
                let Some(index) = index(&session, name) else { continue };
                let gradient = session.param(index, Part::Grad).expect("read").expect("a gradient");
                for (k, &found) in gradient.iter().enumerate() {
                    let at = |x: f64| {
                        let mut moved = values.clone();
                        moved[part][k] = x;
                        loss(&moved)
                    };
                    let truth = derivative(at, values[part][k], 1e-3);
                    let error = (f64::from(found) - truth).abs();
                    assert!(error < 2e-6, "tied {tied}, {logits:?}, {name}[{k}]: {found} instead of {truth}");
                }
            }
        }
    }
}
