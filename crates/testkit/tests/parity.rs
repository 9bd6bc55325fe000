//! The fixtures of this crate, all of the originals' goldens where they are at hand, and what becomes of bad files.

use galatea_testkit::parity::{self, Case, Fault, KINDS, Kind, Report, Status};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The fixtures of `root`, none of which may fail; returns the families that passed.
fn all_pass(root: &Path) -> BTreeSet<String> {
    let mut families = BTreeSet::new();
    let mut failed = Vec::new();
    for checked in parity::run(root, "", KINDS).expect("the folder can be read") {
        match checked.status {
            Status::Pass => {
                families.insert(checked.fixture.split('/').next().expect("family/name").to_owned());
            }
            Status::Fail => failed.push(format!("{checked:?}")),
            Status::Unknown => {}
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    families
}

#[test]
fn every_family_has_a_fixture_here_and_every_fixture_passes() {
    let known: BTreeSet<String> = KINDS.iter().map(|kind| kind.family.to_owned()).collect();
    assert_eq!(all_pass(&fixtures()), known);
}

#[test]
fn the_originals_goldens_pass() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALATEA_GOLDENS").map_or(beside, PathBuf::from);
    if root.is_dir() {
        all_pass(&root);
    } else {
        galatea_fixtures::skipped("no folder of all goldens (set GALATEA_GOLDENS to it)");
    }
}

/// x must be twice y.
fn twice(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let factor = case.number("factor")?;
    assert!(factor < 100.0, "too large");
    let found: Vec<f64> = case.vec("y")?.iter().map(|y| factor * y).collect();
    report.relative("x", &found, &case.vec("x")?, 1e-6);
    Ok(())
}

const TWICE: &[Kind] = &[Kind { family: "twice", check: twice }];

/// A folder of one fixture `family/name` with x = 2, 4 and y = 1, 2.
fn folder(family: &str, config: &str, bytes: Option<&[u8]>) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join(family);
    std::fs::create_dir(&folder).expect("a folder");
    let numbers = |x: [f32; 2]| x.map(f32::to_le_bytes).concat();
    let (x, y) = (numbers([2.0, 4.0]), numbers([1.0, 2.0]));
    let view = |data| TensorView::new(Dtype::F32, vec![2], data).expect("two numbers");
    let file = safetensors::serialize([("x", view(&x)), ("y", view(&y))], None).expect("a file");
    std::fs::write(folder.join("name.safetensors"), bytes.unwrap_or(&file)).expect("written");
    std::fs::write(folder.join("config.json"), config).expect("written");
    root
}

/// Status and text of the only fixture.
fn only(root: &tempfile::TempDir) -> (Status, String) {
    let mut all = parity::run(root.path(), "", TWICE).expect("a folder");
    let checked = all.next().expect("a fixture");
    assert!(all.next().is_none());
    (checked.status, checked.fault.map_or_else(String::new, |fault| fault.to_string()))
}

#[test]
fn a_wrong_number_fails_and_the_right_one_passes() {
    assert_eq!(only(&folder("twice", r#"{"name": {"factor": 2}}"#, None)).0, Status::Pass);
    assert_eq!(only(&folder("twice-more", r#"{"factor": 2}"#, None)).0, Status::Pass);
    assert_eq!(only(&folder("twice", r#"{"name": {"factor": 2.1}}"#, None)), (Status::Fail, String::new()));
}

#[test]
fn bad_fixtures_fail_with_what_is_wrong() {
    let cases = [
        (folder("twice", r#"{"name": {}}"#, None), "factor in config.json: expected a number, found nothing"),
        (folder("twice", r#"{"name": {"factor": "2"}}"#, None), "expected a number, found \"2\""),
        (folder("twice", r#"{"name": {"factor": 200}}"#, None), "our code panicked: too large"),
        (folder("twice", "{", None), "config.json"),
        (folder("twice", r#"{"name": {"factor": 2}}"#, Some(b"nothing")), "name.safetensors"),
    ];
    for (root, expected) in cases {
        let (status, text) = only(&root);
        assert_eq!(status, Status::Fail);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn an_unknown_kind_says_so() {
    let (status, text) = only(&folder("thrice", "{}", None));
    assert_eq!(status, Status::Unknown);
    assert!(text.starts_with("unknown kind: folder thrice"), "{text}");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    assert!(parity::run(Path::new("no such folder"), "", TWICE).is_err());
}
