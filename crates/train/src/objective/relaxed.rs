//! Programs of continuous diffusion whose prediction is a mean embedding: what Plaid and CDCD record.
//!
//! The texts of a step stand in groups, each of which is treated alike: some are denoised at once, the others a second time with
//! the first prediction at hand (self-conditioning). A group is recorded with the inputs that the host fills.

use galatea_autograd::{DType, Recorder, Rows, Var};
use galatea_models::Plaid;
use galatea_models::plaid::{Noisy, corrupt};

/// How often a group's texts are denoised, and what learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Once.
    One,
    /// Twice; the first prediction is a constant. CDCD.
    Two,
    /// Twice, and embeddings and noise levels are constants throughout: the second pass teaches the network alone. Plaid.
    TwoCut,
}

/// Which terms the loss of a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// The cross-entropy of the logits, weighted by row.
    CrossEntropy,
    /// The cross-entropy and the squared error of the mean embedding, each with its own weights by row: a variational bound.
    Bound,
}

/// What a group is.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The network.
    pub plaid: &'a Plaid,
    /// Ids that data can hold.
    pub vocab: usize,
    /// Texts.
    pub rows: usize,
    /// Tokens of a text.
    pub len: usize,
    /// How often they are denoised.
    pub passes: Passes,
    /// What is summed.
    pub terms: Terms,
}

/// A recorded group: inputs for the host to fill, and what can be read after a run if it is among the program's outputs.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Clean ids u32 [rows, len].
    pub x_0: Var,
    /// (signal, sigma) [rows, 2].
    pub level: Var,
    /// Factors of the input and of the output prior [rows, 2].
    pub scales: Var,
    /// Features of the level [rows, features].
    pub features: Var,
    /// The weight of a token's cross-entropy [rows, 1].
    pub ce_weight: Var,
    /// The weight of a token's squared error [rows, 1], for [`Terms::Bound`].
    pub error_weight: Option<Var>,
    /// The scalar to minimise.
    pub loss: Var,
    /// Cross-entropies [rows, len].
    pub nll: Var,
    /// Squared errors [rows, len].
    pub error: Var,
    /// Noisy embeddings [rows, len, d_embed].
    pub z: Var,
    /// Embeddings of unit length [vocab, d_embed].
    pub e: Var,
    /// The first of two predictions.
    pub before: Option<Var>,
    /// Logits [rows, len, vocab].
    pub logits: Var,
    /// The prediction [rows, len, d_embed].
    pub x_0_hat: Var,
}

impl Group {
    /// The inputs whose gradient tells how the loss depends on the noise level, in the order level, scales, features.
    pub fn told(&self) -> [Var; 3] {
        [self.level, self.scales, self.features]
    }
}

/// Records a group; `name` tells its inputs from another's. With `noise` [rows, len, d_embed] that noise is taken instead of a
/// draw. Where the loss depends on the noise level its gradient is sought: [`Recorder::gradient`] of [`Group::told`].
pub fn record(rec: &mut Recorder, recipe: Recipe<'_>, name: &str, noise: Option<Var>) -> Group {
    let Recipe { plaid, vocab, rows, len, passes, terms } = recipe;
    let mut input = |part: &str, dims: &[usize]| rec.input(&format!("{part}{name}"), dims, DType::F32);
    let level = input("level", &[rows, 2]);
    let scales = input("scales", &[rows, 2]);
    let features = input("features", &[rows, plaid.features()]);
    let ce_weight = input("ce_weight", &[rows, 1]);
    let error_weight = (terms == Terms::Bound).then(|| input("error_weight", &[rows, 1]));
    let x_0 = rec.input(&format!("x_0{name}"), &[rows, len], DType::U32);
    let cut = passes == Passes::TwoCut;
    if terms == Terms::Bound && !cut {
        [level, scales, features].into_iter().for_each(|input| rec.seek(input));
    }
    let table = plaid.table(rec, vocab);
    let e = if cut { rec.without_gradient(|rec| plaid.embeddings(rec, table)) } else { plaid.embeddings(rec, table) };
    let x = rec.embedding(x_0, e);
    let z = corrupt(rec, x, level, noise);
    let noisy = Noisy { z, scales, features };
    let before = match passes {
        Passes::One => None,
        Passes::Two | Passes::TwoCut => Some(rec.without_gradient(|rec| plaid.denoise(rec, noisy, e, None).x_0_hat)),
    };
    let denoised = plaid.denoise(rec, noisy, e, before);
    let zeros = rec.constant(&[rows, len, 1], vec![0.0; rows * len]);
    let w = rec.add_rows(zeros, ce_weight, Rows::Batch);
    let (ce_loss, nll) = rec.cross_entropy(denoised.logits, x_0, w, None);
    // Without a weight the errors are measured and move nothing.
    let w = error_weight.map_or(zeros, |weight| rec.add_rows(zeros, weight, Rows::Batch));
    let (error_loss, error) = rec.squared_error(denoised.x_0_hat, x, w);
    let loss = match terms {
        Terms::CrossEntropy => ce_loss,
        Terms::Bound => rec.add(ce_loss, error_loss),
    };
    let (logits, x_0_hat) = (denoised.logits, denoised.x_0_hat);
    Group { x_0, level, scales, features, ce_weight, error_weight, loss, nll, error, z, e, before, logits, x_0_hat }
}
