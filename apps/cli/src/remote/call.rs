//! `bowline call`.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use bowline_client::Channel;
use bowline_core::{Context, Error, Result, WrapErr};
use bowline_discovery::{Dns, Resolver};
use bowline_rpc::dynamic::{Method, Schema};
use bowline_rpc::{Caller, Streaming};
use clap::Args;
use serde_json::Value;

use super::Registry;

/// How many messages of standard input wait to be sent.
const AHEAD: usize = 16;

#[derive(Args)]
pub(crate) struct CallArgs {
    /// What to call: `APPLICATION/METHOD` (`catalog/GetItem`) or `PACKAGE.SERVICE/METHOD`.
    method: String,
    /// A request in JSON; several for a method that takes a stream. `-` reads one a line from standard input.
    #[arg(long = "data", short = 'd', value_name = "JSON", default_value = "{}")]
    data: Vec<String>,
    /// Call this address or target instead of asking the registry: `127.0.0.1:9001`, `unix:/PATH`, `dns:///NAME:PORT`.
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// The time the whole call gets, such as 500ms or 10s.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Metadata to send, as `x-md-global-KEY:VALUE` or `x-md-local-KEY:VALUE`.
    #[arg(long = "header", short = 'H', value_name = "KEY:VALUE")]
    headers: Vec<String>,
    /// Show the methods instead of calling one: `bowline call catalog --list`.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    registry: Registry,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| "use a number and a unit, such as 500ms or 10s".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err("the unit is ms, s or m".into()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Calls a method and prints what it answers.
pub(crate) async fn call(args: CallArgs) -> Result<()> {
    let mut cx = Context::background().with_timeout(args.timeout);
    for header in &args.headers {
        let (key, value) = header
            .split_once(':')
            .ok_or_else(|| Error::invalid_argument(format!("`{header}` is no header; use KEY:VALUE")))?;
        cx = cx.with_metadata(&key.to_lowercase(), value.trim())?;
    }
    let (service, method) = match args.method.rsplit_once('/') {
        Some((service, method)) => (service, Some(method)),
        None => (args.method.as_str(), None),
    };
    let (caller, schema) = find(&cx, &args, service).await?;
    let Some(method) = method.filter(|_| !args.list) else {
        return list(&schema, service);
    };
    let method = pick(&schema, service, method)?;
    let mut answers = method.call(&cx, &caller, requests(args.data)).await.map_err(told)?;
    while let Some(answer) = answers.message().await.map_err(told)? {
        print(&answer)?;
    }
    Ok(())
}

/// The way to whoever serves it, and what that server says of itself.
async fn find(cx: &Context, args: &CallArgs, service: &str) -> Result<(Caller, Schema)> {
    if let Some(target) = &args.to {
        let resolver = Arc::new(Resolver::new().with_dns(Arc::new(Dns::system()?)));
        let is_address =
            !target.contains("://") && !target.starts_with("unix:") && !target.starts_with("memory:");
        let target = if is_address { format!("http://{target}") } else { target.clone() };
        return reflect(cx, &target, resolver).await;
    }
    let resolver = args.registry.resolver()?;
    let registered = args.registry.list().await?;
    let names: Vec<&str> = registered.iter().map(|one| one.service.as_str()).collect();
    if names.contains(&service) {
        return reflect(cx, &format!("discovery:///{service}"), resolver).await;
    }
    // A proto service: whichever application says that it has it.
    for name in &names {
        let Ok(found) = reflect(cx, &format!("discovery:///{name}"), Arc::clone(&resolver)).await else {
            continue;
        };
        if found.1.services().iter().any(|own| own == service) {
            return Ok(found);
        }
    }
    Err(Error::not_found(format!(
        "no registered application is called `{service}` or serves it; there are {}; or name an address with --to",
        if names.is_empty() { "none".into() } else { names.join(", ") }
    )))
}

async fn reflect(cx: &Context, target: &str, resolver: Arc<Resolver>) -> Result<(Caller, Schema)> {
    let caller = Channel::builder(target).resolver(resolver).build()?.caller()?;
    let schema =
        Schema::reflect(cx, &caller).await.with_context(|| format!("asking {target} what it serves"))?;
    Ok((caller, schema))
}

/// The method, its service named in full or, for an application, left to be found.
fn pick(schema: &Schema, service: &str, name: &str) -> Result<Method> {
    if schema.services().iter().any(|own| own == service) {
        return schema.method(service, name);
    }
    let has = |own: &&String| schema.methods(own).iter().any(|(method, _)| method == name);
    match schema.services().iter().filter(has).collect::<Vec<_>>()[..] {
        [only] => schema.method(only, name),
        [] => Err(Error::not_found(format!(
            "`{service}` has no method `{name}`; `bowline call {service} --list` shows what it has"
        ))),
        ref several => Err(Error::invalid_argument(format!(
            "`{name}` is a method of {}; write one of them instead of `{service}`",
            several.iter().map(|own| own.as_str()).collect::<Vec<_>>().join(" and of ")
        ))),
    }
}

fn list(schema: &Schema, service: &str) -> Result<()> {
    let all = !schema.services().iter().any(|own| own == service);
    for own in schema.services().iter().filter(|own| all || *own == service) {
        for (method, kind) in schema.methods(own) {
            let (client, server) = (
                if kind.client_streams() { "stream" } else { "one" },
                if kind.server_streams() { "stream" } else { "one" },
            );
            println!("{own}/{method}  {client} → {server}");
        }
    }
    Ok(())
}

fn requests(data: Vec<String>) -> Streaming<String> {
    if data != ["-"] {
        return Streaming::from_iter(data);
    }
    let (sender, requests) = Streaming::channel(AHEAD);
    // Standard input blocks; the thread ends with the input, or with the process.
    tokio::task::spawn_blocking(move || {
        let handle = tokio::runtime::Handle::current();
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if !line.trim().is_empty() && handle.block_on(sender.send(line)).is_err() {
                return;
            }
        }
    });
    requests
}

/// Prettily on a terminal, a line each for other programs.
fn print(json: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match serde_json::from_str::<Value>(json) {
        Ok(value) if std::io::stdout().is_terminal() => format!("{value:#}"),
        _ => json.to_owned(),
    };
    writeln!(out, "{text}").context("printing the answer")
}

/// An error of a service, with everything it said.
fn told(error: Error) -> Error {
    if !error.is_remote() {
        return error;
    }
    let mut message = format!("{} {}: {}", error.code(), error.reason(), error.message());
    for (key, value) in error.metadata() {
        message.push_str(&format!("\n  {key}: {value}"));
    }
    error.with_message(message)
}
