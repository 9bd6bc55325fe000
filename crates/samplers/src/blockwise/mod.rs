//! Block by block from left to right: a text that grows while it is denoised.

mod options;

pub use options::{BlockwiseOptions, Fill, LowEntropy, Stop};

use crate::ancestral::{AncestralOptions, TimeDependence};
use crate::canvas::canvases;
use crate::draws::{At, Draws, Keyed, stream};
use crate::error::parameter;
use crate::levels::Level;
use crate::noise::Noise;
use crate::reverse::{Reverse, Scratch, Step};
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Sampler};
use galatea_processes::{Categorical, Denoiser};

/// The sampler of block diffusion: the next block of masks is put behind the text, filled, and never touched again.
///
/// The denoiser sees the text up to the end of the present block and no further: canvases grow, and so do its logits.
/// (Where it cannot look ahead, its keys and values of finished blocks may be kept.) A row's draws do not depend on the
/// others, but a denoiser that listens to t is told the latest time of all rows that are still at work.
///
/// With [`Fill::FirstHitting`] an exact denoiser's texts follow its law exactly: one position at a time, in an order that
/// does not look at tokens.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser is shown \[batch, end\] and writes \[batch, end, vocab\].
///
/// # Source
/// Arriola et al. (2025), BD3-LM, section 5; Zheng et al. (2024), first-hitting sampling.
pub struct Blockwise<D> {
    tokens: Tokens<D>,
    noise: Noise,
    options: BlockwiseOptions,
    /// What a [`Reverse`] step reads of its options.
    reverse: AncestralOptions,
    scratch: Scratch,
    written: Vec<(usize, usize, u32)>,
    end: usize,
    /// How many steps the present block has had.
    block_step: usize,
    /// How many steps each row has had, which numbers its draws; and where its time has come to.
    rows: Vec<Row>,
    failed: bool,
}

#[derive(Clone, Copy)]
struct Row {
    steps: usize,
    t: f64,
    /// The text's length, once it has ended.
    length: Option<usize>,
}

impl<D: Denoiser> Blockwise<D> {
    /// The sampler before its first step.
    ///
    /// # Errors
    /// [`Error::NoMask`] for a process without a mask, [`Error::Parameter`] for blocks without a position, and as for
    /// [`Ancestral::new`](crate::Ancestral::new).
    pub fn new(denoiser: D, process: Categorical, fixed: Fixed, options: BlockwiseOptions) -> Result<Self, Error> {
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
        options: BlockwiseOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let noise = Noise::Levels(process);
        let mask = noise.absorbing().ok_or(Error::NoMask)?;
        fixed.check(process.vocab(), Some(mask))?;
        let mut forbidden = options.filter.forbidden.clone();
        forbidden.push(mask);
        Filter { forbidden: forbidden.clone(), ..options.filter }.check(process.vocab())?;
        parameter("the block size", "at least 1", options.blocks.size as f64, options.blocks.size > 0)?;
        if let Some(window) = options.window {
            parameter("the window", "at least a block", window as f64, window >= options.blocks.size)?;
        }
        if let Some(LowEntropy { least, window }) = options.stop.entropy {
            parameter("the least entropy", "a number", least, !least.is_nan())?;
            parameter("the window", "at least 1", window as f64, window > 0)?;
        }
        let (batch, len) = fixed.dim();
        let tokens = Tokens::new(denoiser, (process.vocab(), process.limit()), fixed, forbidden, 1.0, draws);
        let reverse = AncestralOptions { filter: options.filter.clone(), idiom: options.idiom, ..Default::default() };
        let end = options.blocks.first.saturating_add(options.blocks.size).min(len);
        Ok(Self {
            tokens,
            noise,
            reverse,
            scratch: Scratch::new(process.vocab()),
            written: Vec::with_capacity(batch * len),
            end,
            block_step: 0,
            rows: vec![Row { steps: 0, t: 1.0, length: None }; batch],
            options,
            failed: false,
        })
    }

    /// How many positions the denoiser sees at present.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The length of a row's text: the position behind its end token or its last full block; `None` while it grows.
    pub fn length(&self, row: usize) -> Option<usize> {
        self.rows.get(row).and_then(|row| row.length)
    }

    /// Overwrites a position that is not fixed, as an edit between two steps; the mask id opens it again.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Token`] or [`Error::WriteFixed`].
    pub fn write(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        self.tokens.write(row, position, token)
    }

    /// The positions that the denoiser is shown.
    fn piece(&self) -> std::ops::Range<usize> {
        self.options.window.map_or(0, |window| self.end.saturating_sub(window))..self.end
    }

    /// The positions of a row that the present block may fill: none once its text has ended.
    fn reach(&self, row: usize) -> std::ops::Range<usize> {
        if self.rows[row].length.is_some() { 0..0 } else { self.piece() }
    }

    /// The masks of a row that the present block has to fill.
    fn open(&self, row: usize) -> impl Iterator<Item = usize> {
        self.reach(row).filter(move |&position| self.tokens.open(row, position))
    }

    /// Goes on to the block with the next mask; false if there is none.
    fn find_block(&mut self) -> bool {
        let (batch, len) = self.tokens.canvas.ids.dim();
        loop {
            if (0..batch).any(|row| self.open(row).next().is_some()) {
                return true;
            }
            (0..batch).for_each(|row| self.judge(row));
            if self.end >= len || self.rows.iter().all(|row| row.length.is_some()) {
                self.rows.iter_mut().for_each(|row| row.length = row.length.or(Some(len)));
                return false;
            }
            self.end = self.end.saturating_add(self.options.blocks.size).min(len);
            self.block_step = 0;
            self.rows.iter_mut().for_each(|row| row.t = 1.0);
        }
    }

    /// Whether a row's text ends with the block that is full.
    fn judge(&mut self, row: usize) {
        if self.rows[row].length.is_some() {
            return;
        }
        let ids = self.tokens.canvas.ids.row(row);
        let Stop { end, entropy } = self.options.stop;
        let free = |position: &usize| self.tokens.free(row, *position);
        let ended = (0..self.end).filter(free).find(|&position| Some(ids[position]) == end);
        self.rows[row].length = match (ended, entropy) {
            (Some(position), _) => Some(position + 1),
            (None, Some(LowEntropy { least, window })) if self.end >= window => {
                let mut last: Vec<u32> = ids.iter().take(self.end).skip(self.end - window).copied().collect();
                (unigram_entropy(&mut last) < least).then_some(self.end)
            }
            (None, _) => None,
        };
    }

    /// The key of a position in a row's own count of steps.
    fn at(&self, row: usize, position: usize) -> At {
        self.tokens.at(self.rows[row].steps, row, position)
    }

    fn step(&mut self) -> Result<(), Failure<D::Error>> {
        self.written.clear();
        let t = match &self.options.fill {
            Fill::FirstHitting => self.hit()?,
            Fill::Ancestral(steps) => {
                let pair = steps.as_slice().get(self.block_step).copied();
                let (here, there) = pair.unwrap_or((steps.last(), Level { t: 0.0, alpha_bar: 1.0 }));
                self.descend(here, there, pair.is_none())?
            }
        };
        for row in 0..self.rows.len() {
            let open = self.open(row).next().is_some();
            self.rows[row].steps += usize::from(open);
        }
        self.tokens.apply(&self.written, t);
        self.block_step += 1;
        Ok(())
    }

    /// Writes one token of every row that has masks, at the time of its next event.
    fn hit(&mut self) -> Result<f64, Failure<D::Error>> {
        let mut latest = 0.0f64;
        for row in 0..self.rows.len() {
            let masks = self.open(row).count();
            if masks > 0 {
                let (at, mut u) = (self.at(row, 0), [0.0]);
                self.tokens.draws.uniforms(stream::TIME, at, &mut u);
                self.rows[row].t *= u[0].powf(1.0 / masks as f64);
                latest = latest.max(self.rows[row].t);
            }
        }
        self.tokens.predict_within(self.piece(), latest, false)?;
        for row in 0..self.rows.len() {
            let masks = self.open(row).count();
            if masks == 0 {
                continue;
            }
            let at = self.at(row, 0);
            let chosen = self.tokens.draws.below(stream::ORDER, at, masks);
            let Some(position) = self.open(row).nth(chosen) else { continue };
            let at = self.at(row, position);
            let (logits, draws) = self.tokens.row(row, position);
            let Scratch { p, race, .. } = &mut self.scratch;
            if !self.options.filter.apply(logits, p) {
                return Err(Failure::Output { row, position });
            }
            let token = self.options.idiom.draw(draws, stream::TOKENS, at, p, race);
            self.written.push((row, position, token as u32));
        }
        Ok(latest)
    }

    /// One ancestral step of the present block.
    fn descend(&mut self, here: Level, there: Level, clean: bool) -> Result<f64, Failure<D::Error>> {
        let reused = match self.options.time {
            TimeDependence::Free => true,
            TimeDependence::Conditioned => false,
        };
        self.tokens.predict_within(self.piece(), here.t, reused)?;
        let step = Step { here, there, slope: 0.0, sigma: 0.0, kappa: 1.0, clean, last: clean };
        for row in 0..self.rows.len() {
            for position in self.reach(row) {
                if !self.tokens.open(row, position) {
                    continue;
                }
                let (at, x_t) = (self.at(row, position), self.tokens.canvas.ids[[row, position]]);
                let (logits, draws) = self.tokens.row(row, position);
                let (noise, options, scratch) = (&self.noise, &self.reverse, &mut self.scratch);
                let mut reverse =
                    Reverse { noise, options, step, x_t, logits, dropped: None, classified: None, scratch };
                let token = reverse.token(draws, at).ok_or(Failure::Output { row, position })?;
                self.written.push((row, position, token));
            }
        }
        Ok(there.t)
    }
}

/// The entropy of the frequencies of `tokens`, in nats; sorts them.
pub(crate) fn unigram_entropy(tokens: &mut [u32]) -> f64 {
    tokens.sort_unstable();
    let total = tokens.len() as f64;
    -tokens
        .chunk_by(|a, b| a == b)
        .map(|same| {
            let p = same.len() as f64 / total;
            p * p.ln()
        })
        .sum::<f64>()
}

canvases!([D: Denoiser] Blockwise<D>, D::Error);

impl<D: Denoiser> Sampler for Blockwise<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed || !self.find_block() {
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
    use crate::source::*;
    use crate::{Ancestral, Blocks};
    use crate::{Levels, NoiseRemoval};
    use galatea_processes::Limit;
    use galatea_schedules::{Linear, grid};
    use ndarray::{ArrayRef2, ArrayRef3};
    use std::convert::Infallible;

    /// The source, shown less than its length: what it is not shown it takes for masks.
    struct Growing(Source);

    impl Denoiser for Growing {
        type Error = Infallible;
        fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            let batch = x_t.nrows();
            let mut whole = ndarray::Array2::from_elem((batch, self.0.len), TOKENS as u32);
            x_t.indexed_iter().for_each(|(at, &id)| whole[at] = id);
            let mut answer = ndarray::Array3::zeros((batch, self.0.len, logits.dim().2));
            self.0.denoise(&whole, t, &mut answer)?;
            logits.indexed_iter_mut().for_each(|(at, logit)| *logit = answer[at]);
            Ok(())
        }
    }

    fn blockwise(options: BlockwiseOptions, fixed: Fixed) -> Blockwise<Growing> {
        Blockwise::new(Growing(exact(MASK, fixed.dim().1)), process(MASK), fixed, options).expect("sound")
    }

    #[test]
    fn first_hitting_follows_the_law_exactly() {
        for size in [1, 2, 3] {
            let options = BlockwiseOptions { seed: 6, ..BlockwiseOptions::new(size) };
            let canvas = blockwise(options, Fixed::none(4000, 3)).finish().expect("infallible");
            assert_eq!(canvas.calls, 3);
            let mut counts = vec![0; TOKENS.pow(3)];
            canvas.ids.rows().into_iter().for_each(|row| counts[number(row.iter().copied())] += 1);
            let (statistic, quantile) = chi_square(&counts, &exact(MASK, 3).joint);
            assert!(statistic < quantile, "blocks of {size}: {statistic}");
        }
    }

    /// The times of the events are those of the chain: all of them lie below t with probability t^n.
    #[test]
    fn hitting_times_are_the_order_statistics() {
        let mut sampler = blockwise(BlockwiseOptions { seed: 2, ..BlockwiseOptions::new(3) }, Fixed::none(3000, 3));
        sampler.next().expect("a step").expect("infallible");
        let below = |t: f64| sampler.rows.iter().filter(|row| row.t < t).count() as f64 / 3000.0;
        for t in [0.3f64, 0.6, 0.8] {
            assert!((below(t) - t.powi(3)).abs() < 0.03, "{t}: {}", below(t));
        }
    }

    /// One block with all steps is the ancestral sampler.
    #[test]
    fn one_block_is_ancestral_sampling() {
        let levels = Levels::new(&Linear, &grid::uniform(9)).expect("descends");
        let fill = Fill::Ancestral(levels.clone().into());
        let options = BlockwiseOptions { seed: 8, fill, ..BlockwiseOptions::new(3) };
        let ours = blockwise(options, Fixed::none(5, 3)).finish().expect("infallible");
        let options = AncestralOptions {
            seed: 8,
            time: TimeDependence::Free,
            noise_removal: NoiseRemoval::Sample,
            ..Default::default()
        };
        let theirs = Ancestral::new(exact(MASK, 3), process(MASK), levels, Fixed::none(5, 3), options).expect("sound");
        // The rows' own counts of steps agree with the sampler's until a row is full.
        assert_eq!(ours.ids, theirs.finish().expect("infallible").ids);
    }

    #[test]
    fn rows_do_not_depend_on_their_batch() {
        let run = |batch, first_sample| {
            let options = BlockwiseOptions { seed: 4, first_sample, ..BlockwiseOptions::new(2) };
            blockwise(options, Fixed::none(batch, 4)).finish().expect("infallible").ids
        };
        let together = run(3, 0);
        for row in 0..3 {
            assert_eq!(together.row(row), run(1, row as u32).row(0));
        }
    }

    /// A window that moves on: the model never sees more, and a block's tokens follow from those in it.
    #[test]
    fn a_window_moves_on() {
        struct Narrow(Vec<(usize, usize)>);
        impl Denoiser for Narrow {
            type Error = Infallible;
            fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
                self.0.push(x_t.dim());
                assert!(x_t.ncols() <= 4 && logits.dim().1 == x_t.ncols());
                logits.fill(-9.0);
                for ((row, position), &token) in x_t.indexed_iter().filter(|(_, id)| **id < TOKENS as u32) {
                    if position + 1 < x_t.ncols() {
                        logits[[row, position + 1, (token as usize + 1) % TOKENS]] = 30.0;
                    }
                }
                Ok(())
            }
        }
        let mut fixed = Fixed::none(2, 12);
        fixed.write(0, 0, &[0, 1, 2]).expect("inside");
        fixed.write(1, 0, &[1, 2, 0]).expect("inside");
        let options =
            BlockwiseOptions { blocks: Blocks { first: 3, size: 1 }, window: Some(4), ..BlockwiseOptions::new(1) };
        let canvas = Blockwise::new(Narrow(Vec::new()), process(MASK), fixed, options).expect("sound").finish();
        let canvas = canvas.expect("infallible");
        for ((row, position), &id) in canvas.ids.indexed_iter() {
            assert_eq!(id as usize, (row + position) % TOKENS);
        }
        assert_eq!(canvas.calls, 9);
    }

    #[test]
    fn texts_end_at_their_end() {
        let stop = Stop { end: Some(1), entropy: None };
        let options = BlockwiseOptions { seed: 1, stop, ..BlockwiseOptions::new(2) };
        let mut sampler = blockwise(options, Fixed::none(40, 6));
        sampler.by_ref().for_each(|canvas| drop(canvas.expect("infallible")));
        let canvas = sampler.canvas().clone();
        for row in 0..40 {
            let length = sampler.length(row).expect("all have ended");
            let first = canvas.ids.row(row).iter().position(|&id| id == 1);
            assert_eq!(length, first.map_or(6, |position| position + 1));
            // The block is full, and nothing follows it.
            let full = length.div_ceil(2) * 2;
            assert!((0..6).all(|l| (canvas.ids[[row, l]] == TOKENS as u32) == (l >= full)), "row {row}");
        }
        let entropy = Some(LowEntropy { least: 0.1, window: 2 });
        let options = BlockwiseOptions { stop: Stop { end: None, entropy }, ..BlockwiseOptions::new(2) };
        let mut fixed = Fixed::none(1, 6);
        fixed.write(0, 0, &[2, 2]).expect("inside");
        let sampler = blockwise(options, fixed);
        let canvas = sampler.finish().expect("infallible");
        assert_eq!(canvas.calls, 0, "two equal tokens say nothing");
    }

    #[test]
    fn unsound_blocks_are_refused() {
        let new = |options| Blockwise::new(exact(MASK, 3), process(MASK), Fixed::none(1, 3), options).err();
        assert!(matches!(new(BlockwiseOptions::new(0)), Some(Error::Parameter { .. })));
        let narrow = BlockwiseOptions { window: Some(1), ..BlockwiseOptions::new(2) };
        assert!(matches!(new(narrow), Some(Error::Parameter { parameter: "the window", .. })));
        let uniform = Blockwise::new(
            exact(Limit::Uniform, 3),
            process(Limit::Uniform),
            Fixed::none(1, 3),
            BlockwiseOptions::new(1),
        );
        assert_eq!(uniform.err(), Some(Error::NoMask));
    }

    #[test]
    fn entropy_of_frequencies() {
        assert_eq!(unigram_entropy(&mut [4, 4, 4]), 0.0);
        assert!((unigram_entropy(&mut [1, 2, 1, 2]) - std::f64::consts::LN_2).abs() < 1e-15);
    }
}
