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
