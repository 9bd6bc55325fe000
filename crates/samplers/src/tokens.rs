//! What all samplers of tokens share: the canvas, the fixed tokens, the denoiser and its last answer.

use crate::draws::{At, Draws, stream};
use crate::{Canvas, Error, Failure, Fixed};
use galatea_processes::{Denoiser, Limit};
use ndarray::{Array2, Array3};

pub(crate) struct Tokens<D> {
    denoiser: D,
    pub(crate) fixed: Fixed,
    forbidden: Vec<u32>,
    /// The id that means that nothing is written.
    pub(crate) blank: Option<u32>,
    /// Whether a written token stays.
    settled: bool,
    vocab: usize,
    pub(crate) canvas: Canvas,
    /// Of the positions that the denoiser was shown, which begin at `first`.
    logits: Array3<f32>,
    first: usize,
    /// A copy of a piece of the canvas, where the denoiser is shown no more.
    shown: Array2<u32>,
    /// Whether `logits` are those of the present canvas.
    fresh: bool,
    pub(crate) draws: Box<dyn Draws>,
}

impl<D: Denoiser> Tokens<D> {
    /// The canvas at time `t`: fixed tokens, and noise elsewhere. The arguments have been checked.
    pub(crate) fn new(
        denoiser: D,
        (vocab, limit): (usize, Limit),
        fixed: Fixed,
        forbidden: Vec<u32>,
        t: f64,
        draws: Box<dyn Draws>,
    ) -> Self {
        let mask = match limit {
            Limit::Mask(mask) => Some(mask),
            Limit::Uniform => None,
        };
        let start = |draws: &mut dyn Draws, at| mask.unwrap_or_else(|| draws.below(stream::START, at, vocab) as u32);
        Self::starting((denoiser, vocab), (mask, mask.is_some()), fixed, forbidden, t, draws, start)
    }

    /// The canvas at time `t` for any noise: `blank` is the id that means that nothing is written, `settled` whether a
    /// written token stays, `start` a draw of pure noise.
    pub(crate) fn starting(
        (denoiser, vocab): (D, usize),
        (blank, settled): (Option<u32>, bool),
        fixed: Fixed,
        forbidden: Vec<u32>,
        t: f64,
        mut draws: Box<dyn Draws>,
        mut start: impl FnMut(&mut dyn Draws, At) -> u32,
    ) -> Self {
        let (batch, len) = fixed.dim();
        let ids = Array2::from_shape_fn((batch, len), |(row, position)| {
            let at = At { step: 0, row: (row * len + position) as u32 };
            fixed.get(row, position).unwrap_or_else(|| start(&mut *draws, at))
        });
        let decided = Array2::from_shape_fn((batch, len), |(row, position)| fixed.get(row, position).is_some());
        let canvas =
            Canvas { ids, decided, step: 0, t, calls: 0, changed: Vec::with_capacity(batch * len), confidence: None };
        let logits = Array3::zeros((batch, len, vocab));
        Self {
            denoiser,
            fixed,
            forbidden,
            blank,
            settled,
            vocab,
            canvas,
            logits,
            first: 0,
            shown: Array2::zeros((0, 0)),
            fresh: false,
            draws,
        }
    }

    /// Asks the denoiser about the canvas at time `t`, unless its last answer still holds and may be `reused`; returns
    /// whether it was asked.
    pub(crate) fn predict(&mut self, t: f64, reused: bool) -> Result<bool, Failure<D::Error>> {
        self.predict_within(0..self.canvas.ids.ncols(), t, reused)
    }

    /// As [`predict`](Self::predict), with a denoiser that is shown a piece of the canvas only.
    pub(crate) fn predict_within(
        &mut self,
        piece: std::ops::Range<usize>,
        t: f64,
        reused: bool,
    ) -> Result<bool, Failure<D::Error>> {
        let (batch, len) = self.canvas.ids.dim();
        let (first, size) = (piece.start, piece.len());
        if self.logits.dim().1 != size {
            self.logits = Array3::zeros((batch, size, self.vocab));
            self.shown = Array2::zeros((batch, if size < len { size } else { 0 }));
            self.fresh = false;
        }
        self.fresh &= self.first == first;
        self.first = first;
        if self.fresh && reused {
            return Ok(false);
        }
        self.fresh = false;
        let ids = if size < len {
            let ids = &self.canvas.ids;
            self.shown.indexed_iter_mut().for_each(|((row, l), id)| *id = ids[[row, first + l]]);
            &self.shown
        } else {
            &self.canvas.ids
        };
        self.denoiser.denoise(ids, t, &mut self.logits).map_err(Failure::Denoiser)?;
        self.canvas.calls += 1;
        self.fresh = true;
        forbid(&self.forbidden, &mut self.logits);
        Ok(true)
    }

    /// Excludes the forbidden tokens from other logits of the same canvas.
    pub(crate) fn forbid(&self, logits: &mut Array3<f32>) {
        forbid(&self.forbidden, logits);
    }

    /// The logits of one position, forbidden tokens at -inf; and the draws, which are needed beside them.
    pub(crate) fn row(&mut self, row: usize, position: usize) -> (&[f32], &mut dyn Draws) {
        let start = (row * self.logits.dim().1 + position - self.first) * self.vocab;
        let logits = self.logits.as_slice().expect("the logits were allocated in row-major order");
        (&logits[start..start + self.vocab], &mut *self.draws)
    }

    /// The key of a position in a step.
    pub(crate) fn at(&self, step: usize, row: usize, position: usize) -> At {
        At { step: step as u32, row: (row * self.canvas.ids.ncols() + position) as u32 }
    }

    /// Whether nothing is written at a position.
    pub(crate) fn blank(&self, row: usize, position: usize) -> bool {
        self.blank == Some(self.canvas.ids[[row, position]])
    }

    /// Whether a position still has to be written.
    pub(crate) fn open(&self, row: usize, position: usize) -> bool {
        if self.settled { self.blank(row, position) } else { self.free(row, position) }
    }

    /// Whether a position is not fixed.
    pub(crate) fn free(&self, row: usize, position: usize) -> bool {
        self.fixed.get(row, position).is_none()
    }

    /// Writes the tokens of a step and moves the canvas on to time `t`.
    pub(crate) fn apply(&mut self, tokens: &[(usize, usize, u32)], t: f64) {
        self.canvas.changed.clear();
        self.put(tokens);
        self.canvas.step += 1;
        self.canvas.t = t;
        for row in 0..self.canvas.ids.nrows() {
            for position in 0..self.canvas.ids.ncols() {
                self.canvas.decided[[row, position]] = !self.open(row, position);
            }
        }
    }

    /// Writes tokens within a step.
    pub(crate) fn put(&mut self, tokens: &[(usize, usize, u32)]) {
        for &(row, position, token) in tokens {
            let old = std::mem::replace(&mut self.canvas.ids[[row, position]], token);
            if old != token {
                self.canvas.changed.push((row, position));
                self.fresh = false;
            }
        }
    }

    /// Says that no step follows: every position that holds a token is then decided, while a mask remains a mask.
    pub(crate) fn close(&mut self) {
        let blank = self.blank;
        ndarray::Zip::from(&mut self.canvas.decided)
            .and(&self.canvas.ids)
            .for_each(|decided, &id| *decided = blank != Some(id));
    }

    /// A caller's edit between two steps.
    pub(crate) fn write(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        let (batch, len) = self.canvas.ids.dim();
        if row >= batch || position >= len {
            return Err(Error::Position { row, position, token, batch, len });
        }
        if token as usize >= self.vocab {
            return Err(Error::Token { token, row, position, vocab: self.vocab });
        }
        if let Some(token) = self.fixed.get(row, position) {
            return Err(Error::WriteFixed { row, position, token });
        }
        self.canvas.ids[[row, position]] = token;
        if self.settled {
            self.canvas.decided[[row, position]] = !self.open(row, position);
        }
        self.fresh = false;
        Ok(())
    }
}

fn forbid(forbidden: &[u32], logits: &mut Array3<f32>) {
    for mut row in logits.rows_mut() {
        for &token in forbidden {
            row[token as usize] = f32::NEG_INFINITY;
        }
    }
}
