//! Logs.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::time::SystemTime;

use bowline_core::{Error, Result, current};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Timer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, layer::SubscriberExt, reload};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// An object a line.
    Json,
    /// For people.
    Text,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How a line looks.
    pub format: Format,
    /// A level (`info`), or levels by module (`info,bowline_client=debug`): the syntax of `tracing`'s `EnvFilter`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".into() }
    }
}

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Logs to standard output from now on, for the whole process.
    ///
    /// # Errors
    /// If the level is malformed, or the process logs already.
    pub fn init(config: &LogConfig) -> Result<Self> {
        let (filter, handle) = reload::Layer::new(parse(&config.level)?);
        let json = match config.format {
            Format::Auto => !std::io::stdout().is_terminal(),
            Format::Json => true,
            Format::Text => false,
        };
        let ansi = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).event_format(Lines { json });
        tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))
            .map_err(|e| Error::failed_precondition("the process logs already").with_source(e))?;
        Ok(Self(handle))
    }

    /// The level now.
    pub fn level(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Sets the level.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is malformed.
    pub fn set_level(&self, level: &str) -> Result<()> {
        let filter = parse(level)?;
        self.0.reload(filter).map_err(|e| Error::internal("the log's filter is gone").with_source(e))
    }
}

fn parse(level: &str) -> Result<EnvFilter> {
    let wrong = || {
        Error::invalid_argument(format!(
            "`{level}` is no log level: use error, warn, info, debug or trace, or levels by module such as `info,shop=debug`"
        ))
    };
    // The filter would take any other word for a module, to be logged while everything else is not: a typing error would
    // end the log.
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_known = |part: &str| part.contains(['=', '[', ']']) || is_level(part);
    if !level.split(',').all(is_known) {
        return Err(wrong());
    }
    EnvFilter::builder().parse(level).map_err(|e| wrong().with_source(e))
}

struct Lines {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let request = request_fields();
        if self.json {
            json(&mut line, event, fields, request)
        } else {
            text(&mut line, event, &fields, &request)
        }
    }
}

/// The ids of the request that the line belongs to.
fn request_fields() -> Vec<(&'static str, String)> {
    current::with(|cx| {
        let mut fields = Vec::with_capacity(4);
        if let Some(id) = cx.request_id() {
            fields.push(("request_id", id.to_string()));
        }
        if let Some(trace) = cx.trace() {
            fields.push(("trace_id", trace.trace_id().to_string()));
            fields.push(("span_id", trace.span_id().to_string()));
        }
        if !cx.tenant().is_base() {
            fields.push(("tenant", cx.tenant().to_string()));
        }
        fields
    })
    .unwrap_or_default()
}

fn json(
    line: &mut Writer<'_>,
    event: &Event<'_>,
    fields: Fields,
    request: Vec<(&'static str, String)>,
) -> fmt::Result {
    let mut object = Map::new();
    let mut time = String::new();
    Timer.format_time(&mut Writer::new(&mut time))?;
    object.insert("time".into(), time.into());
    object.insert("level".into(), event.metadata().level().as_str().to_lowercase().into());
    object.insert("target".into(), event.metadata().target().into());
    object.insert("message".into(), fields.message.into());
    for (key, value) in request {
        object.insert(key.into(), value.into());
    }
    for (key, value) in fields.others {
        object.insert(key.into(), value);
    }
    writeln!(line, "{}", Value::Object(object))
}

fn text(
    line: &mut Writer<'_>,
    event: &Event<'_>,
    fields: &Fields,
    request: &[(&'static str, String)],
) -> fmt::Result {
    let (level, color) = match *event.metadata().level() {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => (" WARN", "33"),
        Level::INFO => (" INFO", "32"),
        Level::DEBUG => ("DEBUG", "34"),
        Level::TRACE => ("TRACE", "35"),
    };
    write!(line, "{} ", clock(SystemTime::now()))?;
    match line.has_ansi_escapes() {
        true => write!(line, "\x1b[{color}m{level}\x1b[0m")?,
        false => write!(line, "{level}")?,
    }
    write!(line, " {}", fields.message)?;
    for (key, value) in &fields.others {
        match value {
            Value::String(text) => write!(line, " {key}={text}")?,
            other => write!(line, " {key}={other}")?,
        }
    }
    for (key, value) in request.iter().filter(|(key, _)| *key != "span_id") {
        write!(line, " {key}={value}")?;
    }
    writeln!(line)
}

/// The time of day in UTC: a person who reads along knows the date.
fn clock(now: SystemTime) -> impl fmt::Display {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    fmt::from_fn(move |f| {
        write!(f, "{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    })
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.others.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message)
        } else {
            self.add(field, value.into())
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_and_other_words_refused() {
        for level in ["info", "OFF", "warn,shop=debug", "shop=debug", "info,[request{id}]=trace"] {
            assert!(parse(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,shop", "info,", "shop=loud", "=="] {
            let error = parse(level).unwrap_err().to_string();
            assert!(error.contains(&format!("`{level}` is no log level")), "{error}");
        }
    }
}
