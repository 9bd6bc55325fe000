//! The members of the workspace, as `cargo metadata` prints them.

use super::Finding;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeSet;

/// One member of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) published: bool,
    /// The package's folder, relative to the root.
    pub(super) folder: String,
    /// The packages that it is built with: dependencies for tests are not among them.
    pub(super) dependencies: Vec<String>,
}

/// Reads the output of `cargo metadata --format-version 1 --no-deps`.
pub(super) fn parse(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("`cargo metadata` printed no JSON")?;
    let root = metadata["workspace_root"].as_str().context("`cargo metadata` named no workspace_root")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` listed no packages")?;
    packages.iter().map(|package| read(package, root)).collect()
}

/// A published package has a description for the registry and a README beside its manifest.
pub(super) fn check(packages: &[Package], paths: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package.published) {
        if package.description.trim().is_empty() {
            let manifest = format!("{}/Cargo.toml", package.folder);
            findings.push(Finding::error(&manifest, None, "a published package wants a description"));
        }
        let readme = format!("{}/README.md", package.folder);
        if !paths.contains(&readme) {
            findings.push(Finding::error(&readme, None, "a published package wants a README.md"));
        }
    }
    findings
}

fn read(package: &Value, root: &str) -> Result<Package> {
    let name = package["name"].as_str().context("`cargo metadata` listed a package without a name")?;
    let manifest = package["manifest_path"].as_str().with_context(|| format!("{name} has no manifest_path"))?;
    let folder = manifest.strip_prefix(root).and_then(|path| path.strip_suffix("Cargo.toml"));
    let folder = folder.with_context(|| format!("{name} lies outside of the workspace: {manifest}"))?;
    let dependencies = package["dependencies"].as_array().with_context(|| format!("{name} has no dependencies"))?;
    let built_with = dependencies.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
    Ok(Package {
        name: name.to_owned(),
        description: package["description"].as_str().unwrap_or_default().to_owned(),
        // `publish` lists the registries that are allowed: null is all of them, and none is an empty list.
        published: package["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        folder: folder.trim_matches('/').to_owned(),
        dependencies: built_with.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"workspace_root": "/w", "packages": [
        {"name": "a", "manifest_path": "/w/crates/a/Cargo.toml", "publish": null, "description": "does a",
         "dependencies": [{"name": "x", "kind": null}, {"name": "y", "kind": "build"}, {"name": "z", "kind": "dev"}]},
        {"name": "b", "manifest_path": "/w/b/Cargo.toml", "publish": [], "description": null, "dependencies": []},
        {"name": "c", "manifest_path": "/w/c/Cargo.toml", "publish": null, "description": " ", "dependencies": []}]}"#;

    #[test]
    fn what_only_tests_need_is_no_dependency() {
        let packages = parse(METADATA).expect("the text above is well formed");
        assert_eq!(packages[0].dependencies, ["x", "y"]);
        assert_eq!(packages[0].folder, "crates/a");
        assert_eq!(packages.iter().map(|package| package.published).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_published_package_wants_a_readme_and_a_description() {
        let packages = parse(METADATA).expect("the text above is well formed");
        let findings = check(&packages, &BTreeSet::from(["crates/a/README.md".to_owned()]));
        let paths: Vec<_> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["c/Cargo.toml", "c/README.md"]);
    }

    #[test]
    fn broken_metadata_is_an_error_and_no_empty_list() {
        assert!(parse("").is_err());
        assert!(parse(r#"{"workspace_root": "/w"}"#).is_err());
        assert!(parse(r#"{"workspace_root": "/w", "packages": [{}]}"#).is_err());
    }
}
