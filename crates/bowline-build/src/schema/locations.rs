//! Lines and comments of one file, by descriptor path.

use std::collections::HashMap;

use buffa_codegen::generated::descriptor::FileDescriptorProto;

use crate::error::Place;

/// Field numbers that make up descriptor paths.
pub(crate) mod path {
    /// `FileDescriptorProto.message_type`
    pub(crate) const MESSAGE: i32 = 4;
    /// `FileDescriptorProto.enum_type`
    pub(crate) const ENUM: i32 = 5;
    /// `FileDescriptorProto.service`
    pub(crate) const SERVICE: i32 = 6;
    /// `ServiceDescriptorProto.method`
    pub(crate) const METHOD: i32 = 2;
    /// `DescriptorProto.nested_type`
    pub(crate) const NESTED_MESSAGE: i32 = 3;
    /// `DescriptorProto.enum_type`
    pub(crate) const NESTED_ENUM: i32 = 4;
    /// `EnumDescriptorProto.value`
    pub(crate) const VALUE: i32 = 2;
}

/// Where the elements of a file stand, and what is written above them.
pub(crate) struct Locations {
    file: String,
    by_path: HashMap<Vec<i32>, (usize, String)>,
}

impl Locations {
    /// `shown` is the file as the user knows it.
    pub(crate) fn of(file: &FileDescriptorProto, shown: String) -> Self {
        let mut by_path = HashMap::new();
        for location in &file.source_code_info.location {
            let line = location.span.first().and_then(|line| usize::try_from(*line).ok()).unwrap_or(0) + 1;
            let comment = location
                .leading_comments
                .as_deref()
                .or(location.trailing_comments.as_deref())
                .unwrap_or_default();
            by_path.entry(location.path.clone()).or_insert_with(|| (line, comment.to_owned()));
        }
        Self { file: shown, by_path }
    }

    pub(crate) fn place(&self, path: &[i32]) -> Place {
        Place { file: self.file.clone(), line: self.by_path.get(path).map(|(line, _)| *line) }
    }

    pub(crate) fn comment(&self, path: &[i32]) -> String {
        self.by_path.get(path).map(|(_, comment)| comment.clone()).unwrap_or_default()
    }
}
