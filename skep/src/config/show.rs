//! The effective settings as a TOML file, for `skep config`.

use std::fmt::Write;

use skep_settings::{Kind, SETTINGS, SettingSpec, human_bytes};
use toml::Value;

use super::{Config, Origin};

/// The column at which the origins begin, if the values are not longer.
const COMMENT_COLUMN: usize = 50;

pub(super) fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    for spec in SETTINGS.iter().filter(|spec| spec.at_start()) {
        let origin = config.origin(spec.name);
        let line = match (spec.kind, origin) {
            (Kind::Secret, Origin::Default) => format!("{} = \"\"", spec.name),
            // The value would end up in a terminal, a ticket or a log. A file in which it is missing is also the one
            // that should be passed on.
            (Kind::Secret, _) => format!("# {} is set and not shown", spec.name),
            _ => format!("{} = {}", spec.name, value(config, spec)),
        };
        writeln!(out, "{line:COMMENT_COLUMN$} # {origin}").expect("a String takes every write");
    }
    if let Some(gateway) = &config.gateway {
        write!(out, "\n{}", gateway.text()).expect("a String takes every write");
    }
    out
}

fn value(config: &Config, spec: &SettingSpec) -> Value {
    let text = config.settings.get(spec.name).expect("a row of the table has a value");
    match spec.kind {
        Kind::YesNo => Value::Boolean(text == "yes"),
        Kind::Peers => {
            Value::Array(config.settings.join().iter().map(|peer| Value::String(peer.clone())).collect())
        }
        Kind::Int { .. } => text.parse().map_or(Value::String(text), Value::Integer),
        Kind::Bytes { .. } => Value::String(text.parse().map_or(text, human_bytes)),
        // The same value, in a form that is easier to read than plain bytes.
        Kind::OutputLimits if *config.origin(spec.name) == Origin::Default => {
            Value::String(spec.default.to_owned())
        }
        _ => Value::String(text),
    }
}
