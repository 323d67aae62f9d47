//! What to generate, from what, into where.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use buffa::Message as _;
use buffa_codegen::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};

use crate::check;
use crate::compile::{Compiled, compile};
use crate::emit::{self, Output, Resolver, Runtime};
use crate::error::{Error, Problems};
use crate::schema::{self, Locations, Schema, Types};

/// Generates code from `.proto` files; [`Config::compile`] is the last line of a build script.
///
/// ```no_run
/// # fn main() -> Result<(), bowline_build::Error> {
/// bowline_build::Config::new()
///     .protos(["proto/shop/catalog/v1/catalog.proto"])
///     .includes(["proto"])
///     .compile()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    protos: Vec<PathBuf>,
    includes: Vec<PathBuf>,
    runtime: String,
    out_dir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Nothing to compile yet; the runtime is `::bowline::rpc`.
    pub fn new() -> Self {
        Self { protos: Vec::new(), includes: Vec::new(), runtime: "::bowline::rpc".to_owned(), out_dir: None }
    }

    /// Adds files to compile, by path, relative to the directory of `Cargo.toml`.
    ///
    /// Services and error enums become code only for these; messages also for the imports they need.
    #[must_use]
    pub fn protos<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.protos.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Adds directories that imports are relative to. Without any, it is the directory of `Cargo.toml`.
    ///
    /// `google/protobuf/*`, `google/api/{annotations,http,httpbody}.proto`,
    /// `google/rpc/{code,status,error_details}.proto` and `bowline/api/errors.proto` are found without
    /// being there; a file of the same name here wins over the one that comes with this crate.
    #[must_use]
    pub fn includes<P: AsRef<Path>>(mut self, roots: impl IntoIterator<Item = P>) -> Self {
        self.includes.extend(roots.into_iter().map(|root| root.as_ref().to_owned()));
        self
    }

    /// The path generated code finds its runtime at. Default: `::bowline::rpc`.
    ///
    /// A crate that depends on `bowline-rpc` instead of `bowline` says `::bowline_rpc`.
    #[must_use]
    pub fn runtime(mut self, path: impl Into<String>) -> Self {
        self.runtime = path.into();
        self
    }

    /// Writes somewhere else than to `OUT_DIR`, and prints nothing for cargo.
    #[must_use]
    pub fn out_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(directory.into());
        self
    }

    /// Compiles the files and writes the code: `bowline.rs`, which is the one to include, and
    /// `bowline/` with what it includes in turn.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the files, each with its line and its mend; or that a file cannot
    /// be read or written.
    pub fn compile(self) -> Result<(), Error> {
        let (directory, for_cargo) = match self.out_dir {
            Some(ref directory) => (directory.clone(), false),
            None => (out_dir()?, true),
        };
        let includes = if self.includes.is_empty() { vec![PathBuf::from(".")] } else { self.includes };
        let compiled = compile(&self.protos, &includes)?;
        if for_cargo {
            announce(&compiled)?;
        }
        let output = generate(compiled, &Runtime::new(&self.runtime)?)?;
        write(&directory, output)
    }
}

fn out_dir() -> Result<PathBuf, Error> {
    std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| {
        Error::new("OUT_DIR is not set; call compile() from build.rs, or say where to write with out_dir()")
    })
}

/// Tells cargo which files the code depends on: those that were read, and no others.
fn announce(compiled: &Compiled) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    for path in compiled.paths.values() {
        writeln!(out, "cargo:rerun-if-changed={}", path.display())
            .map_err(|err| Error::new(format!("cannot write to cargo: {err}")))?;
    }
    Ok(())
}

fn generate(compiled: Compiled, runtime: &Runtime) -> Result<Output, Error> {
    let wanted = emit::needed(&compiled.files, &compiled.listed);
    let schema = read(&compiled, &wanted);
    let mut problems = Problems::default();
    check::schema(&schema, &Types::of(&compiled.files), &mut problems);
    problems.into_result()?;

    let config = emit::config(&compiled.files);
    let messages = emit::generate(&compiled.files, &wanted, &config)?;
    let mut problems = Problems::default();
    check::modules(&schema, &messages, &mut problems);
    problems.into_result()?;

    let resolver = Resolver::new(&compiled.files, &wanted, &config);
    let descriptors = embedded(compiled.files.clone());
    emit::assemble(messages, &schema, &resolver, runtime, descriptors)
}

fn read(compiled: &Compiled, wanted: &[String]) -> Schema {
    let mut schema = Schema::default();
    for file in &compiled.files {
        let Some(name) = file.name.as_ref().filter(|name| wanted.contains(name)) else { continue };
        let shown = compiled.paths.get(name).map_or(name.clone(), |path| path.display().to_string());
        let locations = Locations::of(file, shown);
        schema::read_types(file, &locations, &mut schema);
        if compiled.listed.contains(name) {
            schema::read(file, &locations, &mut schema);
        }
    }
    schema
}

/// The descriptors as they go into the binary: without lines and comments.
fn embedded(mut files: Vec<FileDescriptorProto>) -> Vec<u8> {
    for file in &mut files {
        file.source_code_info.take();
    }
    FileDescriptorSet { file: files, ..Default::default() }.encode_to_vec()
}

fn write(directory: &Path, output: Output) -> Result<(), Error> {
    let failed = |path: &Path, err: std::io::Error| {
        Error::new(format!("{}: cannot be written: {err}", path.display()))
    };
    let packages = directory.join("bowline");
    if packages.exists() {
        // Packages that are gone leave no file behind.
        std::fs::remove_dir_all(&packages).map_err(|err| failed(&packages, err))?;
    }
    std::fs::create_dir_all(&packages).map_err(|err| failed(&packages, err))?;
    for (path, content) in output {
        let path = directory.join(path);
        std::fs::write(&path, content).map_err(|err| failed(&path, err))?;
    }
    Ok(())
}
