//! Unmasking by rank: every pass writes the positions that a rule selects, and what is written stays.

use crate::draws::{Draws, Keyed, stream};
use crate::error::parameter;
use crate::select::{above, best, quota, within_entropy, within_factor};
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Idiom, Sampler, Score, Selection, row_stats};
use galatea_processes::{Categorical, Denoiser, Limit};

/// Semi-autoregressive blocks: the positions before `first` + `size` come first, then the next `size`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Where the first block begins: the length of the prompt. Open positions before it belong to the first block.
    pub first: usize,
    /// The number of positions of a block.
    pub size: usize,
}

/// The options of [`Unmasking`].
#[derive(Clone, Debug, PartialEq)]
pub struct UnmaskingOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// How logits become the p(x_0) that tokens are drawn from. Scores and entropies are those of the unfiltered one.
    pub filter: Filter,
    /// How many positions a pass writes.
    pub selection: Selection,
    /// What makes a position a good one; [`Selection::EntropyBound`] has its own order.
    pub score: Score,
    /// Blocks, or the whole canvas at once.
    pub blocks: Option<Blocks>,
    /// How uniforms become a token.
    pub idiom: Idiom,
}

impl Default for UnmaskingOptions {
    /// LLaDA's greedy decoding in 32 passes: the likeliest token of the most confident positions.
    fn default() -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            filter: Filter::greedy(),
            selection: Selection::Quota { passes: 32 },
            score: Score::Confidence,
            blocks: None,
            idiom: Idiom::Exact,
        }
    }
}

/// The sampler of LLaDA, Fast-dLLM and entropy-bounded unmasking.
///
/// A pass asks the denoiser once, draws a token for every open position of the block, and writes those that the
/// selection chooses; fixed and written tokens never change. The denoiser is told the share of free positions that is
/// still masked as its t, over the whole batch: only a denoiser that ignores t makes samples independent of their batch.
/// One position per pass at temperature 1, in any order that looks only at the distributions
/// ([`Score::Random`], [`Score::Entropy`], [`Score::Margin`]), draws exactly from the law of an exact denoiser.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary.
///
/// # Source
/// Nie et al. (2025), LLaDA, section 2.4 and `generate.py`; Wu et al. (2025), Fast-dLLM; Ben-Hamu et al. (2025).
pub struct Unmasking<D> {
    tokens: Tokens<D>,
    options: UnmaskingOptions,
    /// The end of the present block, and how many passes it has had.
    block: (usize, usize),
    /// The quotas of the present block, one list per row.
    quotas: Vec<Vec<usize>>,
    /// How many passes have had something to write in each row: the step of the row's draws, so that they do not depend
    /// on how long the other rows take.
    passes: Vec<usize>,
    p: Vec<f64>,
    /// Scratch of the draws.
    race: Vec<f64>,
    failed: bool,
}

/// An open position of a row and what is known about it.
#[derive(Clone, Copy)]
struct Candidate {
    position: usize,
    token: u32,
    confidence: f64,
    score: f64,
    entropy: f64,
}

impl<D: Denoiser> Unmasking<D> {
    /// The sampler before its first pass: fixed tokens, and masks elsewhere.
    ///
    /// # Errors
    /// [`Error::NoMask`] for the uniform limit; else as for an ancestral sampler.
    pub fn new(denoiser: D, process: Categorical, fixed: Fixed, options: UnmaskingOptions) -> Result<Self, Error> {
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
        options: UnmaskingOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let vocab = process.vocab();
        let mask = match process.limit() {
            Limit::Mask(mask) => mask,
            Limit::Uniform => return Err(Error::NoMask),
        };
        fixed.check(vocab, Some(mask))?;
        let mut forbidden = options.filter.forbidden.clone();
        forbidden.push(mask);
        Filter { forbidden: forbidden.clone(), ..options.filter }.check(vocab)?;
        match options.selection {
            Selection::Quota { passes } => parameter("passes", "at least 1", passes as f64, passes > 0)?,
            Selection::Threshold { least } => parameter("least", "a number", least, !least.is_nan())?,
            Selection::Factor { factor } => parameter("factor", "at least 0", factor, factor >= 0.0)?,
            Selection::EntropyBound { gamma } => parameter("gamma", "at least 0", gamma, gamma >= 0.0)?,
        };
        if let Some(Blocks { size, .. }) = options.blocks {
            parameter("the block size", "at least 1", size as f64, size > 0)?;
        }
        let mut tokens = Tokens::new(denoiser, (vocab, process.limit()), fixed, forbidden, 1.0, draws);
        let decided = &tokens.canvas.decided;
        tokens.canvas.confidence = Some(decided.mapv(|decided| if decided { 1.0 } else { 0.0 }));
        let first_end = match options.blocks {
            Some(Blocks { first, size }) => first.saturating_add(size),
            None => usize::MAX,
        };
        let passes = vec![0; tokens.canvas.ids.nrows()];
        let (block, quotas, p, race) = ((first_end, 0), Vec::new(), vec![0.0; vocab], vec![0.0; vocab]);
        let mut sampler = Self { tokens, options, block, quotas, passes, p, race, failed: false };
        sampler.plan();
        sampler.tokens.canvas.t = sampler.masked_share();
        Ok(sampler)
    }

    /// Overwrites a position that is not fixed, as an edit between two passes; the mask id opens it again.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Token`] or [`Error::WriteFixed`].
    pub fn write(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        self.tokens.write(row, position, token)?;
        let open = self.tokens.open(row, position);
        if let Some(confidence) = &mut self.tokens.canvas.confidence {
            confidence[[row, position]] = if open { 0.0 } else { 1.0 };
        }
        Ok(())
    }

    /// The open positions of a row before the end of the present block.
    fn open(&self, row: usize) -> impl Iterator<Item = usize> {
        let end = self.block.0.min(self.tokens.canvas.ids.ncols());
        (0..end).filter(move |&position| self.tokens.open(row, position))
    }

    /// Divides the present block among its passes.
    fn plan(&mut self) {
        self.block.1 = 0;
        self.quotas = match self.options.selection {
            Selection::Quota { passes } => {
                (0..self.tokens.canvas.ids.nrows()).map(|row| quota(self.open(row).count(), passes)).collect()
            }
            Selection::Threshold { .. } | Selection::Factor { .. } | Selection::EntropyBound { .. } => Vec::new(),
        };
    }

    /// Moves on to the first block with open positions; false if there is none.
    fn find_block(&mut self) -> bool {
        let (batch, len) = self.tokens.canvas.ids.dim();
        loop {
            if (0..batch).any(|row| self.open(row).next().is_some()) {
                return true;
            }
            let Some(Blocks { size, .. }) = self.options.blocks else { return false };
            if self.block.0 >= len {
                return false;
            }
            self.block.0 = self.block.0.saturating_add(size);
            self.plan();
        }
    }

    fn pass(&mut self) -> Result<(), Failure<D::Error>> {
        self.tokens.predict(self.masked_share(), false)?;
        let mut chosen = Vec::new();
        for row in 0..self.tokens.canvas.ids.nrows() {
            let positions: Vec<usize> = self.open(row).collect();
            let candidates: Vec<Candidate> =
                positions.into_iter().map(|position| self.candidate(row, position)).collect::<Result<_, _>>()?;
            self.passes[row] += usize::from(!candidates.is_empty());
            let mut best = self.choose(row, &candidates);
            best.sort_unstable();
            chosen.extend(best.into_iter().map(|k| (row, candidates[k])));
        }
        if let Some(confidence) = &mut self.tokens.canvas.confidence {
            chosen.iter().for_each(|(row, c)| confidence[[*row, c.position]] = c.confidence as f32);
        }
        let written: Vec<_> = chosen.iter().map(|(row, c)| (*row, c.position, c.token)).collect();
        self.block.1 += 1;
        self.tokens.apply(&written, 0.0);
        self.tokens.canvas.t = self.masked_share();
        Ok(())
    }

    fn choose(&self, row: usize, candidates: &[Candidate]) -> Vec<usize> {
        let scores: Vec<f64> = candidates.iter().map(|c| c.score).collect();
        match self.options.selection {
            // An edit may have opened positions that the plan does not count: they are written after its last pass.
            Selection::Quota { .. } => best(&scores, *self.quotas[row].get(self.block.1).unwrap_or(&usize::MAX)),
            Selection::Threshold { least } => above(&scores, least),
            Selection::Factor { factor } => within_factor(&scores, factor),
            Selection::EntropyBound { gamma } => {
                let entropies: Vec<f64> = candidates.iter().map(|c| c.entropy).collect();
                within_entropy(&entropies, gamma)
            }
        }
    }

    fn candidate(&mut self, row: usize, position: usize) -> Result<Candidate, Failure<D::Error>> {
        let at = self.tokens.at(self.passes[row], row, position);
        let (logits, draws) = self.tokens.row(row, position);
        let stats = row_stats(logits).ok_or(Failure::Output { row, position })?;
        let token = if self.options.filter.temperature == 0.0 {
            stats.argmax
        } else {
            self.options.filter.apply(logits, &mut self.p);
            self.options.idiom.draw(draws, stream::TOKENS, at, &self.p, &mut self.race)
        };
        let confidence = stats.probability(f64::from(logits[token]));
        let score = match self.options.score {
            Score::Confidence => confidence,
            Score::Margin => stats.margin(),
            Score::Entropy => -stats.entropy,
            Score::Random => {
                let mut priority = [0.0];
                draws.uniforms(stream::ORDER, at, &mut priority);
                priority[0]
            }
        };
        Ok(Candidate { position, token: token as u32, confidence, score, entropy: stats.entropy })
    }

    fn masked_share(&self) -> f64 {
        let masked = self.tokens.canvas.decided.iter().filter(|decided| !**decided).count();
        masked as f64 / self.tokens.fixed.free().max(1) as f64
    }
}

impl<D: Denoiser> Iterator for Unmasking<D> {
    type Item = Result<Canvas, Failure<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pass = self.advance()?;
        Some(pass.map(|()| self.tokens.canvas.clone()))
    }
}

impl<D: Denoiser> Sampler for Unmasking<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed || !self.find_block() {
            return None;
        }
        let pass = self.pass();
        self.failed = pass.is_err();
        Some(pass)
    }
}
