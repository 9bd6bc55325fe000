//! The program as a new user meets it: what goes wrong says why and what to do, and nothing panics.

#[cfg(unix)]
mod unix;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const TINY: [&str; 18] = [
    "--d-model",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--batch",
    "4",
    "--steps",
    "5",
    "--quiet",
    "--set",
    "training.eval_rows=8",
    "--set",
    "training.eval_times=1",
    "--set",
    "training.sample_every=0",
    "--json",
];

/// Runs the program in `dir`; whatever it does, it does not panic.
fn galatea(dir: &Path, args: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_galatea")).args(args).current_dir(dir).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    assert!(output.status.code().is_some(), "{args:?} was killed: {stderr}");
    output
}

fn succeeds(dir: &Path, args: &[&str]) -> String {
    let output = galatea(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("output is text")
}

/// The error of a command that fails with `code` and says every one of `parts`.
fn fails(dir: &Path, args: &[&str], code: i32, parts: &[&str]) -> String {
    let output = galatea(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains("error:"), "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?} does not say `{part}`: {stderr}");
    }
    stderr
}

/// The last line of standard output as JSON.
fn json(dir: &Path, args: &[&str]) -> Value {
    let output = succeeds(dir, args);
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{args:?}: the last line is no JSON ({error}): {last}"))
}

fn with<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

/// 120 short lines over eight words.
fn lines() -> String {
    let words = ["cat", "dog", "hen", "fox"];
    (0..120).map(|i| format!("the {} sat by a {}\n", words[i % 4], words[(i / 4) % 4])).collect()
}

/// A folder with `text.txt`.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("text.txt"), lines()).expect("write");
    dir
}

fn train<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    with(&with(&["train", "--data", "text.txt", "--tokenizer", "words"], &TINY), extra)
}

/// A folder with `text.txt` and a finished run of five steps in `run`.
fn trained(extra: &[&str]) -> TempDir {
    let dir = folder();
    succeeds(dir.path(), &with(&train(&["--out", "run"]), extra));
    dir
}

fn checkpoint(dir: &Path, step: u32) -> PathBuf {
    dir.join("run").join(format!("checkpoint-{step:08}"))
}

#[test]
fn a_data_file_that_cannot_be_one_is_explained() {
    let dir = folder();
    let write = |name: &str, content: &[u8]| fs::write(dir.path().join(name), content).expect("write");
    write("empty.txt", b"");
    write("blank.txt", b"\n \n\n");
    write("binary.txt", &[0x7f, b'E', b'L', b'F', 0, 255, 254, 200]);
    write("short.txt", b"to be or not to be\nthat is the question\n");
    write("broken.jsonl", b"{\"text\": \"one\"}\n{\"text\": \n");
    write("fieldless.jsonl", b"{\"body\": \"one\"}\n");
    for (data, parts) in [
        ("missing.txt", &["missing.txt", "no file"][..]),
        (".", &["folder"]),
        ("empty.txt", &["empty.txt", "no text"]),
        ("blank.txt", &["blank.txt", "no text"]),
        ("binary.txt", &["binary.txt", "UTF-8"]),
        ("broken.jsonl", &["line 2"]),
        ("fieldless.jsonl", &["field `text`", "body"]),
    ] {
        fails(dir.path(), &with(&["train", "--data", data, "--out", "run"], &TINY), 1, parts);
        fails(dir.path(), &["data", "inspect", data], 1, parts);
    }
    let short = with(&["train", "--data", "short.txt", "--layout", "packed", "--len", "512", "--out", "run"], &TINY);
    fails(dir.path(), &short, 1, &["512", "tokens"]);
    assert!(!dir.path().join("run").exists(), "a run that cannot begin leaves no folder");
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    let dir = folder();
    for (args, parts) in [
        (&["train", "--process", "fog"][..], &["fog", "mask", "uniform", "gaussian"][..]),
        (&["train", "--level", "9"], &["--level"]),
        (&["train", "--steps", "0"], &["--steps"]),
        (&["train", "--lr", "-1"], &["--lr"]),
        (&["train", "--heads", "7"], &["heads"]),
        (&["train", "--set", "training.bach=3"], &["bach", "batch"]),
        (&["train", "--set", "nonsense"], &["SECTION.NAME=VALUE"]),
        (&["train", "--process", "uniform", "--set", "model.time=none"], &["time"]),
        (&["train", "--schedule", "spiral"], &["spiral"]),
        (&["train", "--data", "language", "--batch", "16777216"], &["GiB", "--batch"]),
        (&["train", "--data", "text.txt", "--layout", "packed", "--len", "16777216", "--batch", "256"], &["--len"]),
        (&["train", "--set", "training.accumulation=1000000"], &["accumulation"]),
        (&["sample"], &["--model"]),
        (&["sample", "--model", "x", "--top-p", "1.5"], &["--top-p"]),
        (&["sample", "--model", "x", "--sampler", "magic"], &["magic", "entropy-bound"]),
        (&["infill", "--model", "x"], &["--at", "template"]),
        (&["tarin"], &["train"]),
    ] {
        fails(dir.path(), args, 2, parts);
    }
    assert_eq!(galatea(dir.path(), &[]).status.code(), Some(2));
}

#[test]
fn a_wrong_configuration_is_exit_code_two_and_names_the_key() {
    let dir = folder();
    let path = dir.path().join("c.toml");
    for (text, parts) in [
        ("[training]\nbach = 3\n", &["c.toml", "bach", "batch"][..]),
        ("[trainin]\nbatch = 3\n", &["trainin"]),
        ("[training]\nbatch = \"many\"\n", &["batch"]),
        ("[training]\nbatch = 0\n", &["training.batch"]),
        ("[model]\nlayres = 3\n", &["layres"]),
        ("[data]\nlevel = 4\n", &["level"]),
        ("training = 7 7\n", &["c.toml", "TOML"]),
    ] {
        fs::write(&path, text).expect("write");
        fails(dir.path(), &["config", "validate", "c.toml"], 2, parts);
        fails(dir.path(), &["train", "--config", "c.toml"], 2, parts);
    }
    fails(dir.path(), &["config", "validate", "none.toml"], 1, &["none.toml", "config init"]);
}

#[test]
fn flags_override_the_file_and_init_writes_a_valid_one() {
    let dir = folder();
    succeeds(dir.path(), &["config", "init", "c.toml"]);
    assert!(succeeds(dir.path(), &["config", "init"]).contains("# optimizer steps"));
    succeeds(dir.path(), &["config", "validate", "c.toml"]);
    fails(dir.path(), &["config", "init", "c.toml"], 2, &["exists", "--force"]);
    fs::write(dir.path().join("c.toml"), "[training]\nbatch = 7\nsteps = 9\n[model]\nlayers = 2\n").expect("write");
    let shown = json(dir.path(), &["config", "show", "--config", "c.toml", "--steps", "11", "--lr", "0.5", "--json"]);
    assert_eq!((shown["training"]["batch"].as_u64(), shown["training"]["steps"].as_u64()), (Some(7), Some(11)));
    assert_eq!((shown["model"]["layers"].as_u64(), shown["optimizer"]["lr"].as_f64()), (Some(2), Some(0.5)));
}

#[test]
fn train_sample_infill_eval_inspect() {
    let dir = trained(&[]);
    let root = dir.path();
    let log = fs::read_to_string(root.join("run/log.jsonl")).expect("a log");
    let steps =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|v| v["kind"] == "step").count();
    assert_eq!(steps, 5);
    assert_eq!(fs::read_to_string(root.join("run/log.csv")).expect("a table").lines().count(), 1 + 5 + 1);

    let sample = |seed: &str| {
        succeeds(root, &["sample", "--model", "run", "--count", "3", "--seed", seed, "--temperature", "1"])
    };
    assert_eq!(sample("7"), sample("7"), "a seed is a text");
    let three = json(root, &["sample", "--model", "run", "--count", "3", "--seed", "7", "--json"]);
    let twenty = json(root, &["sample", "--model", "run", "--count", "20", "--seed", "7", "--json"]);
    assert_eq!(twenty["texts"].as_array().map(Vec::len), Some(20));
    assert_eq!(three["texts"].as_array().map(|t| &t[..3]), twenty["texts"].as_array().map(|t| &t[..3]));
    for sampler in ["ancestral", "confidence", "margin", "entropy", "random", "entropy-bound", "threshold"] {
        succeeds(root, &["sample", "--model", "run", "--sampler", sampler, "--steps", "3", "--seed", "1"]);
    }
    fails(root, &["sample", "--model", "run", "--sampler", "ddim"], 2, &["ddim"]);

    let filled =
        ["infill", "--model", "run", "--at", "2:fox", "--suffix", "a hen", "--length", "6", "--seed", "3", "--json"];
    let filled = json(root, &filled);
    let words: Vec<&str> = filled["texts"][0].as_str().expect("a text").split(' ').collect();
    assert_eq!((words.get(1), words.len() <= 6), (Some(&"fox"), true), "{words:?}");
    assert!(words.ends_with(&["a", "hen"]), "{words:?}");
    let filled = succeeds(root, &["infill", "--model", "run", "the ___ sat{2}cat", "--seed", "3"]);
    let words: Vec<&str> = filled.split_whitespace().collect();
    assert!(words[0] == "the" && words.contains(&"sat") && words.contains(&"cat"), "{words:?}");

    let measured = json(root, &["eval", "--model", "run", "--json"]);
    for key in ["nats_per_token", "bits_per_character", "nelbo_bits_per_document", "standard_error_bits"] {
        assert!(measured[key].as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{key}: {measured}");
    }
    let written = json(root, &["eval", "--model", "run", "--samples", "20", "--json"]);
    assert!(written["sample_entropy_nats"].as_f64().is_some_and(|x| x > 0.0), "{written}");
    assert!(written["distinct_share"].as_f64().is_some_and(|x| x > 0.0 && x <= 1.0), "{written}");
    assert!(written.get("grammatical_share").is_none(), "nobody knows the grammar of a text: {written}");
    assert!(succeeds(root, &["eval", "--model", "run", "--samples", "2"]).contains("sample entropy"));
    let masked = json(root, &["eval", "--model", "run", "--likelihood", "--rows", "4", "--json"]);
    // One number in two ways: both are near the bound of a network that knows nothing yet.
    let (by_masks, bound) = (&masked["likelihood_bits_per_document"], &measured["nelbo_bits_per_document"]);
    let ratio = by_masks.as_f64().expect("a number") / bound.as_f64().expect("a number");
    assert!((0.5..2.0).contains(&ratio), "{masked} {measured}");
    fails(root, &["eval", "--model", "run", "--samples", "2", "--rows", "3"], 2, &["--samples", "--rows"]);
    let size = json(root, &["inspect", "--model", "run", "--json"]);
    assert!(
        size["parameters"].as_u64().is_some_and(|n| n > 1000) && size["flops"].as_u64().is_some_and(|n| n > 0),
        "{size}"
    );
    let listing = succeeds(
        root,
        &["inspect", "--data", "text.txt", "--d-model", "16", "--layers", "1", "--heads", "2", "--program"],
    );
    assert!(listing.contains("index") && listing.contains("parameters"), "{listing}");
}

#[test]
fn a_step_is_drawn_and_recorded() {
    let dir = trained(&[]);
    let args = [
        "sample",
        "--model",
        "run",
        "--seed",
        "4",
        "--visual=0",
        "--record",
        "steps.jsonl",
        "--sampler",
        "confidence",
        "--steps",
        "4",
    ];
    let output = galatea(dir.path(), &args);
    assert!(output.status.success());
    let drawn = String::from_utf8(output.stderr).expect("text");
    assert!(drawn.contains('░') && !drawn.contains('\x1b'), "without a terminal nothing moves the cursor: {drawn}");
    let record = fs::read_to_string(dir.path().join("steps.jsonl")).expect("a recording");
    let frames: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(frames[0]["galatea_recording"], 1);
    let decided =
        |frame: &Value| frame["rows"][0]["decided"].as_array().map(|d| d.iter().filter(|x| **x == true).count());
    assert_eq!(decided(&frames[1]), Some(0));
    assert_eq!(decided(&frames[frames.len() - 1]), frames[1]["rows"][0]["tokens"].as_array().map(Vec::len));
    assert!(frames[1..].windows(2).all(|pair| decided(&pair[0]) <= decided(&pair[1])), "masks never come back");
}

#[test]
fn what_cannot_be_infilled_is_exit_code_two_and_helps() {
    let dir = trained(&[]);
    let infill =
        |args: &[&str], parts: &[&str]| fails(dir.path(), &with(&["infill", "--model", "run"], args), 2, parts);
    infill(&["--at", "2:caat"], &["caat", "cat"]);
    infill(&["--at", "2:zebra"], &["zebra"]);
    infill(&["--at", "99:cat"], &["99", "1 to 8"]);
    infill(&["--at", "0:cat"], &["from 1"]);
    infill(&["--at", "cat"], &["5:blue"]);
    infill(&["--at", "2:cat dog"], &["not one token"]);
    infill(&["--at", "2:cat", "--at", "2:dog"], &["position 2", "cat", "dog"]);
    infill(&["--prompt", "the cat sat by a dog the cat sat by"], &["1 to 8"]);
    infill(&["the {9}"], &["1 to 8"]);
    infill(&["--prompt", "the hippopotamus"], &["hippopotamus"]);
    infill(&["--length", "9"], &["1 to 8"]);
}

#[test]
fn resuming_is_bit_exact() {
    let dir = trained(&["--set", "training.save_every=2"]);
    let root = dir.path();
    let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
    let read = |run: &str| {
        files.map(|file| fs::read(root.join(run).join("checkpoint-00000005").join(file)).expect("a checkpoint"))
    };
    fs::create_dir(root.join("again")).expect("make");
    // What a crash after step 4 leaves.
    fs::rename(checkpoint(root, 4), root.join("again/checkpoint-00000004")).expect("move");
    for log in ["log.jsonl", "log.csv"] {
        fs::copy(root.join("run").join(log), root.join("again").join(log)).expect("copy");
    }
    let report = json(root, &["train", "--resume", "again", "--json"]);
    assert_eq!(report["steps"], 5);
    assert!(read("run") == read("again"), "a resumed run is the run");
    let table = fs::read_to_string(root.join("again/log.csv")).expect("a table");
    let steps: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(steps, ["1", "2", "3", "4", "5", "5"], "five steps and a validation");
    fails(root, &["train", "--resume", "again"], 2, &["finished", "--steps"]);
    assert_eq!(json(root, &["train", "--resume", "again", "--steps", "6", "--json", "--quiet"])["steps"], 6);
}

#[test]
fn a_run_is_not_overwritten() {
    let dir = trained(&[]);
    let before = fs::read(checkpoint(dir.path(), 5).join("model.safetensors")).expect("a checkpoint");
    fails(dir.path(), &train(&["--out", "run", "--seed", "2"]), 2, &["--resume", "--force"]);
    assert!(before == fs::read(checkpoint(dir.path(), 5).join("model.safetensors")).expect("a checkpoint"));
    fs::write(dir.path().join("run/notes.md"), "mine").expect("write");
    succeeds(dir.path(), &train(&["--out", "run", "--seed", "2", "--force"]));
    assert!(before != fs::read(checkpoint(dir.path(), 5).join("model.safetensors")).expect("a checkpoint"));
    assert!(dir.path().join("run/notes.md").exists(), "what is not of a run stays");
    fails(dir.path(), &train(&["--out", "text.txt"]), 2, &["text.txt", "file"]);
}

#[test]
fn a_damaged_checkpoint_is_a_failure() {
    let dir = trained(&[]);
    let folder = checkpoint(dir.path(), 5);
    let commands: [(&str, &[&str]); 4] = [
        ("ema.safetensors", &["sample", "--model", "run"]),
        ("model.safetensors", &["eval", "--model", "run"]),
        ("optimizer.safetensors", &["train", "--resume", "run", "--steps", "9"]),
        ("config.json", &["inspect", "--model", "run"]),
    ];
    for (file, command) in commands {
        let path = folder.join(file);
        let whole = fs::read(&path).expect("a file");
        for cut in [0, 5, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).expect("write");
            fails(dir.path(), command, 1, &[file]);
        }
        if file.ends_with("safetensors") {
            for at in [3, whole.len() / 2, whole.len() - 2] {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                fs::write(&path, &flipped).expect("write");
                fails(dir.path(), command, 1, &[file]);
            }
        }
        fs::remove_file(&path).expect("remove");
        fails(dir.path(), command, 1, &["run"]);
        fs::write(&path, &whole).expect("write");
    }
    fails(dir.path(), &["sample", "--model", "nowhere"], 1, &["nowhere", "checkpoint"]);
    fails(dir.path(), &["sample", "--model", "text.txt"], 1, &["checkpoint"]);
}

#[test]
fn another_vocabulary_is_noticed() {
    let dir = trained(&[]);
    let path = checkpoint(dir.path(), 5).join("tokenizer.json");
    let own = fs::read_to_string(&path).expect("a tokenizer");
    fs::write(&path, own.replace("\"cat\"", "\"cow\"")).expect("write");
    for command in [&["train", "--resume", "run", "--steps", "9"][..], &["sample", "--model", "run"]] {
        fails(dir.path(), command, 1, &[]);
    }
    fs::write(&path, own.replace("\"cat\"", "\"dog\"")).expect("write");
    fails(dir.path(), &["sample", "--model", "run"], 1, &["dog"]);
    fs::write(&path, "{").expect("write");
    fails(dir.path(), &["sample", "--model", "run"], 1, &["tokenizer.json"]);
}

#[test]
fn every_process_trains_and_writes() {
    let dir = folder();
    for process in ["uniform", "gaussian"] {
        succeeds(dir.path(), &train(&["--process", process, "--out", process]));
        succeeds(dir.path(), &["sample", "--model", process, "--steps", "4", "--seed", "1"]);
        succeeds(dir.path(), &["eval", "--model", process]);
        succeeds(dir.path(), &["eval", "--model", process, "--samples", "2"]);
        fails(dir.path(), &["eval", "--model", process, "--likelihood"], 2, &["masked model", "bound"]);
        let filled =
            succeeds(dir.path(), &["infill", "--model", process, "--steps", "4", "--at", "1:hen", "--seed", "1"]);
        assert!(filled.starts_with("hen"), "{process}: {filled}");
        fails(dir.path(), &["sample", "--model", process, "--sampler", "confidence"], 2, &["confidence"]);
        succeeds(dir.path(), &["inspect", "--model", process]);
    }
}

#[test]
fn stories_that_a_model_writes_are_judged_by_the_exact_law() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    succeeds(dir.path(), &with(&["train", "--data", "language", "--out", "run"], &TINY));
    let eval = ["eval", "--model", "run", "--samples", "5", "--seed", "3", "--json"];
    let judged = json(dir.path(), &eval);
    assert_eq!(judged, json(dir.path(), &eval), "a seed is a sample");
    let number = |key: &str| judged[key].as_f64();
    assert!(number("grammatical_share").is_some_and(|x| (0.0..=1.0).contains(&x)), "{judged}");
    assert!(number("entropy_bits_per_document").is_some_and(|x| (25.0..26.0).contains(&x)), "{judged}");
    // After five steps nothing is grammatical, and nothing has no perplexity.
    assert_eq!(number("grammatical_share") == Some(0.0), judged["bits_per_grammatical_text"].is_null(), "{judged}");
    assert_eq!(judged["bits_per_grammatical_text"].is_null(), judged["generative_perplexity"].is_null(), "{judged}");
}

#[test]
fn tokenizers_are_trained_and_used() {
    let dir = folder();
    let root = dir.path();
    for kind in ["chars", "words", "bytes", "bpe"] {
        let file = format!("{kind}.json");
        succeeds(
            root,
            &["data", "tokenizer", "train", "--data", "text.txt", "--kind", kind, "--vocab", "300", "--out", &file],
        );
        let ids = succeeds(root, &["data", "tokenizer", "encode", "--tokenizer", &file, "the cat sat"]);
        let args: Vec<&str> =
            ["data", "tokenizer", "decode", "--tokenizer", &file].into_iter().chain(ids.split_whitespace()).collect();
        assert_eq!(succeeds(root, &args).trim_end(), "the cat sat", "{kind}");
        let found = json(root, &["data", "inspect", "text.txt", "--tokenizer-file", &file, "--json"]);
        assert_eq!(
            (found["documents"].as_u64(), found["layout"].as_str()),
            (Some(120), Some("padded")),
            "{kind}: {found}"
        );
    }
    fails(root, &["data", "tokenizer", "encode", "--tokenizer", "chars.json", "ÿ"], 1, &["ÿ"]);
    fails(root, &["data", "tokenizer", "decode", "--tokenizer", "chars.json", "999"], 1, &["999"]);
    fails(root, &["data", "tokenizer", "encode", "--tokenizer", "text.txt", "a"], 1, &["text.txt"]);
}

#[test]
fn completions_and_help_reach_every_shell() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(succeeds(dir.path(), &["completions", shell]).contains("infill"), "{shell}");
    }
    for command in ["train", "sample", "infill", "eval", "inspect", "data", "config", "completions", "demo", "oracle"] {
        assert!(succeeds(dir.path(), &[command, "--help"]).contains("Examples:"), "{command}");
    }
}

#[test]
fn a_loss_that_does_not_fit_says_which_do() {
    let dir = folder();
    let train = |extra: &[&'static str]| train(extra);
    for (extra, parts) in [
        (&["--objective", "gidd"][..], &["objective.kind", "\"masked\"", "\"sedd\"", "process.kind = \"mask\""][..]),
        (&["--process", "uniform", "--objective", "block"], &["objective.kind", "\"uniform\"", "\"d3pm\""]),
        (&["--process", "hybrid", "--schedule", "cosine"], &["process.schedule", "hybrid(p_uniform, gamma)"]),
        (&["--objective", "d3pm", "--set", "objective.steps=0"], &["objective.steps", "1 to"]),
        (&["--objective", "d3pm", "--set", "objective.lamda=0.1"], &["lamda", "galatea config init"]),
        (
            &["--objective", "block", "--len", "16", "--set", "objective.size=5"],
            &["objective.size", "divisor of the 16"],
        ),
        (&["--objective", "noise"], &["noise", "possible values", "diffusion-lm"]),
    ] {
        fails(dir.path(), &with(&train(&["--out", "run"]), extra), 2, parts);
    }
    assert!(!dir.path().join("run").exists());
}

#[test]
fn every_loss_trains_is_measured_and_writes() {
    for extra in [
        &["--objective", "sedd"][..],
        &["--process", "uniform", "--objective", "sedd"],
        &["--process", "uniform", "--objective", "d3pm"],
        &["--process", "hybrid"],
        &["--objective", "flow"],
        &["--objective", "block", "--len", "12", "--set", "objective.size=4"],
    ] {
        let dir = trained(extra);
        let measured = json(dir.path(), &["eval", "--model", "run", "--rows", "8", "--json"]);
        assert!(measured["nats_per_token"].as_f64().is_some_and(f64::is_finite), "{extra:?}: {measured}");
        for sampler in ["auto", "ancestral"] {
            let sample = ["sample", "--model", "run", "--seed", "1", "--steps", "4", "--sampler", sampler];
            let written = succeeds(dir.path(), &sample);
            assert!(written.ends_with('\n'), "{extra:?} with {sampler}: {written}");
        }
        let scores = extra.contains(&"uniform") && extra.contains(&"sedd");
        let cold = ["sample", "--model", "run", "--seed", "1", "--temperature", "0.5"];
        if scores {
            fails(dir.path(), &cold, 2, &["temperature", "ratios"]);
        } else {
            succeeds(dir.path(), &cold);
        }
    }
}
