//! Loads the driver into the process of a test, and the kernels' compiler if this machine has it.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// One test at a time has the device.
static TURN: Mutex<()> = Mutex::new(());

/// The driver of this process.
pub(crate) struct Driver {
    handle: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Driver {
    /// A device as it was when the process started, or `None` where kernels cannot be compiled.
    pub(crate) fn load() -> Option<Self> {
        static LOADED: OnceLock<Option<usize>> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = (*LOADED.get_or_init(|| {
            compiler()?;
            let tests = std::env::current_exe().expect("a test has a path");
            let folder = tests.parent().expect("target/PROFILE/deps");
            Some(open(&folder.join("libgalatea_driver.so")).expect("cargo builds the driver before its tests"))
        }))?;
        let driver = Self { handle, _turn: turn };
        driver.set("reset", 0);
        Some(driver)
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the library stays loaded.
        let symbol = unsafe { libc::dlsym(self.handle as *mut c_void, name.as_ptr()) };
        assert!(!symbol.is_null(), "the driver has no {name:?}");
        symbol
    }

    /// Changes the device that is pretended.
    pub(crate) fn set(&self, name: &str, value: u64) {
        let symbol = self.symbol(c"galatea_driver_set");
        // SAFETY: the function of that name has this type.
        let set: unsafe extern "C" fn(*const c_char, u64) = unsafe { std::mem::transmute(symbol) };
        let name = CString::new(name).expect("no zeros");
        // SAFETY: a string.
        unsafe { set(name.as_ptr(), value) }
    }

    /// What happened so far.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let symbol = self.symbol(c"galatea_driver_get");
        // SAFETY: the function of that name has this type.
        let get: unsafe extern "C" fn(*const c_char) -> u64 = unsafe { std::mem::transmute(symbol) };
        let name = CString::new(name).expect("no zeros");
        // SAFETY: a string.
        unsafe { get(name.as_ptr()) }
    }

    /// What the interpreter said of the kernel that failed.
    pub(crate) fn failure(&self) -> String {
        let symbol = self.symbol(c"galatea_driver_failure");
        // SAFETY: the function of that name has this type; it returns a string.
        unsafe {
            let failure: extern "C" fn() -> *const c_char = std::mem::transmute(symbol);
            CStr::from_ptr(failure()).to_string_lossy().into_owned()
        }
    }
}

/// Loads a library for everybody who asks for its name later.
fn open(path: &Path) -> Option<usize> {
    let name = CString::new(path.to_str()?).ok()?;
    // SAFETY: the libraries of the driver and of the compiler do nothing when they are loaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    (!handle.is_null()).then_some(handle as usize)
}

/// The compiler: what the loader finds, or what `cargo xtask kernels fetch` left.
fn compiler() -> Option<usize> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cuda/nvidia/cu13/lib");
    let builtins = [PathBuf::from("libnvrtc-builtins.so.13.0"), fetched.join("libnvrtc-builtins.so.13.0")];
    let library = [PathBuf::from("libnvrtc.so.13"), fetched.join("libnvrtc.so.13")];
    builtins.iter().find_map(|path| open(path));
    let found = library.iter().find_map(|path| open(path));
    if found.is_none() {
        galatea_fixtures::skipped("no NVRTC: `cargo xtask kernels fetch` gets it");
    }
    found
}
