//! Unmasking by rank: every pass writes the positions that a rule selects, and what is written stays.

use crate::canvas::canvases;
use crate::draws::{Draws, Keyed, stream};
use crate::error::parameter;
use crate::select::{above, best, by_segments, quota_of, share, within_entropy, within_factor};
use crate::stats::of_probabilities;
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Idiom, RowStats, Sampler, Score, Scored, Selection, row_stats};
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
    /// How logits become the p(x_0) that tokens are drawn from.
    pub filter: Filter,
    /// How many positions a pass writes.
    pub selection: Selection,
    /// What makes a position a good one; [`Selection::EntropyBound`] and [`Selection::Bernoulli`] have their own order.
    pub score: Score,
    /// Which distribution scores and entropies are those of.
    pub scored: Scored,
    /// Above 0 the positions themselves are drawn, without replacement, with weights exp(score / order_temperature)
    /// (Dream's `alg_temp`); 0 takes the best. It needs a selection that counts: `Quota` or `Share`.
    pub order_temperature: f64,
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
            scored: Scored::Model,
            order_temperature: 0.0,
            blocks: None,
            idiom: Idiom::Exact,
        }
    }
}

/// The sampler of LLaDA, Dream, Fast-dLLM and entropy-bounded unmasking.
///
/// A pass asks the denoiser once, ranks the open positions of the block, and writes tokens at those that the selection
/// chooses; fixed and written tokens never change. The denoiser is told the share of free positions that is still
/// masked as its t, over the whole batch: only a denoiser that ignores t makes samples independent of their batch.
/// One position per pass at temperature 1, in any order that looks only at the distributions (all scores but
/// [`Score::Confidence`]), draws exactly from the law of an exact denoiser.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary.
///
/// # Source
/// Nie et al. (2025), LLaDA, section 2.4 and `generate.py`; Ye et al. (2025), Dream; Wu et al. (2025), Fast-dLLM;
/// Ben-Hamu et al. (2025).
pub struct Unmasking<D> {
    tokens: Tokens<D>,
    options: UnmaskingOptions,
    /// The end of the present block, and how many passes it has had.
    block: (usize, usize),
    /// How many positions of each row were open when the present block began.
    planned: Vec<usize>,
    /// How many passes have had something to write in each row: the step of the row's draws, so that they do not depend
    /// on how long the other rows take.
    passes: Vec<usize>,
    scratch: Scratch,
    failed: bool,
}

/// What a pass needs beside the canvas, kept from pass to pass so that none allocates.
struct Scratch {
    p: Vec<f64>,
    /// The numbers that a token is drawn with.
    race: Vec<f64>,
    positions: Vec<usize>,
    /// The number that the rule reads, one per open position.
    numbers: Vec<f64>,
    /// The tokens that were drawn while ranking, with their probabilities.
    drawn: Vec<Option<(u32, f64)>>,
    chosen: Vec<usize>,
    written: Vec<(usize, usize, u32)>,
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
        options.check()?;
        let mut tokens = Tokens::new(denoiser, (vocab, process.limit()), fixed, forbidden, 1.0, draws);
        let decided = &tokens.canvas.decided;
        tokens.canvas.confidence = Some(decided.mapv(|decided| if decided { 1.0 } else { 0.0 }));
        let first_end = match options.blocks {
            Some(Blocks { first, size }) => first.saturating_add(size),
            None => usize::MAX,
        };
        let (batch, len) = tokens.canvas.ids.dim();
        tokens.canvas.changed.reserve(batch * len);
        let scratch = Scratch {
            p: vec![0.0; vocab],
            race: vec![0.0; vocab],
            positions: Vec::with_capacity(len),
            numbers: Vec::with_capacity(len),
            drawn: Vec::with_capacity(len),
            chosen: Vec::with_capacity(len),
            written: Vec::with_capacity(batch * len),
        };
        let (planned, passes) = (vec![0; batch], vec![0; batch]);
        let mut sampler = Self { tokens, options, block: (first_end, 0), planned, passes, scratch, failed: false };
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

    /// Counts what the present block has to write.
    fn plan(&mut self) {
        self.block.1 = 0;
        for row in 0..self.planned.len() {
            self.planned[row] = self.open(row).count();
        }
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
        self.scratch.written.clear();
        for row in 0..self.planned.len() {
            self.rank(row)?;
            if self.scratch.positions.is_empty() {
                continue;
            }
            self.choose(row);
            self.scratch.chosen.sort_unstable();
            for i in 0..self.scratch.chosen.len() {
                let k = self.scratch.chosen[i];
                let position = self.scratch.positions[k];
                let (token, confidence) = match self.scratch.drawn[k] {
                    Some(drawn) => drawn,
                    None => {
                        let stats = self.stats(row, position)?;
                        self.draw(row, position, &stats)
                    }
                };
                if let Some(shown) = &mut self.tokens.canvas.confidence {
                    shown[[row, position]] = confidence as f32;
                }
                self.scratch.written.push((row, position, token));
            }
            self.passes[row] += 1;
        }
        self.block.1 += 1;
        self.tokens.apply(&self.scratch.written, 0.0);
        self.tokens.canvas.t = self.masked_share();
        Ok(())
    }

    /// Gathers the open positions of a row and the numbers that the rule reads.
    fn rank(&mut self, row: usize) -> Result<(), Failure<D::Error>> {
        let (mut positions, reads) = (std::mem::take(&mut self.scratch.positions), self.options.reads());
        positions.clear();
        positions.extend(self.open(row));
        self.scratch.numbers.clear();
        self.scratch.drawn.clear();
        for &position in &positions {
            let mut drawn = None;
            let number = match reads {
                Reads::Place => -(position as f64),
                Reads::Coin => self.coin(row, position),
                Reads::Margin => self.stats(row, position)?.margin(),
                Reads::Entropy => self.stats(row, position)?.entropy,
                Reads::Confidence => {
                    let stats = self.stats(row, position)?;
                    drawn = Some(self.draw(row, position, &stats));
                    drawn.map_or(0.0, |(_, confidence)| confidence)
                }
            };
            let number = self.perturbed(number, reads, row, position);
            self.scratch.numbers.push(number);
            self.scratch.drawn.push(drawn);
        }
        self.scratch.positions = positions;
        Ok(())
    }

    /// The number as the rule wants it: low entropies are good scores, and positions that are drawn get Gumbel noise,
    /// of which the largest are a draw without replacement.
    fn perturbed(&mut self, number: f64, reads: Reads, row: usize, position: usize) -> f64 {
        let bound = matches!(self.options.selection, Selection::EntropyBound { .. });
        let score = if reads == Reads::Entropy && !bound { -number } else { number };
        if self.options.order_temperature == 0.0 {
            return score;
        }
        score / self.options.order_temperature - (-self.coin(row, position).ln()).ln()
    }

    fn choose(&mut self, row: usize) {
        let Scratch { positions, numbers, chosen, .. } = &mut self.scratch;
        let pass = self.block.1;
        match self.options.selection {
            // An edit may have opened positions that the plan does not count: they are written after its last pass.
            Selection::Quota { passes } if pass >= passes => best(numbers, usize::MAX, chosen),
            Selection::Quota { passes } => best(numbers, quota_of(self.planned[row], passes, pass), chosen),
            Selection::Share { passes, t_min } => {
                best(numbers, (numbers.len() as f64 * share(passes, t_min, pass)) as usize, chosen);
            }
            Selection::Bernoulli { passes, t_min } => {
                let chance = share(passes, t_min, pass);
                chosen.clear();
                chosen.extend((0..numbers.len()).filter(|&k| numbers[k] < chance));
            }
            Selection::Threshold { least, slack } => above(numbers, least, slack, chosen),
            Selection::Factor { factor } => within_factor(numbers, factor, chosen),
            Selection::Hierarchy { high, low } => by_segments(positions, numbers, high, low, chosen),
            Selection::EntropyBound { gamma } => within_entropy(numbers, gamma, chosen),
        }
    }

    fn coin(&mut self, row: usize, position: usize) -> f64 {
        let (at, mut coin) = (self.tokens.at(self.passes[row], row, position), [0.0]);
        self.tokens.draws.uniforms(stream::ORDER, at, &mut coin);
        coin[0]
    }

    /// The statistics of the distribution that is scored; that distribution stays in the scratch where it is filtered.
    fn stats(&mut self, row: usize, position: usize) -> Result<RowStats, Failure<D::Error>> {
        let p = &mut self.scratch.p;
        let (logits, _) = self.tokens.row(row, position);
        let stats = match self.options.scored {
            Scored::Model => row_stats(logits),
            Scored::Filtered => self.options.filter.apply_untempered(logits, p).then(|| of_probabilities(p)),
        };
        stats.ok_or(Failure::Output { row, position })
    }

    /// A token and its probability in the scored distribution, right after that one's statistics.
    fn draw(&mut self, row: usize, position: usize, stats: &RowStats) -> (u32, f64) {
        let at = self.tokens.at(self.passes[row], row, position);
        let (filter, idiom) = (&self.options.filter, self.options.idiom);
        let Scratch { p, race, .. } = &mut self.scratch;
        let (logits, draws) = self.tokens.row(row, position);
        if filter.temperature != 0.0 && self.options.scored == Scored::Model {
            filter.apply(logits, p);
        }
        let token =
            if filter.temperature == 0.0 { stats.argmax } else { idiom.draw(draws, stream::TOKENS, at, p, race) };
        let confidence = match self.options.scored {
            Scored::Model => stats.probability(f64::from(logits[token])),
            Scored::Filtered => p[token],
        };
        (token as u32, confidence)
    }

    fn masked_share(&self) -> f64 {
        let masked = self.tokens.canvas.decided.iter().filter(|decided| !**decided).count();
        masked as f64 / self.tokens.fixed.free().max(1) as f64
    }
}

/// What a rule reads at a position.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Place,
    Coin,
    Margin,
    Entropy,
    Confidence,
}

impl UnmaskingOptions {
    fn reads(&self) -> Reads {
        match (self.selection, self.score) {
            (Selection::EntropyBound { .. }, _) => Reads::Entropy,
            (Selection::Bernoulli { .. }, _) => Reads::Coin,
            (_, Score::Confidence) => Reads::Confidence,
            (_, Score::Margin) => Reads::Margin,
            (_, Score::Entropy) => Reads::Entropy,
            (_, Score::Random) => Reads::Coin,
            (_, Score::LeftToRight) => Reads::Place,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let time = |t_min: f64| parameter("t_min", "in [0, 1)", t_min, (0.0..1.0).contains(&t_min));
        let passed = |passes: usize| parameter("passes", "at least 1", passes as f64, passes > 0);
        let counted = match self.selection {
            Selection::Quota { passes } => {
                passed(passes)?;
                true
            }
            Selection::Share { passes, t_min } => {
                passed(passes)?;
                time(t_min)?;
                true
            }
            Selection::Bernoulli { passes, t_min } => {
                passed(passes)?;
                time(t_min)?;
                false
            }
            Selection::Threshold { least, slack } => {
                parameter("least", "a number", least, !least.is_nan())?;
                parameter("slack", "at least 0", slack, slack >= 0.0)?;
                false
            }
            Selection::Factor { factor } => {
                parameter("factor", "at least 0", factor, factor >= 0.0)?;
                false
            }
            Selection::Hierarchy { high, low } => {
                parameter("high", "a number", high, !high.is_nan())?;
                parameter("low", "a number", low.unwrap_or(0.0), !low.is_some_and(f64::is_nan))?;
                false
            }
            Selection::EntropyBound { gamma } => {
                parameter("gamma", "at least 0", gamma, gamma >= 0.0)?;
                false
            }
        };
        let (temperature, expected) =
            (self.order_temperature, "finite and at least 0, and 0 unless passes are counted");
        let holds = temperature == 0.0 || (counted && temperature > 0.0 && temperature.is_finite());
        parameter("order_temperature", expected, temperature, holds)?;
        if let Some(Blocks { size, .. }) = self.blocks {
            parameter("the block size", "at least 1", size as f64, size > 0)?;
        }
        Ok(())
    }
}

canvases!([D: Denoiser] Unmasking<D>, D::Error);

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
