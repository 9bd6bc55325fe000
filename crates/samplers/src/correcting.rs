//! Correcting a finished text: the model changes what it would have written otherwise.

use crate::canvas::canvases;
use crate::draws::{At, Draws, Keyed, stream};
use crate::error::parameter;
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Idiom, Sampler};
use galatea_processes::Denoiser;
use ndarray::Array2;

/// The options of [`Correcting`].
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectingOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// How logits become p(x_0); the ids of masks belong to the forbidden ones.
    pub filter: Filter,
    /// How uniforms become a token.
    pub idiom: Idiom,
    /// The time that the denoiser is told: how noisy it shall think the text is.
    pub t: f64,
    /// How many tokens of a text a pass may change.
    pub positions: usize,
    /// The most passes.
    pub passes: usize,
    /// How many passes a text may go on without agreeing more with the model than ever before.
    pub patience: usize,
}

impl Default for CorrectingOptions {
    /// One token a pass, drawn at a temperature of 0.1, for a text that is nearly clean.
    fn default() -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            filter: Filter { temperature: 0.1, ..Filter::default() },
            idiom: Idiom::Exact,
            t: 0.01,
            positions: 1,
            passes: 128,
            patience: 32,
        }
    }
}

/// The self-correction of GIDD: a pass draws a token for every position, and of those that differ from the text the likeliest
/// take their places.
///
/// A text is done when a pass would change nothing, or has changed for `patience` passes without agreeing more with the
/// model's likeliest tokens. Only a model that has seen wrong tokens in training (uniform or hybrid noise) has an opinion
/// about written ones.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\].
///
/// # Source
/// von Rütte et al. (2025), GIDD, section 5.3 and `self_correction.py`.
pub struct Correcting<D> {
    tokens: Tokens<D>,
    options: CorrectingOptions,
    rows: Vec<Row>,
    p: Vec<f64>,
    race: Vec<f64>,
    /// The changes that a row's pass proposes, by their probability.
    proposed: Vec<(f64, usize, u32)>,
    written: Vec<(usize, usize, u32)>,
    failed: bool,
}

#[derive(Clone, Copy)]
struct Row {
    done: bool,
    /// The most positions that ever agreed with the model, and for how many passes there were no more.
    agreed: usize,
    waited: usize,
}

impl<D: Denoiser> Correcting<D> {
    /// The corrector of the texts `ids`, whose positions in `fixed` stay, for a model of `vocab` ids.
    ///
    /// # Errors
    /// [`Error`] for an empty canvas, arrays of different shapes, a token outside the vocabulary, or an option outside its
    /// range.
    pub fn new(
        denoiser: D,
        vocab: usize,
        ids: &Array2<u32>,
        fixed: Fixed,
        options: CorrectingOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, vocab, ids, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        vocab: usize,
        ids: &Array2<u32>,
        fixed: Fixed,
        options: CorrectingOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        fixed.check(vocab, None)?;
        if ids.dim() != fixed.dim() {
            let (expected, found) = (fixed.dim(), ids.dim());
            let (expected, found) = (vec![expected.0, expected.1], vec![found.0, found.1]);
            return Err(Error::Shape { array: "ids", expected, found });
        }
        if let Some(((row, position), &token)) = ids.indexed_iter().find(|(_, id)| **id as usize >= vocab) {
            return Err(Error::Token { token, row, position, vocab });
        }
        options.filter.check(vocab)?;
        parameter("t", "in [0, 1]", options.t, (0.0..=1.0).contains(&options.t))?;
        parameter("positions", "at least 1", options.positions as f64, options.positions > 0)?;
        let len = ids.ncols();
        let start = |_: &mut dyn Draws, at: At| ids[[at.row as usize / len, at.row as usize % len]];
        let forbidden = options.filter.forbidden.clone();
        let tokens = Tokens::starting((denoiser, vocab), (None, false), fixed, forbidden, options.t, draws, start);
        let rows = vec![Row { done: false, agreed: 0, waited: 0 }; ids.nrows()];
        let (p, race) = (vec![0.0; vocab], vec![0.0; vocab]);
        let (proposed, written) = (Vec::with_capacity(len), Vec::with_capacity(ids.len()));
        Ok(Self { tokens, options, rows, p, race, proposed, written, failed: false })
    }

    fn pass(&mut self) -> Result<(), Failure<D::Error>> {
        self.tokens.predict(self.options.t, true)?;
        self.written.clear();
        for row in 0..self.rows.len() {
            if !self.rows[row].done {
                self.propose(row)?;
            }
        }
        self.tokens.apply(&self.written, self.options.t);
        if self.finished() {
            self.tokens.close();
        }
        Ok(())
    }

    /// Finds the changes of one text.
    fn propose(&mut self, row: usize) -> Result<(), Failure<D::Error>> {
        let len = self.tokens.canvas.ids.ncols();
        self.proposed.clear();
        let mut agreed = 0;
        for position in 0..len {
            let present = self.tokens.canvas.ids[[row, position]];
            let (at, free) = (self.tokens.at(self.tokens.canvas.step, row, position), self.tokens.free(row, position));
            let (logits, draws) = self.tokens.row(row, position);
            if !self.options.filter.apply(logits, &mut self.p) {
                return Err(Failure::Output { row, position });
            }
            let likeliest = (1..logits.len()).fold(0, |best, k| if logits[k] > logits[best] { k } else { best });
            agreed += usize::from(likeliest == present as usize);
            if !free {
                continue;
            }
            let token = self.options.idiom.draw(draws, stream::TOKENS, at, &self.p, &mut self.race);
            if token != present as usize {
                self.proposed.push((self.p[token], position, token as u32));
            }
        }
        let state = &mut self.rows[row];
        state.waited = if agreed > state.agreed { 0 } else { state.waited + 1 };
        state.agreed = state.agreed.max(agreed);
        state.done = self.proposed.is_empty() || state.waited > self.options.patience;
        if !state.done {
            self.proposed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let chosen = self.proposed.iter().take(self.options.positions);
            self.written.extend(chosen.map(|&(_, position, token)| (row, position, token)));
        }
        Ok(())
    }

    fn finished(&self) -> bool {
        self.tokens.canvas.step >= self.options.passes
            || self.tokens.fixed.free() == 0
            || self.rows.iter().all(|row| row.done)
    }
}

canvases!([D: Denoiser] Correcting<D>, D::Error);

impl<D: Denoiser> Sampler for Correcting<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed || self.finished() {
            return None;
        }
        let pass = self.pass();
        self.failed = pass.is_err();
        Some(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayRef2, ArrayRef3, array};
    use std::convert::Infallible;

    /// Likes every token to be one more than the token to its left, of five; `strength` in nats.
    struct Counting(f32);

    impl Denoiser for Counting {
        type Error = Infallible;
        fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            logits.fill(0.0);
            for ((row, position), &token) in x_t.indexed_iter() {
                if position == 0 {
                    logits[[row, 0, token as usize]] = self.0;
                }
                if position + 1 < x_t.ncols() {
                    logits[[row, position + 1, (token as usize + 1) % 5]] = self.0;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn wrong_tokens_are_put_right() {
        let texts = array![[0, 1, 4, 3, 4, 0], [2, 3, 4, 0, 1, 2]];
        let sampler = Correcting::new(Counting(9.0), 5, &texts, Fixed::none(2, 6), CorrectingOptions::default());
        let canvas = sampler.expect("sound").finish().expect("infallible");
        assert_eq!(canvas.ids, array![[0, 1, 2, 3, 4, 0], [2, 3, 4, 0, 1, 2]]);
        // One change or two, and a pass that finds none.
        assert!(canvas.calls <= 4 && canvas.decided.iter().all(|decided| *decided));
    }

    #[test]
    fn what_is_fixed_stays_wrong() {
        let mut fixed = Fixed::none(1, 4);
        fixed.set(0, 2, 0).expect("inside");
        let options = CorrectingOptions { passes: 20, ..Default::default() };
        let sampler = Correcting::new(Counting(9.0), 5, &array![[0, 1, 2, 3]], fixed, options).expect("sound");
        assert_eq!(sampler.finish().expect("infallible").ids, array![[0, 1, 0, 1]]);
    }

    /// Without an opinion every pass changes something: patience ends it.
    #[test]
    fn patience_ends() {
        let filter = Filter::default();
        let options = CorrectingOptions { filter, patience: 5, passes: 1000, ..Default::default() };
        let sampler = Correcting::new(Counting(0.0), 5, &array![[0; 8]], Fixed::none(1, 8), options).expect("sound");
        assert!((6..60).contains(&sampler.finish().expect("infallible").step));
    }

    #[test]
    fn unsound_texts_are_refused() {
        let new = |ids: Array2<u32>, options| Correcting::new(Counting(1.0), 5, &ids, Fixed::none(1, 2), options).err();
        let plain = CorrectingOptions::default;
        assert!(matches!(new(array![[0, 1, 2]], plain()), Some(Error::Shape { array: "ids", .. })));
        assert_eq!(new(array![[0, 5]], plain()), Some(Error::Token { token: 5, row: 0, position: 1, vocab: 5 }));
        let none = CorrectingOptions { positions: 0, ..plain() };
        assert!(matches!(new(array![[0, 1]], none), Some(Error::Parameter { parameter: "positions", .. })));
        let all = Fixed::from(array![[Some(1), Some(1)]]);
        let done = Correcting::new(Counting(9.0), 5, &array![[1, 1]], all, plain()).expect("sound");
        assert_eq!(done.finish().expect("nothing to do").calls, 0);
    }
}
