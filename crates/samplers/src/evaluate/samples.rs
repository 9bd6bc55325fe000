//! Numbers of samples.

use crate::blockwise;
use ndarray::ArrayRef2;

/// How well a number of tokens was predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// -log p of all tokens together, in nats.
    pub nats: f64,
    /// The number of tokens.
    pub tokens: usize,
    /// The number of texts.
    pub texts: usize,
}

impl Perplexity {
    /// exp(nats per token).
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }

    /// Bits per token.
    pub fn bits_per_token(&self) -> f64 {
        self.nats / self.tokens as f64 / std::f64::consts::LN_2
    }

    /// Bits per text.
    pub fn bits_per_text(&self) -> f64 {
        self.nats / self.texts as f64 / std::f64::consts::LN_2
    }

    /// Bits per character, where the texts together have that many.
    pub fn bits_per_character(&self, characters: usize) -> f64 {
        self.nats / characters as f64 / std::f64::consts::LN_2
    }
}

/// What samples are worth to a judge: `log_p` gives the log-probability of a text in nats, be it by a law known exactly, by
/// [`likelihood_in_order`](super::likelihood_in_order) of another denoiser, or by an autoregressive model.
///
/// A text ends with its first `end`, which counts; what follows is not shown to the judge.
///
/// ```
/// use galatea_samplers::evaluate::generative_perplexity;
/// use ndarray::array;
/// // A judge who thinks that ten tokens are equally likely.
/// let judge = |text: &[u32]| Ok::<_, std::convert::Infallible>(text.len() as f64 * -10f64.ln());
/// let judged = generative_perplexity(&array![[1, 2, 0, 7], [3, 0, 5, 5]], Some(0), judge)?;
/// assert_eq!((judged.tokens, judged.texts), (5, 2));
/// assert!((judged.perplexity() - 10.0).abs() < 1e-12);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
///
/// # Shapes
/// `samples` \[texts, len\].
///
/// # Errors
/// Whatever the judge reports.
///
/// # Source
/// Sahoo et al. (2024), MDLM, `compute_generative_perplexity`.
pub fn generative_perplexity<E>(
    samples: &ArrayRef2<u32>,
    end: Option<u32>,
    mut log_p: impl FnMut(&[u32]) -> Result<f64, E>,
) -> Result<Perplexity, E> {
    let mut judged = Perplexity::default();
    let mut text = Vec::new();
    for row in samples.rows() {
        text.clear();
        for &token in row {
            text.push(token);
            if end == Some(token) {
                break;
            }
        }
        judged.nats -= log_p(&text)?;
        judged.tokens += text.len();
        judged.texts += 1;
    }
    Ok(judged)
}

/// The entropy in nats of the tokens of a text as if they were drawn from an urn, averaged over the texts: low where few
/// tokens are used again and again. NaN without a token.
///
/// ```
/// use galatea_samplers::evaluate::unigram_entropy;
/// use ndarray::array;
/// assert!((unigram_entropy(&array![[1, 2, 1, 2], [5, 5, 5, 5]]) - 2f64.ln() / 2.0).abs() < 1e-15);
/// ```
///
/// # Shapes
/// `samples` \[texts, len\].
///
/// # Source
/// Sahoo et al. (2025), Duo, `metrics.py`; Zheng et al. (2024), on why generative perplexity needs it beside it.
pub fn unigram_entropy(samples: &ArrayRef2<u32>) -> f64 {
    let mut text = Vec::with_capacity(samples.ncols());
    let mut sum = 0.0;
    for row in samples.rows() {
        text.clear();
        text.extend(row);
        sum += blockwise::unigram_entropy(&mut text);
    }
    sum / samples.nrows() as f64
}
