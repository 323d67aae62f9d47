//! Finds what would not work before any code is written, and says how to mend it.

mod errors;
mod http;
mod naming;
mod template;

use crate::error::Problems;
use crate::schema::{Schema, Types};

pub(crate) use naming::modules;

/// Checks everything that can be told from the schema alone.
pub(crate) fn schema(schema: &Schema, types: &Types<'_>, problems: &mut Problems) {
    http::check(&schema.services, types, problems);
    errors::check(&schema.errors, problems);
    naming::check(schema, problems);
}
