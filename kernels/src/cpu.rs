//! The CPU backend.

use crate::backend::Backend;
use crate::gemm::{Elements, ElementsMut, pack_weights};
use crate::isa::Isa;
use crate::op::Op;
use crate::ops;
use crate::pool::Pool;
use crate::program::{Inst, Program};
use galatea_tensor::{DType, Elem, Memory, Slot, bf16};

/// What a CPU kernel runs on: threads and an instruction level.
pub struct Cores {
    /// The threads.
    pub pool: Pool,
    /// The level that kernels dispatch on.
    pub isa: Isa,
}

/// The CPU: memory in this process, kernels on a pool of threads.
pub struct Cpu {
    cores: Cores,
}

impl Cpu {
    /// All hardware threads (or `GALATEA_THREADS`) at the machine's best level.
    pub fn new() -> Self {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let asked = std::env::var("GALATEA_THREADS").ok().and_then(|n| n.parse().ok()).filter(|&n| n > 0);
        Self::with(asked.unwrap_or_else(available), Isa::detect())
    }

    /// A given number of threads and instruction level.
    pub fn with(threads: usize, isa: Isa) -> Self {
        Self { cores: Cores { pool: Pool::new(threads), isa } }
    }

    /// The threads and the level.
    pub fn cores(&self) -> &Cores {
        &self.cores
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

/// The CPU backend has no way to fail once its memory exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// More memory than a process can address.
    #[error("the program needs {bytes} bytes, more than this machine can address: use a smaller batch or model")]
    TooLarge {
        /// What it needs.
        bytes: usize,
    },
}

impl Backend for Cpu {
    type Memory = Memory;
    type Error = CpuError;

    fn allocate(&mut self, program: &Program) -> Result<Memory, CpuError> {
        let bytes = program.region_bytes();
        let total = bytes.iter().try_fold(0usize, |sum, b| sum.checked_add(*b)).filter(|&b| b < isize::MAX as usize);
        if total.is_none() {
            return Err(CpuError::TooLarge { bytes: usize::MAX });
        }
        let mut memory = Memory::new(bytes);
        for constant in program.constants() {
            memory.get_mut::<f32>(&constant.slot).copy_from_slice(&constant.values);
        }
        Ok(memory)
    }

    fn upload_with<T: Elem>(
        &mut self,
        memory: &mut Memory,
        at: Slot,
        write: impl FnOnce(&mut [T]),
    ) -> Result<(), CpuError> {
        write(memory.get_mut::<T>(&at));
        Ok(())
    }

    fn upload_weights(
        &mut self,
        memory: &mut Memory,
        at: Slot,
        shape: (usize, usize),
        w: &[bf16],
    ) -> Result<(), CpuError> {
        pack_weights(self.cores.isa, shape, w, memory.get_mut::<u32>(&at));
        Ok(())
    }

    fn download<T: Elem>(&self, memory: &Memory, at: Slot, host: &mut [T]) -> Result<(), CpuError> {
        host.copy_from_slice(memory.get::<T>(&at));
        Ok(())
    }

    fn run(&mut self, memory: &mut Memory, program: &Program) -> Result<(), CpuError> {
        program.insts().iter().for_each(|inst| execute(&self.cores, memory, inst));
        Ok(())
    }

    fn run_one(&mut self, memory: &mut Memory, program: &Program, index: usize) -> Result<(), CpuError> {
        execute(&self.cores, memory, &program.insts()[index]);
        Ok(())
    }
}

/// Evaluates `$body` with `$T` the element type of an activation: bf16 or f32 (`slots` lets no other pass).
macro_rules! real {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::Bf16 => {
                type $T = bf16;
                $body
            }
            DType::F32 | DType::F16 | DType::U32 | DType::I8 => {
                type $T = f32;
                $body
            }
        }
    };
}

/// The slots of one instruction as slices.
#[derive(Clone, Copy)]
struct Operands<'a> {
    memory: &'a Memory,
    inst: &'a Inst,
}

impl<'a> Operands<'a> {
    fn read<T: Elem>(self, i: usize) -> &'a [T] {
        // SAFETY: no write of this instruction overlaps a read (verified by `Program::new`), and nothing else runs.
        unsafe { self.memory.read(&self.inst.reads[i]) }
    }

    fn write<T: Elem>(self, i: usize) -> &'a mut [T] {
        // SAFETY: the writes of an instruction are disjoint from its reads and each other (verified by `Program::new`),
        // and every arm of `execute` takes each of them once.
        unsafe { self.memory.write(&self.inst.writes[i]) }
    }

    fn elements(self, i: usize) -> Elements<'a> {
        real!(self.inst.reads[i].dtype, X => self.read::<X>(i).into())
    }

    fn elements_mut(self, i: usize) -> ElementsMut<'a> {
        real!(self.inst.writes[i].dtype, X => self.write::<X>(i).into())
    }
}

/// Whether read 0 is one position of every text: [b, 1, d], what decoding reads.
fn one_position(inst: &Inst) -> bool {
    inst.reads[0].shape.rank() == 3 && inst.reads[0].shape.dim(1) == 1
}

/// Runs one instruction.
fn execute(cores: &Cores, memory: &Memory, inst: &Inst) {
    let at = Operands { memory, inst };
    let (read, write) = (|i: usize| at.read::<f32>(i), |i: usize| at.write::<f32>(i));
    let (ids, write_ids) = (|i: usize| at.read::<u32>(i), |i: usize| at.write::<u32>(i));
    let cols = |i: usize| inst.reads[i].shape.cols();
    let dim = |i: usize, d: usize| inst.reads[i].shape.dim(d);
    let dtype = |i: usize| inst.reads[i].dtype;
    // exhaustive: no wildcard arm
    match inst.op {
        Op::Add => real!(dtype(0), X => ops::add::add::<X>(cores, at.read(0), at.read(1), at.write(0))),
        Op::Cast { to } => {
            real!(dtype(0), X => real!(to, Y => ops::cast::cast::<X, Y>(cores, at.read(0), at.write(0))));
        }
        Op::Accumulate => ops::add::accumulate(cores, read(0), write(0)),
        Op::AddRows { over, past } => real!(dtype(0), X => real!(dtype(1), R => {
            let (len, first) = (dim(0, 1), if past { ids(2)[0] as usize } else { 0 });
            ops::add_rows::forward::<X, R>(cores, over, len, first, cols(0), at.read(0), at.read(1), at.write(0));
        })),
        Op::AddRowsGrad { over, rows } => real!(dtype(0), X => real!(inst.writes[0].dtype, R => {
            ops::add_rows::backward::<X, R>(cores, over, rows as usize, cols(0), at.read(0), at.write(0));
        })),
        Op::Activate { activation } => real!(dtype(0), X => {
            ops::activation::forward::<X>(cores, activation, at.read(0), at.write(0));
        }),
        Op::ActivateGrad { activation } => real!(dtype(0), X => {
            ops::activation::backward::<X>(cores, activation, at.read(0), at.read(1), at.write(0));
        }),
        Op::SwiGlu => real!(dtype(0), X => ops::swiglu::forward::<X>(cores, cols(0) / 2, at.read(0), at.write(0))),
        Op::SwiGluGrad => real!(dtype(0), X => {
            ops::swiglu::backward::<X>(cores, cols(1), at.read(0), at.read(1), at.write(0));
        }),
        Op::Linear { bias, activation, keep } => {
            let b = bias.then(|| read(2));
            let u = keep.then(|| at.elements_mut(1));
            let (x, w, y) = (at.elements(0), at.elements(1), at.elements_mut(0));
            ops::linear::forward(cores, activation, one_position(inst), cols(0), x, w, b, y, u);
        }
        Op::LinearPacked { bias, activation, outputs } => {
            let (x, b) = (at.read::<bf16>(0), bias.then(|| read(2)));
            ops::linear::packed(cores, activation, cols(0), outputs as usize, x, ids(1), b, at.write::<bf16>(0));
        }
        Op::LinearInt8 { bias, activation } => {
            let (i, q, scales, b) = (cols(0), at.read(1), read(2), bias.then(|| read(3)));
            let (a, rows) = (at.write(1), write(2));
            real!(dtype(0), X => ops::linear_int8::quantise::<X>(cores, i, at.read(0), a, rows));
            let x = crate::gemm::int8::Quantised { values: a, rows };
            ops::linear_int8::forward(cores, activation, i, x, q, scales, b, at.elements_mut(0));
        }
        Op::LinearDx => ops::linear::dx(cores, cols(0), at.elements(0), at.elements(1), at.elements_mut(0)),
        Op::LinearDw { bias } => {
            let (dw, db) = (write(0), bias.then(|| write(1)));
            ops::linear::dw(cores, cols(0), cols(1), at.elements(0), at.elements(1), dw, db);
        }
        Op::Embedding => real!(dtype(1), X => {
            ops::embedding::forward::<X>(cores, cols(1), ids(0), at.read(1), at.write(0));
        }),
        Op::EmbeddingGrad { .. } => real!(dtype(1), X => {
            ops::embedding::backward::<X>(cores, cols(1), ids(0), at.read(1), write(0));
        }),
        Op::LayerNorm { eps, gain, bias } => real!(dtype(0), X => {
            let (g, b) = (gain.then(|| read(1)), bias.then(|| read(1 + usize::from(gain))));
            ops::layer_norm::forward::<X>(cores, eps, cols(0), at.read(0), g, b, at.write(0), write(1));
        }),
        Op::LayerNormGrad { gain, bias } => real!(dtype(0), X => {
            let mut next = 1..;
            let mut take = |asked: bool| if asked { next.next().map(write) } else { None };
            let (dg, db, scratch) = (take(gain), take(bias), take(gain || bias));
            let (x, stats, dy, g) = (at.read(0), read(1), at.read(2), gain.then(|| read(3)));
            ops::layer_norm::backward::<X>(cores, cols(0), x, stats, dy, g, at.write(0), dg, db, scratch);
        }),
        Op::RmsNorm { eps, gain } => real!(dtype(0), X => {
            let g = gain.then(|| read(1));
            ops::rms_norm::forward::<X>(cores, eps, cols(0), at.read(0), g, at.write(0), write(1));
        }),
        Op::RmsNormGrad { gain } => real!(dtype(0), X => {
            let (g, dg, scratch) = (gain.then(|| read(3)), gain.then(|| write(1)), gain.then(|| write(2)));
            let (x, stats, dy) = (at.read(0), read(1), at.read(2));
            ops::rms_norm::backward::<X>(cores, cols(0), x, stats, dy, g, at.write(0), dg, scratch);
        }),
        Op::AddNorm { norm, eps, gain, bias, dropout } => real!(dtype(0), X => {
            let mut next = 2..;
            let mut take = |asked: bool| if asked { next.next() } else { None };
            let (g, b, rng) = (take(gain).map(read), take(bias).map(read), take(dropout.is_some()).map(ids));
            let (x, h, y, s) = (at.read(0), at.read(1), at.write(0), at.write(1));
            let (d, dropout) = (cols(0), dropout.zip(rng));
            ops::add_norm::forward::<X>(cores, norm, eps, dropout, d, x, h, g, b, y, s, write(2));
        }),
        Op::AddNormGrad { norm, gain, bias, dropout, sum } => real!(dtype(0), X => {
            let mut next = 3..;
            let mut take = |asked: bool| if asked { next.next() } else { None };
            let (ds, g) = (take(sum).map(|i| at.read(i)), take(gain).map(read));
            let dropout = dropout.zip(take(dropout.is_some()).map(ids));
            let mut next = 1..;
            let mut take = |asked: bool| if asked { next.next() } else { None };
            let (dh, dg) = (take(dropout.is_some()).map(|i| at.write(i)), take(gain).map(write));
            let (db, scratch) = (take(bias).map(write), take(gain || bias).map(write));
            let (s, stats, dy, dx) = (at.read(0), read(1), at.read(2), at.write(0));
            let d = cols(0);
            ops::add_norm::backward::<X>(cores, norm, dropout, d, s, stats, dy, ds, g, dx, dh, dg, db, scratch);
        }),
        Op::QkNorm { heads, kv_heads, eps, gain, learned } => real!(dtype(0), X => {
            let dims = ops::qk_norm::Dims::new(cols(0), heads, kv_heads);
            let gains = learned.then(|| read(1));
            ops::qk_norm::forward::<X>(cores, dims, eps, gain, at.read(0), gains, at.write(0), write(1));
        }),
        Op::QkNormGrad { heads, kv_heads, gain, learned } => real!(dtype(0), X => {
            let dims = ops::qk_norm::Dims::new(cols(0), heads, kv_heads);
            let learned = learned.then(|| ops::qk_norm::Learned { gains: read(3), dgains: write(1), scratch: write(2) });
            ops::qk_norm::backward::<X>(cores, dims, gain, at.read(0), read(1), at.read(2), learned, at.write(0));
        }),
        Op::Modulate { shift, scale } => real!(dtype(0), X => {
            let (l, d) = (dim(0, 1), cols(0));
            ops::modulate::forward::<X>(cores, shift, scale, l, d, at.read(0), at.read(1), at.write(0));
        }),
        Op::ModulateGrad { shift, scale } => real!(dtype(0), X => {
            let (l, d, x, m, dy) = (dim(0, 1), cols(0), at.read(0), at.read(1), at.read(2));
            ops::modulate::backward::<X>(cores, shift, scale, l, d, x, m, dy, at.write(0), at.write(1));
        }),
        Op::Gate { gate } => real!(dtype(0), X => {
            let (x, h, m) = (at.read(0), at.read(1), at.read(2));
            ops::gate::forward::<X>(cores, gate, dim(0, 1), cols(0), x, h, m, at.write(0));
        }),
        Op::GateGrad { gate } => real!(dtype(0), X => {
            let (h, m, dy) = (at.read(0), at.read(1), at.read(2));
            ops::gate::backward::<X>(cores, gate, dim(0, 1), cols(0), h, m, dy, at.write(0), at.write(1));
        }),
        Op::Rotary { heads, kv_heads, inverse, past } => real!(dtype(0), X => {
            let (heads, kv_heads) = (heads as usize, kv_heads as usize);
            let (turned, heads) = (heads + kv_heads, heads + 2 * kv_heads);
            let dims = ops::rotary::Dims { turned, heads, d_head: cols(0) / heads, len: dim(0, 1) };
            let past = if past { ids(2)[0] as usize } else { 0 };
            ops::rotary::forward::<X>(cores, dims, inverse, past, at.read(0), read(1), at.write(0));
        }),
        Op::Attention { heads, kv_heads, mask, padding, dropout } => {
            let dims = ops::attention::Dims::new(inst.reads[0].shape, heads, kv_heads, mask);
            let visible = padding.then(|| ids(1));
            let dropout = dropout.map(|dropout| (dropout, ids(1 + usize::from(padding))));
            real!(inst.reads[0].dtype, X => {
                ops::attention::forward::<X>(cores, dims, at.read(0), visible, dropout, at.write(0), write(1));
            });
        }
        Op::AttentionGrad { heads, kv_heads, mask, padding, dropout } => {
            let dims = ops::attention::Dims::new(inst.reads[0].shape, heads, kv_heads, mask);
            let (visible, p) = (padding.then(|| ids(1)), usize::from(padding));
            let dropout = dropout.map(|dropout| (dropout, ids(4 + p)));
            real!(inst.reads[0].dtype, X => {
                let (y, lse, dy) = (at.read::<X>(1 + p), read(2 + p), at.read(3 + p));
                ops::attention::backward(cores, dims, at.read(0), visible, dropout, y, lse, dy, at.write(0));
            });
        }
        Op::AttentionCached { heads, kv_heads, capacity, mask } => {
            let dims = ops::attention::Dims::new(inst.reads[0].shape, heads, kv_heads, mask);
            let (past, capacity) = (ids(1)[0] as usize, capacity as usize);
            real!(inst.reads[0].dtype, X => {
                let caches = [at.write::<X>(0), at.write(1)];
                ops::attention::cached(cores, dims, past, capacity, at.read(0), caches, at.write(2), write(3));
            });
        }
        Op::TimeFeatures { dim, max_period, scale } => {
            ops::time_features::forward(cores, dim, max_period, scale, read(0), write(0));
        }
        Op::CorruptTokens { limit, stream } => {
            ops::corrupt_tokens::forward(cores, limit, stream, dim(0, 0), ids(0), read(1), ids(2), write_ids(0));
        }
        Op::CorruptGaussian { stream } => real!(dtype(0), X => {
            let (x_0, level, rng) = (at.read(0), read(1), ids(2));
            ops::corrupt_gaussian::forward::<X>(cores, stream, cols(0), x_0, level, rng, at.write(0), at.write(1));
        }),
        Op::CorruptGaussianGrad => real!(dtype(1), X => {
            ops::corrupt_gaussian::backward::<X>(cores, read(0), at.read(1), at.write(0));
        }),
        Op::Dropout { p, stream } => real!(dtype(0), X => {
            ops::dropout::forward::<X>(cores, p, stream, cols(0), at.read(0), ids(1), at.write(0));
        }),
        Op::TokenWeight { mask } => {
            ops::token_weight::forward(cores, mask, dim(0, 0), ids(0), ids(1), read(2), write(0));
        }
        Op::CrossEntropy { forbid } => {
            ops::cross_entropy::forward(cores, forbid, read(0), ids(1), read(2), write(0), write(1));
        }
        Op::CrossEntropyGrad { forbid } => {
            ops::cross_entropy::backward(cores, forbid, read(0), ids(1), read(2), read(3), read(4), write(0));
        }
        Op::LinearCrossEntropy { bias, forbid } => real!(dtype(0), X => {
            let (b, p) = (bias.then(|| read(2)), 2 + usize::from(bias));
            let head = ops::head::Head { w: at.read::<X>(1), b, forbid, d: cols(0) };
            let (numbers, targets, x) = (write_ids(3), write_ids(4), at.write(5));
            let scratch = ops::head::Forward { numbers, targets, x, logits: write(6), joined: write(7), parts: write(8) };
            let (loss, nll, lse) = (write(0), write(1), write(2));
            ops::head::forward(cores, head, at.read(0), ids(p), read(p + 1), loss, nll, lse, scratch);
        }),
        Op::LinearCrossEntropyGrad { bias, forbid } => real!(dtype(0), X => {
            let (b, p) = (bias.then(|| read(2)), 2 + usize::from(bias));
            let head = ops::head::Head { w: at.read::<X>(1), b, forbid, d: cols(0) };
            let (dx, dw, db) = (at.write(0), write(1), bias.then(|| write(2)));
            let scratch =
                ops::head::Backward { numbers: write_ids(p), x: at.write(p + 1), chunk: at.write(p + 2), dx: write(p + 3) };
            let (target, weight, lse, dloss) = (ids(p), read(p + 1), read(p + 2), read(p + 3));
            ops::head::backward(cores, head, at.read(0), target, weight, lse, dloss, dx, dw, db, scratch);
        }),
        Op::LinearSample { bias, stream, temperature, forbid } => real!(dtype(0), X => {
            let (b, p) = (bias.then(|| read(2)), 2 + usize::from(bias));
            let head = ops::head::Head { w: at.read::<X>(1), b, forbid, d: cols(0) };
            let scratch =
                ops::head::Scratch { numbers: write_ids(3), x: at.write(4), drawn: write(5), parts: write(6) };
            let (tokens, log_p, entropy) = (write_ids(0), write(1), write(2));
            let (law, few) = ((stream, temperature), one_position(inst));
            ops::head::sample(cores, head, law, few, at.read(0), ids(p), ids(p + 1), tokens, log_p, entropy, scratch);
        }),
        Op::Divergence { link, forbid } => {
            let law = ops::divergence::Law { link, forbid, rows: dim(0, 0) };
            let (loss, d, lse) = (write(0), write(1), write(2));
            ops::divergence::forward(cores, law, read(0), ids(1), ids(2), read(3), read(4), loss, d, lse);
        }
        Op::DivergenceGrad { link, forbid } => {
            let law = ops::divergence::Law { link, forbid, rows: dim(0, 0) };
            let (terms, w, lse, dloss) = (read(3), read(4), read(5), read(6));
            ops::divergence::backward(cores, law, read(0), ids(1), ids(2), terms, w, lse, dloss, write(0));
        }
        Op::PosteriorKl { lambda } => {
            let (len, vocab) = (dim(0, 1), dim(0, 2));
            let (chain, w) = (read(3), read(4));
            let tokens = ops::posterior_kl::Tokens { x_0: ids(1), x_t: ids(2), chain, w, len, vocab, lambda };
            ops::posterior_kl::forward(cores, tokens, read(0), write(0), write(1), write(2), write(3));
        }
        Op::PosteriorKlGrad { lambda } => {
            let (len, vocab) = (dim(0, 1), dim(0, 2));
            let (chain, w) = (read(4), read(5));
            let tokens = ops::posterior_kl::Tokens { x_0: ids(2), x_t: ids(3), chain, w, len, vocab, lambda };
            ops::posterior_kl::backward(cores, tokens, read(0), read(1), read(6), write(0), write(1));
        }
        Op::SquaredError => real!(dtype(0), X => {
            ops::squared_error::forward::<X>(cores, at.read(0), at.read(1), read(2), write(0), write(1));
        }),
        Op::SquaredErrorGrad => real!(dtype(0), X => {
            let (prediction, target, w, dloss) = (at.read(0), at.read(1), read(2), read(3));
            ops::squared_error::backward::<X>(cores, prediction, target, w, dloss, at.write(0), at.write(1));
        }),
        Op::Distances => ops::distances::forward(cores, cols(0), read(0), read(1), write(0)),
        Op::DistancesGrad => {
            ops::distances::backward(cores, cols(0), read(0), read(1), read(2), read(3), write(0), write(1));
        }
        Op::Softmax => ops::softmax::forward(cores, cols(0), read(0), write(0)),
        Op::SoftmaxGrad => ops::softmax::backward(cores, cols(0), read(0), read(1), write(0)),
        Op::UnitRows { eps } => ops::unit_rows::forward(cores, eps, cols(0), read(0), write(0)),
        Op::UnitRowsGrad { eps } => ops::unit_rows::backward(cores, eps, cols(0), read(0), read(1), write(0)),
        Op::ScaleRows { chunk } => ops::scale_rows::forward(cores, chunk, dim(0, 0), read(0), read(1), write(0)),
        Op::ScaleRowsGrad { chunk } => ops::scale_rows::backward(cores, chunk, read(0), read(2), write(0)),
        Op::Wishes => {
            let dims = ops::wishes::Dims { len: dim(0, 1), vocab: cols(0) };
            ops::wishes::forward(cores, dims, read(0), ids(1), read(2), write(0), write(1));
        }
        Op::WishesGrad => {
            let dims = ops::wishes::Dims { len: dim(0, 1), vocab: cols(0) };
            ops::wishes::backward(cores, dims, read(0), ids(1), read(2), read(3), read(4), write(0));
        }
        Op::SampleTokens { stream, temperature, forbid } => {
            let (ids_out, log_p, entropy) = (write_ids(0), write(1), write(2));
            ops::sample_tokens::forward(cores, stream, temperature, forbid, read(0), ids(1), ids_out, log_p, entropy);
        }
        Op::GlobalNorm => ops::global_norm::forward(cores, read(0), write(0)),
        Op::LinearDwAdamW { bias, adamw, ema, copy } => {
            let mut next = 3..;
            let mut take = |asked: bool| if asked { next.next() } else { None };
            let (ema, copy) = (take(ema).map(write), take(copy).map(|i| at.write::<bf16>(i)));
            let db = take(bias).map(write);
            let state = ops::adamw::State { param: write(0), m: write(1), v: write(2), ema, copy };
            ops::linear::dw_adamw(cores, cols(0), cols(1), at.elements(0), at.elements(1), (adamw, read(2)), state, db);
        }
        Op::EmbeddingAdamW { vocab: _, adamw, ema, copy } => real!(dtype(1), X => {
            let mut next = 3..;
            let mut take = |asked: bool| if asked { next.next() } else { None };
            let (ema, copy) = (take(ema).map(write), take(copy).map(|i| at.write::<bf16>(i)));
            let places = take(true).map(write_ids).expect("an endless count");
            let state = ops::adamw::State { param: write(0), m: write(1), v: write(2), ema, copy };
            ops::embedding::step::<X>(cores, cols(1), ids(0), at.read(1), (adamw, read(2)), state, places);
        }),
        Op::AdamW { adamw, ema, copy } => {
            let (param, m, v) = (write(0), write(1), write(2));
            let (ema, copy) = (ema.then(|| write(3)), copy.then(|| at.write(3 + usize::from(ema))));
            ops::adamw::step(cores, adamw, read(0), read(1), read(2), param, m, v, ema, copy);
        }
        Op::Muon(muon) => {
            let (g, norm, hyper, matrix) = (read(0), read(1), read(2), (dim(0, 1), dim(0, 2)));
            let scratch = ops::muon::Scratch { x: write(2), next: write(3), gram: write(4), poly: write(5) };
            ops::muon::step(cores, muon, matrix, g, norm, hyper, write(0), write(1), scratch);
        }
        Op::Ema => ops::ema::step(cores, read(0), read(1), write(0)),
    }
}
