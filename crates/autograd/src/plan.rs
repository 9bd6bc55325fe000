//! From a recording to a program: every tensor gets an address.

use crate::Init;
use crate::checkpoint::Keep;
use crate::record::{Call, Place, Recorder, Var};
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
    pub const ALL: [Part; 6] = [Part::Value, Part::Copy, Part::Grad, Part::Moment1, Part::Moment2, Part::Ema];
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
    /// Elements from the start of each part.
    pub(crate) offset: usize,
    /// Where its own bf16 copy is, if the program has no flat part of copies.
    pub(crate) copy: Option<Slot>,
    /// Where its packed words are, if the program keeps it so.
    pub(crate) packed: Option<Slot>,
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
    pub(crate) layout: Layout,
    /// Bytes that the activations would take without reuse.
    pub(crate) unplanned_bytes: usize,
}

/// Elements of a parameter with its padding: whole cache lines in f32 and in bf16.
pub(crate) fn padded(shape: Shape) -> usize {
    shape.len().next_multiple_of(Slot::ALIGN / 2)
}

/// Where each part of the parameters begins: every part is one flat run in layout order, parameters without a gradient last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Elements of all parameters with their padding.
    pub(crate) all: usize,
    /// Elements of those with a gradient: they come first.
    pub(crate) trained: usize,
    /// Elements whose gradient is in memory.
    pub(crate) grads: usize,
    /// Elements that have an f32 master: all in training; without a gradient those that an op reads as they are.
    pub(crate) masters: usize,
    /// Elements that have a bf16 copy: of every parameter with a gradient, and of those without that a product reads.
    pub(crate) copied: usize,
    /// Whether the program has moments.
    pub(crate) moments: bool,
    /// Whether it has a second moment.
    pub(crate) second: bool,
    /// Whether it has a moving average.
    pub(crate) ema: bool,
}

impl Layout {
    /// The region, first byte and element type of a part, and its elements; `None` where the program does not keep it.
    fn part(&self, part: Part) -> Option<(Region, usize, DType, usize)> {
        let masters = 4 * self.masters;
        let (kept, region, first, dtype, len) = match part {
            Part::Value => (self.masters > 0, Region::Param, 0, DType::F32, self.masters),
            Part::Copy => (self.copied > 0, Region::Param, masters, DType::Bf16, self.copied),
            Part::Grad => (self.grads > 0, Region::Grad, 0, DType::F32, self.grads),
            Part::Moment1 => (self.moments, Region::Moment, 0, DType::F32, self.trained),
            Part::Moment2 => (self.second, Region::Moment, 4 * self.trained, DType::F32, self.trained),
            Part::Ema => {
                let before = usize::from(self.moments) + usize::from(self.second);
                (self.ema, Region::Moment, 4 * self.trained * before, DType::F32, self.all)
            }
        };
        kept.then_some((region, first, dtype, len))
    }

    /// Bytes of a region.
    fn bytes(&self, region: Region) -> usize {
        let end = |part: Part| match self.part(part) {
            Some((at, first, dtype, len)) if at == region => first + len * dtype.size(),
            _ => 0,
        };
        Part::ALL.into_iter().map(end).max().unwrap_or(0)
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
        if part == Part::Copy && param.copy.is_some() {
            return param.copy;
        }
        let (region, first, dtype, len) = self.layout.part(part)?;
        let offset = first + param.offset * dtype.size();
        (param.offset < len).then_some(Slot { region, offset, shape: param.shape, dtype })
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
        let order = self.fix_layout();
        let offsets = param_offsets(&self, &order);
        let layout = self.layout_of_parts(&order);
        let (step_offsets, step_bytes) = step_offsets(&self);
        let (work_offsets, work_bytes, unplanned_bytes) = work_offsets(&self, outputs);
        let ([copies, packed], param_end) = self.single_slots(layout.bytes(Region::Param));
        let of_part = |part: Part, element: usize| {
            let (region, first, dtype, _) = layout.part(part).expect("a part that an op touches is kept");
            (region, first + element * dtype.size())
        };
        let slots: Vec<Slot> = (0..self.nodes.len())
            .map(|i| {
                let node = &self.nodes[i];
                let (region, offset) = match node.place {
                    Place::Work => (Region::Work, work_offsets[i]),
                    Place::Input | Place::Constant => (Region::Step, step_offsets[i]),
                    Place::Param(p) if self.needs_master(p) => of_part(Part::Value, offsets[p]),
                    Place::Copy(p) if layout.copied > 0 => of_part(Part::Copy, offsets[p]),
                    Place::Copy(p) if copies.contains_key(&p) => (Region::Param, copies[&p].offset),
                    Place::Packed(p) => (Region::Param, packed[&p].offset),
                    // A form of a parameter that no op reads.
                    Place::Param(_) | Place::Copy(_) => (Region::Param, 0),
                    Place::Grad(p) if self.fused.contains(&p) => (Region::Grad, 0),
                    Place::Grad(p) => of_part(Part::Grad, offsets[p]),
                    Place::Flat(part, from, _) => of_part(part, offsets[order[from]]),
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
        let [param_bytes, grad_bytes, moment_bytes] =
            [Region::Param, Region::Grad, Region::Moment].map(|region| layout.bytes(region));
        let param_bytes = param_bytes.max(param_end);
        let region_bytes = [param_bytes, grad_bytes, moment_bytes, work_bytes, step_bytes];
        let program = Program::new(insts, constants, region_bytes).unwrap_or_else(|error| panic!("{error}"));
        let params = self.params.iter().enumerate().map(|(i, p)| Param {
            path: p.path.clone(),
            shape: p.shape,
            init: p.init,
            offset: offsets[i],
            copy: copies.get(&i).copied(),
            packed: packed.get(&i).copied(),
            trained: self.grads[i].is_some(),
        });
        Plan { program, params: params.collect(), inputs: self.inputs, layout, unplanned_bytes, slots }
    }
}

impl Recorder {
    /// Which parts the recorded ops touch, and how long they are.
    fn layout_of_parts(&self, order: &[usize]) -> Layout {
        let elements = |trained: bool| {
            let counted = order.iter().filter(|&&p| !trained || self.grads[p].is_some());
            counted.map(|&p| padded(self.params[p].shape)).sum::<usize>()
        };
        let touched = |place: fn(&Place) -> bool| self.nodes.iter().any(|node| place(&node.place));
        let len = |p: &&usize| padded(self.params[**p].shape);
        let trained = elements(true);
        let frozen = order.iter().filter(|&&p| self.grads[p].is_none() && self.copies[p].is_some());
        let copied =
            if self.has_copies() && trained > 0 { trained + frozen.map(|p| len(&p)).sum::<usize>() } else { 0 };
        Layout {
            all: elements(false),
            trained,
            grads: trained - self.fused.iter().map(|p| len(&p)).sum::<usize>(),
            masters: order.iter().filter(|&&p| self.needs_master(p)).map(|p| len(&p)).sum(),
            copied,
            moments: touched(|place| matches!(place, Place::Flat(Part::Moment1, ..))),
            second: touched(|place| matches!(place, Place::Flat(Part::Moment2, ..))),
            ema: touched(|place| matches!(place, Place::Flat(Part::Ema, ..))),
        }
    }

    /// Whether a parameter is kept in f32: all are in training; without a gradient those of which an op reads no other form.
    pub(crate) fn needs_master(&self, param: usize) -> bool {
        let other_form = self.copies[param].is_some() || self.packed.contains(&param);
        let read = || self.calls.iter().any(|call| call.reads.contains(&self.params[param].var));
        !other_form || self.grads.iter().any(Option::is_some) || read()
    }

    /// Places of what a program without a gradient keeps of single parameters, from byte `end` of `Region::Param` on: bf16
    /// copies, packed words; and where they end. In training all copies are one flat part.
    fn single_slots(&self, mut end: usize) -> ([BTreeMap<usize, Slot>; 2], usize) {
        let (mut copies, mut packed) = (BTreeMap::new(), BTreeMap::new());
        let trains = self.grads.iter().any(Option::is_some);
        for node in &self.nodes {
            let (slots, param) = match node.place {
                Place::Copy(p) if !trains && self.copies[p].is_some() => (&mut copies, p),
                Place::Packed(p) => (&mut packed, p),
                _ => continue,
            };
            let slot = Slot { region: Region::Param, offset: end, shape: node.shape, dtype: node.dtype };
            end = slot.end().next_multiple_of(Slot::ALIGN);
            slots.insert(param, slot);
        }
        ([copies, packed], end)
    }
}

/// Elements before each parameter, by number.
fn param_offsets(rec: &Recorder, order: &[usize]) -> Vec<usize> {
    let (mut offsets, mut end) = (vec![0; rec.params.len()], 0);
    for &p in order {
        offsets[p] = end;
        end += padded(rec.params[p].shape);
    }
    offsets
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
