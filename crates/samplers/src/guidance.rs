//! Guidance without a classifier: what a condition says, said louder.

use galatea_processes::Denoiser;
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3};

/// Whether a model is told its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// It is.
    Given,
    /// It is not.
    Dropped,
}

/// A model that can be asked with its condition and without it.
pub trait Conditional {
    /// What can go wrong in the model.
    type Error;

    /// As [`Denoiser::denoise`].
    ///
    /// # Errors
    /// Whatever the model reports.
    fn denoise(
        &mut self,
        condition: Condition,
        x_t: &ArrayRef2<u32>,
        t: f64,
        logits: &mut ArrayRef3<f32>,
    ) -> Result<(), Self::Error>;
}

/// A conditional model made of two denoisers.
#[derive(Clone, Debug)]
pub struct Pair<C, U> {
    /// The one that knows the condition.
    pub given: C,
    /// The one that does not.
    pub dropped: U,
}

impl<C: Denoiser, U: Denoiser<Error = C::Error>> Conditional for Pair<C, U> {
    type Error = C::Error;

    fn denoise(
        &mut self,
        condition: Condition,
        x_t: &ArrayRef2<u32>,
        t: f64,
        logits: &mut ArrayRef3<f32>,
    ) -> Result<(), C::Error> {
        match condition {
            Condition::Given => self.given.denoise(x_t, t, logits),
            Condition::Dropped => self.dropped.denoise(x_t, t, logits),
        }
    }
}

/// A conditional model made of one denoiser, whose condition is a prompt: dropped, it stands under masks.
///
/// # Source
/// Nie et al. (2025), LLaDA, `generate.py`.
#[derive(Clone, Debug)]
pub struct Prompt<D> {
    denoiser: D,
    prompt: Array2<bool>,
    mask: u32,
    hidden: Array2<u32>,
}

impl<D> Prompt<D> {
    /// The model of `denoiser` whose condition is what stands where `prompt` \[batch, len\] is true. Canvases of another
    /// shape have no prompt at the positions that it lacks.
    pub fn new(denoiser: D, prompt: Array2<bool>, mask: u32) -> Self {
        Self { denoiser, prompt, mask, hidden: Array2::zeros((0, 0)) }
    }
}

impl<D: Denoiser> Conditional for Prompt<D> {
    type Error = D::Error;

    fn denoise(
        &mut self,
        condition: Condition,
        x_t: &ArrayRef2<u32>,
        t: f64,
        logits: &mut ArrayRef3<f32>,
    ) -> Result<(), D::Error> {
        match condition {
            Condition::Given => self.denoiser.denoise(x_t, t, logits),
            Condition::Dropped => {
                if self.hidden.dim() != x_t.dim() {
                    self.hidden = Array2::zeros(x_t.dim());
                }
                self.hidden.assign(x_t);
                for (at, token) in self.hidden.indexed_iter_mut() {
                    if self.prompt.get(at) == Some(&true) {
                        *token = self.mask;
                    }
                }
                self.denoiser.denoise(&self.hidden, t, logits)
            }
        }
    }
}

/// Classifier-free guidance: log p = gamma log p_given + (1 - gamma) log p_dropped, up to the sum.
///
/// gamma = 1 is the conditional model, 0 the unconditional one, above 1 the condition counts for more than it says.
/// LLaDA writes the same with w = gamma - 1 on logits, l_dropped + (w + 1)(l_given - l_dropped): logits and log p differ
/// by a constant of the row, and so do their mixtures. (For uniform noise UDLM mixes the *posteriors* instead, which is
/// not the same: an ancestral sampler does that.) A token that only the model without the condition excludes keeps the
/// logit that the condition gives it.
///
/// ```
/// use galatea_processes::Denoiser;
/// use galatea_samplers::{ClassifierFree, Pair};
/// use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3};
/// struct Likes(f32);
/// impl Denoiser for Likes {
///     type Error = std::convert::Infallible;
///     fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Self::Error> {
///         logits.fill(self.0);
///         Ok(())
///     }
/// }
/// let mut guided = ClassifierFree::new(Pair { given: Likes(2.0), dropped: Likes(1.0) }, 3.0)?;
/// let mut logits = Array3::zeros((1, 1, 2));
/// guided.denoise(&Array2::zeros((1, 1)), 1.0, &mut logits).unwrap();
/// assert_eq!(logits[[0, 0, 0]], 4.0);
/// # Ok::<(), galatea_samplers::Error>(())
/// ```
///
/// # Source
/// Ho, Salimans (2022); Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.1;
/// Nie et al. (2025), LLaDA, `generate.py`.
#[derive(Clone, Debug)]
pub struct ClassifierFree<M> {
    model: M,
    gamma: f64,
    dropped: Array3<f32>,
}

impl<M: Conditional> ClassifierFree<M> {
    /// The guided denoiser of `model`.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a `gamma` that is not finite.
    pub fn new(model: M, gamma: f64) -> Result<Self, crate::Error> {
        crate::error::parameter("gamma", "finite", gamma, gamma.is_finite())?;
        Ok(Self { model, gamma, dropped: Array3::zeros((0, 0, 0)) })
    }
}

impl<M: Conditional> Denoiser for ClassifierFree<M> {
    type Error = M::Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), M::Error> {
        self.model.denoise(Condition::Given, x_t, t, logits)?;
        if self.dropped.dim() != logits.dim() {
            self.dropped = Array3::zeros(logits.dim());
        }
        self.model.denoise(Condition::Dropped, x_t, t, &mut self.dropped)?;
        let gamma = self.gamma;
        logits.zip_mut_with(&self.dropped, |given, &dropped| *given = mixed(gamma, *given, dropped));
        Ok(())
    }
}

fn mixed(gamma: f64, given: f32, dropped: f32) -> f32 {
    if given == f32::NEG_INFINITY || dropped == f32::NEG_INFINITY {
        return given;
    }
    (f64::from(dropped) + gamma * (f64::from(given) - f64::from(dropped))) as f32
}

/// A model whose logits at a position are those of the next one, as an autoregressive model's are: moved to where they
/// belong. The first position keeps its own.
///
/// # Source
/// Ye et al. (2025), Dream; Gong et al. (2024), DiffuLLaMA.
#[derive(Clone, Debug)]
pub struct Shifted<D>(pub D);

impl<D: Denoiser> Denoiser for Shifted<D> {
    type Error = D::Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
        self.0.denoise(x_t, t, logits)?;
        for mut row in logits.outer_iter_mut() {
            for position in (1..row.nrows()).rev() {
                let (before, mut after) = row.view_mut().split_at(ndarray::Axis(0), position);
                after.row_mut(0).assign(&before.row(position - 1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// The same logits whatever it is asked.
    #[derive(Clone)]
    struct Constant(Vec<f32>);
    impl Denoiser for Constant {
        type Error = Infallible;
        fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            logits.iter_mut().zip(self.0.iter().cycle()).for_each(|(l, &c)| *l = c);
            Ok(())
        }
    }

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|l| (l - max).exp()).sum();
        logits.iter().map(|l| (l - max).exp() / total).collect()
    }

    fn wide(logits: &[f32]) -> Vec<f64> {
        logits.iter().map(|&l| f64::from(l)).collect()
    }

    proptest! {
        /// LLaDA's form on logits and UDLM's form on probabilities are one distribution.
        #[test]
        fn the_two_forms_of_guidance_agree(
            given in proptest::collection::vec(-4f32..4.0, 5), dropped in proptest::collection::vec(-4f32..4.0, 5), gamma in -1.0f64..4.0,
        ) {
            let pair = Pair { given: Constant(given.clone()), dropped: Constant(dropped.clone()) };
            let mut logits = Array3::zeros((1, 1, 5));
            ClassifierFree::new(pair, gamma).expect("finite").denoise(&Array2::zeros((1, 1)), 0.5, &mut logits).expect("infallible");
            let ours = softmax(&logits.iter().map(|&l| f64::from(l)).collect::<Vec<_>>());
            let (p, u) = (softmax(&wide(&given)), softmax(&wide(&dropped)));
            let log: Vec<f64> = p.iter().zip(&u).map(|(p, u)| gamma * p.ln() + (1.0 - gamma) * u.ln()).collect();
            let w = gamma - 1.0;
            let llada: Vec<f64> =
                given.iter().zip(&dropped).map(|(&c, &u)| f64::from(u) + (w + 1.0) * f64::from(c - u)).collect();
            for ((ours, udlm), llada) in ours.iter().zip(softmax(&log)).zip(softmax(&llada)) {
                prop_assert!((ours - udlm).abs() < 1e-6 && (ours - llada).abs() < 1e-6);
            }
        }

        #[test]
        fn gamma_one_is_the_conditional_model(given in proptest::collection::vec(-4f32..4.0, 6), hole in 0usize..6) {
            let mut dropped = vec![1.0; 6];
            dropped[hole] = f32::NEG_INFINITY;
            let pair = Pair { given: Constant(given.clone()), dropped: Constant(dropped) };
            let mut logits = Array3::zeros((1, 2, 3));
            ClassifierFree::new(pair, 1.0).expect("finite").denoise(&Array2::zeros((1, 2)), 0.5, &mut logits).expect("infallible");
            prop_assert!(logits.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn a_dropped_prompt_stands_under_masks() {
        struct Seen(Vec<Array2<u32>>);
        impl Denoiser for Seen {
            type Error = Infallible;
            fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, _: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
                self.0.push(x_t.to_owned());
                Ok(())
            }
        }
        let prompt = Prompt::new(Seen(vec![]), array![[true, false], [false, false]], 9);
        let mut guided = ClassifierFree::new(prompt, 2.0).expect("finite");
        let x_t = array![[1, 2], [3, 4]];
        guided.denoise(&x_t, 0.5, &mut Array3::zeros((2, 2, 3))).expect("infallible");
        assert_eq!(guided.model.denoiser.0, [x_t, array![[9, 2], [3, 4]]]);
        assert!(matches!(
            ClassifierFree::new(guided.model, f64::NAN),
            Err(crate::Error::Parameter { parameter: "gamma", .. })
        ));
    }

    #[test]
    fn a_shift_moves_every_row_but_the_first() {
        let mut logits = Array3::zeros((2, 3, 1));
        let values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        Shifted(Constant(values)).denoise(&Array2::zeros((2, 3)), 0.0, &mut logits).expect("infallible");
        assert_eq!(logits.iter().copied().collect::<Vec<_>>(), [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
    }
}
