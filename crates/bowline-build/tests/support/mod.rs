//! What the tests share: protos in a temporary directory, generated code, and one crate to compile it in.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, not marked as tests"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_build::{Config, Error};
use tempfile::TempDir;

/// A directory of `.proto` files and the code made of them.
pub(crate) struct Project {
    pub(crate) dir: TempDir,
}

impl Project {
    /// Writes `files`, given as path below `proto/` and text.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            let path = dir.path().join("proto").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn proto(&self, name: &str) -> PathBuf {
        self.dir.path().join("proto").join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// A configuration for these of the files, writing to [`Self::out`].
    pub(crate) fn config(&self, names: &[&str]) -> Config {
        Config::new()
            .protos(names.iter().map(|name| self.proto(name)))
            .includes([self.dir.path().join("proto")])
            .runtime("::bowline_rpc")
            .out_dir(self.out())
    }

    pub(crate) fn generate(&self, names: &[&str]) -> Result<(), Error> {
        self.config(names).compile()
    }

    /// The code of a package, parsed.
    pub(crate) fn package(&self, package: &str) -> syn::File {
        let path = self.out().join("bowline").join(format!("{package}.rs"));
        syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// What the error says, with the temporary directory cut off the paths.
    pub(crate) fn refusal(&self, names: &[&str]) -> String {
        let err = self.generate(names).expect_err("the protos are wrong");
        err.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

/// Generates for a single file and says what is wrong with it.
pub(crate) fn refusal(text: &str) -> String {
    Project::new(&[("a.proto", text)]).refusal(&["a.proto"])
}

/// The items of a module within a file, by a path of names.
pub(crate) fn module<'a>(items: &'a [syn::Item], path: &[&str]) -> &'a [syn::Item] {
    let Some((first, rest)) = path.split_first() else { return items };
    let found = items.iter().find_map(|item| match item {
        syn::Item::Mod(item) if item.ident == first => item.content.as_ref().map(|(_, items)| items),
        _ => None,
    });
    module(found.unwrap_or_else(|| panic!("no module {first}")), rest)
}

/// Compiles every given output directory as a module of one crate, with the stand-in runtime.
///
/// `extra` is code that uses what was generated; it stands at the root of the crate.
pub(crate) fn check(outputs: &BTreeMap<&str, PathBuf>, extra: &str) -> Result<(), String> {
    let root = TempDir::new().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let mut lib = format!("//! Generated code as a module of a strict crate.\n{STRICT}\n");
    for (name, out) in outputs {
        lib.push_str(&format!(
            "/// Generated.\npub mod {name} {{ include!({:?}); }}\n",
            out.join("bowline.rs")
        ));
    }
    write("user/src/lib.rs", &format!("{lib}{extra}"));
    write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"runtime\", \"user\"]\n");
    write("user/Cargo.toml", &manifest("user", "bowline-rpc = { path = \"../runtime\" }"));
    write("runtime/Cargo.toml", &manifest("bowline-rpc", RUNTIME_DEPENDENCIES));
    write("runtime/src/lib.rs", include_str!("runtime/lib.rs"));
    // The same versions as the workspace, and nothing fetched.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::copy(workspace.join("Cargo.lock"), root.path().join("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--package", "user"])
        .current_dir(root.path())
        .env("CARGO_TARGET_DIR", target_dir())
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    // The first few tell enough; one slip repeats for every message.
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors.lines().take(80).collect::<Vec<_>>().join("\n"))
}

/// Kept between runs, so that the dependencies are compiled once.
pub(crate) fn target_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("bowline-build-check")
}

fn manifest(name: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{dependencies}\n"
    )
}

const RUNTIME_DEPENDENCIES: &str = r#"
buffa = { version = "=0.9.2", features = ["json"] }
buffa-types = { version = "=0.9.2", features = ["json"] }
buffa-descriptor = { version = "=0.9.2", default-features = false, features = ["std", "reflect", "json"] }
serde = { version = "1", features = ["derive"] }
serde_json = "1"
"#;

/// What a user may have switched on; generated code must not be noisy about it.
const STRICT: &str = "#![forbid(unsafe_code)]\n#![deny(warnings, missing_docs, missing_debug_implementations, \
     unreachable_pub, unused_qualifications, rust_2018_idioms, single_use_lifetimes, trivial_casts)]";
