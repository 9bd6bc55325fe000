//! Runs on embeddings whose noise schedule learns, and Diffusion-LM's own network: what they promise beyond other runs.

use galatea_models::plaid::Condition;
use galatea_models::{DiffusionLm, Model, Plaid, Positions};
use galatea_train::config::{Arithmetic, Config, ObjectiveConfig, ProcessKind};
use galatea_train::objective::{Cdcd, PlaidBound};
use galatea_train::{Error, Generator, Order, Run, Sampling};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A run has a pool of threads: two at once would fight for the cores.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unit(condition: Condition) -> Model {
    Model::Plaid(Plaid { d_model: 32, layers: 1, heads: 2, d_embed: 8, condition, ..Plaid::default() })
}

fn with(model: Model, objective: Option<ObjectiveConfig>, out: &Path) -> Config {
    let mut config = Config { model, objective, ..Config::default() };
    config.process.kind = ProcessKind::Gaussian;
    (config.training.batch, config.training.accumulation, config.training.steps) = (8, 2, 12);
    (config.training.eval_rows, config.training.eval_times) = (64, 8);
    config.optimizer.warmup = 4;
    config.training.out = out.to_owned();
    config
}

fn plaid(out: &Path) -> Config {
    let settings = PlaidBound { prior_warmup: 4, hidden: 64, ..PlaidBound::default() };
    with(unit(Condition::Gamma), Some(ObjectiveConfig::Plaid(settings)), out)
}

/// The network of the configurations of this repository, denoised once: one parameter never learns.
fn plaid_once(out: &Path) -> Config {
    let settings = PlaidBound { prior_warmup: 4, hidden: 64, self_condition: false, ..PlaidBound::default() };
    let mut config = plaid(out);
    if let Model::Plaid(plaid) = &mut config.model {
        (plaid.positions, plaid.qk_norm) = (Positions::LearnedRotary, true);
    }
    config.objective = Some(ObjectiveConfig::Plaid(settings));
    config
}

fn cdcd(out: &Path) -> Config {
    with(unit(Condition::Shift), Some(ObjectiveConfig::Cdcd(Cdcd::default())), out)
}

fn diffusion_lm(out: &Path) -> Config {
    let network = DiffusionLm { d_model: 32, layers: 1, heads: 2, d_ff: 64, dropout: 0.1, ..DiffusionLm::default() };
    with(Model::DiffusionLm(network), None, out)
}

type Make = fn(&Path) -> Config;

const ALL: [(&str, Make); 4] =
    [("plaid", plaid), ("plaid, once", plaid_once), ("cdcd", cdcd), ("diffusion-lm", diffusion_lm)];

fn steps(run: &mut Run, count: usize) -> Vec<u64> {
    (0..count).map(|_| run.step().expect("a step").loss.to_bits()).collect()
}

fn files(checkpoint: &Path) -> Vec<Vec<u8>> {
    let names = ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "schedule.json"];
    names.iter().filter_map(|name| fs::read(checkpoint.join(name)).ok()).collect()
}

#[test]
fn interrupted_and_continued_equals_never_interrupted() {
    let _turn = turn();
    for (name, config) in ALL {
        let dir = tempfile::tempdir().expect("a folder");
        let mut whole = Run::start(config(dir.path())).expect("a run");
        let losses = steps(&mut whole, 12);
        let expected = files(&whole.save(&dir.path().join("whole")).expect("saved"));
        assert_eq!(expected.len(), if name == "diffusion-lm" { 3 } else { 4 });
        let parts = dir.path().join("parts");
        let mut first = Run::start(config(dir.path())).expect("a run");
        steps(&mut first, 5);
        first.save(&parts).expect("saved");
        drop(first);
        let mut second = Run::resume(&parts).expect("resumed");
        assert_eq!(steps(&mut second, 7), losses[5..], "{name}");
        assert_eq!(files(&second.save(&parts).expect("saved")), expected, "{name}: other bits after an interruption");
    }
}

/// A head of zeros leaves the output prior alone: the exact posterior of a lone embedding among V that are alike a priori. The
/// bound of that model is tight, whatever the schedule and the data: log V a token.
#[test]
fn a_bound_of_the_exact_posterior_is_tight() {
    let _turn = turn();
    for (gamma_0, gamma_1) in [(-3.0, 6.0), (-4.0, 5.0)] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = plaid(dir.path());
        let settings = PlaidBound { gamma_0, gamma_1, hidden: 64, ..PlaidBound::default() };
        config.objective = Some(ObjectiveConfig::Plaid(settings));
        (config.training.eval_rows, config.training.eval_times) = (256, 16);
        let mut run = Run::start(config).expect("a run");
        let measured = run.evaluate().expect("measured");
        let truth = 48.0 * (run.corpus().vocab() as f64).log2();
        let error = (measured.bits_per_document - truth).abs();
        assert!(error < 4.0 * measured.standard_error_bits + 0.005 * truth, "{measured:?} instead of {truth}");
    }
}

/// The parts of a bound add up to it, and nobody reads better than who knows the language.
#[test]
fn the_bound_by_level_is_the_bound() {
    let _turn = turn();
    for config in [plaid, cdcd] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path());
        (config.training.eval_rows, config.training.eval_times) = (64, 16);
        let mut run = Run::start(config).expect("a run");
        steps(&mut run, 2);
        let whole = run.evaluate().expect("measured");
        let parts = run.by_level().expect("measured").expect("the embedded language");
        let total = parts.total();
        // The whole is corrected by what its rows happen to cost under the language.
        assert!((total.model - whole.bits_per_document).abs() < 2.0, "{total:?} and {whole:?}");
        assert!(total.model > total.alone && total.alone > total.exact, "{total:?}");
        assert!(parts.levels.windows(2).all(|pair| pair[0].gamma < pair[1].gamma));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(diffusion_lm(dir.path())).expect("a run");
    assert!(run.by_level().expect("nothing to measure").is_none());
}

#[test]
fn a_seed_gives_one_text_around_fixed_tokens_from_memory_and_from_disk() {
    let _turn = turn();
    for (name, config) in ALL {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(config(dir.path())).expect("a run");
        steps(&mut run, 3);
        run.save(dir.path()).expect("saved");
        let mut fixed = vec![None; 48];
        (fixed[4], fixed[46]) = (Some(9), Some(17));
        let write = |mut generator: Generator, order: Order| {
            let options = Sampling { order, steps: 12, seed: 5, ..Sampling::default() };
            let outcome = generator.run(&options, &fixed, &mut |_| ControlFlow::Continue(())).expect("written");
            assert!(outcome.ids.iter().all(|ids| ids[4] == 9 && ids[46] == 17 && ids.iter().all(|&id| id < 110)));
            outcome.ids
        };
        for order in [Order::Auto, Order::Ddim] {
            let one = write(run.generator(2).expect("a generator"), order);
            assert_eq!(one, write(Generator::load(dir.path(), 2).expect("loaded"), order), "{name} {order}");
        }
    }
}

/// In bf16 the loss stays near, the schedule learns with it, the bound is the same to a hundredth, and a killed run goes on bit for
/// bit.
#[test]
fn bf16_stays_near_f32_and_resumes_like_it() {
    let _turn = turn();
    for (name, config) in ALL {
        let dir = tempfile::tempdir().expect("a folder");
        let with = |dtype| {
            let mut config = config(dir.path());
            config.training.dtype = dtype;
            config
        };
        let mut exact = Run::start(with(Arithmetic::F32)).expect("a run");
        let mut half = Run::start(with(Arithmetic::Bf16)).expect("a run");
        for step in 0..6 {
            let [exact, half] = [&mut exact, &mut half].map(|run| run.step().expect("a step").loss);
            assert!((exact - half).abs() < 0.02 * exact.abs(), "{name} step {step}: {half} in bf16, {exact} in f32");
        }
        half.save(&dir.path().join("half")).expect("saved");
        let mut resumed = Run::resume(&dir.path().join("half")).expect("resumed");
        assert_eq!(steps(&mut resumed, 6), steps(&mut half, 6), "{name}");
        steps(&mut exact, 6);
        let [exact, half] = [&mut exact, &mut half].map(|run| run.evaluate().expect("measured").bits_per_document);
        assert!((exact - half).abs() < 0.01 * exact, "{name}: {half} bits in bf16, {exact} in f32");
    }
}

#[test]
fn what_fits_no_run_is_refused_with_its_field() {
    let out = Path::new("nowhere");
    let refused = |config: Config, field: &str| {
        let error = config.validate().expect_err(field);
        assert!(error.is_usage() && error.to_string().contains(field), "{field}: {error}");
    };
    let plaid_with = |settings| Config { objective: Some(ObjectiveConfig::Plaid(settings)), ..plaid(out) };
    let cdcd_with = |settings| Config { objective: Some(ObjectiveConfig::Cdcd(settings)), ..cdcd(out) };
    ALL.iter().for_each(|(name, config)| config(out).validate().unwrap_or_else(|error| panic!("{name}: {error}")));
    refused(plaid_with(PlaidBound { gamma_0: 6.0, ..PlaidBound::default() }), "objective.gamma_0");
    refused(plaid_with(PlaidBound { gamma_1: f64::NAN, ..PlaidBound::default() }), "objective.gamma_0");
    refused(plaid_with(PlaidBound { hidden: 0, ..PlaidBound::default() }), "objective.hidden");
    refused(plaid_with(PlaidBound { schedule_lr: -1.0, ..PlaidBound::default() }), "objective.schedule_lr");
    refused(cdcd_with(Cdcd { t_min: 0.0, ..Cdcd::default() }), "objective.t_min");
    refused(cdcd_with(Cdcd { bins: 0, ..Cdcd::default() }), "objective.bins");
    let mut config = plaid(out);
    config.training.batch = 6;
    refused(config, "training.batch");
    // Networks and objectives that do not know each other.
    refused(Config { model: unit(Condition::Shift), ..plaid(out) }, "model.condition");
    refused(Config { model: Model::default(), ..plaid(out) }, "model.kind");
    refused(Config { objective: None, ..plaid(out) }, "kind");
    let mut config = plaid(out);
    (config.process.kind, config.objective) = (ProcessKind::Mask, None);
    refused(config, "kind");
}

#[test]
fn a_damaged_schedule_is_named() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(plaid(dir.path())).expect("a run");
    steps(&mut run, 1);
    let saved = run.save(dir.path()).expect("saved");
    let path = saved.join("schedule.json");
    let original = fs::read_to_string(&path).expect("written");
    let shorter = original.replacen("gamma_bounds.gamma_0", "gamma_bounds.gamma", 1);
    for text in [&original[..original.len() / 2], "{}", &shorter] {
        fs::write(&path, text).expect("written");
        for error in [Run::resume(dir.path()).err(), Generator::load(dir.path(), 1).err()] {
            let error = error.expect("refused");
            assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with("schedule.json")), "{error}");
        }
    }
}
