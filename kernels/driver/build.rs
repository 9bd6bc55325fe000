//! Names the library as the driver's, so that whoever asks the loader for the driver finds this one once it is loaded.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
