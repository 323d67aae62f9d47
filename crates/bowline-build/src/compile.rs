//! From `.proto` files to descriptors: finds them, compiles them with protox, keeps where they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use buffa_codegen::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::bundled;
use crate::error::Error;

/// What protox made of the files, in an order where imports come before their importers.
pub(crate) struct Compiled {
    /// Every file, imports included, with source information.
    pub(crate) files: Vec<FileDescriptorProto>,
    /// The import names of the files that were asked for.
    pub(crate) listed: Vec<String>,
    /// Import name to path, for those that came from disk.
    pub(crate) paths: BTreeMap<String, PathBuf>,
}

/// Compiles `protos`, which lie below `includes`.
pub(crate) fn compile(protos: &[PathBuf], includes: &[PathBuf]) -> Result<Compiled, Error> {
    if protos.is_empty() {
        return Err(Error::new(
            "no .proto file is listed; name at least one: Config::new().protos([\"proto/shop/v1/shop.proto\"])",
        ));
    }
    for include in includes {
        if !include.is_dir() {
            return Err(Error::new(format!(
                "{}: no such directory; correct the path given to includes()",
                include.display()
            )));
        }
    }
    let mut compiler = protox::Compiler::with_file_resolver(Sources::new(includes));
    compiler.include_imports(true).include_source_info(true);
    let mut listed = Vec::new();
    for proto in protos {
        let name = import_name(proto, includes)?;
        compiler.open_file(proto).map_err(|err| refusal(&err, includes))?;
        listed.push(name);
    }
    let paths =
        compiler.files().filter_map(|file| Some((file.name().to_owned(), file.path()?.to_owned()))).collect();
    let files = decode(&compiler.encode_file_descriptor_set())?;
    Ok(Compiled { files, listed, paths })
}

fn decode(bytes: &[u8]) -> Result<Vec<FileDescriptorProto>, Error> {
    let options = buffa_codegen::tooling_decode_options().map_err(Error::new)?;
    let set = options
        .decode_from_slice::<FileDescriptorSet>(bytes)
        .map_err(|err| Error::new(format!("the compiled descriptors do not decode: {err}")))?;
    Ok(set.file)
}

/// The name a listed file is imported by: its path below one of the include roots.
fn import_name(proto: &Path, includes: &[PathBuf]) -> Result<String, Error> {
    if !proto.is_file() {
        return Err(Error::new(format!(
            "{}: no such file; correct the path given to protos() (it is relative to the directory of Cargo.toml)",
            proto.display()
        )));
    }
    Sources::new(includes).resolve_path(proto).ok_or_else(|| {
        Error::new(format!(
            "{}: lies below none of the include roots ({}); add its root with includes()",
            proto.display(),
            shown(includes)
        ))
    })
}

fn shown(includes: &[PathBuf]) -> String {
    let shown: Vec<String> = includes.iter().map(|include| include.display().to_string()).collect();
    shown.join(", ")
}

/// Says what protox found wrong, with the path on disk in place of the import name.
fn refusal(err: &protox::Error, includes: &[PathBuf]) -> Error {
    // protox's `Debug` is its one-line form with line and column.
    let mut text = format!("{err:?}");
    if let Some(name) = err.file() {
        let path = Sources::new(includes).on_disk(name);
        if let (Some(path), Some(rest)) = (path, text.strip_prefix(name)) {
            text = format!("{}{rest}", path.display());
        }
        if !text.contains(name) {
            text = format!("{name}: {text}");
        }
    }
    if text.contains("import '") && text.ends_with("not found") {
        let roots = shown(includes);
        text.push_str(&format!(
            " in {roots}; correct it, or add the directory it is relative to with includes()"
        ));
    }
    Error::new(text)
}

/// Looks a file up in the include roots, then among the bundled ones, then among protobuf's own.
#[derive(Debug)]
struct Sources {
    includes: Vec<PathBuf>,
    google: GoogleFileResolver,
}

impl Sources {
    fn new(includes: &[PathBuf]) -> Self {
        Self { includes: includes.to_vec(), google: GoogleFileResolver::new() }
    }

    fn on_disk(&self, name: &str) -> Option<PathBuf> {
        self.includes.iter().map(|include| include.join(name)).find(|path| path.is_file())
    }
}

impl FileResolver for Sources {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        let plain = |path: &Path| -> PathBuf { path.components().collect() };
        let path = plain(path);
        self.includes.iter().find_map(|include| {
            let include = plain(include);
            let below = if include.as_os_str() == "." { &path } else { path.strip_prefix(&include).ok()? };
            let parts: Option<Vec<&str>> = below
                .components()
                .map(|part| match part {
                    std::path::Component::Normal(part) => part.to_str(),
                    _ => None,
                })
                .collect();
            parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/"))
        })
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if let Some(path) = self.on_disk(name) {
            return File::open(name, &path);
        }
        match bundled::source(name) {
            Some(source) => File::from_source(name, source),
            None => self.google.open_file(name),
        }
    }
}
