//! A launch with addresses, ready to be started again and again.

use super::error::{CudaError, describe};
use crate::cuda::launch::{Arg, Launch, Map, Place, Swizzle};
use cudarc::driver::{CudaFunction, CudaStream, DriverError, result, sys};
use galatea_tensor::DType;
use std::ffi::c_void;

/// Shared memory that a kernel may use without asking.
const PLAIN_SHARED: u32 = 48 * 1024;

/// The storage of one argument.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
union Value {
    pointer: sys::CUdeviceptr,
    word: u32,
    float: f32,
    map: sys::CUtensorMap,
}

/// One launch of a program.
pub(super) struct Prepared {
    /// The instruction that it belongs to.
    pub(super) index: usize,
    op: &'static str,
    entry: &'static str,
    function: CudaFunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    values: Box<[Value]>,
    /// Where each value lies: what the driver is given. The values never move.
    pointers: Box<[*mut c_void]>,
}

// SAFETY: the pointers lead into `values`, which `Prepared` owns on the heap and never changes; a driver call needs `&mut`.
unsafe impl Send for Prepared {}

impl Prepared {
    /// Resolves places by `address` and lets the function have the shared memory that it needs.
    pub(super) fn new(
        index: usize,
        op: &'static str,
        launch: &Launch,
        function: CudaFunction,
        address: impl Fn(&Place) -> sys::CUdeviceptr,
    ) -> Result<Self, CudaError> {
        let entry = launch.entry;
        let refused = |error| CudaError::Launch { index, op, entry, reason: describe(error) };
        if launch.shared > PLAIN_SHARED {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, launch.shared as i32).map_err(refused)?;
        }
        let value = |arg: &Arg| {
            Ok(match arg {
                Arg::At(place) => Value { pointer: address(place) },
                Arg::Null => Value { pointer: 0 },
                Arg::U32(x) => Value { word: *x },
                Arg::U64(x) => Value { pointer: *x },
                Arg::F32(x) => Value { float: *x },
                Arg::Map(map) => Value { map: encode(map, address(&map.place)).map_err(refused)? },
            })
        };
        let mut values = launch.args.iter().map(value).collect::<Result<Box<[Value]>, CudaError>>()?;
        let pointers = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let Launch { grid, block, shared, .. } = *launch;
        Ok(Self { index, op, entry, function, grid, block, shared, values, pointers })
    }

    /// Starts it, or records it where the stream records.
    pub(super) fn start(&mut self, stream: &CudaStream) -> Result<(), CudaError> {
        debug_assert_eq!(self.values.len(), self.pointers.len());
        let [grid, block] = [self.grid, self.block].map(|[x, y, z]| (x, y, z));
        let function = self.function.cu_function();
        // SAFETY: the function's module is alive (`function` holds it); the arguments are those of the kernel's parameters (the
        // interpreter checks number and size of every launch of the case suite); its pointers lead into the arenas of the memory
        // that owns this launch.
        let started = unsafe {
            result::launch_kernel(function, grid, block, self.shared, stream.cu_stream(), &mut self.pointers)
        };
        started.map_err(|error| self.failed(error))
    }

    /// An error of this launch.
    pub(super) fn failed(&self, error: DriverError) -> CudaError {
        CudaError::Launch { index: self.index, op: self.op, entry: self.entry, reason: describe(error) }
    }
}

/// The copy engine's form of a map.
fn encode(map: &Map, base: sys::CUdeviceptr) -> Result<sys::CUtensorMap, DriverError> {
    let kind = match map.dtype {
        DType::Bf16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::F16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        DType::F32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        DType::U32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT32,
        DType::I8 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
    };
    let swizzle = match map.swizzle {
        Swizzle::None => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::Bytes32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::Bytes64 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::Bytes128 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
    };
    let steps = [1u32; 3];
    let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: every array has the rank's three entries (strides one less), as the call reads them; `encoded` is aligned to 64 bytes
    // by its type.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut encoded,
            kind,
            3,
            base as *mut c_void,
            map.dims.as_ptr(),
            map.pitches.as_ptr(),
            map.boxes.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()?;
    }
    Ok(encoded)
}
