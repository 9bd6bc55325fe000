//! Chains given by their matrices: what a program is told of a step, and what the host does in its stead.
//!
//! A chain of T steps on V ids is 2 T matrices of V x V, which a table of 2 GiB bounds; a step reads two of them for each row of a
//! batch, as its [`posterior_kl`](galatea_autograd::Recorder::posterior_kl) does. Noisy tokens are drawn on the host, from rows of
//! Q_bar.

use super::Objective;
use crate::Error;
use crate::run::stream;
use galatea_processes::{Dense, TokenProcess};
use galatea_random::block;
use galatea_schedules::{AnySchedule, Schedule};

/// Bytes that the matrices of a chain may take.
const MOST: usize = 2 << 30;

/// The chain of `steps` that `name` says, as in "gaussian(8)": each step's beta is the schedule's, and the last step draws anew, so
/// that the prior is uniform.
///
/// # Errors
/// If there is no such noise, its neighbours have too much of it, or it does not fit in memory.
pub(super) fn chain(name: &str, schedule: &AnySchedule, steps: usize, vocab: usize) -> Result<Dense, Error> {
    let bytes = vocab.saturating_mul(vocab).saturating_mul(steps).saturating_mul(2 * size_of::<f64>());
    if bytes > MOST {
        let expected = format!("at most {} for {vocab} ids: each has two matrices", MOST / (bytes / steps).max(1));
        return Err(Error::Config { field: "objective.steps", expected, found: steps.to_string() });
    }
    let alpha_bar = |i: usize| if i == 0 { 1.0 } else { schedule.alpha_bar(i as f64 / steps as f64) };
    let beta = |i: usize| if alpha_bar(i - 1) > 0.0 { 1.0 - alpha_bar(i) / alpha_bar(i - 1) } else { 1.0 };
    let betas: Vec<f64> = (1..=steps).map(|i| beta(i).clamp(0.0, 1.0)).collect();
    let known = || {
        let (kind, width) = name.strip_suffix(')')?.split_once('(')?;
        let width = width.trim().parse().ok().filter(|width| (1..vocab).contains(width))?;
        match kind.trim() {
            "band" => Some(Dense::band(vocab, &betas, width)),
            "gaussian" => Some(Dense::discretised_gaussian(vocab, &betas, width)),
            _ => None,
        }
    };
    let expected = "\"band(N)\" or \"gaussian(N)\", which reach N neighbours on either side, fewer than there are ids";
    let unknown = || Error::Config { field: "process.matrices", expected: expected.to_owned(), found: name.to_owned() };
    let chain = known().ok_or_else(unknown)??;
    Ok(chain.ending_at(&vec![1.0 / vocab as f64; vocab])?)
}

/// Q_bar to the start of the step that ends at `t`, and the step's own matrix transposed, \[2, vocab, vocab\]. The step into the data
/// is D3PM's cross-entropy: the identity, and a likelihood of ones.
pub(super) fn matrices(chain: &Dense, t: f64, out: &mut Vec<f32>) {
    let (vocab, step) = (chain.vocab(), (t * chain.steps() as f64).round() as usize);
    let start = step.saturating_sub(1);
    if start == 0 {
        out.extend((0..vocab * vocab).map(|i| f32::from(u8::from(i / vocab == i % vocab))));
        out.resize(out.len() + vocab * vocab, 1.0);
        return;
    }
    out.extend(chain.q_bar(start - 1).iter().map(|&q| q as f32));
    out.extend(chain.q(start).t().iter().map(|&q| q as f32));
}

impl Objective {
    /// The noisy tokens of rows at their times, where the host draws them: those of a chain of matrices. `first` is the number of the
    /// first row in the step; prompts stay as they are.
    pub(crate) fn corrupt(
        &self,
        x_0: &[u32],
        t: &[f64],
        prompts: &[usize],
        (seed, step, first): (u64, u32, usize),
    ) -> Option<Vec<u32>> {
        let chain = self.chain.as_ref()?;
        let token = |(n, &x_0): (usize, &u32)| {
            let (row, position) = (n / self.len, n % self.len);
            if self.prompts && position < prompts[row] {
                return x_0;
            }
            let t = galatea_processes::times::quantise(t[row], chain.steps());
            chain.corrupt_token(t, x_0, block(seed, stream::CORRUPT, step, (first + row) as u32, position as u32))
        };
        Some(x_0.iter().enumerate().map(token).collect())
    }
}
