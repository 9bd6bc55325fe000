//! Pipes that close, disks that are full, and Ctrl-C.

use super::*;
use std::fs::OpenOptions;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = folder();
    for args in [&["completions", "bash"][..], &["config", "init"], &["data", "inspect", "text.txt"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_galatea"))
            .args(args)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        assert!(child.wait().expect("it ends").success(), "{args:?}: {stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let dir = trained(&[]);
    if !Path::new("/dev/full").exists() {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: there is no /dev/full here");
        return;
    }
    fails(dir.path(), &["sample", "--model", "run", "--record", "/dev/full"], 1, &["/dev/full"]);
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let output = Command::new(env!("CARGO_BIN_EXE_galatea"))
        .args(["config", "init"])
        .stdout(Stdio::from(full))
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error:") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_disk_that_refuses_a_checkpoint_leaves_the_one_before() {
    let dir = trained(&[]);
    let file = |name: &str| fs::read(checkpoint(dir.path(), 5).join(name)).expect("a checkpoint");
    let before = file("model.safetensors");
    // A limit on the size of files, whose signal is ignored, refuses what a full disk would.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_galatea"), "train", "--resume", "run", "--steps", "7"])
        .current_dir(dir.path())
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error:") && !stderr.contains("panicked"), "{stderr}");
    assert!(before == file("model.safetensors"));
    let left: Vec<_> =
        fs::read_dir(dir.path().join("run")).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("tmp")), "{left:?}");
    succeeds(dir.path(), &["train", "--resume", "run", "--steps", "7", "--quiet"]);
}

#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let dir = folder();
    let args = train(&["--out", "run", "--steps", "1000000"]);
    let args: Vec<&str> = args.into_iter().filter(|arg| *arg != "--quiet").collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_galatea"))
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let log = dir.path().join("run/log.jsonl");
    let begin = Instant::now();
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no step is logged");
        assert!(child.try_wait().expect("its state").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().expect("a shell").success());
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("galatea train --resume run"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["finished"], false);
    let step = report["steps"].as_u64().expect("a number");
    assert_eq!(
        json(dir.path(), &["train", "--resume", "run", "--steps", &(step + 2).to_string(), "--json", "--quiet"])["steps"],
        step + 2
    );
}
