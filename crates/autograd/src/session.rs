//! A program with its memory: what a trainer and a sampler hold.

use crate::{Part, Plan, Var};
use galatea_kernels::{Backend, Real};
use galatea_tensor::{DType, Elem, Slot, bf16};
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
}

impl<B: Backend> Session<B> {
    /// Allocates everything the plan needs; parameters are zero.
    ///
    /// # Errors
    /// If the machine has not that much memory.
    pub fn new(mut backend: B, plan: Plan) -> Result<Self, B::Error> {
        let memory = backend.allocate(&plan.program)?;
        Ok(Self { backend, memory, plan })
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

    /// One part of the parameter number `index`, or `None` if the program does not keep that part (of a weight that is kept
    /// packed, none can be read).
    ///
    /// # Errors
    /// If the machine fails.
    pub fn param(&self, index: usize, part: Part) -> Result<Option<Vec<f32>>, B::Error> {
        let slot = |part| self.plan.param_slot(&self.plan.params[index], part);
        // A program without masters has the values in its copies.
        let copy = if part == Part::Value { slot(Part::Copy) } else { None };
        let Some(slot) = slot(part).or(copy) else { return Ok(None) };
        let mut out = vec![0.0; slot.shape.len()];
        if slot.dtype == DType::Bf16 {
            let mut half = vec![bf16::ZERO; out.len()];
            self.backend.download(&self.memory, slot, &mut half)?;
            out.iter_mut().zip(half).for_each(|(x, half)| *x = half.load());
        } else {
            self.backend.download(&self.memory, slot, &mut out)?;
        }
        Ok(Some(out))
    }

    /// Sets one part of the parameter number `index`; nothing happens if the program does not keep that part. Setting the
    /// value sets its bf16 copy and its packed words too.
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
        };
        if let Some(slot) = whole {
            self.backend.upload(&mut self.memory, slot, x)?;
        }
        let (packed, shape) = (self.plan.params[index].packed, self.plan.params[index].shape);
        let packed = packed.filter(|_| part == Part::Value);
        if copy.is_some() || packed.is_some() {
            let half: Vec<bf16> = x.iter().map(|&x| bf16::store(x)).collect();
            if let Some(slot) = copy {
                self.backend.upload(&mut self.memory, slot, &half)?;
            }
            if let Some(slot) = packed {
                self.backend.upload_weights(&mut self.memory, slot, (shape.dim(0), shape.dim(1)), &half)?;
            }
        }
        Ok(())
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
