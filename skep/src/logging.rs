//! Log lines on standard error, as text for people or one JSON object a line.

use std::io::IsTerminal;

use skep_settings::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;

/// Sends log lines of `level` and above to standard error, and panics as such a line before the usual message.
/// A second call changes nothing.
pub fn start(level: LogLevel, format: LogFormat) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .with_writer(std::io::stderr)
        .with_target(matches!(level, LogLevel::Debug | LogLevel::Trace));
    let installed = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => lines.with_ansi(colours()).try_init(),
    };
    if installed.is_ok() {
        log_panics();
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// no-color.org: the variable, if not empty, turns colours off.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn log_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        tracing::error!(place, "bug: {}", panic.payload_as_str().unwrap_or("panic without a text"));
        usual(panic);
    }));
}
