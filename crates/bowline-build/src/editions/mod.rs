//! Edition 2023, which protox does not read.
//!
//! The text is brought into a form protox's parser takes ([`source`]); what editions add is then put
//! into the descriptors where it belongs ([`features`]): to protox the file is one of proto2, whose rules
//! are the widest, and [`finish`] says afterwards what it is.

mod features;
mod source;

use buffa::Message as _;
use buffa_codegen::generated::descriptor::{Edition, FileDescriptorProto};
use protox::file::File;
use protox::prost::Message as _;

use crate::error::Problems;
use crate::schema::Locations;

/// Parses `text` if it is of an edition; `None` if it has a syntax, or neither.
///
/// `shown` is the file's path, for errors.
pub(crate) fn parse(name: &str, shown: &str, text: &str) -> Option<Result<File, protox::Error>> {
    let edition = source::edition(text)?;
    if edition != "2023" {
        let line = source::line_of_edition(text);
        let told = format!("{shown}:{line}: edition {edition:?} is not supported; write edition = \"2023\"");
        return Some(Err(protox::Error::new(Told(told))));
    }
    Some(parse_2023(name, shown, text))
}

fn parse_2023(name: &str, shown: &str, text: &str) -> Result<File, protox::Error> {
    let parsed = File::from_source(name, &source::as_proto3(text))?;
    let encoded = parsed.file_descriptor_proto().encode_to_vec();
    let mut file = FileDescriptorProto::decode_from_slice(&encoded).map_err(protox::Error::new)?;
    let mut problems = Problems::default();
    let locations = Locations::of(&file, shown.to_owned());
    features::apply(&mut file, &locations, &mut problems);
    problems.into_result().map_err(|err| protox::Error::new(Told(err.to_string())))?;
    file.syntax = Some("proto2".to_owned());
    File::decode_file_descriptor_proto(file.encode_to_vec().as_slice()).map_err(protox::Error::new)
}

/// Marks a compiled file as what it was written as.
pub(crate) fn finish(file: &mut FileDescriptorProto) {
    file.syntax = Some("editions".to_owned());
    file.edition = Some(Edition::EDITION_2023);
}

/// An error that already says where; its `Debug` is its text, as that of protox's errors is.
struct Told(String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}
