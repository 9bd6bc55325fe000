//! Which package may be built with which: the picture in docs/ARCHITECTURE.md, as a table.

use super::Finding;
use super::packages::Package;
use std::collections::BTreeMap;

/// What a member may be built with, among the members. Dependencies for tests are free.
#[derive(Clone, Copy)]
enum Layer {
    Only(&'static [&'static str]),
    /// Every published member.
    Published,
    /// Every member but those that serve tests.
    Anything,
    /// Every published member, and the fixtures.
    Tests,
    /// The kernels, and what runs them without a GPU.
    Driver,
}

const LAYERS: [(&str, Layer); 17] = [
    ("galatea-random", Layer::Only(&[])),
    ("galatea-schedules", Layer::Only(&[])),
    ("galatea-processes", Layer::Only(&["schedules", "random"])),
    ("galatea-samplers", Layer::Only(&["schedules", "processes", "random"])),
    ("galatea-tensor", Layer::Only(&[])),
    ("galatea-kernels", Layer::Only(&["tensor", "random"])),
    ("galatea-autograd", Layer::Only(&["tensor", "kernels", "random"])),
    ("galatea-models", Layer::Only(&["autograd", "tensor", "kernels", "schedules", "processes", "samplers", "random"])),
    ("galatea-text", Layer::Only(&["random", "schedules", "processes"])),
    (
        "galatea-train",
        Layer::Only(&[
            "models",
            "text",
            "autograd",
            "tensor",
            "kernels",
            "schedules",
            "processes",
            "samplers",
            "random",
        ]),
    ),
    ("galatea", Layer::Published),
    (INTERPRETER, Layer::Only(&[])),
    (DRIVER, Layer::Driver),
    (FIXTURES, Layer::Only(&[])),
    (TESTKIT, Layer::Tests),
    ("galatea-benches", Layer::Anything),
    ("xtask", Layer::Only(&[])),
];

/// Runs kernels in tests only, so nothing is built with it.
const INTERPRETER: &str = "galatea-interpreter";
/// Stands in for the driver of a GPU in its own tests.
const DRIVER: &str = "galatea-driver";
/// Serves tests only, so nothing but the test kit is built with it.
const FIXTURES: &str = "galatea-fixtures";
/// Holds everything against the originals' numbers, so nothing is built with it.
const TESTKIT: &str = "galatea-testkit";

/// The column of f64 and ndarray.
const MATH: [&str; 4] = ["galatea-random", "galatea-schedules", "galatea-processes", "galatea-samplers"];

/// What that column must not reach by any path.
const COMPUTE: [&str; 13] = [
    "galatea-tensor",
    "galatea-kernels",
    "galatea-autograd",
    "galatea-models",
    "galatea-text",
    "galatea-train",
    "galatea",
    "cudarc",
    "candle-core",
    "burn",
    "tch",
    "ort",
    "rayon",
];

/// Edges between members that are not in the table, and paths from the math column to a compute crate.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let members: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut findings = Vec::new();
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some((_, layer)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            let message = format!("{} has no place in the layers; add it to xtask/src/tidy/layering.rs", package.name);
            findings.push(Finding::error(&manifest, None, message));
            continue;
        };
        for target in package.dependencies.iter().filter_map(|name| members.get(name.as_str())) {
            if !allowed(*layer, target) {
                let message = format!("{} must not be built with {}", package.name, target.name);
                findings.push(Finding::error(&manifest, None, message));
            }
        }
        if MATH.contains(&package.name.as_str())
            && let Some(path) = path_to_compute(package, &members, &mut Vec::new())
        {
            let message = format!("the math column reaches a compute crate: {}", path.join(" -> "));
            findings.push(Finding::error(&manifest, None, message));
        }
    }
    findings
}

fn allowed(layer: Layer, target: &Package) -> bool {
    match layer {
        Layer::Only(names) => names.iter().any(|name| target.name.strip_prefix("galatea-") == Some(*name)),
        Layer::Published => target.published,
        Layer::Anything => ![FIXTURES, INTERPRETER, DRIVER, TESTKIT].contains(&target.name.as_str()),
        Layer::Driver => ["galatea-kernels", INTERPRETER].contains(&target.name.as_str()),
        Layer::Tests => target.published || target.name == FIXTURES,
    }
}

/// The names from `package` to the first compute crate that it is built with, if there is one.
fn path_to_compute<'a>(
    package: &'a Package,
    members: &BTreeMap<&str, &'a Package>,
    seen: &mut Vec<&'a str>,
) -> Option<Vec<&'a str>> {
    if seen.contains(&package.name.as_str()) {
        return None;
    }
    seen.push(&package.name);
    for name in &package.dependencies {
        if COMPUTE.contains(&name.as_str()) {
            return Some(vec![&package.name, name]);
        }
        let further = members.get(name.as_str()).and_then(|next| path_to_compute(next, members, seen));
        if let Some(mut path) = further {
            path.insert(0, &package.name);
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            folder: name.to_owned(),
            published: ![FIXTURES, INTERPRETER, DRIVER, TESTKIT, "galatea-benches", "xtask"].contains(&name),
            dependencies: dependencies.iter().map(ToString::to_string).collect(),
            ..Package::default()
        }
    }

    /// The messages for a workspace of all members where `name` has `dependencies` and the others have none.
    fn messages(name: &str, dependencies: &[&str]) -> Vec<String> {
        let members = LAYERS.iter().map(|(n, _)| package(n, if *n == name { dependencies } else { &[] }));
        check(&members.collect::<Vec<_>>()).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn the_edges_of_the_picture_are_allowed() {
        assert_eq!(messages("galatea-samplers", &["galatea-processes", "ndarray"]), Vec::<String>::new());
        assert_eq!(messages("galatea-kernels", &["galatea-tensor", "rayon"]), Vec::<String>::new());
        assert_eq!(messages("galatea", &["galatea-train", "galatea-kernels"]), Vec::<String>::new());
        assert_eq!(messages("galatea-benches", &["galatea-kernels", "galatea"]), Vec::<String>::new());
    }

    #[test]
    fn other_edges_are_not() {
        assert_eq!(messages("galatea-schedules", &["galatea-random"]).len(), 1);
        assert_eq!(messages("galatea-tensor", &["galatea-kernels"]).len(), 1);
        assert_eq!(messages("galatea-text", &["galatea-models"]).len(), 1);
        assert_eq!(messages("xtask", &["galatea"]).len(), 1);
    }

    #[test]
    fn nothing_is_built_with_what_serves_tests() {
        for (name, _) in LAYERS.iter().filter(|(name, _)| ![TESTKIT, DRIVER].contains(name)) {
            for tests in [FIXTURES, INTERPRETER, DRIVER, TESTKIT] {
                assert_eq!(messages(name, &[tests]), [format!("{name} must not be built with {tests}")]);
            }
        }
        assert_eq!(messages(TESTKIT, &[FIXTURES, "galatea-samplers"]), Vec::<String>::new());
        assert_eq!(messages(DRIVER, &[INTERPRETER, "galatea-kernels"]), Vec::<String>::new());
        assert_eq!(messages(DRIVER, &[FIXTURES]).len(), 1);
    }

    #[test]
    fn the_math_column_reaches_no_compute_crate_by_any_path() {
        let packages = [
            package("galatea-samplers", &["galatea-processes"]),
            package("galatea-processes", &["galatea-schedules", "galatea-random"]),
            package("galatea-schedules", &[]),
            package("galatea-random", &["cudarc"]),
        ];
        let messages: Vec<_> = check(&packages).into_iter().map(|finding| finding.message).collect();
        let path = "galatea-samplers -> galatea-processes -> galatea-random -> cudarc";
        assert!(messages.iter().any(|message| message.ends_with(path)), "{messages:?}");
        assert_eq!(messages.len(), 3);
    }

    #[test]
    fn a_member_without_a_layer_is_named() {
        assert!(check(&[package("galatea-new", &[])])[0].message.contains("has no place"));
    }
}
