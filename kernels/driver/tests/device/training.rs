//! Training and writing on the device and on the CPU: the same seed, the same text.

use crate::loaded::Driver;
use galatea_models::{Encoder, Model};
use galatea_train::config::{Arithmetic, Config, ProcessKind};
use galatea_train::{Choice, Device, Generator, Order, Run, Sampling};
use std::ops::ControlFlow;
use std::path::Path;

fn config(kind: ProcessKind, out: &Path) -> Config {
    let mut config = Config::default();
    config.process.kind = kind;
    config.model =
        Model::Encoder(Encoder { d_model: 32, layers: 1, heads: 2, d_ff: 64, dropout: 0.1, ..Encoder::default() });
    (config.training.batch, config.training.steps, config.training.seed) = (2, 3, 5);
    (config.training.eval_rows, config.training.eval_times) = (8, 2);
    config.optimizer.warmup = 1;
    config.training.out = out.to_owned();
    config.with_time()
}

fn gpu() -> Device {
    Device::open(Choice::Cuda).unwrap_or_else(|error| panic!("{error}")).0
}

/// (loss, norm of the gradient) of every step.
fn curve(run: &mut Run, driver: &Driver) -> Vec<(f64, f64)> {
    let step = |run: &mut Run| run.step().unwrap_or_else(|error| panic!("{error}: {}", driver.failure()));
    (0..3).map(|_| step(run)).map(|report| (report.loss, report.norm)).collect()
}

/// Both machines draw the same words, so batches, times, corruption and dropout are equal bit by bit; sums and elementary
/// functions differ in their last bits.
#[test]
fn a_run_on_the_device_has_the_cpus_losses_and_writes_its_text() {
    let Some(driver) = Driver::load() else { return };
    for (schedule, (kind, arithmetic, capability, tolerance)) in (0..).zip([
        (ProcessKind::Mask, Arithmetic::F32, 90, 1e-4),
        (ProcessKind::Uniform, Arithmetic::F32, 80, 1e-4),
        (ProcessKind::Gaussian, Arithmetic::F32, 90, 1e-4),
        (ProcessKind::Mask, Arithmetic::Bf16, 80, 2e-2),
        (ProcessKind::Mask, Arithmetic::Bf16, 90, 2e-2),
    ]) {
        driver.set("reset", 0);
        driver.set("capability", capability);
        driver.set("schedule", schedule);
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(kind, dir.path());
        config.training.dtype = arithmetic;
        let mut cpu = Run::start(config.clone()).expect("a run");
        let mut device = Run::start_on(gpu(), config).unwrap_or_else(|error| panic!("{error}"));
        let (expected, found) = (curve(&mut cpu, &driver), curve(&mut device, &driver));
        for ((a, b), (x, y)) in expected.iter().zip(&found) {
            let close = |a: f64, b: f64| (a - b).abs() <= tolerance * a.abs().max(1.0);
            assert!(close(*a, *x) && close(*b, *y), "{kind:?} {arithmetic:?}: {expected:?} on the CPU, {found:?}");
        }
        assert_eq!(driver.get("graphs"), 3, "every step is one start of a graph");
        let saved = device.save(&dir.path().join("saved")).expect("saved");
        let write = |mut generator: Generator| {
            let sampling = Sampling { steps: 4, order: Order::Auto, seed: 3, ..Sampling::default() };
            let outcome = generator.run(&sampling, &[], &mut |_| ControlFlow::Continue(()));
            outcome.unwrap_or_else(|error| panic!("{error}")).ids
        };
        if arithmetic == Arithmetic::F32 {
            let texts = [
                write(Generator::load(&saved, 2).expect("loaded")),
                write(Generator::load_on(&gpu(), &saved, 2).expect("loaded")),
            ];
            assert_eq!(texts[0], texts[1], "{kind:?}");
        }
    }
}

#[test]
fn a_lost_device_is_an_error_and_the_checkpoint_stays() {
    let Some(driver) = Driver::load() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start_on(gpu(), config(ProcessKind::Mask, dir.path())).expect("a run");
    run.step().expect("a step");
    let saved = run.save(dir.path()).expect("saved");
    driver.set("lost_after", 7);
    let error = run.step().expect_err("the device is gone").to_string();
    assert!(error.contains("LAUNCH_FAILED") && error.contains("files are not"), "{error}");
    assert!(run.save(dir.path()).is_err(), "what was on the device cannot be saved");
    drop(run);
    driver.set("reset", 0);
    let resumed = Run::resume(&saved).expect("the checkpoint is whole");
    assert_eq!(resumed.step_number(), 1);
}
