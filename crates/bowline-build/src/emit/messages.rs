//! Messages and plain enums, by buffa.

use buffa_codegen::context::CodeGenContext;
use buffa_codegen::generated::descriptor::FileDescriptorProto;
use buffa_codegen::idents::rust_path_to_tokens;
use buffa_codegen::{CodeGenConfig, GeneratedFileKind};
use proc_macro2::TokenStream;

use super::needed::is_well_known;
use crate::error::Error;

/// The messages of one package.
pub(crate) struct Messages {
    pub(crate) package: String,
    pub(crate) code: syn::File,
}

/// How messages are generated: JSON for REST and the Connect protocol, unknown fields kept so that a proxy or an old peer loses
/// nothing, no views because handlers and clients take messages by value.
pub(crate) fn config(files: &[FileDescriptorProto]) -> CodeGenConfig {
    let mut config = CodeGenConfig::default();
    config.generate_json = true;
    config.generate_views = false;
    config.preserve_unknown_fields = true;
    config.file_per_package = true;
    config.allow_message_set = true;
    config.extern_paths = well_known_types(files);
    config
}

/// Maps the types of `google.protobuf` one by one, because not the whole package is in the runtime.
fn well_known_types(files: &[FileDescriptorProto]) -> Vec<(String, String)> {
    let in_runtime = files.iter().filter(|file| {
        let is_descriptor = file.name.as_deref() == Some("google/protobuf/descriptor.proto");
        // buffa maps that one by itself.
        is_well_known(file) && file.package.as_deref() == Some("google.protobuf") && !is_descriptor
    });
    in_runtime
        .flat_map(|file| {
            let messages = file.message_type.iter().filter_map(|message| message.name.as_deref());
            messages.chain(file.enum_type.iter().filter_map(|decl| decl.name.as_deref()))
        })
        .map(|name| (format!(".google.protobuf.{name}"), format!("::buffa_types::google::protobuf::{name}")))
        .collect()
}

/// Generates the messages of `wanted`, one unit per package.
pub(crate) fn generate(
    files: &[FileDescriptorProto],
    wanted: &[String],
    config: &CodeGenConfig,
) -> Result<Vec<Messages>, Error> {
    let generated = buffa_codegen::generate(files, wanted, config)
        .map_err(|err| Error::new(format!("messages cannot be generated: {err}")))?;
    let packages = generated.into_iter().filter(|file| file.kind == GeneratedFileKind::PackageMod);
    packages
        .map(|file| {
            let code = syn::parse_file(&file.content).map_err(|err| {
                Error::new(format!("messages of package {:?} are no valid Rust: {err}", file.package))
            })?;
            Ok(Messages { package: file.package, code })
        })
        .collect()
}

/// Finds the Rust type of a message.
pub(crate) struct Resolver<'a>(CodeGenContext<'a>);

impl<'a> Resolver<'a> {
    /// The same files and the same `config` as [`generate`], so that both agree on every path.
    pub(crate) fn new(
        files: &'a [FileDescriptorProto],
        wanted: &[String],
        config: &'a CodeGenConfig,
    ) -> Self {
        Self(CodeGenContext::for_generate(files, wanted, config))
    }

    /// The path of `.package.Message` as seen from a module directly below that of `package`.
    pub(crate) fn path(&self, message: &str, package: &str) -> Result<TokenStream, Error> {
        match self.0.rust_type_relative(message, package, 1) {
            Some(path) => Ok(rust_path_to_tokens(&path)),
            None => Err(Error::new(format!(
                "{message} is not among the compiled files; list the file that has it"
            ))),
        }
    }
}
