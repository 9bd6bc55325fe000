//! Whole runs: what they promise about resuming, measuring, writing and damaged files.

use galatea_models::{Encoder, Model};
use galatea_train::config::{Arithmetic, Config, LayoutChoice, ObjectiveConfig, ProcessKind};
use galatea_train::objective::{Block, Masked};
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

const KINDS: [ProcessKind; 3] = [ProcessKind::Mask, ProcessKind::Uniform, ProcessKind::Gaussian];

/// A small run on the language's first level.
fn config(kind: ProcessKind, out: &Path) -> Config {
    let mut config = Config::default();
    config.process.kind = kind;
    config.model =
        Model::Encoder(Encoder { d_model: 32, layers: 1, heads: 2, d_ff: 64, dropout: 0.1, ..Encoder::default() });
    (config.training.batch, config.training.accumulation, config.training.steps) = (8, 2, 12);
    (config.training.eval_rows, config.training.eval_times) = (64, 8);
    config.optimizer.warmup = 4;
    config.training.out = out.to_owned();
    config.with_time()
}

fn steps(run: &mut Run, count: usize) -> Vec<u64> {
    (0..count).map(|_| run.step().expect("a step").loss.to_bits()).collect()
}

fn files(checkpoint: &Path) -> Vec<Vec<u8>> {
    ["model.safetensors", "ema.safetensors", "optimizer.safetensors"]
        .map(|name| fs::read(checkpoint.join(name)).expect("a checkpoint has it"))
        .to_vec()
}

#[test]
fn interrupted_and_continued_equals_never_interrupted() {
    let _turn = turn();
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a folder");
        let mut whole = Run::start(config(kind, dir.path())).expect("a run");
        let losses = steps(&mut whole, 12);
        let expected = files(&whole.save(&dir.path().join("whole")).expect("saved"));
        for interrupt in [1, 7] {
            let parts = dir.path().join(format!("parts-{interrupt}"));
            let mut first = Run::start(config(kind, dir.path())).expect("a run");
            steps(&mut first, interrupt);
            first.save(&parts).expect("saved");
            drop(first);
            let mut second = Run::resume(&parts).expect("resumed");
            assert_eq!(second.step_number() as usize, interrupt);
            assert_eq!(steps(&mut second, 12 - interrupt), losses[interrupt..], "{kind:?}");
            assert!(second.finished());
            assert_eq!(
                files(&second.save(&parts).expect("saved")),
                expected,
                "{kind:?}: other bits after {interrupt} steps"
            );
        }
    }
}

/// bf16 is f32 with rounded activations: the loss stays near, a killed run goes on bit for bit, and blocks computed twice
/// change nothing.
#[test]
fn bf16_stays_near_f32_and_resumes_like_it() {
    let _turn = turn();
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a folder");
        let with = |dtype, checkpointing| {
            let mut config = config(kind, dir.path());
            (config.training.dtype, config.training.checkpointing) = (dtype, checkpointing);
            config
        };
        let mut exact = Run::start(with(Arithmetic::F32, false)).expect("a run");
        let mut half = Run::start(with(Arithmetic::Bf16, false)).expect("a run");
        let mut twice = Run::start(with(Arithmetic::Bf16, true)).expect("a run");
        for step in 0..6 {
            let [exact, half, twice] = [&mut exact, &mut half, &mut twice].map(|run| run.step().expect("a step").loss);
            assert!((exact - half).abs() < 0.02 * exact.abs(), "{kind:?} step {step}: {half} in bf16, {exact} in f32");
            assert_eq!(half.to_bits(), twice.to_bits(), "{kind:?} step {step}: checkpointing");
        }
        half.save(&dir.path().join("half")).expect("saved");
        let mut resumed = Run::resume(&dir.path().join("half")).expect("resumed");
        assert_eq!(steps(&mut resumed, 6), steps(&mut half, 6), "{kind:?}");
        let measured = half.evaluate().expect("measured");
        assert!(measured.bits_per_document.is_finite(), "{kind:?}: {measured:?}");
    }
}

/// Dropout is for training: a text is written by the whole network, whatever the configuration says of dropout.
#[test]
fn nothing_is_dropped_after_training() {
    let _turn = turn();
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(config(kind, dir.path())).expect("a run");
        steps(&mut run, 6);
        let saved = run.save(dir.path()).expect("saved");
        let path = saved.join("config.json");
        let text = fs::read_to_string(&path).expect("a checkpoint has its configuration");
        let before = text.lines().find(|line| line.contains("\"dropout\"")).expect("the model's dropout");
        let written = |dropout: f32| {
            fs::write(&path, text.replace(before, &format!("\"dropout\": {dropout},"))).expect("written");
            let mut generator = Generator::load(&saved, 2).expect("loaded");
            let Model::Encoder(encoder) = &generator.config().model else {
                panic!("the runs of this file are encoders")
            };
            assert_eq!(encoder.dropout, dropout);
            let options = Sampling { order: Order::Ancestral, steps: 8, seed: 5, ..Sampling::default() };
            generator.run(&options, &[], &mut |_| ControlFlow::Continue(())).expect("written").ids
        };
        assert_eq!(written(0.9), written(0.0), "{kind:?}");
    }
}

/// A head of zeros predicts every token with probability 1 / V, and the bound of that model is tight.
#[test]
fn a_model_that_knows_nothing_needs_log_v_per_token() {
    let _turn = turn();
    for kind in [ProcessKind::Mask, ProcessKind::Uniform] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(config(kind, dir.path())).expect("a run");
        let measured = run.evaluate().expect("measured");
        let truth = 48.0 * (run.corpus().vocab() as f64).log2();
        let error = (measured.bits_per_document - truth).abs();
        assert!(error < 4.0 * measured.standard_error_bits + 0.02 * truth, "{kind:?}: {measured:?} instead of {truth}");
    }
}

#[test]
fn every_process_learns() {
    let _turn = turn();
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(kind, dir.path());
        (config.training.steps, config.training.batch) = (120, 16);
        config.optimizer.lr = 1e-2;
        let mut run = Run::start(config).expect("a run");
        let before = run.evaluate().expect("measured").bits_per_document;
        steps(&mut run, 120);
        let after = run.evaluate().expect("measured");
        assert!(after.bits_per_document < 0.9 * before, "{kind:?}: from {before} to {after:?}");
        assert!(after.bits_per_document > after.entropy_bits.expect("exact") - 4.0 * after.standard_error_bits);
    }
}

#[test]
fn a_seed_gives_one_text_and_fixed_tokens_stay() {
    let _turn = turn();
    for kind in KINDS {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(config(kind, dir.path())).expect("a run");
        steps(&mut run, 3);
        run.save(dir.path()).expect("saved");
        let mut fixed = vec![None; 48];
        (fixed[4], fixed[46]) = (Some(9), Some(17));
        let write = |batch: usize, first_sample: u32, order: Order| {
            let mut generator = Generator::load(dir.path(), batch).expect("loaded");
            let options = Sampling { order, steps: 12, first_sample, seed: 5, ..Sampling::default() };
            let mut frames = 0;
            let outcome = generator.run(&options, &fixed, &mut |frame| {
                frames += 1;
                assert_eq!(frame.ids.dim(), (batch, 48));
                ControlFlow::Continue(())
            });
            let outcome = outcome.expect("written");
            assert!(frames > 1 && outcome.passes > 0);
            assert!(outcome.ids.iter().all(|ids| ids[4] == 9 && ids[46] == 17 && ids.iter().all(|&id| id < 110)));
            outcome.ids
        };
        let both = write(2, 0, Order::Ancestral);
        assert_eq!(both, write(2, 0, Order::Ancestral));
        // A row's text depends on its number, not on who is written beside it.
        // (A Gaussian canvas is rounded by a product whose last bit depends on the batch: a near tie may go either way.)
        if kind != ProcessKind::Gaussian {
            assert_eq!(both[1..], write(1, 1, Order::Ancestral), "{kind:?}");
        }
        if kind == ProcessKind::Mask {
            for order in [Order::EntropyBound, Order::Confidence, Order::Random, Order::Threshold] {
                assert_eq!(write(1, 0, order), write(1, 0, order));
            }
        }
    }
}

#[test]
fn an_order_that_the_process_does_not_have_is_refused() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let run = Run::start(config(ProcessKind::Uniform, dir.path())).expect("a run");
    let mut generator = run.generator(1).expect("a generator");
    let options = Sampling { order: Order::EntropyBound, ..Sampling::default() };
    let error = generator.run(&options, &[], &mut |_| ControlFlow::Continue(())).expect_err("refused");
    assert!(error.is_usage() && error.to_string().contains("entropy-bound"), "{error}");
}

#[test]
fn damaged_checkpoints_are_named_and_the_older_one_still_works() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(config(ProcessKind::Mask, dir.path())).expect("a run");
    steps(&mut run, 1);
    let older = run.save(dir.path()).expect("saved");
    steps(&mut run, 1);
    let newer = run.save(dir.path()).expect("saved");
    let original = fs::read(newer.join("model.safetensors")).expect("written");
    let refused = |what: &str| {
        let error = Run::resume(dir.path()).err().unwrap_or_else(|| panic!("{what}: accepted"));
        assert!(error.to_string().contains("model.safetensors") && !error.is_usage(), "{what}: {error}");
    };
    fs::write(newer.join("model.safetensors"), &original[..original.len() / 2]).expect("written");
    refused("half a file");
    for position in [original.len() - 5, original.len() / 2, 3, 40] {
        let mut flipped = original.clone();
        flipped[position] ^= 0x10;
        fs::write(newer.join("model.safetensors"), &flipped).expect("written");
        refused("a flipped bit");
    }
    fs::write(newer.join("model.safetensors"), b"").expect("written");
    refused("an empty file");
    assert_eq!(Run::resume(&older).expect("whole").step_number(), 1);
    fs::write(newer.join("model.safetensors"), &original).expect("written");
    fs::write(newer.join("state.json"), b"{\"format\": 1, \"step\": 2}").expect("written");
    assert!(matches!(Run::resume(dir.path()), Err(Error::Damaged { .. })));
}

#[test]
fn another_vocabulary_is_refused() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data.txt");
    fs::write(&data, "one two three four five six seven eight nine ten\n".repeat(40)).expect("written");
    let mut config = config(ProcessKind::Mask, dir.path());
    config.data.source = data.to_string_lossy().into_owned();
    (config.data.layout, config.data.len, config.data.validation) = (LayoutChoice::Packed, 16, 0.2);
    config.data.document = galatea_train::config::DocumentChoice::File;
    let mut run = Run::start(config).expect("a run");
    steps(&mut run, 1);
    let saved = run.save(dir.path()).expect("saved");
    Run::resume(dir.path()).expect("the same vocabulary");
    let tokenizer = saved.join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).expect("written");
    fs::write(&tokenizer, text.replacen('x', "z", 1)).expect("written");
    let error = Run::resume(dir.path()).err().expect("refused");
    assert!(error.to_string().contains("tokenizer"), "{error}");
    assert!(Generator::load(dir.path(), 1).is_err());
}

#[test]
fn an_old_checkpoint_survives_a_disk_that_refuses() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(config(ProcessKind::Mask, dir.path())).expect("a run");
    steps(&mut run, 1);
    run.save(dir.path()).expect("saved");
    steps(&mut run, 1);
    // A file where the run's folder should be: nothing can be created below it.
    let blocked = dir.path().join("blocked");
    fs::write(&blocked, b"").expect("written");
    assert!(run.save(&blocked).is_err());
    assert_eq!(Run::resume(dir.path()).expect("untouched").step_number(), 1);
    let left: Vec<_> = fs::read_dir(dir.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

/// What a letter is told to become: capitals, twice.
fn letters(dir: &Path) -> std::path::PathBuf {
    let lines: String = ('a'..='h')
        .flat_map(|c| (0..6).map(move |n| format!("{}{n}\t{}{n}\n", String::from(c).repeat(2), c.to_ascii_uppercase())))
        .collect();
    let path = dir.join("letters.tsv");
    fs::write(&path, lines).expect("written");
    path
}

/// Fine-tuning learns answers, ends them, leaves prompts alone, and goes on bit for bit.
#[test]
fn a_model_of_pairs_answers_its_prompts() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(ProcessKind::Mask, dir.path());
    config.data.source = letters(dir.path()).display().to_string();
    (config.data.layout, config.data.len, config.data.validation) = (LayoutChoice::Pairs, 8, 0.1);
    config.process.schedule = "linear".into();
    (config.training.batch, config.training.accumulation, config.training.steps) = (16, 2, 200);
    let mut run = Run::start(config).expect("a run");
    let before = run.evaluate().expect("measured");
    steps(&mut run, 30);
    let saved = run.save(dir.path()).expect("saved");
    let mut again = Run::resume(&saved).expect("resumed");
    assert_eq!(steps(&mut run, 170)[..3], steps(&mut again, 3)[..]);
    let after = run.evaluate().expect("measured");
    // A row of eight has a prompt of three, and an answer of two, its end and its padding.
    assert!(after.nats_per_token < 0.05 && before.nats_per_token > 1.0, "from {before:?} to {after:?}");
    let ratio = after.bits_per_document * std::f64::consts::LN_2 / after.nats_per_token;
    assert!((ratio - 5.0).abs() < 1e-9, "{after:?}");
    let mut generator = run.generator(2).expect("a generator");
    for (prompt, answer) in [("aa3", "A3"), ("hh0", "H0")] {
        let ids = generator.vocabulary().encode(prompt).expect("known letters");
        let mut fixed: Vec<Option<u32>> = ids.iter().copied().map(Some).collect();
        fixed.resize(generator.len(), None);
        let options = Sampling { temperature: 0.0, order: Order::Confidence, ..Sampling::default() };
        let written = generator.run(&options, &fixed, &mut |_| ControlFlow::Continue(())).expect("written");
        assert_eq!(generator.vocabulary().text(&written.ids[0]), format!("{prompt}{answer}"));
        // -log p of the answer alone.
        let estimate = generator.likelihood(&written.ids[0], 3, 4, 1).expect("estimated");
        assert!(estimate.mean < 0.5, "{estimate:?}");
    }
}

#[test]
fn prompts_that_fit_no_run_are_refused_with_their_field() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config(ProcessKind::Mask, dir.path());
        change(&mut config);
        match Run::start(config) {
            Err(Error::Config { field, .. }) => field,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it began"),
        }
    };
    assert_eq!(refused(&|c| c.data.prompt = 48), "data.prompt");
    assert_eq!(refused(&|c| c.data.layout = LayoutChoice::Pairs), "data.prompt");
    assert_eq!(
        refused(&|c| {
            c.data.prompt = 6;
            c.objective = Some(ObjectiveConfig::Block(Block { size: 6, ..Block::default() }));
        }),
        "data.prompt"
    );
    assert_eq!(
        refused(&|c| {
            *c = config(ProcessKind::Gaussian, dir.path());
            c.data.prompt = 6;
        }),
        "data.prompt"
    );
    let chain = Masked { steps: 10, times: galatea_train::objective::Draw::Importance };
    assert_eq!(refused(&|c| c.objective = Some(ObjectiveConfig::Masked(chain.clone()))), "objective.times");
}

/// A run may begin with the parameters of another, which are then those that it measures.
#[test]
fn a_run_begins_where_another_ended() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut pretrained = Run::start(config(ProcessKind::Mask, &first)).expect("a run");
    steps(&mut pretrained, 12);
    let expected = pretrained.evaluate().expect("measured");
    pretrained.save(&first).expect("saved");
    let mut tuned = config(ProcessKind::Mask, &second);
    tuned.training.init = Some(first.clone());
    let mut tuned = Run::start(tuned).expect("a run");
    assert_eq!((tuned.step_number(), tuned.evaluate().expect("measured")), (0, expected));
    // For prompts, and from there like any other run.
    let mut config = tuned.config().clone();
    config.data.prompt = 5;
    let mut tuned = Run::start(config).expect("a run");
    assert!(tuned.evaluate().expect("measured").bits_per_document < expected.bits_per_document);
    steps(&mut tuned, 5);
    tuned.save(&second).expect("saved");
    let mut again = Run::resume(&second).expect("resumed");
    assert_eq!(steps(&mut tuned, 4), steps(&mut again, 4));
    let mut other = config_of_level(2, &second);
    other.training.init = Some(first);
    assert!(matches!(Run::start(other), Err(Error::Config { field: "data.level", .. })));
}

fn config_of_level(level: u8, out: &Path) -> Config {
    let mut config = config(ProcessKind::Mask, out);
    config.data.level = level;
    config
}

/// Block times are searched for as often as asked, and a run that was interrupted knows what was found.
#[test]
fn bounds_of_block_times_are_found_and_kept() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(ProcessKind::Mask, dir.path());
    config.objective = Some(ObjectiveConfig::Block(Block { size: 6, search: 5, ..Block::default() }));
    (config.training.eval_rows, config.training.eval_times) = (64, 1);
    let mut whole = Run::start(config.clone()).expect("a run");
    let mut losses = steps(&mut whole, 5);
    assert_eq!(whole.bounds().map(|b| (b.low(), b.high())), Some((0.0, 1.0)));
    losses.extend(steps(&mut whole, 7));
    let found = whole.bounds().expect("a search");
    assert!(found.low() > 0.0 && found.high() - found.low() > 0.5 - 1e-9, "{found:?}: weights near t = 0 vary most");
    let mut first = Run::start(config).expect("a run");
    steps(&mut first, 8);
    first.save(dir.path()).expect("saved");
    let mut second = Run::resume(dir.path()).expect("resumed");
    assert_eq!(second.bounds(), first.bounds());
    assert_eq!(steps(&mut second, 4), losses[8..]);
}
