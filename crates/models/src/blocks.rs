//! Block diffusion: a text is written block by block, each denoised with what the clean blocks before it left in a cache.
//!
//! Training computes all blocks at once on a canvas that stands twice, [x_t ; x_0]: a noisy block attends to itself and to
//! the earlier clean blocks, as it will when it is written. What a clean position computes depends on neither noise nor
//! time, so that the keys and values of a finished block are kept and never change.
//!
//! # Source
//! Arriola et al. (2025), "Block diffusion: interpolating between autoregressive and diffusion language models", sections 3
//! and 4 and appendix B.6.

use crate::attend::{Attend, caches};
use crate::encoder::config;
use crate::{Error, Head, Model};
use galatea_autograd::{AttentionMask, DType, Recorder, Session, Var};
use galatea_kernels::Backend;
use galatea_processes::Denoiser;
use ndarray::{Array3, ArrayRef2, ArrayRef3, ArrayView1, Axis, Slice};
use std::collections::BTreeSet;
use std::ops::Range;

/// A model that is read in blocks of `block` positions.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockModel {
    model: Model,
    block: usize,
}

/// The program of a [`BlockDenoiser`]: what the host writes, and what it reads.
#[derive(Clone, Copy, Debug)]
pub struct BlockProgram {
    /// One block, u32 [batch, block].
    pub ids: Var,
    /// What the model is told of the noise, [batch].
    pub time: Var,
    /// How many clean positions the caches hold, u32 [1].
    pub past: Var,
    /// The block's logits f32 [batch, block, vocab].
    pub logits: Var,
    /// Positions of a text.
    len: usize,
}

impl BlockModel {
    /// The `model` in blocks of `block` positions.
    ///
    /// # Errors
    /// If it is no model; if it is told the time, by which the keys of a clean block would differ from one call to the next; or if
    /// a block has no position.
    pub fn new(model: Model, block: usize) -> Result<Self, Error> {
        model.validate()?;
        model.on_tokens()?;
        if model.uses_time() {
            return Err(config("time", "no time for a model that is read in blocks: clean blocks are kept", "a time"));
        }
        if block == 0 || block > 1 << 20 {
            return Err(config("block", "a number from 1 to 1048576", block));
        }
        Ok(Self { model, block })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Positions of a block.
    pub fn block(&self) -> usize {
        self.block
    }

    /// What the head reads, [batch, 2 len, d_model], for ids u32 [batch, 2 len] = [x_t ; x_0], in training; and the head. The
    /// first half are the predictions; a loss gives the second half no weight. `visible` u32 [batch, 2 len] hides padding.
    ///
    /// # Panics
    /// If the number of positions is odd.
    #[track_caller]
    pub fn hidden(&self, rec: &mut Recorder, vocab: usize, ids: Var, time: Var, visible: Option<Var>) -> (Var, Head) {
        self.model.hidden_with(rec, vocab, ids, time, &Attend::Twice { block: self.block as u32, visible })
    }

    /// What the head reads, [batch, len, d_model], for ids u32 [batch, len] as they stand, each position with its block and the
    /// earlier ones; and the head. A model that was trained on such canvases (SDAR) is read so; of one that was trained on [x_t ;
    /// x_0] the rows of a block are those of [`BlockModel::hidden`] where the blocks before it are clean.
    pub fn hidden_as_it_stands(
        &self,
        rec: &mut Recorder,
        vocab: usize,
        ids: Var,
        time: Var,
        visible: Option<Var>,
    ) -> (Var, Head) {
        self.model.hidden_with(rec, vocab, ids, time, &Attend::Blocks { block: self.block as u32, visible })
    }

    /// Records the logits of one block of a text of `len` positions, without dropout: the inputs `ids`, `time`, `past` and a
    /// cache for every layer, which a run extends by the block.
    ///
    /// # Errors
    /// If `len` is not a multiple of the block.
    pub fn program(&self, rec: &mut Recorder, vocab: usize, batch: usize, len: usize) -> Result<BlockProgram, Error> {
        if len == 0 || !len.is_multiple_of(self.block) {
            return Err(config("len", format!("a multiple of the block's {} positions", self.block), len));
        }
        let model = self.model.without_dropout();
        let ids = rec.input("ids", &[batch, self.block], DType::U32);
        let time = rec.input("time", &[batch], DType::F32);
        let past = rec.input("past", &[1], DType::U32);
        let caches = caches(rec, model.layers(), [batch, len, model.key_width()]);
        // A block sees all of itself, and the cache is what comes before it.
        let attend = Attend::Cached { past, position: past, capacity: len, mask: AttentionMask::Full, caches: &caches };
        let (h, head) = model.hidden_with(rec, vocab, ids, time, &attend);
        Ok(BlockProgram { ids, time, past, logits: head.logits(rec, h), len })
    }
}

/// A block model behind the trait that samplers take: it computes the block that is being written, given the blocks before it.
///
/// Of a canvas that is still growing (`Blockwise`) that is the last block; of a whole one (`Unmasking` with blocks of this size)
/// the block of the first masked position of each row. Logits of other positions are 0. Blocks before are computed once and
/// kept; where tokens were changed since, that block and those after it are computed again.
pub struct BlockDenoiser<B: Backend> {
    session: Session<B>,
    program: BlockProgram,
    mask: u32,
    /// The tokens whose keys and values are kept, position by position of all rows.
    kept: Vec<Vec<u32>>,
    logits: Array3<f32>,
}

impl<B: Backend> BlockDenoiser<B> {
    /// Wraps a session of the program that [`BlockModel::program`] recorded.
    pub fn new(session: Session<B>, program: BlockProgram, mask: u32) -> Self {
        let shape = session.plan().slot(program.logits).shape;
        let logits = Array3::zeros((shape.dim(0), shape.dim(1), shape.dim(2)));
        Self { session, program, mask, kept: Vec::new(), logits }
    }

    /// The session, to load parameters: what was kept under earlier ones is forgotten.
    pub fn session_mut(&mut self) -> &mut Session<B> {
        self.kept.clear();
        &mut self.session
    }

    /// Runs the block that begins at `first`, after as many kept positions, and keeps it too.
    fn run(&mut self, x_t: &ArrayRef2<u32>, first: usize) -> Result<(), B::Error> {
        let (batch, block, _) = self.logits.dim();
        let ids = x_t.slice_axis(Axis(1), columns(first..first + block)).as_standard_layout().into_owned();
        self.session.set(self.program.ids, &ids)?;
        self.session.write(self.program.time, &vec![0.0f32; batch])?;
        self.session.write(self.program.past, &[first as u32])?;
        self.session.run()?;
        self.kept.truncate(first);
        self.kept.extend(ids.columns().into_iter().map(|column| column.to_vec()));
        Ok(())
    }

    /// Where the blocks begin that are being written.
    fn written(&self, x_t: &ArrayRef2<u32>) -> BTreeSet<usize> {
        let (_, block, _) = self.logits.dim();
        let last = x_t.ncols() - block;
        let masked = |row: ArrayView1<'_, u32>| row.iter().position(|&id| id == self.mask);
        let whole = x_t.ncols() == self.program.len;
        let starts: BTreeSet<usize> = x_t
            .rows()
            .into_iter()
            .filter(|_| whole)
            .filter_map(masked)
            .map(|position| position / block * block)
            .collect();
        if starts.is_empty() { BTreeSet::from([last]) } else { starts }
    }
}

/// Positions of an array whose second axis they are.
fn columns(positions: Range<usize>) -> Slice {
    Slice::from(positions)
}

impl<B: Backend> Denoiser for BlockDenoiser<B> {
    type Error = B::Error;

    /// # Panics
    /// If `x_t` is not the program's canvas or whole blocks of its beginning, or `logits` does not fit it.
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        let (batch, block, vocab) = self.logits.dim();
        let shown = x_t.ncols();
        assert!(x_t.nrows() == batch && shown > 0 && shown <= self.program.len, "a canvas of the program's shape");
        assert!(shown.is_multiple_of(block), "a canvas of whole blocks");
        assert_eq!(logits.dim(), (batch, shown, vocab), "logits of the canvas's shape");
        logits.fill(0.0);
        for first in self.written(x_t) {
            let same = |(i, kept): &(usize, &Vec<u32>)| x_t.column(*i).iter().eq(kept.iter());
            let same = self.kept.iter().enumerate().take(first).take_while(same).count();
            for at in (same / block * block..first).step_by(block) {
                self.run(x_t, at)?;
            }
            self.run(x_t, first)?;
            self.session.get(self.program.logits, &mut self.logits)?;
            logits.slice_axis_mut(Axis(1), columns(first..first + block)).assign(&self.logits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dit, Encoder, Llama, Positions, TimeInput};
    use galatea_autograd::Part;
    use galatea_kernels::{Cpu, Isa};
    use ndarray::Array2;

    const BATCH: usize = 2;
    const LEN: usize = 12;
    const VOCAB: usize = 11;
    const MASK: u32 = 10;

    fn dit() -> Model {
        Model::Dit(Dit { d_model: 32, layers: 2, heads: 4, cond_dim: 16, dropout: 0.1, ..Dit::default() })
    }

    fn encoder(positions: Positions) -> Model {
        Model::Encoder(Encoder { d_model: 32, layers: 2, heads: 4, d_ff: 48, positions, ..Encoder::default() })
    }

    fn llama() -> Model {
        let llama = Llama { d_model: 32, layers: 2, heads: 4, kv_heads: 2, d_ff: 48, ..Llama::default() };
        Model::Llama(Llama { d_head: 12, qk_norm: true, ..llama })
    }

    fn load(session: &mut Session<Cpu>) {
        for index in 0..session.plan().params().len() {
            let param = &session.plan().params()[index];
            let salt: usize = param.path.bytes().map(usize::from).sum();
            let scale = if param.shape.rank() == 1 { 0.5 } else { 2.0 / (param.shape.cols() as f32).sqrt() };
            let value = |i: usize| scale * (((i * 7 + salt) * 37 % 29) as f32 / 14.0 - 1.0);
            let values: Vec<f32> = (0..param.shape.len()).map(value).collect();
            session.set_param(index, Part::Value, &values).expect("upload");
        }
    }

    /// Logits of the noisy half, as training computes them.
    fn training(model: &BlockModel, x_t: &Array2<u32>, x_0: &Array2<u32>, dtype: DType) -> Array3<f32> {
        let mut rec = Recorder::with_precision(dtype);
        let ids = rec.input("ids", &[BATCH, 2 * LEN], DType::U32);
        let time = rec.input("time", &[BATCH], DType::F32);
        let plain = BlockModel { model: model.model.without_dropout(), block: model.block };
        let (h, head) = plain.hidden(&mut rec, VOCAB, ids, time, None);
        let logits = head.logits(&mut rec, h);
        let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[logits])).expect("memory");
        load(&mut session);
        let both = ndarray::concatenate(ndarray::Axis(1), &[x_t.view(), x_0.view()]).expect("equal rows");
        session.set(ids, &both.as_standard_layout().into_owned()).expect("upload");
        session.run().expect("run");
        let mut all = Array3::zeros((BATCH, 2 * LEN, VOCAB));
        session.get(logits, &mut all).expect("download");
        all.slice_axis(Axis(1), columns(0..LEN)).to_owned()
    }

    fn denoiser(model: &BlockModel, dtype: DType) -> BlockDenoiser<Cpu> {
        let mut rec = Recorder::with_precision(dtype);
        let program = model.program(&mut rec, VOCAB, BATCH, LEN).expect("whole blocks");
        let session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[program.logits])).expect("memory");
        let mut denoiser = BlockDenoiser::new(session, program, MASK);
        load(denoiser.session_mut());
        denoiser
    }

    fn clean(shift: usize) -> Array2<u32> {
        Array2::from_shape_fn((BATCH, LEN), |(b, l)| ((b * 5 + l * 3 + shift) % (VOCAB - 1)) as u32)
    }

    /// `x_0` with every other position masked.
    fn noisy(x_0: &Array2<u32>) -> Array2<u32> {
        Array2::from_shape_fn(x_0.dim(), |(b, l)| if (b + l) % 2 == 0 { MASK } else { x_0[[b, l]] })
    }

    fn largest(a: &Array3<f32>, b: &Array3<f32>) -> f32 {
        a.iter().zip(b).fold(0.0, |max: f32, (a, b)| max.max((a - b).abs()))
    }

    #[test]
    fn a_block_by_the_cache_equals_its_rows_in_training() {
        for (model, dtype, tolerance) in [
            (dit(), DType::F32, 2e-5),
            (encoder(Positions::Rotary), DType::F32, 2e-5),
            (encoder(Positions::LearnedRotary), DType::F32, 2e-5),
            (llama(), DType::F32, 2e-5),
            (dit(), DType::Bf16, 0.2),
        ] {
            for block in [1, 3, 4, 12] {
                let model = BlockModel::new(model.clone(), block).expect("a model");
                let mut denoiser = denoiser(&model, dtype);
                // The second text differs from the first behind the first block: a part of what is kept is used again.
                let mut second = clean(4);
                second
                    .slice_axis_mut(Axis(1), columns(0..block))
                    .assign(&clean(0).slice_axis(Axis(1), columns(0..block)));
                for x_0 in [clean(0), second] {
                    let x_t = noisy(&x_0);
                    let truth = training(&model, &x_t, &x_0, dtype);
                    let top = truth.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                    for first in (0..LEN).step_by(block) {
                        let mut canvas = x_t.clone();
                        canvas
                            .slice_axis_mut(Axis(1), columns(0..first))
                            .assign(&x_0.slice_axis(Axis(1), columns(0..first)));
                        let mut found = Array3::from_elem((BATCH, LEN, VOCAB), f32::NAN);
                        denoiser.denoise(&canvas, 0.5, &mut found).expect("run");
                        let rows = columns(first..first + block);
                        let error = largest(
                            &found.slice_axis(Axis(1), rows).to_owned(),
                            &truth.slice_axis(Axis(1), rows).to_owned(),
                        );
                        assert!(error <= tolerance * top, "{dtype:?}, blocks of {block}, at {first}: {error} of {top}");
                        let before = found.slice_axis(Axis(1), columns(0..first));
                        assert!(before.iter().all(|&x| x == 0.0), "positions that are not written are 0");
                    }
                }
            }
        }
    }

    #[test]
    fn behind_clean_blocks_a_canvas_as_it_stands_is_a_row_of_training() {
        for model in [dit(), encoder(Positions::LearnedRotary), llama()] {
            let model = BlockModel::new(model.without_dropout(), 4).expect("a model");
            let (x_0, x_t) = (clean(1), noisy(&clean(1)));
            let truth = training(&model, &x_t, &x_0, DType::F32);
            let mut rec = Recorder::new();
            let ids = rec.input("ids", &[BATCH, LEN], DType::U32);
            let time = rec.input("time", &[BATCH], DType::F32);
            let (h, head) = model.hidden_as_it_stands(&mut rec, VOCAB, ids, time, None);
            let logits = head.logits(&mut rec, h);
            let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[logits])).expect("memory");
            load(&mut session);
            for first in (0..LEN).step_by(4) {
                let mut canvas = x_t.clone();
                canvas.slice_axis_mut(Axis(1), columns(0..first)).assign(&x_0.slice_axis(Axis(1), columns(0..first)));
                session.set(ids, &canvas).expect("upload");
                session.run().expect("run");
                let mut found = Array3::zeros((BATCH, LEN, VOCAB));
                session.get(logits, &mut found).expect("download");
                let cut = |x: &Array3<f32>| x.slice_axis(Axis(1), columns(first..first + 4)).to_owned();
                let error = largest(&cut(&found), &cut(&truth));
                assert!(error < 2e-4, "{:?} at {first}: {error}", model.model());
            }
        }
    }

    #[test]
    fn the_clean_half_hears_nothing_of_the_noise() {
        let model = BlockModel::new(dit(), 4).expect("a model");
        let (x_0, mut other) = (clean(0), clean(0));
        // The last block of a clean text is seen by no block of x_t.
        other.slice_axis_mut(Axis(1), columns(8..LEN)).fill(3);
        let x_t = noisy(&x_0);
        assert_eq!(training(&model, &x_t, &x_0, DType::F32), training(&model, &x_t, &other, DType::F32));
        // The first is seen by all but the first.
        other.slice_axis_mut(Axis(1), columns(0..4)).fill(3);
        let (before, after) = (training(&model, &x_t, &x_0, DType::F32), training(&model, &x_t, &other, DType::F32));
        assert_eq!(before.slice_axis(Axis(1), columns(0..4)), after.slice_axis(Axis(1), columns(0..4)));
        assert_ne!(before.slice_axis(Axis(1), columns(4..LEN)), after.slice_axis(Axis(1), columns(4..LEN)));
    }

    #[test]
    fn one_block_is_the_whole_model() {
        let model = BlockModel::new(dit(), LEN).expect("a model");
        let x_t = noisy(&clean(2));
        let mut rec = Recorder::new();
        let ids = rec.input("ids", &[BATCH, LEN], DType::U32);
        let time = rec.input("time", &[BATCH], DType::F32);
        let logits = model.model().without_dropout().logits(&mut rec, VOCAB, ids, time, None);
        let mut session = Session::new(Cpu::with(2, Isa::detect()), rec.finish(&[logits])).expect("memory");
        load(&mut session);
        session.set(ids, &x_t).expect("upload");
        session.run().expect("run");
        let mut whole = Array3::zeros((BATCH, LEN, VOCAB));
        session.get(logits, &mut whole).expect("download");
        let error = largest(&training(&model, &x_t, &clean(2), DType::F32), &whole);
        assert!(error < 1e-4, "{error}");
    }

    #[test]
    fn what_a_block_cannot_serve_is_refused_with_its_field() {
        let field = |result: Result<_, Error>| match result {
            Err(Error::Config { field, .. }) => field,
            Ok(()) => panic!("expected a refusal"),
            Err(other) => panic!("expected a configuration that is refused, found {other:?}"),
        };
        let new = |model, block| BlockModel::new(model, block).map(|_| ());
        let Model::Encoder(plain) = encoder(Positions::Rotary) else { unreachable!("an encoder") };
        assert_eq!(field(new(Model::Encoder(Encoder { time: TimeInput::Given, ..plain.clone() }), 4)), "time");
        assert_eq!(field(new(Model::Dit(Dit { time_conditioning: true, ..Dit::default() }), 4)), "time");
        assert_eq!(field(new(Model::Encoder(Encoder { heads: 5, ..plain.clone() }), 4)), "heads");
        assert_eq!(field(new(Model::Encoder(plain), 0)), "block");
        let model = BlockModel::new(dit(), 5).expect("a model");
        assert_eq!(field(model.program(&mut Recorder::new(), VOCAB, BATCH, LEN).map(|_| ())), "len");
    }
}
