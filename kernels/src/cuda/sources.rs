//! Every file that a CUDA compiler is given, embedded: no toolkit and no folder is needed to run.

use super::launch::Source;
use crate::gemm::cuda as gemm;
use crate::{columns, norm, ops};

/// The files of kernels.
pub const SOURCES: &[&Source] = &[
    &columns::cuda::SOURCE,
    &gemm::GROUPS,
    &gemm::JOIN,
    &gemm::SINGLE,
    &gemm::WARPS,
    &norm::cuda::SOURCE,
    &ops::activation::cuda::SOURCE,
    &ops::adamw::cuda::SOURCE,
    &ops::add::cuda::SOURCE,
    &ops::add_rows::cuda::SOURCE,
    &ops::attention::cuda::BF16,
    &ops::attention::cuda::CACHED,
    &ops::attention::cuda::SOURCE,
    &ops::cast::cuda::SOURCE,
    &ops::corrupt_gaussian::cuda::SOURCE,
    &ops::corrupt_tokens::cuda::SOURCE,
    &ops::cross_entropy::cuda::SOURCE,
    &ops::distances::cuda::SOURCE,
    &ops::divergence::cuda::SOURCE,
    &ops::dropout::cuda::SOURCE,
    &ops::ema::cuda::SOURCE,
    &ops::embedding::cuda::SOURCE,
    &ops::global_norm::cuda::SOURCE,
    &ops::head::cuda::SOURCE,
    &ops::linear_int8::cuda::SOURCE,
    &ops::modulate::cuda::SOURCE,
    &ops::muon::cuda::SOURCE,
    &ops::posterior_kl::cuda::SOURCE,
    &ops::qk_norm::cuda::SOURCE,
    &ops::rotary::cuda::SOURCE,
    &ops::sample_tokens::cuda::SOURCE,
    &ops::scale_rows::cuda::SOURCE,
    &ops::softmax::cuda::SOURCE,
    &ops::squared_error::cuda::SOURCE,
    &ops::swiglu::cuda::SOURCE,
    &ops::time_features::cuda::SOURCE,
    &ops::token_weight::cuda::SOURCE,
    &ops::unit_rows::cuda::SOURCE,
    &ops::wishes::cuda::SOURCE,
];

/// The headers that they include, by name.
pub const HEADERS: &[(&str, &str)] = &[
    ("activation.cuh", include_str!("../../include/activation.cuh")),
    ("adamw.cuh", include_str!("../../include/adamw.cuh")),
    ("ampere.cuh", include_str!("../../include/ampere.cuh")),
    ("attention.cuh", include_str!("../../include/attention.cuh")),
    ("base.cuh", include_str!("../../include/base.cuh")),
    ("classes.cuh", include_str!("../../include/classes.cuh")),
    ("columns.cuh", include_str!("../../include/columns.cuh")),
    ("draws.cuh", include_str!("../../include/draws.cuh")),
    ("finish.cuh", include_str!("../../include/finish.cuh")),
    ("hopper.cuh", include_str!("../../include/hopper.cuh")),
    ("logits.cuh", include_str!("../../include/logits.cuh")),
    ("philox.cuh", include_str!("../../include/philox.cuh")),
    ("reduce.cuh", include_str!("../../include/reduce.cuh")),
    ("row.cuh", include_str!("../../include/row.cuh")),
    ("vec.cuh", include_str!("../../include/vec.cuh")),
    ("wgmma.cuh", include_str!("../../include/wgmma.cuh")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Every file under `folder` with that extension.
    fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder of this package");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let nested = paths.map(|path| match path.is_dir() {
            true => files(&path, extension),
            false => path.extension().filter(|e| *e == extension).map(|_| path.clone()).into_iter().collect(),
        });
        nested.flatten().collect()
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).expect("a file of this package")
    }

    #[test]
    fn every_file_of_kernels_is_embedded_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = files(&root.join("src"), "cu");
        for path in &found {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            let same = SOURCES.iter().filter(|source| source.name == name && source.text == text(path)).count();
            assert_eq!(same, 1, "{} is {same} times in SOURCES", path.display());
        }
        assert_eq!(SOURCES.len(), found.len());
        let headers = files(&root.join("include"), "cuh");
        for path in &headers {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert!(HEADERS.contains(&(name, text(path).as_str())), "{} is not in HEADERS", path.display());
        }
        assert_eq!(HEADERS.len(), headers.len());
    }
}
