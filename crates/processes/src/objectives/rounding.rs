//! From an embedding back to a token: logits and their negative log-likelihood.

use super::log_sum_exp;
use ndarray::{ArrayRef1, ArrayRef2};

/// How a vector h scores the tokens' embeddings e_k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    /// h·e_k: a tied linear head (Diffusion-LM's logits mode 1). Nearest only if all embeddings have one norm.
    Dot,
    /// -|h - e_k|: Diffusion-LM's logits mode 2. Its argmax is the nearest embedding.
    Distance,
    /// (a h·e_k - a² |e_k|² / 2) / b², with a = sqrt(alpha_bar) and b² = 1 - alpha_bar: log q(h | e_k) up to a constant,
    /// so the exact posterior over tokens of a noisy embedding h = a e + b noise when a priori all are alike.
    Bayes {
        /// The signal power at which h was drawn.
        alpha_bar: f64,
    },
}

impl Rounding {
    /// Writes the logits of one vector.
    ///
    /// # Shapes
    /// `h` \[d\], `embeddings` \[vocab, d\], `bias` \[vocab\] if there is one, `logits` \[vocab\].
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn logits(self, h: &[f64], embeddings: &ArrayRef2<f64>, bias: Option<&ArrayRef1<f64>>, logits: &mut [f64]) {
        assert_eq!(embeddings.dim(), (logits.len(), h.len()), "rounding: embeddings must be [vocab, d]");
        for (k, (logit, e)) in logits.iter_mut().zip(embeddings.outer_iter()).enumerate() {
            let score = match self {
                Self::Dot => e.iter().zip(h).map(|(e, h)| e * h).sum(),
                Self::Distance => -e.iter().zip(h).map(|(e, h)| (h - e) * (h - e)).sum::<f64>().sqrt(),
                Self::Bayes { alpha_bar } => {
                    let (a, noise) = (alpha_bar.sqrt(), 1.0 - alpha_bar);
                    e.iter().zip(h).map(|(e, h)| a * e * (h - 0.5 * a * e)).sum::<f64>() / noise
                }
            };
            *logit = score + bias.map_or(0.0, |bias| bias[k]);
        }
    }

    /// -log softmax(logits)\[token\] in nats. Leaves softmax(logits) - token, the gradient with respect to the logits
    /// (and to the bias), in `logits`.
    ///
    /// # Shapes and panics
    /// As [`logits`](Self::logits); `logits` is a buffer.
    ///
    /// # Source
    /// Li et al. (2022), Diffusion-LM, section 4.1: the term -log p(w | x_0) of the end-to-end objective.
    pub fn nll(
        self,
        h: &[f64],
        embeddings: &ArrayRef2<f64>,
        bias: Option<&ArrayRef1<f64>>,
        token: u32,
        logits: &mut [f64],
    ) -> f64 {
        self.logits(h, embeddings, bias, logits);
        let total = log_sum_exp(logits, None);
        let nll = total - logits[token as usize];
        logits.iter_mut().for_each(|logit| *logit = (*logit - total).exp());
        logits[token as usize] -= 1.0;
        nll
    }

    /// Adds the gradients with respect to h and, if given, the embeddings, from `dlogits`.
    ///
    /// # Shapes
    /// `dlogits` \[vocab\], `h` and `dh` \[d\], `embeddings` and `dembeddings` \[vocab, d\].
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn backward(
        self,
        dlogits: &[f64],
        h: &[f64],
        embeddings: &ArrayRef2<f64>,
        dh: &mut [f64],
        mut dembeddings: Option<&mut ArrayRef2<f64>>,
    ) {
        assert_eq!(embeddings.dim(), (dlogits.len(), h.len()), "rounding: embeddings must be [vocab, d]");
        for (k, (&g, e)) in dlogits.iter().zip(embeddings.outer_iter()).enumerate() {
            let distance = match self {
                Self::Distance => e.iter().zip(h).map(|(e, h)| (h - e) * (h - e)).sum::<f64>().sqrt(),
                Self::Dot | Self::Bayes { .. } => 1.0,
            };
            for i in 0..h.len() {
                let (on_h, on_e) = match self {
                    Self::Dot => (e[i], h[i]),
                    // At distance 0 the cone has no gradient; 0 is its smallest subgradient.
                    Self::Distance if distance == 0.0 => (0.0, 0.0),
                    Self::Distance => ((e[i] - h[i]) / distance, (h[i] - e[i]) / distance),
                    Self::Bayes { alpha_bar } => {
                        let (a, noise) = (alpha_bar.sqrt(), 1.0 - alpha_bar);
                        (a * e[i] / noise, a * (h[i] - a * e[i]) / noise)
                    }
                };
                dh[i] += g * on_h;
                if let Some(dembeddings) = dembeddings.as_deref_mut() {
                    dembeddings[[k, i]] += g * on_e;
                }
            }
        }
    }
}

/// The token whose embedding is nearest to h: what "rounding" means in the text.
///
/// # Panics
/// If `h` is not as long as an embedding, or there are no embeddings.
pub fn nearest(h: &[f64], embeddings: &ArrayRef2<f64>) -> u32 {
    assert!(embeddings.ncols() == h.len() && embeddings.nrows() > 0, "nearest: embeddings must be [vocab >= 1, d]");
    let distance = |k: usize| embeddings.row(k).iter().zip(h).map(|(e, h)| (h - e) * (h - e)).sum::<f64>();
    (0..embeddings.nrows()).min_by(|&i, &j| distance(i).total_cmp(&distance(j))).expect("there is an embedding") as u32
}
