//! The CPU backend.

use crate::backend::Backend;
use crate::isa::Isa;
use crate::op::{Activation, Op};
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

    fn upload<T: Elem>(&mut self, memory: &mut Memory, at: Slot, host: &[T]) -> Result<(), CpuError> {
        memory.get_mut::<T>(&at).copy_from_slice(host);
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
}

/// Evaluates `$body` with `$T` the element type of an activation: bf16 or f32 (`slots` lets no other pass).
macro_rules! real {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::Bf16 => {
                type $T = bf16;
                $body
            }
            DType::F32 | DType::F16 | DType::U32 => {
                type $T = f32;
                $body
            }
        }
    };
}

/// Runs one instruction.
fn execute(cores: &Cores, memory: &Memory, inst: &Inst) {
    let at = Operands { memory, inst };
    let (read, write) = (|i: usize| at.read::<f32>(i), |i: usize| at.write::<f32>(i));
    let (ids, write_ids) = (|i: usize| at.read::<u32>(i), |i: usize| at.write::<u32>(i));
    let cols = |i: usize| inst.reads[i].shape.cols();
    let dim = |i: usize, d: usize| inst.reads[i].shape.dim(d);
    // exhaustive: no wildcard arm
    match inst.op {
        Op::Add => real!(inst.reads[0].dtype, X => ops::add::add::<X>(cores, at.read(0), at.read(1), at.write(0))),
        Op::Accumulate => ops::add::accumulate(cores, read(0), write(0)),
        Op::AddRows { over } => ops::add_rows::forward(cores, over, dim(0, 1), cols(0), read(0), read(1), write(0)),
        Op::AddRowsGrad { over } => ops::add_rows::backward(cores, over, dim(0, 1), cols(0), read(0), write(0)),
        Op::Activate { activation } => ops::activation::forward(cores, activation, read(0), write(0)),
        Op::ActivateGrad { activation } => ops::activation::backward(cores, activation, read(0), read(1), write(0)),
        Op::Linear { bias, activation } => {
            let b = bias.then(|| read(2));
            let u = (activation != Activation::None).then(|| write(1));
            ops::linear::forward(cores, activation, cols(0), read(0), read(1), b, write(0), u);
        }
        Op::LinearDx => ops::linear::dx(cores, cols(0), read(0), read(1), write(0)),
        Op::LinearDw { bias } => {
            ops::linear::dw(cores, cols(0), cols(1), read(0), read(1), write(0), bias.then(|| write(1)));
        }
        Op::Embedding => ops::embedding::forward(cores, cols(1), ids(0), read(1), write(0)),
        Op::EmbeddingGrad { .. } => ops::embedding::backward(cores, cols(1), ids(0), read(1), write(0)),
        Op::LayerNorm { eps, gain, bias } => {
            let (g, b) = (gain.then(|| read(1)), bias.then(|| read(1 + usize::from(gain))));
            ops::layer_norm::forward(cores, eps, cols(0), read(0), g, b, write(0), write(1));
        }
        Op::LayerNormGrad { gain, bias } => {
            let (dg, db) = (gain.then(|| write(1)), bias.then(|| write(1 + usize::from(gain))));
            let g = gain.then(|| read(3));
            ops::layer_norm::backward(cores, cols(0), read(0), read(1), read(2), g, write(0), dg, db);
        }
        Op::RmsNorm { eps, gain } => {
            ops::rms_norm::forward(cores, eps, cols(0), read(0), gain.then(|| read(1)), write(0), write(1));
        }
        Op::RmsNormGrad { gain } => {
            let (g, dg) = (gain.then(|| read(3)), gain.then(|| write(1)));
            ops::rms_norm::backward(cores, cols(0), read(0), read(1), read(2), g, write(0), dg);
        }
        Op::QkNorm { heads, eps, gain } => {
            ops::qk_norm::forward(cores, heads, eps, gain, cols(0) / 3, read(0), write(0), write(1));
        }
        Op::QkNormGrad { heads, gain } => {
            ops::qk_norm::backward(cores, heads, gain, cols(0) / 3, read(0), read(1), read(2), write(0));
        }
        Op::Modulate { shift, scale } => {
            ops::modulate::forward(cores, shift, scale, dim(0, 1), cols(0), read(0), read(1), write(0));
        }
        Op::ModulateGrad { shift, scale } => {
            let (l, d) = (dim(0, 1), cols(0));
            ops::modulate::backward(cores, shift, scale, l, d, read(0), read(1), read(2), write(0), write(1));
        }
        Op::Gate { gate } => {
            ops::gate::forward(cores, gate, dim(0, 1), cols(0), read(0), read(1), read(2), write(0));
        }
        Op::GateGrad { gate } => {
            ops::gate::backward(cores, gate, dim(0, 1), cols(0), read(0), read(1), read(2), write(0), write(1));
        }
        Op::Rotary { heads, kv_heads, inverse, past } => {
            let (heads, kv_heads) = (heads as usize, kv_heads as usize);
            let (turned, heads) = (heads + kv_heads, heads + 2 * kv_heads);
            let dims = ops::rotary::Dims { turned, heads, d_head: cols(0) / heads, len: dim(0, 1) };
            let past = if past { ids(2)[0] as usize } else { 0 };
            ops::rotary::forward(cores, dims, inverse, past, read(0), read(1), write(0));
        }
        Op::Attention { heads, kv_heads, mask, padding } => {
            let dims = ops::attention::Dims::new(inst.reads[0].shape, heads, kv_heads, mask);
            let visible = padding.then(|| ids(1));
            real!(inst.reads[0].dtype, X => {
                ops::attention::forward::<X>(cores, dims, at.read(0), visible, at.write(0), write(1));
            });
        }
        Op::AttentionGrad { heads, kv_heads, mask, padding } => {
            let dims = ops::attention::Dims::new(inst.reads[0].shape, heads, kv_heads, mask);
            let (visible, p) = (padding.then(|| ids(1)), usize::from(padding));
            real!(inst.reads[0].dtype, X => {
                let (y, lse, dy) = (at.read::<X>(1 + p), read(2 + p), at.read(3 + p));
                ops::attention::backward(cores, dims, at.read(0), visible, y, lse, dy, at.write(0));
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
            ops::corrupt_tokens::forward(cores, limit, stream, ids(0), read(1), ids(2), write_ids(0));
        }
        Op::CorruptGaussian { stream } => {
            ops::corrupt_gaussian::forward(cores, stream, cols(0), read(0), read(1), ids(2), write(0), write(1));
        }
        Op::CorruptGaussianGrad => ops::corrupt_gaussian::backward(cores, read(0), read(1), write(0)),
        Op::Dropout { p, stream } => ops::dropout::forward(cores, p, stream, cols(0), read(0), ids(1), write(0)),
        Op::MaskedWeight { mask } => ops::masked_weight::forward(cores, mask, ids(0), read(1), write(0)),
        Op::CrossEntropy { forbid } => {
            ops::cross_entropy::forward(cores, forbid, read(0), ids(1), read(2), write(0), write(1));
        }
        Op::CrossEntropyGrad { forbid } => {
            ops::cross_entropy::backward(cores, forbid, read(0), ids(1), read(2), read(3), read(4), write(0));
        }
        Op::UniformNelbo => {
            let (loss, nelbo, lse) = (write(0), write(1), write(2));
            ops::uniform_nelbo::forward(cores, read(0), ids(1), ids(2), read(3), read(4), loss, nelbo, lse);
        }
        Op::UniformNelboGrad => {
            let (alpha_bar, w, lse, dloss) = (read(3), read(4), read(5), read(6));
            ops::uniform_nelbo::backward(cores, read(0), ids(1), ids(2), alpha_bar, w, lse, dloss, write(0));
        }
        Op::SquaredError => ops::squared_error::forward(cores, read(0), read(1), read(2), write(0), write(1)),
        Op::SquaredErrorGrad => {
            ops::squared_error::backward(cores, read(0), read(1), read(2), read(3), write(0), write(1));
        }
        Op::SampleTokens { stream, temperature, forbid } => {
            let (ids_out, log_p, entropy) = (write_ids(0), write(1), write(2));
            ops::sample_tokens::forward(cores, stream, temperature, forbid, read(0), ids(1), ids_out, log_p, entropy);
        }
        Op::GlobalNorm => ops::global_norm::forward(cores, read(0), write(0)),
        Op::AdamW(adamw) => {
            ops::adamw::step(cores, adamw, read(0), read(1), read(2), write(0), write(1), write(2));
        }
        Op::Muon(muon) => {
            let (rows, columns) = (dim(0, 0), dim(0, 1));
            let (param, momentum, x, next) = (write(0), write(1), write(2), write(3));
            let (gram, poly) = (write(4), write(5));
            ops::muon::step(
                cores,
                muon,
                rows,
                columns,
                read(0),
                read(1),
                read(2),
                param,
                momentum,
                x,
                next,
                gram,
                poly,
            );
        }
        Op::Ema => ops::ema::step(cores, read(0), read(1), write(0)),
    }
}
