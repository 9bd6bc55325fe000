//! What the comparisons with the originals share.

use galatea_fixtures::{Fixture, relative_to_max};

pub(crate) fn fixture(name: &str) -> Fixture {
    Fixture::read(format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

/// The rows of a tensor whose last axis is the vocabulary.
pub(crate) fn rows(golden: &Fixture, name: &str) -> Vec<Vec<f64>> {
    let tensor = golden.get(name);
    let width = *tensor.shape().last().expect("a tensor with axes");
    golden.vec(name).chunks(width).map(<[f64]>::to_vec).collect()
}

pub(crate) fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let error = relative_to_max(found, expected);
    assert!(error <= tolerance, "{what}: {error:e} above {tolerance:e}");
}
