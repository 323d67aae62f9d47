//! Finds what would not work before any code is written.

use crate::error::Problems;
use crate::schema::{Schema, Types};

/// Checks everything.
pub(crate) fn schema(_schema: &Schema, _types: &Types<'_>, _problems: &mut Problems) {}
