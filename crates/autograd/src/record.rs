//! The recorder: a model is a function that calls its methods.

use crate::Init;
use galatea_kernels::{Op, slots};
use galatea_tensor::{DType, Shape};
use std::collections::BTreeMap;

/// A tensor of a recording: a number, meaningless outside the recorder (and its plan) that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(pub(crate) u32);

/// Where a recorded tensor will live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Planned by liveness.
    Work,
    /// Written by the host before a run.
    Input,
    /// In memory before the first run.
    Constant,
    /// Parameter number `usize`.
    Param(usize),
    /// The bf16 copy of parameter number `usize`.
    Copy(usize),
    /// Parameter number `usize` in the order in which the machine multiplies it.
    Packed(usize),
    /// The int8 form of parameter number `usize`.
    Int8(usize),
    /// The scales of that form.
    Scale(usize),
    /// The gradient of parameter number `usize`.
    Grad(usize),
    /// A flat run of the optimizer's buffers: parameters `from..to` in layout order.
    Flat(crate::Part, usize, usize),
}

pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) place: Place,
    /// Whether a parameter is upstream.
    pub(crate) needs_grad: bool,
}

/// One recorded op.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) op: Op,
    pub(crate) reads: Vec<Var>,
    pub(crate) writes: Vec<Var>,
}

/// What the optimizer makes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Gains and biases: no weight decay.
    Vector,
    /// Embeddings and heads: rows are tokens.
    Table,
    /// Everything that multiplies activations.
    Matrix,
}

pub(crate) struct ParamNode {
    pub(crate) path: String,
    pub(crate) var: Var,
    pub(crate) shape: Shape,
    pub(crate) init: Init,
    pub(crate) role: Role,
}

/// Streams of recorded ops begin here, beyond those that the host uses.
const STREAMS: u32 = 0x1000_0000;

/// Records ops; nothing runs. A mistake of the recording (a wrong shape) panics at the call that made it.
#[derive(Default)]
pub struct Recorder {
    /// Whether activations are bf16 and products read bf16 copies of the parameters.
    pub(crate) half: bool,
    /// The bf16 copy of each parameter, once an op asked for it.
    pub(crate) copies: Vec<Option<Var>>,
    /// Whether linear layers read the int8 form of matrices.
    pub(crate) int8: bool,
    /// The int8 form of each parameter and its scales, once an op asked for them.
    pub(crate) quantised: Vec<Option<(Var, Var)>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) calls: Vec<Call>,
    pub(crate) params: Vec<ParamNode>,
    pub(crate) inputs: BTreeMap<String, Var>,
    pub(crate) constants: Vec<(Var, Vec<f32>)>,
    /// The gradient of each parameter, once a backward pass reached it.
    pub(crate) grads: Vec<Option<Var>>,
    /// Parameters that the op which makes their gradient moves: it is never in memory.
    pub(crate) fused: Vec<usize>,
    /// Parameters that are kept packed, and in no other form, each with the number of its parts.
    pub(crate) packed: BTreeMap<usize, usize>,
    /// Calls before this index have been reversed.
    pub(crate) reversed: usize,
    /// Where the forward part of each backward pass ends.
    pub(crate) passes: Vec<usize>,
    /// Where blocks of the model begin.
    pub(crate) blocks: Vec<usize>,
    /// Inputs whose gradient is wanted.
    pub(crate) sought: Vec<Var>,
    /// Their gradients, once a backward pass reached them.
    pub(crate) found: BTreeMap<Var, Var>,
    /// Whether what is recorded now has no gradient.
    constant_now: bool,
    /// Whether parameters have none.
    frozen: bool,
    /// Parameter numbers in memory order, fixed by the first `update` or by `finish`.
    pub(crate) layout: Option<Vec<usize>>,
    streams: u32,
}

impl Recorder {
    /// An empty recording in f32.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty recording whose activations are `dtype`. In bf16, linear layers and embeddings read bf16 copies of the
    /// parameters, which the optimizer writes as it moves the f32 masters; gradients of parameters, gains, biases,
    /// statistics and losses stay f32, and every sum is taken in f32.
    ///
    /// # Panics
    /// If `dtype` is neither `F32` nor `Bf16`.
    #[track_caller]
    pub fn with_precision(dtype: DType) -> Self {
        assert!(matches!(dtype, DType::F32 | DType::Bf16), "activations are f32 or bf16, not {}", dtype.name());
        Self { half: dtype == DType::Bf16, ..Self::default() }
    }

    /// An empty recording for inference with activations in `dtype`, whose linear layers read the matrices among the
    /// parameters as int8 with a scale for each output channel, and quantise their inputs by rows on the way. Heads and
    /// embeddings (tables) stay in `dtype`. A matrix that nothing else reads is in memory as int8 alone: a quarter of f32.
    ///
    /// # Panics
    /// If `dtype` is neither `F32` nor `Bf16`.
    #[track_caller]
    pub fn with_int8_weights(dtype: DType) -> Self {
        Self { int8: true, ..Self::with_precision(dtype) }
    }

    /// The element type of activations.
    pub fn precision(&self) -> DType {
        if self.half { DType::Bf16 } else { DType::F32 }
    }

    /// What a product reads of the parameter `w`: its bf16 copy in a bf16 recording, itself otherwise.
    pub(crate) fn weight(&mut self, w: Var) -> Var {
        let Place::Param(param) = self.nodes[w.0 as usize].place else { return w };
        if !self.half {
            return w;
        }
        if let Some(copy) = self.copies[param] {
            return copy;
        }
        let copy = self.node(self.shape(w), DType::Bf16, Place::Copy(param));
        self.copies[param] = Some(copy);
        copy
    }

    /// The int8 form of w and its scales, if this recording reads w that way.
    pub(crate) fn int8(&mut self, w: Var) -> Option<(Var, Var)> {
        let Place::Param(param) = self.nodes[w.0 as usize].place else { return None };
        if !self.int8 || self.params[param].role != Role::Matrix {
            return None;
        }
        if self.quantised[param].is_none() {
            let shape = self.shape(w);
            let q = self.node(shape, DType::I8, Place::Int8(param));
            let scale = self.node(Shape::new(&[shape.dim(0)]), DType::F32, Place::Scale(param));
            self.quantised[param] = Some((q, scale));
        }
        self.quantised[param]
    }

    /// An activation in the recording's type: x itself, or its cast.
    pub(crate) fn narrow(&mut self, x: Var) -> Var {
        self.cast(x, self.precision())
    }

    pub(crate) fn node(&mut self, shape: Shape, dtype: DType, place: Place) -> Var {
        let needs_grad = !self.frozen && matches!(place, Place::Param(_) | Place::Copy(_));
        self.nodes.push(Node { shape, dtype, place, needs_grad });
        Var(u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 tensors"))
    }

    /// A tensor that the host writes before a run, found again by `name`.
    ///
    /// # Panics
    /// If the name is taken by another shape or type.
    #[track_caller]
    pub fn input(&mut self, name: &str, dims: &[usize], dtype: DType) -> Var {
        let shape = Shape::new(dims);
        if let Some(&var) = self.inputs.get(name) {
            let node = &self.nodes[var.0 as usize];
            assert_eq!(
                (node.shape, node.dtype),
                (shape, dtype),
                "input {name} was recorded with another shape or type"
            );
            return var;
        }
        let var = self.node(shape, dtype, Place::Input);
        self.inputs.insert(name.to_owned(), var);
        var
    }

    /// Asks for the gradient of an input, which [`Recorder::gradient`] names after the backward pass: what guides a sampler, or
    /// moves what the host keeps to itself (a learned noise schedule).
    ///
    /// # Panics
    /// If it is no input in f32, or something has read it before.
    #[track_caller]
    pub fn seek(&mut self, input: Var) {
        let node = &self.nodes[input.0 as usize];
        assert!(node.place == Place::Input && node.dtype == DType::F32, "the gradient of an input in f32 is sought");
        assert!(
            self.calls.iter().all(|call| !call.reads.contains(&input)),
            "seek an input's gradient before it is read"
        );
        self.nodes[input.0 as usize].needs_grad = true;
        self.sought.push(input);
    }

    /// Records what `record` does as constants: no gradient flows through it (the first pass of self-conditioning).
    pub fn without_gradient<T>(&mut self, record: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.constant_now, true);
        let out = record(self);
        self.constant_now = before;
        out
    }

    /// From here on parameters have no gradient: only inputs that are [sought](Recorder::seek) do.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// The random key of a run, the input `rng`: u32 [4] = seed low, seed high, step, 0.
    pub fn rng(&mut self) -> Var {
        self.input("rng", &[4], DType::U32)
    }

    /// A random stream that no other op of this recording uses (micro-batches recorded one after another draw apart).
    pub fn stream(&mut self) -> u32 {
        self.streams += 1;
        STREAMS + self.streams
    }

    /// A value that never changes.
    ///
    /// # Panics
    /// If the values do not fill the shape.
    #[track_caller]
    pub fn constant(&mut self, dims: &[usize], values: Vec<f32>) -> Var {
        assert_eq!(Shape::new(dims).len(), values.len(), "a constant of shape {dims:?}");
        let var = self.node(Shape::new(dims), DType::F32, Place::Constant);
        self.constants.push((var, values));
        var
    }

    /// The parameter called `path` (its name in a checkpoint), recorded once and shared by later calls. Rank one is a
    /// gain or bias; rank two a matrix that multiplies activations.
    ///
    /// # Panics
    /// If the path is taken by another shape.
    #[track_caller]
    pub fn param(&mut self, path: &str, dims: &[usize], init: Init) -> Var {
        self.parameter(path, dims, init, if dims.len() == 1 { Role::Vector } else { Role::Matrix })
    }

    /// A parameter whose rows are tokens or positions: an embedding table or an output head. Muon leaves it to AdamW.
    ///
    /// # Panics
    /// If the path is taken by another shape.
    #[track_caller]
    pub fn table(&mut self, path: &str, dims: &[usize], init: Init) -> Var {
        self.parameter(path, dims, init, Role::Table)
    }

    #[track_caller]
    fn parameter(&mut self, path: &str, dims: &[usize], init: Init, role: Role) -> Var {
        let shape = Shape::new(dims);
        if let Some(known) = self.params.iter().find(|p| p.path == path) {
            assert_eq!(known.shape, shape, "parameter {path} was recorded as {}, now as {shape}", known.shape);
            return known.var;
        }
        assert!(self.layout.is_none(), "parameter {path} is recorded after the optimizer: record the model first");
        let var = self.node(shape, DType::F32, Place::Param(self.params.len()));
        self.params.push(ParamNode { path: path.to_owned(), var, shape, init, role });
        self.grads.push(None);
        self.copies.push(None);
        self.quantised.push(None);
        var
    }

    /// The shape of a tensor.
    pub fn shape(&self, var: Var) -> Shape {
        self.nodes[var.0 as usize].shape
    }

    pub(crate) fn needs_grad(&self, var: Var) -> bool {
        self.nodes[var.0 as usize].needs_grad
    }

    /// Records `op` on `reads`; its outputs in order.
    #[track_caller]
    pub(crate) fn call(&mut self, op: Op, reads: &[Var]) -> Vec<Var> {
        debug_assert_eq!(op.in_place(), 0, "in-place ops name their writes");
        let kinds: Vec<_> = reads.iter().map(|r| &self.nodes[r.0 as usize]).map(|n| (n.shape, n.dtype)).collect();
        let outputs = slots(&op, &kinds).unwrap_or_else(|error| panic!("{error}"));
        let needs_grad = !self.constant_now && reads.iter().any(|r| self.needs_grad(*r));
        let writes: Vec<Var> = outputs
            .into_iter()
            .map(|(shape, dtype)| {
                let var = self.node(shape, dtype, Place::Work);
                self.nodes[var.0 as usize].needs_grad = needs_grad && dtype != DType::U32;
                var
            })
            .collect();
        self.calls.push(Call { op, reads: reads.to_vec(), writes: writes.clone() });
        writes
    }

    /// Records `op`, which modifies `kept` in place before it writes the outputs that are returned.
    ///
    /// # Panics
    /// If what is kept is not of the op's shape and type.
    #[track_caller]
    pub(crate) fn extend(&mut self, op: Op, reads: &[Var], kept: &[Var]) -> Vec<Var> {
        debug_assert_eq!(op.in_place(), kept.len(), "an op names what it modifies");
        let kind = |var: &Var| (self.nodes[var.0 as usize].shape, self.nodes[var.0 as usize].dtype);
        let kinds: Vec<_> = reads.iter().map(kind).collect();
        let writes = slots(&op, &kinds).unwrap_or_else(|error| panic!("{error}"));
        for (found, expected) in kept.iter().map(kind).zip(&writes) {
            assert_eq!(found, *expected, "{} modifies a tensor of another shape or type", op.name());
        }
        let needs_grad = reads.iter().any(|r| self.needs_grad(*r));
        let fresh: Vec<Var> =
            writes[kept.len()..].iter().map(|&(shape, dtype)| self.node(shape, dtype, Place::Work)).collect();
        fresh.iter().for_each(|var| self.nodes[var.0 as usize].needs_grad = needs_grad);
        let writes = kept.iter().chain(&fresh).copied().collect();
        self.calls.push(Call { op, reads: reads.to_vec(), writes });
        fresh
    }

    /// [`Recorder::call`] for an op whose first output is all that a model uses.
    #[track_caller]
    pub(crate) fn one(&mut self, op: Op, reads: &[Var]) -> Var {
        self.call(op, reads)[0]
    }

    /// Records an op that modifies `writes` in place.
    pub(crate) fn modify(&mut self, op: Op, reads: &[Var], writes: Vec<Var>) {
        self.calls.push(Call { op, reads: reads.to_vec(), writes });
    }
}
