//! Generated code compiles, whatever the protos: one crate, one `cargo check`.

#![allow(clippy::unwrap_used, reason = "helpers of tests, not marked as tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_build::Config;
use support::Project;
use tempfile::TempDir;

/// Pinned, so that a new release of the package is a change of ours and not of the weather.
const COMMON_PROTOS: &str = "googleapis-common-protos==1.70.0";

#[test]
fn every_common_proto_and_every_corner_of_the_language_compiles() {
    let common = common_protos();
    let shop = shop();
    let outputs = BTreeMap::from([("common", common.path().to_owned()), ("shop_api", shop.out())]);
    if let Err(err) = support::check(&outputs, USES) {
        panic!("generated code does not compile:\n{err}");
    }
}

/// Generates all files of the wheel at once.
fn common_protos() -> TempDir {
    let root = unpacked_wheel();
    let mut protos = Vec::new();
    find(&root, &mut protos);
    assert!(protos.len() > 50, "{} files", protos.len());
    let out = TempDir::new().unwrap();
    let config = Config::new().protos(protos).includes([root]).runtime("::bowline_rpc");
    config.out_dir(out.path()).compile().unwrap();
    out
}

/// The wheel's files: downloaded once, then found below the target directory.
fn unpacked_wheel() -> PathBuf {
    let kept = support::target_dir().join(COMMON_PROTOS.replace("==", "-"));
    if kept.is_dir() {
        return kept;
    }
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let wheel = TempDir::new_in(kept.parent().unwrap()).unwrap();
    let python = |arguments: &[&str]| {
        let output = Command::new("python3").args(arguments).current_dir(wheel.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", COMMON_PROTOS]);
    let file = std::fs::read_dir(wheel.path()).unwrap().next().unwrap().unwrap().path();
    python(&["-m", "zipfile", "-e", file.to_str().unwrap(), "protos"]);
    // Complete, or not there.
    std::fs::rename(wheel.path().join("protos"), &kept).unwrap();
    kept
}

fn find(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            out.push(path);
        }
    }
    out.sort();
}

/// A project that uses what the language has.
fn shop() -> Project {
    let files: &[(&str, &str)] = &[
        ("shop/catalog/v1/catalog.proto", include_str!("protos/catalog.proto")),
        ("shop/money/v1/money.proto", include_str!("protos/money.proto")),
        ("shop/modern/v1/modern.proto", include_str!("protos/modern.proto")),
        ("shop/names/v1/names.proto", include_str!("protos/names.proto")),
        ("shop/only/v1/only.proto", include_str!("protos/only.proto")),
        ("legacy.proto", include_str!("protos/legacy.proto")),
    ];
    let project = Project::new(files);
    let listed = [
        "shop/catalog/v1/catalog.proto",
        "shop/modern/v1/modern.proto",
        "shop/names/v1/names.proto",
        "shop/only/v1/only.proto",
        "legacy.proto",
    ];
    project.generate(&listed).unwrap();
    project
}

/// What a user writes against the generated code.
const USES: &str = include_str!("protos/uses.rs");
