//! The KL of one step's posteriors for a chain given by its matrices: D3PM with any noise whose V x V can be written down.
//!
//! ```text
//! p = softmax(logits),  m_k = sum_i p_i Q_bar[i, k],  l_k = Q[x_t, k]
//! truth_k = Q_bar[x_0, k] l_k / q,  q = sum_k Q_bar[x_0, k] l_k;      model_k = m_k l_k / P,  P = sum_k m_k l_k
//! d = sum_k truth_k log(truth_k / model_k) - lambda log p[x_0];       loss = sum_n w_n d_n
//! dm_k = l_k / P - truth_k / m_k,   dp_i = sum_k Q_bar[i, k] dm_k,   dlogits = w dloss (p (dp - <p, dp>) + lambda (p - onehot(x_0)))
//! ```
//!
//! Every row of a batch has a time of its own and so two matrices, `chain[b, 0]` = Q_bar, which leads from the data to the start
//! of the step, and `chain[b, 1]` = Q, the *transpose* of the step's matrix: its row x_t is the likelihood of x_t. The divergence is
//! summed as truth_k G(model_k / truth_k), G(u) = u - 1 - log u, and model_k where the truth has nothing: no term is negative, and a
//! model that is nearly right keeps its digits. Where x_0 cannot lead to x_t the first term is 0.
//!
//! Shapes: logits, dlogits, p, m `[b, l, v]`; x_0, x_t, w, d `[b, l]`; chain `[b, 2, v, v]`; loss `[1]`. Rows of weight zero are
//! skipped. Cost: 2 v operations an element forward, as many backward: a row of logits meets a matrix of its batch row. Meant for
//! vocabularies up to a few hundred; the closed forms of uniform and mask noise are [`divergence`](super::divergence).
//!
//! # Source
//! Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces", equations 1, 3 and 5, appendix A.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{Tokens, backward, forward};
