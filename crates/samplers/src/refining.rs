//! Refining a canvas of random tokens, of which none is ever final until the model stops changing its mind.

use crate::canvas::canvases;
use crate::draws::{Draws, Keyed, stream};
use crate::error::parameter;
use crate::select::within_entropy;
use crate::stats::of_probabilities;
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Idiom, Sampler};
use galatea_processes::{Categorical, Denoiser, Limit};
use ndarray::Array2;

/// When a row is done before its last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stability {
    /// How many steps in a row the likeliest tokens must have been the same as now.
    pub steps: usize,
    /// What the mean entropy of the row's distributions must be below, in nats.
    pub entropy: f64,
}

/// The options of [`Refining`].
#[derive(Clone, Debug, PartialEq)]
pub struct RefiningOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// The most steps.
    pub steps: usize,
    /// The temperatures that the steps pass through: the first is where step 0 begins, the second is approached by the
    /// last, T_i = second + (first - second)(1 - i / steps). They multiply that of the filter.
    pub temperatures: [f64; 2],
    /// How logits become the distributions that tokens are drawn from and entropies are those of.
    pub filter: Filter,
    /// The entropy bound of a step, in nats: see [`within_entropy`].
    pub gamma: f64,
    /// When to stop early; `None` takes every step.
    pub stability: Option<Stability>,
    /// How uniforms become a token.
    pub idiom: Idiom,
}

impl Default for RefiningOptions {
    /// DiffusionGemma's: at most 48 steps from temperature 0.8 towards 0.4, a bound of 0.1 nats, and the end when the
    /// likeliest tokens have not changed and their mean entropy is below 0.005.
    fn default() -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            steps: 48,
            temperatures: [0.8, 0.4],
            filter: Filter::default(),
            gamma: 0.1,
            stability: Some(Stability { steps: 1, entropy: 0.005 }),
            idiom: Idiom::Exact,
        }
    }
}

/// DiffusionGemma's sampler: entropy-bounded acceptance with uniform noise for what is rejected.
///
/// Every step draws a token for every free position; the surest ones are accepted, as many as the entropy bound allows, and
/// the others become random tokens again. Accepted tokens may change in the next step. The text is that of the likeliest
/// tokens in a row's last step. The denoiser is told t = 1 - i / steps in step i, and its logits array holds its last answer
/// (zeros at first) when it is asked, for models that condition on it.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary.
///
/// # Source
/// `generation_diffusion_gemma.py` of transformers 5.23; Ben-Hamu et al. (2025) for the bound.
pub struct Refining<D> {
    tokens: Tokens<D>,
    options: RefiningOptions,
    p: Vec<f64>,
    race: Vec<f64>,
    positions: Vec<usize>,
    entropies: Vec<f64>,
    drawn: Vec<u32>,
    accepted: Vec<usize>,
    written: Vec<(usize, usize, u32)>,
    /// The likeliest tokens of the last step, and for how many steps they have been that.
    likeliest: Array2<u32>,
    stable: Vec<usize>,
    done: Vec<bool>,
    failed: bool,
}

impl<D: Denoiser> Refining<D> {
    /// The sampler before its first step: fixed tokens, and random ones elsewhere.
    ///
    /// # Errors
    /// [`Error::Masked`] for a process whose noise is a mask; else as for an ancestral sampler.
    pub fn new(denoiser: D, process: Categorical, fixed: Fixed, options: RefiningOptions) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, process, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        process: Categorical,
        fixed: Fixed,
        options: RefiningOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        match process.limit() {
            Limit::Uniform => {}
            Limit::Mask(mask) => return Err(Error::Masked { mask }),
        }
        let vocab = process.vocab();
        fixed.check(vocab, None)?;
        options.filter.check(vocab)?;
        let [first, last] = options.temperatures;
        let holds = |x: f64| x.is_finite() && x >= 0.0;
        parameter("the first temperature", "finite and at least 0", first, holds(first))?;
        parameter("the last temperature", "finite and at least 0", last, holds(last))?;
        parameter("gamma", "at least 0", options.gamma, options.gamma >= 0.0)?;
        parameter("steps", "at least 1", options.steps as f64, options.steps > 0)?;
        if let Some(Stability { entropy, .. }) = options.stability {
            parameter("the stopping entropy", "a number", entropy, !entropy.is_nan())?;
        }
        let (batch, len) = fixed.dim();
        let free: Vec<bool> = (0..batch).map(|row| (0..len).any(|l| fixed.get(row, l).is_none())).collect();
        let forbidden = options.filter.forbidden.clone();
        let mut tokens = Tokens::new(denoiser, (vocab, Limit::Uniform), fixed, forbidden, 1.0, draws);
        tokens.canvas.changed.reserve(batch * len);
        Ok(Self {
            options,
            p: vec![0.0; vocab],
            race: vec![0.0; vocab],
            positions: Vec::with_capacity(len),
            entropies: Vec::with_capacity(len),
            drawn: Vec::with_capacity(len),
            accepted: Vec::with_capacity(len),
            written: Vec::with_capacity(batch * len),
            likeliest: tokens.canvas.ids.clone(),
            stable: vec![0; batch],
            done: free.into_iter().map(|free| !free).collect(),
            failed: false,
            tokens,
        })
    }

    /// What the model thinks is likeliest at present, \[batch, len\]: a better draft than the noisy canvas.
    pub fn likeliest(&self) -> &Array2<u32> {
        &self.likeliest
    }

    fn step(&mut self) -> Result<(), Failure<D::Error>> {
        let (step, steps) = (self.tokens.canvas.step, self.options.steps);
        let share = (steps - step) as f64 / steps as f64;
        let [first, last] = self.options.temperatures;
        let temperature = self.options.filter.temperature * (last + (first - last) * share);
        self.tokens.predict(share, false)?;
        self.written.clear();
        for row in 0..self.done.len() {
            if self.done[row] {
                continue;
            }
            let same = self.read(row, temperature)?;
            self.stable[row] = if same && step > 0 { self.stable[row] + 1 } else { 0 };
            within_entropy(&self.entropies, self.options.gamma, &mut self.accepted);
            let mean = self.entropies.iter().sum::<f64>() / self.entropies.len() as f64;
            let calm = |stop: Stability| self.stable[row] >= stop.steps && mean < stop.entropy;
            self.done[row] = self.options.stability.is_some_and(calm) || step + 1 == steps;
            self.renoise(row);
        }
        self.tokens.apply(&self.written, (steps - step - 1) as f64 / steps as f64);
        for (row, _) in self.done.iter().enumerate().filter(|(_, done)| **done) {
            self.tokens.canvas.decided.row_mut(row).fill(true);
        }
        Ok(())
    }

    /// Draws a token for every free position of a row and notes the likeliest, with the entropies; true if the likeliest
    /// are those of the step before.
    fn read(&mut self, row: usize, temperature: f64) -> Result<bool, Failure<D::Error>> {
        self.positions.clear();
        self.entropies.clear();
        self.drawn.clear();
        let mut same = true;
        for position in 0..self.likeliest.ncols() {
            if self.tokens.fixed.get(row, position).is_some() {
                continue;
            }
            let at = self.tokens.at(self.tokens.canvas.step, row, position);
            let (logits, draws) = self.tokens.row(row, position);
            if !self.options.filter.apply_at(temperature, logits, &mut self.p) {
                return Err(Failure::Output { row, position });
            }
            let stats = of_probabilities(&self.p);
            let token = self.options.idiom.draw(draws, stream::TOKENS, at, &self.p, &mut self.race);
            let likeliest = &mut self.likeliest[[row, position]];
            same &= *likeliest == stats.argmax as u32;
            *likeliest = stats.argmax as u32;
            self.positions.push(position);
            self.entropies.push(stats.entropy);
            self.drawn.push(token as u32);
        }
        Ok(same)
    }

    /// The row's next canvas: its result where it is done, else what was accepted among new random tokens.
    fn renoise(&mut self, row: usize) {
        for (k, &position) in self.positions.iter().enumerate() {
            let token = if self.done[row] {
                self.likeliest[[row, position]]
            } else if self.accepted.contains(&k) {
                self.drawn[k]
            } else {
                let at = self.tokens.at(self.tokens.canvas.step, row, position);
                self.tokens.draws.below(stream::RENOISING, at, self.p.len()) as u32
            };
            self.written.push((row, position, token));
        }
    }
}

canvases!([D: Denoiser] Refining<D>, D::Error);

impl<D: Denoiser> Sampler for Refining<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed || self.done.iter().all(|done| *done) {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TOKENS, exact, process};
    use galatea_random::Philox;
    use ndarray::{ArrayRef2, ArrayRef3};
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// A table: what it says of a position depends on the token there and on its neighbour to the left.
    #[derive(Clone)]
    struct Table(u64, f64);
    impl Denoiser for Table {
        type Error = Infallible;
        fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            for ((row, position, token), logit) in logits.indexed_iter_mut() {
                let left = if position > 0 { x_t[[row, position - 1]] } else { 7 };
                let key = (x_t[[row, position]] << 8) + (left << 4) + token as u32;
                *logit = (self.1 * Philox::new(self.0, 0, position as u32, key).normal()) as f32;
            }
            Ok(())
        }
    }

    fn options() -> impl Strategy<Value = RefiningOptions> {
        let stability =
            proptest::option::of((0usize..3, 0.0f64..1.5).prop_map(|(steps, entropy)| Stability { steps, entropy }));
        let temperatures = [0.2f64..1.5, 0.0f64..1.0];
        (any::<u64>(), 1usize..9, temperatures, 0.0f64..3.0, stability).prop_map(
            |(seed, steps, temperatures, gamma, stability)| RefiningOptions {
                seed,
                steps,
                temperatures,
                gamma,
                stability,
                ..Default::default()
            },
        )
    }

    fn fixed_tokens() -> impl Strategy<Value = Fixed> {
        let token = proptest::option::weighted(0.3, 0..TOKENS as u32);
        ((1usize..4, 1usize..6), proptest::collection::vec(token, 15)).prop_map(|((batch, len), tokens)| {
            Fixed::from(Array2::from_shape_fn((batch, len), |(row, position)| tokens[row * len + position]))
        })
    }

    fn uniform() -> Categorical {
        process(Limit::Uniform)
    }

    proptest! {
        #[test]
        fn a_row_ends_at_the_likeliest_tokens_and_stays(fixed in fixed_tokens(), options in options(), table: u64) {
            let steps = options.steps;
            let mut sampler = Refining::new(Table(table, 2.0), uniform(), fixed.clone(), options).expect("sound");
            let mut ends: Vec<Option<Vec<u32>>> = vec![None; fixed.dim().0];
            while let Some(canvas) = sampler.next() {
                let canvas = canvas.expect("infallible");
                for (row, end) in ends.iter_mut().enumerate() {
                    let ids = canvas.ids.row(row).to_vec();
                    for (position, &id) in ids.iter().enumerate() {
                        let given = fixed.get(row, position);
                        prop_assert!(given.is_none() || given == Some(id));
                    }
                    if let Some(end) = end {
                        prop_assert_eq!(&*end, &ids);
                    } else if canvas.decided.row(row).iter().all(|decided| *decided) {
                        prop_assert_eq!(&sampler.likeliest().row(row).to_vec(), &ids);
                        *end = Some(ids);
                    }
                }
            }
            let canvas = sampler.canvas();
            prop_assert!(canvas.calls <= steps && canvas.decided.iter().all(|decided| *decided));
        }

        #[test]
        fn batches_do_not_matter(fixed in fixed_tokens(), options in options(), table: u64) {
            let (batch, len) = fixed.dim();
            let run = |fixed: Fixed, first_sample: u32| {
                let options = RefiningOptions { first_sample, ..options.clone() };
                Refining::new(Table(table, 2.0), uniform(), fixed, options).expect("sound").finish().expect("infallible").ids
            };
            let together = run(fixed.clone(), 5);
            for row in 0..batch {
                let alone = Fixed::from(Array2::from_shape_fn((1, len), |(_, position)| fixed.get(row, position)));
                let alone = run(alone, 5 + row as u32);
                prop_assert_eq!(together.row(row), alone.row(0));
            }
        }
    }

    /// A model without doubt says the same twice, and that is enough.
    #[test]
    fn a_sure_model_is_asked_twice() {
        struct Sure;
        impl Denoiser for Sure {
            type Error = Infallible;
            fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
                logits.indexed_iter_mut().for_each(|((_, l, v), x)| *x = if v == l % TOKENS { 40.0 } else { 0.0 });
                Ok(())
            }
        }
        for (steps, calls) in [(0, 1), (1, 2), (3, 4)] {
            let stability = Some(Stability { steps, entropy: 0.005 });
            let options = RefiningOptions { stability, ..Default::default() };
            let canvas = Refining::new(Sure, uniform(), Fixed::none(2, 4), options).expect("sound").finish();
            let canvas = canvas.expect("infallible");
            assert_eq!((canvas.calls, canvas.ids.row(1).to_vec()), (calls, vec![0, 1, 2, 0]));
        }
        let never = RefiningOptions { stability: None, steps: 7, ..Default::default() };
        let canvas = Refining::new(Sure, uniform(), Fixed::none(1, 4), never).expect("sound").finish();
        assert_eq!(canvas.expect("infallible").calls, 7);
    }

    /// What is not accepted is noise again: of two tokens only the surer one survives a bound of 0.
    #[test]
    fn rejected_tokens_become_random_ones() {
        struct Half;
        impl Denoiser for Half {
            type Error = Infallible;
            fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
                logits.indexed_iter_mut().for_each(|((_, l, v), x)| *x = if v == 1 { 3.0 + l as f32 } else { 0.0 });
                Ok(())
            }
        }
        let options = RefiningOptions { gamma: 0.0, stability: None, ..Default::default() };
        let mut sampler = Refining::new(Half, uniform(), Fixed::none(3000, 2), options).expect("sound");
        let canvas = sampler.next().expect("a step").expect("infallible");
        let mut counts = [0; TOKENS];
        canvas.ids.column(0).iter().for_each(|&id| counts[id as usize] += 1);
        let (statistic, quantile) = crate::source::chi_square(&counts, &[1.0 / 3.0; 3]);
        assert!(statistic < quantile, "{statistic}");
        let kept = canvas.ids.column(1).iter().filter(|&&id| id == 1).count();
        assert!(kept > 2900, "{kept}");
    }

    #[test]
    fn unsound_arguments_and_answers_are_named() {
        let new = |options| Refining::new(Table(1, 1.0), uniform(), Fixed::none(1, 2), options).err();
        let bad = |options| matches!(new(options), Some(Error::Parameter { .. }));
        assert!(bad(RefiningOptions { steps: 0, ..Default::default() }));
        assert!(bad(RefiningOptions { gamma: f64::NAN, ..Default::default() }));
        assert!(bad(RefiningOptions { temperatures: [-1.0, 0.0], ..Default::default() }));
        let masked = Refining::new(Table(1, 1.0), process(crate::source::MASK), Fixed::none(1, 2), Default::default());
        assert_eq!(masked.err(), Some(Error::Masked { mask: 3 }));
        let mut sampler =
            Refining::new(Table(1, f64::NAN), uniform(), Fixed::none(1, 2), Default::default()).expect("sound");
        assert_eq!(sampler.next(), Some(Err(Failure::Output { row: 0, position: 0 })));
        assert_eq!(sampler.next(), None);
        let mut given = Fixed::none(1, 2);
        given.write(0, 0, &[1, 2]).expect("inside");
        let canvas =
            Refining::new(exact(Limit::Uniform, 2), uniform(), given, Default::default()).expect("sound").finish();
        assert_eq!(canvas.expect("infallible").calls, 0);
    }
}
