//! From a recording to a program: every tensor gets an address.

use crate::Init;
use crate::checkpoint::Keep;
use crate::record::{Call, Place, Recorder, Var};
use galatea_kernels::gemm::packed_words;
use galatea_kernels::{Constant, Inst, Program};
use galatea_tensor::{DType, Region, Shape, Slot};
use std::collections::BTreeMap;

/// Which copy of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The parameters.
    Value,
    /// Their bf16 copies, which products read.
    Copy,
    /// Their int8 form, which linear layers read.
    Int8,
    /// The scales of that form, one for each row.
    Scale,
    /// Words in the order in which the machine multiplies them: what inference in bf16 keeps of a weight that products alone
    /// read.
    Packed,
    /// Their gradients.
    Grad,
    /// The first moment (Muon: the momentum).
    Moment1,
    /// The second moment.
    Moment2,
    /// The exponential moving average.
    Ema,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 9] = [
        Part::Value,
        Part::Copy,
        Part::Int8,
        Part::Scale,
        Part::Packed,
        Part::Grad,
        Part::Moment1,
        Part::Moment2,
        Part::Ema,
    ];

    /// The type of its elements.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Part::Copy => DType::Bf16,
            Part::Int8 => DType::I8,
            Part::Packed => DType::U32,
            Part::Value | Part::Scale | Part::Grad | Part::Moment1 | Part::Moment2 | Part::Ema => DType::F32,
        }
    }

    fn region(self) -> Region {
        match self {
            Part::Value | Part::Copy | Part::Int8 | Part::Scale | Part::Packed => Region::Param,
            Part::Grad => Region::Grad,
            Part::Moment1 | Part::Moment2 | Part::Ema => Region::Moment,
        }
    }

    /// What it holds of a parameter of that shape.
    fn shape(self, shape: Shape) -> Shape {
        match self {
            Part::Scale => Shape::new(&[shape.dim(0)]),
            Part::Packed => Shape::new(&[packed_words(shape.dim(0), shape.dim(1))]),
            Part::Value | Part::Copy | Part::Int8 | Part::Grad | Part::Moment1 | Part::Moment2 | Part::Ema => shape,
        }
    }
}

/// A parameter of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name in a checkpoint.
    pub path: String,
    /// Its shape.
    pub shape: Shape,
    /// How it begins.
    pub init: Init,
    /// Bytes from the start of its region to each part that the program keeps, in the order of [`Part::ALL`].
    offsets: [Option<usize>; Part::ALL.len()],
    /// Whether a backward pass reaches it.
    pub(crate) trained: bool,
    /// How many parts of it are packed, one after another.
    pub(crate) packed_parts: usize,
}

/// A verified program with the names of its tensors.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) program: Program,
    /// The slot of every recorded tensor, by number.
    pub(crate) slots: Vec<Slot>,
    /// The first instruction that writes each tensor, by number; none for what is there before a run.
    pub(crate) made: Vec<Option<usize>>,
    pub(crate) params: Vec<Param>,
    pub(crate) inputs: BTreeMap<String, Var>,
    /// Bytes that the activations would take without reuse.
    pub(crate) unplanned_bytes: usize,
}

/// Elements of a parameter with its padding: whole cache lines in f32 and in bf16.
pub(crate) fn padded(shape: Shape) -> usize {
    shape.len().next_multiple_of(Slot::ALIGN / 2)
}

/// Where the parts of the parameters are: each is one flat run in layout order of the parameters that have it.
struct Layout {
    /// By parameter number and part: bytes from the start of the part's region.
    offsets: Vec<[Option<usize>; Part::ALL.len()]>,
    /// Bytes of each region.
    bytes: [usize; Region::ALL.len()],
}

impl Layout {
    /// Where the part of a parameter begins.
    fn offset(&self, param: usize, part: Part) -> usize {
        self.offsets[param][part as usize].expect("a part that an op touches is kept")
    }
}

impl Plan {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The parameters in recording order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The number of parameters' elements.
    pub fn param_count(&self) -> usize {
        self.params.iter().map(|p| p.shape.len()).sum()
    }

    /// The input called `name`, if the recording has it.
    pub fn input(&self, name: &str) -> Option<Var> {
        self.inputs.get(name).copied()
    }

    /// The place of a tensor.
    pub fn slot(&self, var: Var) -> Slot {
        self.slots[var.0 as usize]
    }

    /// The place of one part of a parameter, if the program keeps that part.
    pub fn param_slot(&self, param: &Param, part: Part) -> Option<Slot> {
        let offset = param.offsets[part as usize]?;
        Some(Slot { region: part.region(), offset, shape: part.shape(param.shape), dtype: part.dtype() })
    }
}

impl Recorder {
    /// Plans memory and verifies: activations share addresses when their lifetimes allow, `outputs` keep theirs to the
    /// end of a run.
    ///
    /// # Panics
    /// If the plan breaks a rule of [`Program::new`]: a bug of this crate, found before anything runs.
    #[track_caller]
    pub fn finish(self, outputs: &[Var]) -> Plan {
        self.finish_keeping(outputs, Keep::Everything)
    }

    /// [`Recorder::finish`], with a choice of what is kept for the backward pass.
    ///
    /// # Panics
    /// As [`Recorder::finish`].
    #[track_caller]
    pub fn finish_keeping(mut self, outputs: &[Var], keep: Keep) -> Plan {
        match keep {
            Keep::Everything => {}
            Keep::BlockInputs => self.recompute_blocks(),
        }
        self.pack_weights();
        self.drop_unread(outputs);
        let order = self.fix_layout();
        let layout = self.layout_of_parts(&order);
        let (step_offsets, step_bytes) = step_offsets(&self);
        let (work_offsets, work_bytes, unplanned_bytes) = work_offsets(&self, outputs);
        let of_part = |part: Part, param: usize| (part.region(), layout.offset(param, part));
        let slots: Vec<Slot> = (0..self.nodes.len())
            .map(|i| {
                let node = &self.nodes[i];
                let (region, offset) = match node.place {
                    Place::Work => (Region::Work, work_offsets[i]),
                    Place::Input | Place::Constant => (Region::Step, step_offsets[i]),
                    // No op reads a form that is not kept.
                    Place::Param(p) => (Region::Param, layout.offsets[p][Part::Value as usize].unwrap_or(0)),
                    Place::Copy(p) => (Region::Param, layout.offsets[p][Part::Copy as usize].unwrap_or(0)),
                    Place::Packed(p) => of_part(Part::Packed, p),
                    Place::Int8(p) => of_part(Part::Int8, p),
                    Place::Scale(p) => of_part(Part::Scale, p),
                    Place::Grad(p) => (Region::Grad, layout.offsets[p][Part::Grad as usize].unwrap_or(0)),
                    Place::Flat(part, from, _) => of_part(part, order[from]),
                };
                Slot { region, offset, shape: node.shape, dtype: node.dtype }
            })
            .collect();
        let place = |vars: &[Var]| vars.iter().map(|v| slots[v.0 as usize]).collect();
        let inst = |call: &Call| Inst { op: call.op, reads: place(&call.reads), writes: place(&call.writes) };
        let insts = self.calls.iter().map(inst).collect();
        let constant =
            |(var, values): &(Var, Vec<f32>)| Constant { slot: slots[var.0 as usize], values: values.clone().into() };
        let constants = self.constants.iter().map(constant).collect();
        let mut region_bytes = layout.bytes;
        region_bytes[Region::Work.index()] = work_bytes;
        region_bytes[Region::Step.index()] = step_bytes;
        let program = Program::new(insts, constants, region_bytes).unwrap_or_else(|error| panic!("{error}"));
        let params = self.params.iter().enumerate().map(|(i, p)| Param {
            path: p.path.clone(),
            shape: p.shape,
            init: p.init,
            offsets: layout.offsets[i],
            trained: self.grads[i].is_some(),
            packed_parts: self.packed.get(&i).copied().unwrap_or(1),
        });
        let mut made = vec![None; self.nodes.len()];
        for (index, call) in self.calls.iter().enumerate() {
            call.writes.iter().for_each(|var| _ = made[var.0 as usize].get_or_insert(index));
        }
        Plan { program, params: params.collect(), inputs: self.inputs, unplanned_bytes, slots, made }
    }
}

impl Recorder {
    /// Places every part that the recorded ops touch.
    fn layout_of_parts(&self, order: &[usize]) -> Layout {
        let mut masters = vec![false; self.params.len()];
        let mut touched = [false; Part::ALL.len()];
        for call in &self.calls {
            for var in call.reads.iter().chain(&call.writes) {
                match self.nodes[var.0 as usize].place {
                    Place::Param(p) => masters[p] = true,
                    Place::Copy(_) => touched[Part::Copy as usize] = true,
                    Place::Flat(part, ..) => touched[part as usize] = true,
                    Place::Work
                    | Place::Input
                    | Place::Constant
                    | Place::Int8(_)
                    | Place::Scale(_)
                    | Place::Packed(_)
                    | Place::Grad(_) => {}
                }
            }
        }
        let any_trained = self.grads.iter().any(Option::is_some);
        let kept = |p: usize, part: Part| {
            let trained = self.grads[p].is_some();
            match part {
                // One that no op reads (a head beside its model) keeps its value too.
                Part::Value => {
                    let other = self.copies[p].is_some() || self.quantised[p].is_some() || self.packed.contains_key(&p);
                    any_trained || masters[p] || !other
                }
                Part::Copy => touched[part as usize] && (trained || self.copies[p].is_some()),
                Part::Int8 | Part::Scale => self.quantised[p].is_some(),
                Part::Packed => self.packed.contains_key(&p),
                // What an op moves as it makes the gradient has none in memory.
                Part::Grad => trained && !self.fused.contains(&p),
                Part::Moment1 | Part::Moment2 => trained && touched[part as usize],
                Part::Ema => touched[part as usize],
            }
        };
        let mut offsets = vec![[None; Part::ALL.len()]; self.params.len()];
        let mut bytes = [0usize; Region::ALL.len()];
        for part in Part::ALL {
            let end = &mut bytes[part.region().index()];
            for &p in order.iter().filter(|&&p| kept(p, part)) {
                offsets[p][part as usize] = Some(*end);
                let size = padded(part.shape(self.params[p].shape)) * part.dtype().size();
                *end += size.next_multiple_of(Slot::ALIGN);
            }
        }
        Layout { offsets, bytes }
    }
}

/// Byte offsets of inputs and constants by tensor number, and their total.
fn step_offsets(rec: &Recorder) -> (Vec<usize>, usize) {
    let (mut offsets, mut end) = (vec![0; rec.nodes.len()], 0);
    for (i, node) in rec.nodes.iter().enumerate().filter(|(_, n)| matches!(n.place, Place::Input | Place::Constant)) {
        offsets[i] = end;
        end += (node.shape.len() * node.dtype.size()).next_multiple_of(Slot::ALIGN);
    }
    (offsets, end)
}

/// Byte offsets of the activations by tensor number, their total, and the total without reuse: first fit in order of
/// birth, a tensor's bytes free after its last use.
fn work_offsets(rec: &Recorder, outputs: &[Var]) -> (Vec<usize>, usize, usize) {
    let mut last_use = vec![0usize; rec.nodes.len()];
    for (index, call) in rec.calls.iter().enumerate() {
        for var in call.reads.iter().chain(&call.writes) {
            last_use[var.0 as usize] = index;
        }
    }
    for var in outputs {
        last_use[var.0 as usize] = usize::MAX;
    }
    let mut offsets = vec![0; rec.nodes.len()];
    let mut placed = vec![false; rec.nodes.len()];
    // (offset, end, last use), sorted by offset.
    let mut live: Vec<(usize, usize, usize)> = Vec::new();
    let (mut total, mut unplanned) = (0, 0);
    for (index, call) in rec.calls.iter().enumerate() {
        live.retain(|l| l.2 >= index);
        for var in &call.writes {
            let i = var.0 as usize;
            let node = &rec.nodes[i];
            if node.place != Place::Work || std::mem::replace(&mut placed[i], true) {
                continue;
            }
            let bytes = (node.shape.len() * node.dtype.size()).next_multiple_of(Slot::ALIGN);
            let mut at = 0;
            for l in &live {
                if l.0 >= at + bytes {
                    break;
                }
                at = at.max(l.1);
            }
            offsets[i] = at;
            total = total.max(at + bytes);
            unplanned += bytes;
            let position = live.partition_point(|l| l.0 < at);
            live.insert(position, (at, at + bytes, last_use[i]));
        }
    }
    (offsets, total, unplanned)
}
