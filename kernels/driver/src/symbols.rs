//! The driver's functions, by their names and with their arguments.
//!
//! Every one of them is called as the driver's documentation says: pointers to results are valid for a write, arrays have the
//! length that is told beside them. That is what "the caller" promises below.

use crate::stream::{Launch, Work};
use crate::{INVALID_DEVICE, INVALID_VALUE, SUCCESS, Status, call, with};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

type Handle = *mut c_void;

fn handle(number: usize) -> Handle {
    number as Handle
}

/// Writes a result.
fn put<T>(to: *mut T, value: T) -> Result<(), Status> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: not null, and valid for a write (the caller).
    unsafe { to.write(value) };
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    call(|_| put(count, 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    call(|_| if ordinal == 0 { put(device, 0) } else { Err(INVALID_DEVICE) })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, _: c_int) -> Status {
    const NAME: &CStr = c"interpreted device";
    if (len as usize) < NAME.to_bytes_with_nul().len() {
        return INVALID_VALUE;
    }
    // SAFETY: `name` has room for `len` characters (the caller), which are enough (checked).
    unsafe { name.copy_from(NAME.as_ptr(), NAME.to_bytes_with_nul().len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> Status {
    call(|driver| put(bytes, driver.memory.total))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, _: c_int) -> Status {
    const PROCESSORS: c_uint = 16;
    const MAJOR: c_uint = 75;
    const MINOR: c_uint = 76;
    call(|driver| {
        let device = &driver.device;
        let found = match attribute {
            PROCESSORS => device.processors,
            MAJOR => device.capability.0,
            MINOR => device.capability.1,
            _ => 0,
        };
        put(value, found)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _: c_int) -> Status {
    call(|_| put(context, handle(1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_: c_int) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(_: Handle) -> Status {
    call(|_| Ok(()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Status {
    call(|_| put(context, handle(1)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: *mut Handle, _: c_uint) -> Status {
    call(|driver| put(stream, handle(driver.streams.create())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(_: Handle) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: Handle) -> Status {
    call(|driver| driver.drain(stream as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: Handle, _: c_uint) -> Status {
    call(|driver| driver.streams.begin(stream as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> Status {
    call(|driver| put(graph, handle(driver.streams.end(stream as usize)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: *mut Handle, _: c_uint) -> Status {
    call(|driver| put(event, handle(driver.streams.event())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(_: Handle) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> Status {
    call(|driver| driver.streams.record(event as usize, stream as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: Handle) -> Status {
    call(|driver| driver.wait(event as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventElapsedTime_v2(ms: *mut f32, begin: Handle, end: Handle) -> Status {
    call(|driver| put(ms, driver.streams.elapsed([begin as usize, end as usize])?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(start: *mut Handle, bytes: usize, _: c_uint) -> Status {
    call(|driver| put(start, handle(driver.memory.pin(bytes)?)))
}

/// Freeing goes well on a lost device too: a process must be able to end.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(start: Handle) -> Status {
    with(|driver| driver.memory.unpin(start as usize).err().unwrap_or(SUCCESS))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(start: *mut u64, bytes: usize) -> Status {
    call(|driver| put(start, driver.memory.allocate(bytes)? as u64))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(start: u64) -> Status {
    with(|driver| driver.memory.free(start as usize).err().unwrap_or(SUCCESS))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    call(|driver| put(free, driver.memory.free_bytes()).and_then(|()| put(total, driver.memory.total)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: Handle) -> Status {
    let work = Work::Fill { to: to as usize, value, bytes };
    call(|driver| driver.streams.push(stream as usize, work))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) -> Status {
    call(|driver| {
        driver.device.copies_in += 1;
        let (to, from) = (to as usize, from as usize);
        let work = if driver.memory.is_pinned(from, bytes) {
            Work::In { to, from, bytes }
        } else {
            // SAFETY: `from` has that many bytes now (the caller); memory that is not pinned is read before the call returns.
            let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) }.to_vec();
            Work::Staged { to, bytes }
        };
        driver.streams.push(stream as usize, work)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> Status {
    let work = Work::Out { to: to as usize, from: from as usize, bytes };
    call(|driver| driver.streams.push(stream as usize, work))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: *mut Handle, image: *const c_void) -> Status {
    call(|driver| {
        // SAFETY: `image` points at an image (the caller).
        let loaded = unsafe { driver.modules.load(image.cast(), &driver.device) }?;
        put(module, handle(loaded))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(_: Handle) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> Status {
    call(|driver| {
        // SAFETY: `name` is a string (the caller).
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| INVALID_VALUE)?;
        put(function, handle(driver.modules.function(module as usize, name)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: Handle, _: c_uint, value: c_int) -> Status {
    // What a block of an H100 may have.
    const MOST_SHARED: c_int = 227 * 1024;
    call(|driver| {
        driver.modules.kernel(function as usize)?;
        if value <= MOST_SHARED { Ok(()) } else { Err(INVALID_VALUE) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: Handle,
    params: *mut *mut c_void,
    _: *mut *mut c_void,
) -> Status {
    call(|driver| {
        let kernel = driver.modules.kernel(function as usize)?;
        let arg = |(i, &bytes): (usize, &u32)| {
            // SAFETY: there is a pointer for every parameter, to as many bytes as the parameter has (the caller).
            unsafe { std::slice::from_raw_parts((*params.add(i)).cast::<u8>(), bytes as usize) }.to_vec()
        };
        let launch = Launch {
            entry: kernel.entry.clone(),
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            args: kernel.params.iter().enumerate().map(arg).collect(),
        };
        driver.streams.push(stream as usize, Work::Launch(launch))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, _: u64) -> Status {
    call(|driver| put(exec, handle(driver.streams.instantiate(graph as usize)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: Handle, stream: Handle) -> Status {
    call(|driver| {
        driver.device.graphs += 1;
        driver.streams.start(exec as usize, stream as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: Handle) -> Status {
    with(|driver| driver.streams.forget(exec as usize));
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> Status {
    with(|driver| driver.streams.forget(graph as usize));
    SUCCESS
}

/// Writes the form that the interpreter's copy engine reads, after the checks of the driver's documentation.
#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapEncodeTiled(
    map: *mut galatea_kernels::cuda::EmulatedMap,
    kind: c_uint,
    rank: c_uint,
    base: *mut c_void,
    dims: *const u64,
    pitches: *const u64,
    boxes: *const c_uint,
    steps: *const c_uint,
    interleave: c_uint,
    swizzle: c_uint,
    _: c_uint,
    _: c_uint,
) -> Status {
    // SAFETY: the arrays have the rank's entries, the pitches one less (the caller).
    let (dims, pitches, boxes, steps) = unsafe {
        let rank = rank as usize;
        (
            std::slice::from_raw_parts(dims, rank),
            std::slice::from_raw_parts(pitches, rank - 1),
            std::slice::from_raw_parts(boxes, rank),
            std::slice::from_raw_parts(steps, rank),
        )
    };
    let elem_bytes = match kind {
        0 => 1,
        1 | 6 | 9 => 2,
        2 | 3 | 7 => 4,
        _ => return INVALID_VALUE,
    };
    let swizzle = match swizzle {
        0 => 0,
        1 => 32,
        2 => 64,
        3 => 128,
        _ => return INVALID_VALUE,
    };
    let row = boxes[0] * elem_bytes;
    let fits = rank == 3
        && interleave == 0
        && (base as usize).is_multiple_of(16)
        && pitches.iter().all(|pitch| pitch.is_multiple_of(16) && *pitch < 1 << 40)
        && dims.iter().all(|&dim| (1..=1 << 32).contains(&dim))
        && boxes.iter().all(|side| (1..=256).contains(side))
        && steps.iter().all(|&step| step == 1)
        && row.is_multiple_of(16)
        && (swizzle == 0 || row <= swizzle);
    if !fits {
        return INVALID_VALUE;
    }
    let encoded = galatea_kernels::cuda::EmulatedMap {
        base: base.cast_const().cast(),
        dims: [dims[0], dims[1], dims[2]],
        pitches: [pitches[0], pitches[1]],
        boxes: [boxes[0], boxes[1], boxes[2]],
        elem_bytes,
        swizzle,
        unused: [0; 15],
    };
    call(|_| put(map, encoded))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: Status, name: *mut *const c_char) -> Status {
    let text = match error {
        crate::SUCCESS => c"CUDA_SUCCESS",
        crate::INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        crate::OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        crate::INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
        crate::INVALID_IMAGE => c"CUDA_ERROR_INVALID_IMAGE",
        crate::NO_BINARY_FOR_GPU => c"CUDA_ERROR_NO_BINARY_FOR_GPU",
        crate::NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        crate::LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
        _ => return INVALID_VALUE,
    };
    put(name, text.as_ptr()).err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: Status, text: *mut *const c_char) -> Status {
    let what = match error {
        crate::OUT_OF_MEMORY => c"out of memory",
        crate::NO_BINARY_FOR_GPU => c"no kernel image is available for execution on the device",
        crate::INVALID_IMAGE => c"device kernel image is invalid",
        crate::LAUNCH_FAILED => c"unspecified launch failure",
        _ => c"an error of the interpreted device",
    };
    put(text, what.as_ptr()).err().unwrap_or(SUCCESS)
}
