//! The driver's backend: one GPU, one stream, one arena a region.
//!
//! [`Gpu::find`] asks for a device and never panics where there is none. A program is prepared when its memory is allocated:
//! every kernel that it needs is loaded, every address is resolved, so that [`Backend::run`] only copies what the host wrote
//! since the last run and starts a graph that the first run captured.

mod error;
mod memory;
mod replay;

pub use error::CudaError;
pub use memory::CudaMemory;

use super::code::{Cubins, Note};
use super::launch::{Arch, Launch, Machine};
use super::plan::launches;
use crate::backend::Backend;
use crate::program::{Inst, Program};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, result, sys};
use cudarc::nvrtc::Ptx;
use galatea_tensor::{Elem, Region, Slot, bf16};
use replay::Prepared;
use std::collections::HashMap;
use std::sync::Arc;

/// What became of asking for a GPU.
#[non_exhaustive]
pub enum Gpu {
    /// There is no driver library on this machine.
    NoDriver,
    /// The driver sees no device, or none that it can use.
    NoDevice {
        /// What the driver said.
        reason: String,
    },
    /// A device that kernels are not compiled for.
    TooOld {
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (i32, i32),
    },
    /// A device.
    Ready(Cuda),
}

impl Gpu {
    /// Looks for device number `ordinal` of those that `CUDA_VISIBLE_DEVICES` lets the driver see.
    pub fn find(ordinal: usize) -> Gpu {
        // SAFETY: the call loads a library and looks for its symbols; nothing else in this process unloads it.
        if !unsafe { sys::is_culib_present() } {
            return Gpu::NoDriver;
        }
        match Cuda::look(ordinal) {
            Ok(gpu) => gpu,
            Err(error) => Gpu::NoDevice { reason: error::describe(error) },
        }
    }

    /// The device, or why there is none, in words for a user.
    ///
    /// # Errors
    /// If there is no device.
    pub fn ready(self) -> Result<Cuda, CudaError> {
        match self {
            Gpu::Ready(cuda) => Ok(cuda),
            Gpu::NoDriver => Err(CudaError::NoDriver),
            Gpu::NoDevice { reason } => Err(CudaError::NoDevice { reason }),
            Gpu::TooOld { name, capability } => Err(CudaError::NoKernels { name, capability }),
        }
    }
}

/// A GPU that runs programs. Clones share the device, its stream and the kernels that are loaded.
#[derive(Clone)]
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    machine: Machine,
    cubins: Arc<Cubins>,
    notes: Vec<Note>,
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<&'static str, CudaFunction>,
    /// Launch by launch, each awaited: slow, but an error names its instruction.
    stepwise: bool,
}

impl Cuda {
    /// A device that the driver has, if kernels are compiled for it.
    fn look(ordinal: usize) -> Result<Gpu, result::DriverError> {
        let context = CudaContext::new(ordinal)?;
        let capability = context.compute_capability()?;
        let arch = match capability {
            (8, _) => Arch::Sm80,
            (9, 0) => Arch::Sm90a,
            (10, 0) => Arch::Sm100a,
            _ => return Ok(Gpu::TooOld { name: context.name()?, capability }),
        };
        // SAFETY: no `CudaSlice` of cudarc's is used, so there are no events to lose; one stream orders everything.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let processors =
            context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.unsigned_abs();
        Ok(Gpu::Ready(Self {
            context,
            stream,
            machine: Machine { arch, processors },
            cubins: Arc::new(Cubins::from_env()),
            notes: Vec::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            stepwise: std::env::var_os("GALATEA_CUDA_STEPWISE").is_some_and(|on| on != "0"),
        }))
    }

    /// The device's name.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn name(&self) -> Result<String, CudaError> {
        self.context.name().map_err(CudaError::driver("asking for the device's name"))
    }

    /// What programs are planned for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// What was remarkable about the kernels loaded so far: a damaged cache, a folder that cannot be written.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Waits for everything that was started.
    ///
    /// # Errors
    /// If something that was started failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.bind_to_thread().map_err(CudaError::driver("binding the device"))?;
        self.stream.synchronize().map_err(CudaError::lost)
    }

    /// Milliseconds of every one of `runs` runs, by the device's own clock, after `warm_up` that do not count.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(
        &mut self,
        memory: &mut CudaMemory,
        program: &Program,
        warm_up: usize,
        runs: usize,
    ) -> Result<Vec<f64>, CudaError> {
        let timing = || self.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        let events = (0..=runs).map(|_| timing()).collect::<Result<Vec<_>, _>>();
        let events = events.map_err(CudaError::driver("making an event"))?;
        (0..warm_up).try_for_each(|_| self.run(memory, program))?;
        for (i, event) in events.iter().enumerate() {
            event.record(&self.stream).map_err(CudaError::driver("recording an event"))?;
            if i < runs {
                self.run(memory, program)?;
            }
        }
        self.synchronize()?;
        let between = |pair: &[cudarc::driver::CudaEvent]| pair[0].elapsed_ms(&pair[1]).map(f64::from);
        events
            .windows(2)
            .map(between)
            .collect::<Result<_, _>>()
            .map_err(CudaError::driver("reading the device's clock"))
    }

    /// The function of a launch, loaded at its first use.
    fn function(&mut self, index: usize, inst: &Inst, launch: &Launch) -> Result<CudaFunction, CudaError> {
        let (op, entry, source) = (inst.op.name(), launch.entry, launch.source);
        if !self.functions.contains_key(entry) {
            let refused = |error| CudaError::Load { index, op, entry, reason: error::describe(error) };
            if !self.modules.contains_key(source.name) {
                let cubin = self.cubins.get(source, self.machine.arch);
                let cubin = cubin.map_err(|source| CudaError::Kernel { index, op, entry, source })?;
                self.notes.extend(cubin.notes);
                let module = self.context.load_module(Ptx::from_binary(cubin.image)).map_err(refused)?;
                self.modules.insert(source.name, module);
            }
            let function = self.modules[source.name].load_function(entry).map_err(refused)?;
            self.functions.insert(entry, function);
        }
        Ok(self.functions[entry].clone())
    }

    /// The launches of every instruction, with addresses.
    fn prepare(&mut self, memory: &mut CudaMemory, program: &Program) -> Result<(), CudaError> {
        let mut planned = Vec::new();
        let mut scratch = 0;
        for (index, inst) in program.insts().iter().enumerate() {
            let of = launches(inst, self.machine).map_err(|source| CudaError::Unsupported { index, source })?;
            scratch = scratch.max(of.scratch);
            planned.push(of.list);
        }
        memory.reserve_scratch(scratch)?;
        for ((index, inst), list) in program.insts().iter().enumerate().zip(planned) {
            for launch in &list {
                let function = self.function(index, inst, launch)?;
                memory.launches.push(Prepared::new(index, inst.op.name(), launch, function, |place| {
                    memory.arenas.address(place)
                })?);
            }
        }
        Ok(())
    }

    /// Starts launches one after another.
    fn start(&self, launches: &mut [Prepared]) -> Result<(), CudaError> {
        for launch in launches {
            launch.start(&self.stream)?;
            if self.stepwise {
                self.stream.synchronize().map_err(|error| launch.failed(error))?;
            }
        }
        Ok(())
    }
}

impl Backend for Cuda {
    type Memory = CudaMemory;
    type Error = CudaError;

    fn allocate(&mut self, program: &Program) -> Result<CudaMemory, CudaError> {
        let mut memory = CudaMemory::new(&self.context, &self.stream, program.region_bytes())?;
        for constant in program.constants() {
            memory.upload(constant.slot, &constant.values)?;
        }
        self.prepare(&mut memory, program)?;
        Ok(memory)
    }

    fn upload_with<T: Elem>(
        &mut self,
        memory: &mut CudaMemory,
        at: Slot,
        write: impl FnOnce(&mut [T]),
    ) -> Result<(), CudaError> {
        let mut host = vec![T::zeroed(); at.shape.len()];
        write(&mut host);
        memory.upload(at, &host)
    }

    fn upload<T: Elem>(&mut self, memory: &mut CudaMemory, at: Slot, host: &[T]) -> Result<(), CudaError> {
        memory.upload(at, host)
    }

    /// Rows as they are: that is what this machine's products read.
    fn upload_weights(
        &mut self,
        memory: &mut CudaMemory,
        at: Slot,
        (n, k): (usize, usize),
        w: &[bf16],
    ) -> Result<(), CudaError> {
        assert_eq!(w.len(), n * k, "weights of another shape");
        let mut words = vec![0u32; at.shape.len()];
        bytemuck::cast_slice_mut::<u32, bf16>(&mut words)[..w.len()].copy_from_slice(w);
        memory.upload(at, &words)
    }

    fn download<T: Elem>(&self, memory: &CudaMemory, at: Slot, host: &mut [T]) -> Result<(), CudaError> {
        memory.download(at, host)
    }

    fn run(&mut self, memory: &mut CudaMemory, program: &Program) -> Result<(), CudaError> {
        if self.stepwise {
            return self.run_range(memory, program, 0..program.insts().len());
        }
        memory.flush()?;
        if memory.graph.is_none() {
            // Nothing else may use the stream while it records, and nothing runs before the graph is launched.
            let relaxed = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            self.stream.begin_capture(relaxed).map_err(CudaError::driver("beginning to record the program"))?;
            let started = self.start(&mut memory.launches);
            let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
            started?;
            memory.graph = graph.map_err(CudaError::driver("recording the program"))?;
        }
        match &memory.graph {
            Some(graph) => graph.launch().map_err(CudaError::lost),
            // A program without launches records nothing.
            None => Ok(()),
        }
    }

    fn run_range(
        &mut self,
        memory: &mut CudaMemory,
        _: &Program,
        range: std::ops::Range<usize>,
    ) -> Result<(), CudaError> {
        memory.flush()?;
        let (first, end) = (memory.first_of(range.start), memory.first_of(range.end));
        self.start(&mut memory.launches[first..end])
    }

    fn run_one(&mut self, memory: &mut CudaMemory, program: &Program, index: usize) -> Result<(), CudaError> {
        self.run_range(memory, program, index..index + 1)
    }
}

/// Only this region is written by the host between runs, so only it has a mirror.
const MIRRORED: Region = Region::Step;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_gpu_is_told_apart_and_says_how_to_go_on() {
        match Gpu::find(0).ready() {
            Ok(cuda) => assert!(cuda.machine().processors > 0),
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains("--device cpu"), "{told}");
                assert!(std::env::var_os("GALATEA_REQUIRE_CUDA").is_none_or(|on| on == "0"), "{told}");
            }
        }
    }
}
