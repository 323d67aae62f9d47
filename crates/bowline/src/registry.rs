//! The way to the registry.

use std::sync::Arc;

use bowline_core::{Error, Result};
use bowline_discovery::{Discovery, Registrar};
use bowline_telemetry::CallMetrics;

use crate::RegistrySettings;

/// Connects to the registry that `settings` name.
///
/// # Errors
/// If the target is malformed.
pub(crate) fn connect(
    settings: &RegistrySettings,
    _env: &str,
    _calls: &CallMetrics,
) -> Result<(Arc<dyn Discovery>, Arc<dyn Registrar>)> {
    Err(Error::unimplemented(format!("no registry adapter for {}", settings.target)))
}
