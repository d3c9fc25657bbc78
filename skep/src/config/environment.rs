//! Settings from the environment: `SKEP_DATA_DIR` for `data-dir`.

use std::ffi::OsString;
use std::path::PathBuf;

use skep_settings::nearest;

use super::{Given, Origin, Problem};

/// What the environment says.
pub(super) struct Environment {
    /// `SKEP_CONFIG`.
    pub config_file: Option<PathBuf>,
    pub given: Vec<Given>,
}

const PREFIX: &str = "SKEP_";
/// For the commands that talk to a running cluster; a shell from which nodes are started too may well have it.
const COMMANDS_PASSWORD: &str = "SKEP_PASSWORD";

/// Reads the variables that begin with `SKEP_`, in the order of their names.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    problems: &mut Vec<Problem>,
) -> Environment {
    let mut environment = Environment { config_file: None, given: Vec::new() };
    let mut ours: Vec<(String, OsString)> = variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    for (variable, value) in ours {
        if variable == "SKEP_CONFIG" {
            environment.config_file = Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
            continue;
        }
        let text = value.to_string_lossy();
        if variable == COMMANDS_PASSWORD || is_service_link(&variable, &text) {
            continue;
        }
        let name = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
        match skep_settings::find(&name) {
            Some(spec) if spec.variable() == variable && value.to_str().is_none() => {
                problems.push(Problem { place: variable, what: format!("`{}` is not UTF-8 text", spec.name) })
            }
            Some(spec) if spec.variable() == variable => environment.given.push(Given {
                name: spec.name.to_owned(),
                text: Ok(text.into_owned()),
                origin: Origin::Variable(variable),
            }),
            _ => problems.push(unknown(&variable, &name)),
        }
    }
    environment
}

fn unknown(variable: &str, name: &str) -> Problem {
    let near = nearest(name).and_then(skep_settings::find).map(|spec| spec.variable());
    Problem {
        place: String::new(),
        what: match near {
            Some(near) => format!("unknown variable `{variable}`; did you mean `{near}`?"),
            None => format!("unknown variable `{variable}`"),
        },
    }
}

/// True for the variables that Kubernetes puts into every container of a namespace with a service called `skep` or
/// `skep-…` (kubernetes.io, "Service: Environment variables"). They are not meant for us and must not stop us.
fn is_service_link(variable: &str, value: &str) -> bool {
    let is_url = value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
    let has_port_and_protocol = || {
        let words: Vec<&str> = variable.split('_').collect();
        words
            .windows(3)
            .any(|w| w[0] == "PORT" && w[1].parse::<u16>().is_ok() && matches!(w[2], "TCP" | "UDP" | "SCTP"))
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || variable.ends_with("_PORT") && is_url
        || has_port_and_protocol()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_kubernetes_services_are_not_settings() {
        for (variable, value, expected) in [
            ("SKEP_SERVICE_HOST", "10.0.0.1", true),
            ("SKEP_SERVICE_PORT", "6379", true),
            ("SKEP_SERVICE_PORT_RESP", "6379", true),
            ("SKEP_PORT", "tcp://10.0.0.1:6379", true),
            ("SKEP_PORT_6379_TCP", "tcp://10.0.0.1:6379", true),
            ("SKEP_PORT_6379_TCP_ADDR", "10.0.0.1", true),
            ("SKEP_HEADLESS_PORT_6379_TCP_PROTO", "tcp", true),
            ("SKEP_PORT", "6379", false),
            ("SKEP_LISTEN", "127.0.0.1:6379", false),
        ] {
            assert_eq!(is_service_link(variable, value), expected, "{variable}={value}");
        }
    }
}
