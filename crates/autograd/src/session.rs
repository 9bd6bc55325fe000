//! A program with its memory: what a trainer and a sampler hold.

use crate::{Part, Plan, Var};
use galatea_kernels::ops::linear_int8::{RelativeError, dequantise_weights, quantise_weights, relative_error};
use galatea_kernels::{Backend, Real};
use galatea_tensor::{DType, Elem, Shape, Slot, bf16};
use ndarray::{ArrayRef, Dimension};

/// The first not-a-number of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The instruction that wrote it.
    pub index: usize,
    /// Its op.
    pub op: &'static str,
    /// Which of its writes.
    pub write: usize,
    /// Which element.
    pub element: usize,
    /// The parameter whose value or gradient it is, if it is one.
    pub param: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { index, op, write, element, .. } = self;
        write!(f, "instruction {index} ({op}) wrote NaN to element {element} of its output {write}")?;
        match &self.param {
            Some(path) => write!(f, ", which belongs to parameter {path}"),
            None => Ok(()),
        }
    }
}

/// A backend, its memory, and a plan.
pub struct Session<B: Backend> {
    backend: B,
    memory: B::Memory,
    plan: Plan,
    /// The error of each parameter's int8 form, once it was set.
    errors: Vec<Option<RelativeError>>,
}

impl<B: Backend> Session<B> {
    /// Allocates everything the plan needs; parameters are zero.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn new(mut backend: B, plan: Plan) -> Result<Self, B::Error> {
        let memory = backend.allocate(&plan.program)?;
        let errors = vec![None; plan.params.len()];
        Ok(Self { backend, memory, plan, errors })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Draws every parameter from its law, and starts the moving average at the same point.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn init(&mut self, seed: u64) -> Result<(), B::Error> {
        for index in 0..self.plan.params.len() {
            let param = &self.plan.params[index];
            let mut values = vec![0.0; param.shape.len()];
            param.init.fill(seed, index as u32, param.shape.cols(), &mut values);
            for part in [Part::Value, Part::Ema] {
                self.set_param(index, part, &values)?;
            }
        }
        Ok(())
    }

    /// Copies a row-major array to a tensor.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the array has another number of elements, another type, or is not in standard layout.
    pub fn set<T: Elem, D: Dimension>(&mut self, var: Var, x: &ArrayRef<T, D>) -> Result<(), B::Error> {
        self.write(var, x.as_slice().expect("an array in standard layout"))
    }

    /// Copies a tensor to a row-major array.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// As [`Session::set`].
    pub fn get<T: Elem, D: Dimension>(&self, var: Var, y: &mut ArrayRef<T, D>) -> Result<(), B::Error> {
        self.read_into(var, y.as_slice_mut().expect("an array in standard layout"))
    }

    /// Copies a slice to a tensor.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the length or type differs.
    pub fn write<T: Elem>(&mut self, var: Var, x: &[T]) -> Result<(), B::Error> {
        self.backend.upload(&mut self.memory, self.plan.slot(var), x)
    }

    /// Copies a tensor to a slice.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the length or type differs.
    pub fn read_into<T: Elem>(&self, var: Var, y: &mut [T]) -> Result<(), B::Error> {
        self.backend.download(&self.memory, self.plan.slot(var), y)
    }

    /// A tensor as a new vector.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn read<T: Elem>(&self, var: Var) -> Result<Vec<T>, B::Error> {
        let mut out = vec![T::zeroed(); self.plan.slot(var).shape.len()];
        self.read_into(var, &mut out)?;
        Ok(out)
    }

    /// One part of the parameter number `index`, or `None` if the program does not keep that part. A value that is kept in bf16
    /// or int8 alone is what that form says; a weight that is kept packed cannot be read.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn param(&self, index: usize, part: Part) -> Result<Option<Vec<f32>>, B::Error> {
        let slot = |part| self.plan.param_slot(&self.plan.params[index], part);
        // A parameter without a master has its value in its copy, or in its int8 form.
        let value = part == Part::Value;
        let other = if value { slot(Part::Copy).or(slot(Part::Int8)) } else { None };
        let Some(slot) = slot(part).or(other) else { return Ok(None) };
        let mut out = vec![0.0; slot.shape.len()];
        match slot.dtype {
            DType::Bf16 => {
                let mut half = vec![bf16::ZERO; out.len()];
                self.backend.download(&self.memory, slot, &mut half)?;
                out.iter_mut().zip(half).for_each(|(x, half)| *x = half.load());
            }
            DType::I8 => {
                let mut q = vec![0i8; out.len()];
                self.backend.download(&self.memory, slot, &mut q)?;
                let scales = if value { self.param(index, Part::Scale)? } else { None };
                let scales = scales.unwrap_or_else(|| vec![1.0; slot.shape.dim(0)]);
                dequantise_weights(slot.shape.dim(1), &q, &scales, &mut out);
            }
            DType::F32 | DType::F16 | DType::U32 => self.backend.download(&self.memory, slot, &mut out)?,
        }
        Ok(Some(out))
    }

    /// Sets one part of the parameter number `index`; nothing happens if the program does not keep that part. Setting the
    /// value sets its bf16 copy, its int8 form with the scales, and its packed words too; these are not set by themselves.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the length differs.
    pub fn set_param(&mut self, index: usize, part: Part, x: &[f32]) -> Result<(), B::Error> {
        let slot = |part| self.plan.param_slot(&self.plan.params[index], part);
        let (whole, copy) = match part {
            Part::Value => (slot(Part::Value), slot(Part::Copy)),
            Part::Copy => (None, slot(Part::Copy)),
            Part::Grad | Part::Moment1 | Part::Moment2 | Part::Ema => (slot(part), None),
            Part::Int8 | Part::Scale | Part::Packed => (None, None),
        };
        let quantised = if part == Part::Value { slot(Part::Int8).zip(slot(Part::Scale)) } else { None };
        if let Some(slot) = whole {
            self.backend.upload(&mut self.memory, slot, x)?;
        }
        let shape = self.plan.params[index].shape;
        let packed = if part == Part::Value { slot(Part::Packed) } else { None };
        if copy.is_some() || packed.is_some() {
            let half: Vec<bf16> = x.iter().map(|&x| bf16::store(x)).collect();
            if let Some(slot) = copy {
                self.backend.upload(&mut self.memory, slot, &half)?;
            }
            if let Some(slot) = packed {
                let parts = self.plan.params[index].packed_parts;
                let (words, o) = (slot.shape.len() / parts, shape.dim(0) / parts);
                for (part, w) in half.chunks_exact(half.len() / parts).enumerate() {
                    let offset = slot.offset + part * words * slot.dtype.size();
                    let at = Slot { offset, shape: Shape::new(&[words]), ..slot };
                    self.backend.upload_weights(&mut self.memory, at, (o, shape.dim(1)), w)?;
                }
            }
        }
        if let Some((slot, scale)) = quantised {
            let (mut q, mut scales) = (vec![0i8; slot.shape.len()], vec![0.0; scale.shape.len()]);
            quantise_weights(slot.shape.dim(1), x, &mut q, &mut scales);
            self.errors[index] = Some(relative_error(slot.shape.dim(1), x, &q, &scales));
            self.backend.upload(&mut self.memory, slot, &q)?;
            self.backend.upload(&mut self.memory, scale, &scales)?;
        }
        Ok(())
    }

    /// [`set_param`](Self::set_param) with values that `write` produces, given the parameter's elements. Where the program keeps
    /// them as they are and the machine's memory is the host's, they are written where they lie.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn set_param_with(&mut self, index: usize, part: Part, write: impl FnOnce(&mut [f32])) -> Result<(), B::Error> {
        let param = &self.plan.params[index];
        let slot = |part| self.plan.param_slot(param, part);
        let derived = [Part::Copy, Part::Packed, Part::Int8].map(slot);
        match slot(part) {
            Some(at) if at.dtype == DType::F32 && (part != Part::Value || derived == [None; 3]) => {
                self.backend.upload_with(&mut self.memory, at, write)
            }
            Some(_) | None => {
                let mut x = vec![0.0; param.shape.len()];
                write(&mut x);
                self.set_param(index, part, &x)
            }
        }
    }

    /// The relative error of every parameter that is read as int8, from the values that it was set to: what quantising the
    /// weights alone costs. Empty for a program without int8 weights.
    pub fn int8_errors(&self) -> impl Iterator<Item = (&str, RelativeError)> {
        self.plan.params.iter().zip(&self.errors).filter_map(|(param, error)| Some((param.path.as_str(), (*error)?)))
    }

    /// Sets the random key of the next run, if the program draws.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn set_rng(&mut self, seed: u64, step: u32) -> Result<(), B::Error> {
        match self.plan.input("rng") {
            Some(rng) => self.write(rng, &[seed as u32, (seed >> 32) as u32, step, 0]),
            None => Ok(()),
        }
    }

    /// Runs the program once. Nothing is allocated.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&mut self) -> Result<(), B::Error> {
        self.backend.run(&mut self.memory, &self.plan.program)
    }

    /// Runs the first part of the program: up to and with the instruction that writes `var`. What the rest needs stays in place,
    /// so that the host can read `var` and write an input that depends on it (a gradient, say) before
    /// [`Session::run_after`] goes on.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_until(&mut self, var: Var) -> Result<(), B::Error> {
        let split = self.plan.made[var.0 as usize].map_or(0, |index| index + 1);
        self.backend.run_range(&mut self.memory, &self.plan.program, 0..split)
    }

    /// Runs what comes after [`Session::run_until`] the same `var`. Nothing may run between the two.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run_after(&mut self, var: Var) -> Result<(), B::Error> {
        let split = self.plan.made[var.0 as usize].map_or(0, |index| index + 1);
        self.backend.run_range(&mut self.memory, &self.plan.program, split..self.plan.program.insts().len())
    }

    /// Runs instruction by instruction and stops at the first NaN that one writes.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn trace(&mut self) -> Result<Option<Fault>, B::Error> {
        for index in 0..self.plan.program.insts().len() {
            self.backend.run_one(&mut self.memory, &self.plan.program, index)?;
            let inst = &self.plan.program.insts()[index];
            for (write, slot) in inst.writes.iter().enumerate().filter(|(_, s)| s.dtype == DType::F32) {
                let mut values = vec![0.0f32; slot.shape.len()];
                self.backend.download(&self.memory, *slot, &mut values)?;
                if let Some(element) = values.iter().position(|x| x.is_nan()) {
                    let (op, param) = (inst.op.name(), self.owner(slot, element));
                    return Ok(Some(Fault { index, op, write, element, param }));
                }
            }
        }
        Ok(None)
    }

    /// The parameter that owns an element of a slot outside the work region.
    fn owner(&self, slot: &Slot, element: usize) -> Option<String> {
        let at = slot.offset + element * slot.dtype.size();
        let owns = |part: Part, param: &crate::Param| {
            let own = self.plan.param_slot(param, part)?;
            (own.region == slot.region && (own.offset..own.end()).contains(&at)).then(|| param.path.clone())
        };
        Part::ALL.into_iter().find_map(|part| self.plan.params.iter().find_map(|param| owns(part, param)))
    }
}
