//! The demonstration's training step and denoising step as whole programs.

use galatea_autograd::{DType, Plan, Recorder, Session};
use galatea_benches::{Bench, launches};
use galatea_kernels::Cpu;
use galatea_random::Philox;
use galatea_train::{Config, Objective, Purpose};

const BATCH: usize = 32;
const LEN: usize = 48;
const VOCAB: usize = 110;

fn main() {
    let config = Config::default();
    let objective = Objective::new(&config, VOCAB, LEN).expect("the default configuration");
    let mut bench = Bench::from_args();
    training(&mut bench, &config, &objective);
    denoising(&mut bench, &objective);
    bench.finish();
}

/// Times the closure that `routine` makes of a session with drawn parameters.
fn measure<R: FnMut()>(bench: &mut Bench, name: &str, plan: Plan, routine: impl FnOnce(Session<Cpu>) -> R) {
    let cpu = Cpu::new();
    let (threads, launches) = (cpu.cores().pool.threads(), launches(plan.program()));
    bench.run("step", &format!("{name}_{BATCH}x{LEN}"), threads, &launches, || {
        let mut session = Session::new(cpu, plan).expect("memory for a small model");
        session.init(1).expect("drawing parameters");
        routine(session)
    });
}

/// Ids of a batch.
fn ids(below: usize) -> Vec<u32> {
    let mut rng = Philox::new(2026, 0, 0, 0);
    (0..BATCH * LEN).map(|_| rng.below(below) as u32).collect()
}

/// Corrupt, denoise, measure, reverse, update.
fn training(bench: &mut Bench, config: &Config, objective: &Objective) {
    let mut rec = Recorder::new();
    let batch = objective.record(&mut rec, "", BATCH, Purpose::Train { share: 1.0 });
    rec.backward(batch.loss);
    let norm = rec.update(config.optimizer.update());
    let plan = rec.finish(&[batch.loss, norm]);
    measure(bench, "training", plan, |mut session| {
        let t: Vec<f64> = (0..BATCH).map(|i| (i as f64 + 0.5) / BATCH as f64).collect();
        let levels = objective.levels(&t, &[], (BATCH * LEN) as f64, Purpose::Train { share: 1.0 });
        session.write(batch.x_0, &ids(VOCAB)).expect("an upload");
        for (var, values) in batch.inputs.zip(levels) {
            session.write(var, &values).expect("an upload");
        }
        let hyper = session.plan().input("hyper").expect("recorded by update");
        session.write(hyper, &config.optimizer.hyper(1000, 0.5)).expect("an upload");
        let mut step = 0;
        move || {
            step += 1;
            session.set_rng(1, step).expect("an upload");
            session.run().expect("a training step");
            let loss = session.read::<f32>(batch.loss).expect("a download")[0];
            assert!(loss.is_finite(), "the loss of step {step} is {loss}");
        }
    });
}

/// Logits of a canvas: what a sampler waits for.
fn denoising(bench: &mut Bench, objective: &Objective) {
    let mut rec = Recorder::new();
    let x_t = rec.input("x_t", &[BATCH, LEN], DType::U32);
    let time = rec.input("time", &[BATCH], DType::F32);
    let logits = objective.model.logits(&mut rec, objective.network_vocab(), x_t, time, None);
    let plan = rec.finish(&[logits]);
    measure(bench, "denoising", plan, |mut session| {
        session.write(x_t, &ids(objective.network_vocab())).expect("an upload");
        session.write(time, &[0.5; BATCH]).expect("an upload");
        move || session.run().expect("a denoising step")
    });
}
