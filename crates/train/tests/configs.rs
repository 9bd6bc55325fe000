//! The files of `configs/`: each is a run that learns, is measured and writes.

use galatea_models::Model;
use galatea_train::{Config, Run, Sampling};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Steps of the runs here.
const STEPS: usize = 100;

/// Every configuration with its file's stem.
fn configs() -> Vec<(String, Config)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut found: Vec<(String, Config)> = fs::read_dir(&dir)
        .expect("a folder of configurations")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let (stem, origin) = (path.file_stem().expect("a name").to_string_lossy(), path.display().to_string());
            let config = Config::from_toml(&fs::read_to_string(&path).expect("text"), &origin);
            (stem.into_owned(), config.unwrap_or_else(|error| panic!("{error}")))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 10, "{} files", found.len());
    found
}

#[test]
fn all_are_valid_and_train_one_model_on_as_many_tokens() {
    for (name, config) in configs() {
        config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.training.out, Path::new("runs").join(&name), "{name}");
        let tokens = |config: &Config| (config.training.batch, config.training.accumulation, config.training.steps);
        assert_eq!(tokens(&config), tokens(&Config { training: configs()[0].1.training.clone(), ..Config::default() }));
        assert_eq!((config.data.source.as_str(), config.data.level), ("language", 1), "{name}");
    }
}

/// The loss is finite and falls, the bound stays above the entropy, and texts come out: with a small network, in a few steps.
#[test]
fn all_learn() {
    for (name, mut config) in configs() {
        match &mut config.model {
            Model::Encoder(encoder) => (encoder.d_model, encoder.layers, encoder.heads, encoder.d_ff) = (32, 1, 2, 64),
            Model::DiffusionLm(net) => (net.d_model, net.layers, net.heads, net.d_ff) = (32, 1, 2, 64),
            Model::Plaid(net) => (net.d_model, net.layers, net.heads) = (32, 1, 2),
            Model::Dit(_) | Model::Llama(_) => {}
        }
        (config.training.batch, config.training.steps) = (16, STEPS as u32);
        (config.training.eval_rows, config.training.eval_times) = (64, 8);
        config.optimizer.warmup = 4;
        let mut run = Run::start(config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = run.evaluate().expect("measured");
        let losses: Vec<f64> = (0..STEPS).map(|_| run.step().unwrap_or_else(|e| panic!("{name}: {e}")).loss).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..STEPS / 4]), mean(&losses[STEPS * 3 / 4..]));
        assert!(last < 0.95 * first, "{name}: a loss of {first} became {last}");
        let after = run.evaluate().expect("measured");
        let (from, to, error) = (before.bits_per_document, after.bits_per_document, after.standard_error_bits);
        assert!(to < 0.95 * from, "{name}: a bound of {from} bits became {to}");
        assert!(to > after.entropy_bits.expect("exact") - 4.0 * error, "{name}: {after:?}");
        let mut generator = run.generator(2).expect("a generator");
        let sampling = Sampling { steps: 8, ..Sampling::default() };
        let written = generator.run(&sampling, &[], &mut |_| ControlFlow::Continue(()));
        let written = written.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(written.ids.iter().flatten().all(|&id| id < 110), "{name}: {written:?}");
    }
}
