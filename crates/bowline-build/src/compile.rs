//! From `.proto` files to descriptors: finds them, compiles them with protox, keeps where they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use buffa_codegen::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use protox::file::FileResolver as _;

use crate::editions;
use crate::error::Error;
use crate::sources::Sources;

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
    let sources = Sources::new(includes);
    let of_editions = sources.of_editions();
    let mut compiler = protox::Compiler::with_file_resolver(sources);
    compiler.include_imports(true).include_source_info(true);
    let mut listed = Vec::new();
    for proto in protos {
        let name = import_name(proto, includes)?;
        compiler.open_file(proto).map_err(|err| refusal(&err, includes))?;
        listed.push(name);
    }
    let sources = Sources::new(includes);
    let on_disk = |name: &str| Some((name.to_owned(), sources.on_disk(name)?));
    let paths = compiler.files().filter_map(|file| on_disk(file.name())).collect();
    let mut files = decode(&compiler.encode_file_descriptor_set())?;
    for file in &mut files {
        if file.name.as_ref().is_some_and(|name| of_editions.borrow().contains(name)) {
            editions::finish(file);
        }
    }
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
    let sources = Sources::new(includes);
    if let Some(name) = sources.bundled(proto) {
        return Ok(name);
    }
    if !proto.is_file() {
        return Err(Error::new(format!(
            "{}: no such file; correct the path given to protos() (it is relative to the directory of Cargo.toml)",
            proto.display()
        )));
    }
    sources.resolve_path(proto).ok_or_else(|| {
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

/// Says what protox found wrong, with the path on disk in place of the import name, and a mend.
fn refusal(err: &protox::Error, includes: &[PathBuf]) -> Error {
    // protox's `Debug` is its one-line form with line and column.
    let mut text = format!("{err:?}");
    if let Some(name) = err.file() {
        let path = Sources::new(includes).on_disk(name).map(|path| path.display().to_string());
        let shown = path.as_deref().unwrap_or(name);
        text = match text.strip_prefix(name) {
            Some(rest) => format!("{shown}{rest}"),
            None => format!("{shown}: {text}"),
        };
    }
    if text.contains("import '") && text.ends_with("not found") {
        text.push_str(&format!(" in {}", shown(includes)));
    }
    if let Some((_, mend)) = MENDS.iter().find(|(complaint, _)| text.contains(complaint)) {
        text.push_str(&format!("; {mend}"));
    }
    Error::new(text)
}

/// What to do about the complaints protox makes most often.
const MENDS: &[(&str, &str)] = &[
    (" not found in ", "correct it, or add the directory it is relative to with includes()"),
    (" is not defined", "declare it, or import the file that declares it"),
    ("import cycle detected", "move what both need into a file of its own"),
    ("was listed twice", "remove one of the two"),
    ("multiple package names", "keep one"),
    ("is not valid utf-8", "save it as UTF-8"),
    (
        "required fields are not allowed",
        "leave the label away; an edition has [features.field_presence = LEGACY_REQUIRED] instead",
    ),
];
