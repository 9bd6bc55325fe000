//! What a test sets and asks: beside the driver's own calls.

use crate::with;
use std::ffi::{CStr, CString, c_char};

/// Changes the device that is pretended; with `reset` everything is as when the process started, but for memory and handles that
/// are in use.
///
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn galatea_driver_set(name: *const c_char, value: u64) {
    // SAFETY: the caller gives a string.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    with(|driver| {
        let device = &mut driver.device;
        match name {
            "capability" => device.capability = ((value / 10) as i32, (value % 10) as i32),
            "memory" => driver.memory.total = value as usize,
            "schedule" => device.schedule = value,
            "lost_after" => device.lost_after = device.launches.saturating_add(value),
            "reset" => {
                (device.sticky, device.lost_after, device.capability) = (None, u64::MAX, (9, 0));
                (device.launches, device.graphs, device.copies_in) = (0, 0, 0);
                driver.memory.total = 1 << 30;
            }
            other => panic!("the driver has no setting `{other}`"),
        }
    });
}

/// What happened so far.
///
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn galatea_driver_get(name: *const c_char) -> u64 {
    // SAFETY: the caller gives a string.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    with(|driver| match name {
        "launches" => driver.device.launches,
        "graphs" => driver.device.graphs,
        "copies_in" => driver.device.copies_in,
        other => panic!("the driver counts no `{other}`"),
    })
}

/// What the interpreter said of the kernel that failed: a string that is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn galatea_driver_failure() -> *const c_char {
    with(|driver| CString::new(driver.device.failure.replace('\0', " ")).expect("no zeros").into_raw())
}
