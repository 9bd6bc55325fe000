//! Texts that a block model writes: with keys and values kept, and by the forward pass of training.

use galatea_autograd::{DType, Part, Recorder, Session, Var};
use galatea_kernels::Cpu;
use galatea_kernels::cpu::CpuError;
use galatea_models::{BlockDenoiser, BlockModel, Dit, Model};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Blocks, Blockwise, BlockwiseOptions, Fixed, Sampler, Selection, Stop, Unmasking, UnmaskingOptions,
};
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3, Axis, Slice};

const BATCH: usize = 3;
const LEN: usize = 16;
const BLOCK: usize = 4;
const VOCAB: usize = 7;
const MASK: u32 = 6;

fn model() -> BlockModel {
    let dit = Dit { d_model: 32, layers: 2, heads: 4, cond_dim: 16, ..Dit::default() };
    BlockModel::new(Model::Dit(dit), BLOCK).expect("a model")
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

/// Every block at once by the training forward: the canvas is both halves, since a block hears only of those before it.
struct Training {
    session: Session<Cpu>,
    ids: Var,
    logits: Var,
}

impl Training {
    fn new() -> Self {
        let mut rec = Recorder::new();
        let ids = rec.input("ids", &[BATCH, 2 * LEN], DType::U32);
        let time = rec.input("time", &[BATCH], DType::F32);
        let (h, head) = model().hidden(&mut rec, VOCAB, ids, time, None);
        let logits = head.logits(&mut rec, h);
        let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).expect("memory");
        load(&mut session);
        Self { session, ids, logits }
    }
}

impl Denoiser for Training {
    type Error = CpuError;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), CpuError> {
        let shown = x_t.ncols();
        let at = |l: usize| if l % LEN < shown { Some(l % LEN) } else { None };
        let both = Array2::from_shape_fn((BATCH, 2 * LEN), |(b, l)| at(l).map_or(MASK, |l| x_t[[b, l]]));
        self.session.set(self.ids, &both)?;
        self.session.run()?;
        let mut all = Array3::zeros((BATCH, 2 * LEN, VOCAB));
        self.session.get(self.logits, &mut all)?;
        logits.assign(&all.slice_axis(Axis(1), Slice::from(..shown)));
        Ok(())
    }
}

fn kept() -> BlockDenoiser<Cpu> {
    let mut rec = Recorder::new();
    let program = model().program(&mut rec, VOCAB, BATCH, LEN).expect("whole blocks");
    let session = Session::new(Cpu::new(), rec.finish(&[program.logits])).expect("memory");
    let mut denoiser = BlockDenoiser::new(session, program, MASK);
    load(denoiser.session_mut());
    denoiser
}

fn process() -> Categorical {
    Categorical::new(VOCAB, Limit::Mask(MASK)).expect("a process")
}

fn prompt() -> Fixed {
    let mut fixed = Fixed::none(BATCH, LEN);
    fixed.write(1, 0, &[2, 5, 1]).expect("inside the canvas");
    fixed.write(1, 6, &[3]).expect("inside the canvas");
    fixed
}

fn blockwise(denoiser: impl Denoiser<Error = CpuError>, seed: u64, stop: Stop) -> Array2<u32> {
    let options = BlockwiseOptions { seed, stop, ..BlockwiseOptions::new(BLOCK) };
    Blockwise::new(denoiser, process(), prompt(), options).expect("a sampler").finish().expect("a text").ids
}

#[test]
fn growing_texts_are_those_of_the_training_forward() {
    let mut ended = false;
    for seed in 0..4 {
        // With an end, rows stop at different blocks and leave their masks to the others.
        for end in [None, Some(0)] {
            let stop = Stop { end, entropy: None };
            let found = blockwise(kept(), seed, stop);
            assert_eq!(found, blockwise(Training::new(), seed, stop), "seed {seed}, end {end:?}");
            ended |= found.iter().any(|&id| id == MASK);
            assert!(end.is_some() || found.iter().all(|&id| id != MASK));
        }
    }
    assert!(ended, "no text ended early: nothing was shown about that");
}

#[test]
fn whole_canvases_in_blocks_are_those_of_the_training_forward() {
    for selection in [Selection::Quota { passes: 2 }, Selection::Threshold { least: 0.6, slack: 0.0 }] {
        let options =
            UnmaskingOptions { selection, blocks: Some(Blocks { first: 0, size: BLOCK }), ..Default::default() };
        let text = |denoiser: Box<dyn Denoiser<Error = CpuError>>| {
            let sampler = Unmasking::new(denoiser, process(), prompt(), options.clone()).expect("a sampler");
            sampler.finish().expect("a text").ids
        };
        let found = text(Box::new(kept()));
        assert_eq!(found, text(Box::new(Training::new())), "{selection:?}");
        assert!(found.iter().all(|&id| id != MASK));
    }
}
