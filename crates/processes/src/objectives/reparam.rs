//! From logits to an embedding: the categorical reparameterisation of CDCD and Plaid.

use super::softmax;
use ndarray::{ArrayRef2, Axis};

/// x_0_hat = softmax(logits) E: the mean embedding. Leaves the probabilities in `logits`.
///
/// # Shapes
/// `logits` \[vocab\], `embeddings` \[vocab, d\], `x_0_hat` \[d\].
///
/// # Panics
/// If the shapes do not fit.
///
/// # Source
/// Dieleman et al. (2022), CDCD, "score interpolation"; Gulrajani, Hashimoto (2023), Plaid.
pub fn mean_embedding(logits: &mut [f64], embeddings: &ArrayRef2<f64>, x_0_hat: &mut [f64]) {
    assert_eq!(embeddings.dim(), (logits.len(), x_0_hat.len()), "mean_embedding: embeddings must be [vocab, d]");
    softmax(logits);
    x_0_hat.fill(0.0);
    for (&p, e) in logits.iter().zip(embeddings.outer_iter()) {
        x_0_hat.iter_mut().zip(&e).for_each(|(x, e)| *x += p * e);
    }
}

/// The gradients of [`mean_embedding`] from that with respect to x_0_hat: writes `dlogits`, adds to `dembeddings` if given.
///
/// # Shapes
/// `p` (what `mean_embedding` left) and `dlogits` \[vocab\], `dx_0_hat` \[d\], `embeddings` and `dembeddings` \[vocab, d\].
///
/// # Panics
/// If the shapes do not fit.
pub fn mean_embedding_backward(
    p: &[f64],
    embeddings: &ArrayRef2<f64>,
    dx_0_hat: &[f64],
    dlogits: &mut [f64],
    dembeddings: Option<&mut ArrayRef2<f64>>,
) {
    assert_eq!(embeddings.dim(), (p.len(), dx_0_hat.len()), "mean_embedding: embeddings must be [vocab, d]");
    assert_eq!(p.len(), dlogits.len(), "mean_embedding: one gradient per logit");
    for (d, e) in dlogits.iter_mut().zip(embeddings.outer_iter()) {
        *d = e.iter().zip(dx_0_hat).map(|(e, dx)| e * dx).sum();
    }
    let inner: f64 = p.iter().zip(dlogits.iter()).map(|(p, d)| p * d).sum();
    dlogits.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - inner));
    if let Some(dembeddings) = dembeddings {
        for (mut row, p) in dembeddings.outer_iter_mut().zip(p) {
            row.iter_mut().zip(dx_0_hat).for_each(|(d, dx)| *d += p * dx);
        }
    }
}

/// Adds Plaid's output prior to the logits: `strength` a / b² z_t·e_k with a² = alpha_bar and b² = 1 - alpha_bar, the part of
/// log q(z_t | e_k) that tells unit-norm embeddings apart. At strength 1 the network is left with what the *other* positions say.
///
/// # Shapes
/// `logits` \[vocab\], `z_t` \[d\], `embeddings` \[vocab, d\].
///
/// # Panics
/// If the shapes do not fit.
///
/// # Source
/// Gulrajani, Hashimoto (2023), Plaid, the output prior (its code ramps the strength from 0 to 1 over 5000 steps).
pub fn add_output_prior(logits: &mut [f64], z_t: &[f64], embeddings: &ArrayRef2<f64>, alpha_bar: f64, strength: f64) {
    assert_eq!(embeddings.dim(), (logits.len(), z_t.len()), "add_output_prior: embeddings must be [vocab, d]");
    let scale = strength * alpha_bar.sqrt() / (1.0 - alpha_bar);
    for (logit, e) in logits.iter_mut().zip(embeddings.outer_iter()) {
        *logit += scale * e.iter().zip(z_t).map(|(e, z)| e * z).sum::<f64>();
    }
}

/// Scales every row to norm 1: e / (|e| + `eps`). Plaid adds 1e-8, CDCD nothing.
///
/// # Shapes
/// `table` and `unit` \[vocab, d\].
///
/// # Panics
/// If the shapes differ.
pub fn unit_rows(table: &ArrayRef2<f64>, eps: f64, unit: &mut ArrayRef2<f64>) {
    assert_eq!(table.dim(), unit.dim(), "unit_rows: one shape");
    for (row, mut unit) in table.axis_iter(Axis(0)).zip(unit.axis_iter_mut(Axis(0))) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt() + eps;
        unit.iter_mut().zip(&row).for_each(|(u, x)| *u = x / norm);
    }
}

/// Adds the gradient with respect to the table from that with respect to its unit rows; a row of norm 0 gets none.
///
/// # Shapes
/// All \[vocab, d\].
///
/// # Panics
/// If the shapes differ.
pub fn unit_rows_backward(table: &ArrayRef2<f64>, eps: f64, dunit: &ArrayRef2<f64>, dtable: &mut ArrayRef2<f64>) {
    assert!(table.dim() == dunit.dim() && table.dim() == dtable.dim(), "unit_rows: one shape");
    for ((row, du), mut dx) in table.outer_iter().zip(dunit.outer_iter()).zip(dtable.outer_iter_mut()) {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            let along: f64 = row.iter().zip(&du).map(|(x, d)| x * d).sum::<f64>() / (length * (length + eps));
            for ((dx, x), du) in dx.iter_mut().zip(&row).zip(&du) {
                *dx += (du - along * x) / (length + eps);
            }
        }
    }
}
