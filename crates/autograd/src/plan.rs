//! From a recording to a program: every tensor gets an address.

use crate::Init;
use crate::record::{Call, Place, Recorder, Var};
use galatea_kernels::{Constant, Inst, Program};
use galatea_tensor::{Region, Shape, Slot};
use std::collections::BTreeMap;

/// Which copy of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The parameters.
    Value,
    /// Their gradients.
    Grad,
    /// The first moment (Muon: the momentum).
    Moment1,
    /// The second moment.
    Moment2,
    /// The exponential moving average.
    Ema,
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
    /// Bytes from the start of each part.
    pub(crate) offset: usize,
    /// Whether a backward pass reaches it.
    pub(crate) trained: bool,
}

/// A verified program with the names of its tensors.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) program: Program,
    /// The slot of every recorded tensor, by number.
    pub(crate) slots: Vec<Slot>,
    pub(crate) params: Vec<Param>,
    pub(crate) inputs: BTreeMap<String, Var>,
    /// Bytes of all parameters with their padding.
    pub(crate) param_bytes: usize,
    /// Bytes that the activations would take without reuse.
    pub(crate) unplanned_bytes: usize,
}

/// Elements of a parameter with its padding to a cache line.
pub(crate) fn padded(shape: Shape) -> usize {
    shape.len().next_multiple_of(Slot::ALIGN / 4)
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
        let (region, base) = base(part, self.param_bytes);
        let slot = Slot { region, offset: base + param.offset, shape: param.shape, dtype: galatea_tensor::DType::F32 };
        (slot.end() <= self.program.region_bytes()[region.index()]).then_some(slot)
    }
}

fn base(part: Part, param_bytes: usize) -> (Region, usize) {
    match part {
        Part::Value => (Region::Param, 0),
        Part::Grad => (Region::Grad, 0),
        Part::Moment1 => (Region::Moment, 0),
        Part::Moment2 => (Region::Moment, param_bytes),
        Part::Ema => (Region::Moment, 2 * param_bytes),
    }
}

impl Recorder {
    /// Plans memory and verifies: activations share addresses when their lifetimes allow, `outputs` keep theirs to the
    /// end of a run.
    ///
    /// # Panics
    /// If the plan breaks a rule of [`Program::new`]: a bug of this crate, found before anything runs.
    #[track_caller]
    pub fn finish(mut self, outputs: &[Var]) -> Plan {
        let layout = self.fix_layout();
        let (param_offsets, param_bytes) = param_offsets(&self, &layout);
        let (step_offsets, step_bytes) = step_offsets(&self);
        let (work_offsets, work_bytes, unplanned_bytes) = work_offsets(&self, outputs);
        let mut moment_bytes = 0;
        let slots: Vec<Slot> = (0..self.nodes.len())
            .map(|i| {
                let node = &self.nodes[i];
                let (region, offset) = match node.place {
                    Place::Work => (Region::Work, work_offsets[i]),
                    Place::Input | Place::Constant => (Region::Step, step_offsets[i]),
                    Place::Param(p) => (Region::Param, param_offsets[p]),
                    Place::Grad(p) => (Region::Grad, param_offsets[p]),
                    Place::Flat(part, from, _) => {
                        let (region, start) = base(part, param_bytes);
                        if region == Region::Moment {
                            moment_bytes = moment_bytes.max(start + param_bytes);
                        }
                        (region, start + param_offsets[layout[from]])
                    }
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
        let grad_bytes = if self.grads.iter().any(Option::is_some) { param_bytes } else { 0 };
        let region_bytes = [param_bytes, grad_bytes, moment_bytes, work_bytes, step_bytes];
        let program = Program::new(insts, constants, region_bytes).unwrap_or_else(|error| panic!("{error}"));
        let params = self.params.iter().enumerate().map(|(i, p)| Param {
            path: p.path.clone(),
            shape: p.shape,
            init: p.init,
            offset: param_offsets[i],
            trained: self.grads[i].is_some(),
        });
        Plan { program, params: params.collect(), inputs: self.inputs, param_bytes, unplanned_bytes, slots }
    }
}

/// Byte offsets of the parameters by number, and their total.
fn param_offsets(rec: &Recorder, layout: &[usize]) -> (Vec<usize>, usize) {
    let (mut offsets, mut end) = (vec![0; rec.params.len()], 0);
    for &p in layout {
        offsets[p] = end;
        end += padded(rec.params[p].shape) * 4;
    }
    (offsets, end)
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
