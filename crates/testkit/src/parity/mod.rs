//! Recomputes what a folder of fixtures holds, with our code, and says how far apart the two are.
//!
//! A fixture is a safetensors file with an entry in the `config.json` beside it; the folder's name is its family and
//! chooses the check ([`Kind`]). `docs/fixtures.md` describes the layout and every family.

mod ancestral;
mod bd3lm;
mod blocks;
mod case;
mod cdcd;
mod d3pm;
mod diffusion_lm;
mod dit;
mod embeddings;
mod end_to_end;
mod fast;
mod fault;
mod gaussian;
mod kinds;
mod llama;
mod masked;
mod network;
mod plaid;
mod rates;
mod read;
mod refining;
mod report;
mod rows;
mod schedules;
mod scores;
mod seed_model;
mod table;
mod uniform;
mod unmasking;

pub use case::Case;
pub use fault::Fault;
pub use kinds::KINDS;
pub use report::{Comparison, Measure, Report};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// How the fixtures of a family are checked.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The folder's name.
    pub family: &'static str,
    /// The check.
    pub check: fn(&Case, &mut Report) -> Result<(), Fault>,
}

/// What came of one fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Every comparison is within its tolerance.
    Pass,
    /// A comparison is not, or the fixture could not be recomputed.
    Fail,
    /// Nobody here knows this kind of fixture.
    Unknown,
}

/// One fixture, checked.
#[derive(Debug)]
pub struct Checked {
    /// "family/name".
    pub fixture: String,
    /// What came of it.
    pub status: Status,
    /// The comparisons made.
    pub report: Report,
    /// What stopped the check.
    pub fault: Option<Fault>,
}

impl Checked {
    fn new(fixture: String, report: Report, end: Result<(), Fault>) -> Self {
        let status = match &end {
            Err(Fault::Unknown { .. }) => Status::Unknown,
            Err(_) => Status::Fail,
            Ok(()) if report.comparisons.is_empty() => Status::Fail,
            Ok(()) if report.comparisons.iter().all(Comparison::passed) => Status::Pass,
            Ok(()) => Status::Fail,
        };
        Self { fixture, status, report, fault: end.err() }
    }

    /// The comparisons made.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.report.comparisons
    }
}

/// Checks the fixtures of `root` whose "family/name" contains `filter`, one after another.
///
/// # Errors
/// If the folder cannot be read. What is wrong with a fixture is in its [`Checked`].
pub fn run<'a>(
    root: &Path,
    filter: &'a str,
    kinds: &'a [Kind],
) -> Result<impl Iterator<Item = Checked> + use<'a>, Fault> {
    let files = read::files(root)?;
    let named = files.into_iter().map(|path| {
        let (family, name) = read::names(&path);
        (format!("{family}/{name}"), family, path)
    });
    let wanted = named.filter(move |(fixture, _, _)| fixture.contains(filter));
    Ok(wanted.map(move |(fixture, family, path)| {
        let mut report = Report::default();
        let end = match find(kinds, &family) {
            Some(kind) => check(kind, &path, &mut report),
            None => Err(unknown(kinds, format!("folder {family}"))),
        };
        Checked::new(fixture, report, end)
    }))
}

/// Reads and checks one file; a panic of the code under test is a failure of this fixture alone.
fn check(kind: &Kind, path: &Path, report: &mut Report) -> Result<(), Fault> {
    let case = read::single(path)?;
    catch_unwind(AssertUnwindSafe(|| (kind.check)(&case, report))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
        Err(Fault::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
    })
}

/// The kind of a folder: of its name, else of the longest family that its name begins with ("sedd_loss-2").
fn find<'a>(kinds: &'a [Kind], folder: &str) -> Option<&'a Kind> {
    let begins = |kind: &&Kind| {
        folder.strip_prefix(kind.family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']))
    };
    kinds.iter().filter(begins).max_by_key(|kind| kind.family.len())
}

fn unknown(kinds: &[Kind], what: String) -> Fault {
    let known: Vec<&str> = kinds.iter().map(|kind| kind.family).collect();
    Fault::Unknown { what, known: format!("the folders {}", known.join(", ")) }
}
