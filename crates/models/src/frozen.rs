//! Approximate caches: while a block is written, what the rest of the canvas left in the keys and values at the block's first
//! pass is taken as it was.
//!
//! Attention in both directions has no exact cache: every token written changes the keys of all positions. But they change
//! little within a block, so the first pass of a block computes the whole canvas and the others only a part of it: the block
//! with all that follows (prefix cache), or the block alone (dual cache).
//!
//! # Source
//! Wu et al. (2025), "Fast-dLLM: training-free acceleration of diffusion LLM by enabling KV cache and parallel decoding",
//! section 3.1.

use crate::attend::{Attend, caches};
use crate::encoder::config;
use crate::{Error, Model};
use galatea_autograd::{AttentionMask, DType, Recorder, Session, Var};
use galatea_kernels::Backend;
use galatea_processes::Denoiser;
use galatea_tensor::{Elem, bf16};
use ndarray::{Array3, ArrayRef2, ArrayRef3, Axis, Slice};
use std::ops::Range;

/// What is taken as it was at the first pass of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The keys and values before the block.
    Prefix,
    /// Those of every position outside the block.
    Outside,
}

/// A program on some positions of the canvas, in a session with caches of every layer.
struct Part<B: Backend> {
    session: Session<B>,
    ids: Var,
    /// How many positions the caches hold, and where the first new one stands.
    past: Var,
    position: Var,
    caches: Vec<(Var, Var)>,
    logits: Var,
    /// New positions.
    count: usize,
}

/// A model without time behind the trait that samplers take, for texts that are written in blocks of `size` positions from
/// `first` on (`Unmasking` with the same blocks). In a call it computes the block of the first position that is masked in some
/// row: at the block's first call with the whole canvas, then as [`Frozen`] says. Logits that were not computed are 0.
///
/// Each length of a part is a program in a session of its own, with parameters of its own.
pub struct FrozenDenoiser<B: Backend> {
    frozen: Frozen,
    mask: u32,
    first: usize,
    size: usize,
    /// The program of the whole canvas, and those of its parts: one for every block, or one for all.
    whole: Part<B>,
    parts: Vec<Part<B>>,
    /// The block that the parts' caches are for.
    block: Option<usize>,
    batch: usize,
    len: usize,
}

impl<B: Backend> FrozenDenoiser<B> {
    /// Records and loads the programs of `model` on canvases [batch, len]: `backend` makes a machine, `load` sets the
    /// parameters of each session.
    ///
    /// # Errors
    /// If the model is none or is told the time; if blocks of `size` from `first` on do not fill the canvas; or what `load`
    /// says.
    #[expect(clippy::too_many_arguments, reason = "a model, a canvas, its blocks, and where they run")]
    pub fn new<E: From<Error> + From<B::Error>>(
        model: &Model,
        vocab: usize,
        (batch, len): (usize, usize),
        (first, size): (usize, usize),
        frozen: Frozen,
        mask: u32,
        mut backend: impl FnMut() -> B,
        mut load: impl FnMut(&mut Session<B>) -> Result<(), E>,
    ) -> Result<Self, E> {
        model.validate()?;
        if model.uses_time() {
            return Err(config("time", "no time for a model whose keys are kept", "a time").into());
        }
        if size == 0 || first >= len || !(len - first).is_multiple_of(size) {
            let expected = format!("whole blocks from position {first} to {len}");
            return Err(config("block", expected, format!("blocks of {size} positions")).into());
        }
        let model = model.without_dropout();
        let mut part = |count: usize| -> Result<Part<B>, E> {
            let mut part = Part::record(&model, vocab, batch, len, count, backend())?;
            load(&mut part.session)?;
            Ok(part)
        };
        let whole = part(len)?;
        let parts = match frozen {
            Frozen::Prefix => (first..len).step_by(size).map(|start| part(len - start)).collect::<Result<_, _>>()?,
            Frozen::Outside => vec![part(size)?],
        };
        Ok(Self { frozen, mask, first, size, whole, parts, block: None, batch, len })
    }

    /// Computes the whole canvas and gives the parts of block number `block` what they will not compute.
    fn refresh(&mut self, x_t: &ArrayRef2<u32>, block: usize) -> Result<(), B::Error> {
        self.whole.run(x_t, 0, 0, 0)?;
        let start = self.first + block * self.size;
        let (part, kept) = match self.frozen {
            Frozen::Prefix => (&mut self.parts[block], [0..start, 0..0]),
            // The order of keys means nothing: those behind the block stand right after those before it.
            Frozen::Outside => (&mut self.parts[0], [0..start, start + self.size..self.len]),
        };
        for ((from_k, from_v), (to_k, to_v)) in self.whole.caches.iter().zip(part.caches.clone()) {
            for (from, to) in [(*from_k, to_k), (*from_v, to_v)] {
                match self.whole.session.plan().slot(from).dtype {
                    DType::Bf16 => {
                        keep::<B, bf16>(&self.whole.session, from, &mut part.session, to, self.batch, &kept)?
                    }
                    DType::F32 | DType::F16 | DType::U32 | DType::I8 => {
                        keep::<B, f32>(&self.whole.session, from, &mut part.session, to, self.batch, &kept)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Copies the positions `kept` of every row of a cache to the front of another.
fn keep<B: Backend, T: Elem>(
    source: &Session<B>,
    from: Var,
    target: &mut Session<B>,
    to: Var,
    batch: usize,
    kept: &[Range<usize>; 2],
) -> Result<(), B::Error> {
    let all: Vec<T> = source.read(from)?;
    let width = source.plan().slot(from).shape.cols();
    let mut moved = vec![T::zeroed(); all.len()];
    for (all, moved) in all.chunks(all.len() / batch).zip(moved.chunks_mut(all.len() / batch)) {
        let mut at = 0;
        for range in kept {
            let rows = &all[range.start * width..range.end * width];
            moved[at..at + rows.len()].copy_from_slice(rows);
            at += rows.len();
        }
    }
    target.write(to, &moved)
}

impl<B: Backend> Part<B> {
    fn record(
        model: &Model,
        vocab: usize,
        batch: usize,
        len: usize,
        count: usize,
        backend: B,
    ) -> Result<Self, B::Error> {
        let mut rec = Recorder::new();
        let ids = rec.input("ids", &[batch, count], DType::U32);
        let time = rec.input("time", &[batch], DType::F32);
        let [past, position] = ["past", "position"].map(|name| rec.input(name, &[1], DType::U32));
        let caches = caches(&mut rec, model.layers(), [batch, len, model.key_width()]);
        let attend = Attend::Cached { past, position, capacity: len, mask: AttentionMask::Full, caches: &caches };
        let (h, head) = model.hidden_with(&mut rec, vocab, ids, time, &attend);
        let logits = head.logits(&mut rec, h);
        let session = Session::new(backend, rec.finish(&[logits]))?;
        Ok(Self { session, ids, past, position, caches, logits, count })
    }

    /// Runs the positions of `x_t` from `start` on, after `past` others.
    fn run(&mut self, x_t: &ArrayRef2<u32>, start: usize, past: usize, position: usize) -> Result<(), B::Error> {
        let ids = x_t.slice_axis(Axis(1), Slice::from(start..start + self.count)).as_standard_layout().into_owned();
        self.session.set(self.ids, &ids)?;
        self.session.write(self.past, &[past as u32])?;
        self.session.write(self.position, &[position as u32])?;
        self.session.run()
    }

    /// The logits of the last run, at positions `start ..` of `logits`.
    fn logits(&self, start: usize, logits: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        let (batch, _, vocab) = logits.dim();
        let mut own = Array3::zeros((batch, self.count, vocab));
        self.session.get(self.logits, &mut own)?;
        logits.slice_axis_mut(Axis(1), Slice::from(start..start + self.count)).assign(&own);
        Ok(())
    }
}

impl<B: Backend> Denoiser for FrozenDenoiser<B> {
    type Error = B::Error;

    /// # Panics
    /// If `x_t` or `logits` has another shape than the programs.
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        assert_eq!((x_t.dim(), logits.dim().1), ((self.batch, self.len), self.len), "a canvas of the program's shape");
        let open = (0..self.len).find(|&position| x_t.column(position).iter().any(|&id| id == self.mask));
        let block = open.unwrap_or(self.len - 1).saturating_sub(self.first) / self.size;
        if self.block != Some(block) {
            self.refresh(x_t, block)?;
            self.block = Some(block);
            return self.whole.logits(0, logits);
        }
        logits.fill(0.0);
        let start = self.first + block * self.size;
        let (part, past) = match self.frozen {
            Frozen::Prefix => (&mut self.parts[block], start),
            Frozen::Outside => (&mut self.parts[0], self.len - self.size),
        };
        part.run(x_t, start, past, start)?;
        part.logits(start, logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dit, Encoder, Llama, NetDenoiser, Positions};
    use galatea_autograd::Part as Parameters;
    use galatea_kernels::Cpu;
    use galatea_kernels::cpu::CpuError;
    use ndarray::Array2;

    const BATCH: usize = 2;
    const LEN: usize = 12;
    const VOCAB: usize = 9;
    const MASK: u32 = 8;

    type Refusal = Box<dyn std::error::Error>;

    fn load(session: &mut Session<Cpu>) -> Result<(), Refusal> {
        for index in 0..session.plan().params().len() {
            let param = &session.plan().params()[index];
            let salt: usize = param.path.bytes().map(usize::from).sum();
            let scale = if param.shape.rank() == 1 { 0.5 } else { 2.0 / (param.shape.cols() as f32).sqrt() };
            let value = |i: usize| scale * (((i * 7 + salt) * 37 % 29) as f32 / 14.0 - 1.0);
            let values: Vec<f32> = (0..param.shape.len()).map(value).collect();
            session.set_param(index, Parameters::Value, &values)?;
        }
        Ok(())
    }

    fn models() -> [Model; 3] {
        let positions = Positions::Rotary;
        [
            Model::Llama(Llama { d_model: 32, layers: 2, heads: 4, kv_heads: 2, d_ff: 48, ..Llama::default() }),
            Model::Dit(Dit { d_model: 32, layers: 2, heads: 4, cond_dim: 16, ..Dit::default() }),
            Model::Encoder(Encoder { d_model: 32, layers: 2, heads: 2, d_ff: 48, positions, ..Encoder::default() }),
        ]
    }

    fn plain(model: &Model) -> NetDenoiser<Cpu> {
        let mut rec = Recorder::new();
        let x_t = rec.input("x_t", &[BATCH, LEN], DType::U32);
        let time = rec.input("time", &[BATCH], DType::F32);
        let logits = model.logits(&mut rec, VOCAB, x_t, time, None);
        let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).expect("memory");
        load(&mut session).expect("upload");
        NetDenoiser::new(session, x_t, time, logits, |_| 0.0)
    }

    fn frozen(model: &Model, blocks: (usize, usize), frozen: Frozen) -> Result<FrozenDenoiser<Cpu>, Refusal> {
        FrozenDenoiser::new(model, VOCAB, (BATCH, LEN), blocks, frozen, MASK, Cpu::new, load)
    }

    /// The first `decided` positions are written, the others masked.
    fn canvas(decided: usize) -> Array2<u32> {
        Array2::from_shape_fn((BATCH, LEN), |(b, l)| if l < decided { ((b + l * 3) % 8) as u32 } else { MASK })
    }

    fn ask(denoiser: &mut impl Denoiser<Error = CpuError>, x_t: &Array2<u32>) -> Array3<f32> {
        let mut logits = Array3::from_elem((BATCH, LEN, VOCAB), f32::NAN);
        denoiser.denoise(x_t, 0.5, &mut logits).expect("run");
        logits
    }

    fn largest(a: &Array3<f32>, b: &Array3<f32>, from: usize, to: usize) -> f32 {
        let cut = |x: &Array3<f32>| x.slice_axis(Axis(1), Slice::from(from..to)).to_owned();
        cut(a).iter().zip(&cut(b)).fold(0.0, |max: f32, (a, b)| max.max((a - b).abs()))
    }

    #[test]
    fn where_nothing_is_frozen_it_is_the_model() {
        for model in models() {
            for kind in [Frozen::Prefix, Frozen::Outside] {
                let (mut cached, mut plain) = (frozen(&model, (0, LEN), kind).expect("a model"), plain(&model));
                for decided in [0, 3, 7] {
                    let (found, truth) = (ask(&mut cached, &canvas(decided)), ask(&mut plain, &canvas(decided)));
                    assert!(largest(&found, &truth, 0, LEN) < 2e-4, "{model:?} {kind:?} after {decided}");
                }
            }
        }
    }

    #[test]
    fn the_first_pass_of_a_block_is_whole_and_the_same_canvas_again_changes_nothing() {
        for model in models() {
            for kind in [Frozen::Prefix, Frozen::Outside] {
                let (mut cached, mut plain) = (frozen(&model, (2, 5), kind).expect("a model"), plain(&model));
                for decided in [2, 7] {
                    let truth = ask(&mut plain, &canvas(decided));
                    assert!(largest(&ask(&mut cached, &canvas(decided)), &truth, 0, LEN) < 2e-4, "{kind:?}");
                    // What is frozen is what this canvas gives: the part alone says the same of itself, and nothing of the rest.
                    let part = ask(&mut cached, &canvas(decided));
                    let end = if kind == Frozen::Prefix { LEN } else { decided + 5 };
                    assert!(largest(&part, &truth, decided, end) < 2e-4, "{model:?} {kind:?} at {decided}");
                    assert!(largest(&part, &Array3::zeros(part.dim()), 0, decided) == 0.0);
                    assert!(largest(&part, &Array3::zeros(part.dim()), end, LEN) == 0.0);
                }
            }
        }
    }

    #[test]
    fn a_written_token_moves_the_block_and_not_what_is_frozen() {
        let [llama, ..] = models();
        let (mut cached, mut plain) = (frozen(&llama, (2, 5), Frozen::Outside).expect("a model"), plain(&llama));
        let before = ask(&mut cached, &canvas(2));
        let after = ask(&mut cached, &canvas(4));
        assert!(largest(&before, &after, 2, 7) > 1e-3, "the block sees what was written in it");
        let error = largest(&ask(&mut plain, &canvas(4)), &after, 2, 7);
        assert!(error > 1e-5, "an approximation that is none would prove nothing: {error}");
    }

    #[test]
    fn blocks_that_do_not_fill_the_canvas_are_refused() {
        let [llama, ..] = models();
        for blocks in [(0, 5), (2, 0), (12, 4), (2, 11)] {
            assert_eq!(field(frozen(&llama, blocks, Frozen::Prefix)), "block", "{blocks:?}");
        }
        let told = Model::Dit(Dit { time_conditioning: true, ..Dit::default() });
        assert_eq!(field(frozen(&told, (0, LEN), Frozen::Prefix)), "time");
    }

    fn field(result: Result<FrozenDenoiser<Cpu>, Refusal>) -> &'static str {
        let error = result.err().expect("a configuration that is refused");
        match error.downcast_ref() {
            Some(Error::Config { field, .. }) => field,
            other => panic!("expected a configuration that is refused, found {other:?}"),
        }
    }
}
