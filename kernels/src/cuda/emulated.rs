//! A backend that runs CUDA kernels in host memory, by a function with the driver's calling convention.
//!
//! Every slot of an instruction is copied into a block of its own between two zones of NaN: a kernel that reads beyond an
//! operand computes NaN, and one that writes there is caught after the launch. The scratch memory is NaN before each
//! instruction. This backend is for tests: it is thousands of times slower than the CPU's own kernels.

use super::launch::{Arg, Launch, Machine, Map, Place, Swizzle};
use super::plan::{Unsupported, launches};
use crate::backend::Backend;
use crate::program::{Inst, Program};
use galatea_tensor::{DType, Elem, Memory, Slot, bf16};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::NonNull;

/// A launch with addresses in the place of slots.
#[derive(Debug)]
pub struct Call<'a> {
    /// The kernel.
    pub entry: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Where every argument lies, as the driver takes them.
    pub args: &'a mut [*mut c_void],
    /// Bytes of every argument.
    pub sizes: &'a [usize],
    /// The operands and the scratch memory: all that the kernel may touch.
    pub memory: &'a [Operand],
}

/// Memory that pointers among the arguments point into.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The first byte.
    pub start: *mut u8,
    /// How many.
    pub bytes: usize,
    /// Whether it may be written.
    pub writable: bool,
}

/// What a [`Map`] is in host memory: the 128 bytes that the emulated copy engine reads.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct EmulatedMap {
    /// The first element.
    pub base: *const u8,
    /// Extents in elements, innermost first.
    pub dims: [u64; 3],
    /// Bytes between rows and between matrices.
    pub pitches: [u64; 2],
    /// Extents of a box in elements, innermost first.
    pub boxes: [u32; 3],
    /// Bytes of an element.
    pub elem_bytes: u32,
    /// Bytes within which rows are permuted: 0, 32, 64 or 128.
    pub swizzle: u32,
    /// Up to the driver's 128 bytes.
    pub unused: [u32; 15],
}

const _: () = assert!(size_of::<EmulatedMap>() == 128);

/// Why an emulated program stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatedError {
    /// An op without a kernel.
    #[error("instruction {index}: {source}")]
    Unsupported {
        /// Which instruction.
        index: usize,
        /// The op.
        source: Unsupported,
    },
    /// A kernel failed.
    #[error("instruction {index} ({op}), kernel {entry}: {reason}")]
    Kernel {
        /// Which instruction.
        index: usize,
        /// The op.
        op: &'static str,
        /// The kernel.
        entry: &'static str,
        /// What happened.
        reason: String,
    },
    /// A kernel wrote beyond an operand.
    #[error("instruction {index} ({op}): wrote {side} {operand}")]
    OutOfBounds {
        /// Which instruction.
        index: usize,
        /// The op.
        op: &'static str,
        /// Before or beyond.
        side: &'static str,
        /// The operand.
        operand: String,
    },
}

/// Bytes of NaN on either side of an operand.
const GUARD: usize = 128;
/// The byte of which a NaN in f32 and in bf16 consists.
const POISON: u8 = 0xff;

/// A copy of an operand between two zones of NaN.
struct Guarded {
    start: NonNull<u8>,
    bytes: usize,
}

impl Guarded {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("an operand is smaller than the address space")
    }

    fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        // SAFETY: the layout is not empty (two zones).
        let start = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: the block is as long as its layout.
        unsafe { start.as_ptr().write_bytes(POISON, layout.size()) };
        Self { start, bytes }
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: the first zone lies in the block.
        unsafe { self.start.as_ptr().add(GUARD) }
    }

    /// The side that was written, if one was.
    fn broken(&self) -> Option<&'static str> {
        // SAFETY: both zones lie in the block, and no kernel runs while they are read.
        let zone = |at: usize| unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), GUARD) };
        let whole = |at: usize| zone(at).iter().all(|&byte| byte == POISON);
        if !whole(0) {
            Some("before")
        } else if !whole(GUARD + self.bytes) {
            Some("beyond")
        } else {
            None
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

/// Host memory, and scratch for the instruction that asks for most.
#[derive(Debug)]
pub struct EmulatedMemory {
    memory: Memory,
}

/// Runs kernels through `F`: a function that obeys the driver's calling convention on host memory.
pub struct Emulated<F> {
    machine: Machine,
    launch: F,
}

impl<F: FnMut(Call<'_>) -> Result<(), String>> Emulated<F> {
    /// Plans for `machine`, runs by `launch`.
    pub fn new(machine: Machine, launch: F) -> Self {
        Self { machine, launch }
    }

    fn execute(&mut self, memory: &mut Memory, index: usize, inst: &Inst) -> Result<(), EmulatedError> {
        let op = inst.op.name();
        let planned = launches(inst, self.machine).map_err(|source| EmulatedError::Unsupported { index, source })?;
        let slots: Vec<Slot> = inst.reads.iter().chain(&inst.writes).copied().collect();
        let copies: Vec<Guarded> = slots.iter().map(|slot| Guarded::new(slot.bytes())).collect();
        for (slot, copy) in slots.iter().zip(&copies) {
            let host = bytes_mut(memory, slot);
            // SAFETY: the copy has the slot's bytes.
            unsafe { copy.data().copy_from_nonoverlapping(host.as_ptr(), host.len()) };
        }
        let scratch = Guarded::new(planned.scratch);
        let address = |place: &Place| match place {
            Place::Scratch(offset) => {
                assert!(*offset < planned.scratch.max(1), "{op}: a pointer beyond the scratch memory");
                // SAFETY: inside the block (asserted).
                unsafe { scratch.data().add(*offset) }
            }
            Place::Slot(slot) => {
                let holds = |s: &Slot| s.region == slot.region && (s.offset..s.end()).contains(&slot.offset);
                let i = slots.iter().position(holds).unwrap_or_else(|| panic!("{op}: {slot:?} is no operand"));
                // SAFETY: inside the copy of slot i (found above).
                unsafe { copies[i].data().add(slot.offset - slots[i].offset) }
            }
        };
        let operand = |(i, copy): (usize, &Guarded)| Operand {
            start: copy.data(),
            bytes: copy.bytes,
            writable: i >= inst.reads.len(),
        };
        let operands: Vec<Operand> = copies.iter().chain([&scratch]).enumerate().map(operand).collect();
        for launch in &planned.list {
            let result = call(launch, &operands, &address, &mut self.launch);
            result.map_err(|reason| EmulatedError::Kernel { index, op, entry: launch.entry, reason })?;
        }
        let named = slots.iter().map(|slot| format!("{slot:?}")).chain(["the scratch memory".to_owned()]);
        for (copy, operand) in copies.iter().chain([&scratch]).zip(named) {
            if let Some(side) = copy.broken() {
                return Err(EmulatedError::OutOfBounds { index, op, side, operand });
            }
        }
        for (slot, copy) in slots.iter().zip(&copies).skip(inst.reads.len()) {
            let host = bytes_mut(memory, slot);
            // SAFETY: as above; no kernel runs any more.
            unsafe { host.as_mut_ptr().copy_from_nonoverlapping(copy.data(), host.len()) };
        }
        Ok(())
    }
}

/// The storage of one argument.
union Value {
    pointer: *mut u8,
    word: u32,
    long: u64,
    float: f32,
    map: EmulatedMap,
}

/// Resolves the arguments of a launch and makes the call.
fn call(
    launch: &Launch,
    memory: &[Operand],
    address: &impl Fn(&Place) -> *mut u8,
    run: &mut impl FnMut(Call<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let (mut values, sizes): (Vec<Value>, Vec<usize>) = launch
        .args
        .iter()
        .map(|arg| match arg {
            Arg::At(place) => (Value { pointer: address(place) }, size_of::<*mut u8>()),
            Arg::Null => (Value { pointer: std::ptr::null_mut() }, size_of::<*mut u8>()),
            Arg::U32(x) => (Value { word: *x }, 4),
            Arg::U64(x) => (Value { long: *x }, 8),
            Arg::F32(x) => (Value { float: *x }, 4),
            Arg::Map(map) => (Value { map: emulated(map, address(&map.place)) }, size_of::<EmulatedMap>()),
        })
        .unzip();
    let mut args: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    let Launch { entry, grid, block, shared, .. } = *launch;
    run(Call { entry, grid, block, shared, args: &mut args, sizes: &sizes, memory })
}

fn emulated(map: &Map, base: *mut u8) -> EmulatedMap {
    let swizzle = match map.swizzle {
        Swizzle::None => 0,
        Swizzle::Bytes32 => 32,
        Swizzle::Bytes64 => 64,
        Swizzle::Bytes128 => 128,
    };
    let elem_bytes = map.dtype.size() as u32;
    let Map { dims, pitches, boxes, .. } = *map;
    EmulatedMap { base, dims, pitches, boxes, elem_bytes, swizzle, unused: [0; 15] }
}

/// A slot's bytes.
fn bytes_mut<'a>(memory: &'a mut Memory, slot: &Slot) -> &'a mut [u8] {
    match slot.dtype {
        DType::F32 => bytemuck::cast_slice_mut(memory.get_mut::<f32>(slot)),
        DType::Bf16 => bytemuck::cast_slice_mut(memory.get_mut::<bf16>(slot)),
        DType::F16 => bytemuck::cast_slice_mut(memory.get_mut::<galatea_tensor::f16>(slot)),
        DType::U32 => bytemuck::cast_slice_mut(memory.get_mut::<u32>(slot)),
        DType::I8 => bytemuck::cast_slice_mut(memory.get_mut::<i8>(slot)),
    }
}

impl<F: FnMut(Call<'_>) -> Result<(), String>> Backend for Emulated<F> {
    type Memory = EmulatedMemory;
    type Error = EmulatedError;

    fn allocate(&mut self, program: &Program) -> Result<EmulatedMemory, EmulatedError> {
        let mut memory = Memory::new(program.region_bytes());
        for constant in program.constants() {
            memory.get_mut::<f32>(&constant.slot).copy_from_slice(&constant.values);
        }
        Ok(EmulatedMemory { memory })
    }

    fn upload_with<T: Elem>(
        &mut self,
        memory: &mut EmulatedMemory,
        at: Slot,
        write: impl FnOnce(&mut [T]),
    ) -> Result<(), EmulatedError> {
        write(memory.memory.get_mut::<T>(&at));
        Ok(())
    }

    /// Weights as they are: a GPU's kernels read rows.
    fn upload_weights(
        &mut self,
        memory: &mut EmulatedMemory,
        at: Slot,
        (n, k): (usize, usize),
        w: &[bf16],
    ) -> Result<(), EmulatedError> {
        assert_eq!(w.len(), n * k, "weights of another shape");
        bytes_mut(&mut memory.memory, &at)[..2 * w.len()].copy_from_slice(bytemuck::cast_slice(w));
        Ok(())
    }

    fn download<T: Elem>(&self, memory: &EmulatedMemory, at: Slot, host: &mut [T]) -> Result<(), EmulatedError> {
        host.copy_from_slice(memory.memory.get::<T>(&at));
        Ok(())
    }

    fn run(&mut self, memory: &mut EmulatedMemory, program: &Program) -> Result<(), EmulatedError> {
        self.run_range(memory, program, 0..program.insts().len())
    }

    fn run_one(&mut self, memory: &mut EmulatedMemory, program: &Program, index: usize) -> Result<(), EmulatedError> {
        self.execute(&mut memory.memory, index, &program.insts()[index])
    }
}
