//! What goes wrong on a device, as a user reads it.

use crate::loaded::Driver;
use galatea_autograd::{Init, Recorder, Session, Var};
use galatea_kernels::Backend;
use galatea_kernels::cuda::{Arch, Cuda, CudaError, Gpu};
use galatea_tensor::DType;

fn gpu() -> Cuda {
    Gpu::find(0).ready().unwrap_or_else(|error| panic!("{error}"))
}

/// y = x + x.
fn doubling(n: usize) -> (galatea_autograd::Plan, Var, Var) {
    let mut rec = Recorder::new();
    let x = rec.input("x", &[n], DType::F32);
    let y = rec.add(x, x);
    (rec.finish(&[y]), x, y)
}

#[test]
fn what_the_host_writes_is_there_in_the_next_run_and_runs_are_replayed() {
    let Some(driver) = Driver::load() else { return };
    let (plan, x, y) = doubling(100);
    let mut session = Session::new(gpu(), plan).unwrap_or_else(|error| panic!("{error}"));
    let before = driver.get("copies_in");
    for run in 0..5 {
        let values = vec![run as f32 + 0.5; 100];
        session.write(x, &values).expect("written");
        // Overwritten before it is used: nothing may still read the old bytes, nor miss the new ones.
        session.write(x, &values.iter().map(|v| v + 1.0).collect::<Vec<_>>()).expect("written");
        session.run().expect("run");
        session.write(x, &[f32::NAN; 100]).expect("written after the start, for the next run");
        assert_eq!(session.read::<f32>(y).expect("read"), vec![2.0 * (run as f32 + 1.5); 100]);
    }
    assert_eq!(driver.get("graphs"), 5);
    assert_eq!(driver.get("copies_in") - before, 5, "one copy a run");
}

#[test]
fn a_program_is_timed_run_by_run() {
    let Some(driver) = Driver::load() else { return };
    let (plan, ..) = doubling(8);
    let mut cuda = gpu();
    let mut memory = cuda.allocate(plan.program()).expect("memory");
    let times = cuda.time(&mut memory, plan.program(), 2, 5).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((times, driver.get("graphs")), (vec![1.0; 5], 7));
}

#[test]
fn too_little_memory_is_told_with_numbers() {
    let Some(driver) = Driver::load() else { return };
    driver.set("memory", 1 << 20);
    let (plan, ..) = doubling(1 << 20);
    match Session::new(gpu(), plan).err() {
        Some(CudaError::OutOfMemory { needed, free, total }) => {
            assert!(needed >= 4 << 20 && free <= 1 << 20 && total == 1 << 20, "{needed} {free} {total}");
        }
        other => panic!("{other:?}"),
    }
    // The device is as usable as before.
    let (plan, x, y) = doubling(4);
    let mut session = Session::new(gpu(), plan).expect("a small program");
    session.write(x, &[1.0f32, 2.0, 3.0, 4.0]).expect("written");
    session.run().expect("run");
    assert_eq!(session.read::<f32>(y).expect("read"), [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn a_device_without_kernels_is_named() {
    let Some(driver) = Driver::load() else { return };
    driver.set("capability", 75);
    let error = Gpu::find(0).ready().err().expect("an old device").to_string();
    assert!(
        error.contains("interpreted device has compute capability 7.5") && error.contains("--device cpu"),
        "{error}"
    );
    driver.set("capability", 86);
    assert_eq!(gpu().machine().arch, Arch::Sm80);
}

#[test]
fn an_unknown_ordinal_is_no_device() {
    let Some(_driver) = Driver::load() else { return };
    let error = Gpu::find(3).ready().err().expect("there is one device").to_string();
    assert!(error.contains("INVALID_DEVICE") && error.contains("nvidia-smi"), "{error}");
}

#[test]
fn programs_run_in_parts_and_alone_as_they_run_whole() {
    let Some(_driver) = Driver::load() else { return };
    let mut rec = Recorder::new();
    let w = rec.param("w", &[8, 8], Init::Normal { std: 0.5 });
    let x = rec.input("x", &[3, 8], DType::F32);
    let h = rec.linear(x, w, None, galatea_kernels::Activation::Silu);
    let y = rec.linear(h, w, None, galatea_kernels::Activation::None);
    let plan = rec.finish(&[h, y]);
    let mut session = Session::new(gpu(), plan).unwrap_or_else(|error| panic!("{error}"));
    session.init(1).expect("drawn");
    session.write(x, &(0..24).map(|i| i as f32 / 24.0).collect::<Vec<_>>()).expect("written");
    session.run().expect("run");
    let whole: Vec<f32> = session.read(y).expect("read");
    session.run_until(h).expect("the first part");
    session.run_after(h).expect("the rest");
    assert_eq!(session.read::<f32>(y).expect("read"), whole);
    assert_eq!(session.trace().expect("traced"), None);
}
