//! The configuration of a node: defaults, under the file, under variables, under flags, and checked.
//!
//! Owns the layers and where each value came from. Names, kinds and ranges belong to `skep-settings`.
//! Invariant: a [`Config`] has passed every check; there is no other way to get one.

mod advertise;
mod check;
mod environment;
mod file;
mod show;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use advertise::advertised;
use skep_settings::{Effect, Kind, SETTINGS, SettingError, Settings, find};

/// Settings that passed every check, and where each came from.
#[derive(Debug)]
pub struct Config {
    pub settings: Settings,
    /// `[gateway]` of the file, if it has one.
    pub gateway: Option<Arc<skep_gate::Config>>,
    /// In the order of [`SETTINGS`].
    origins: Vec<Origin>,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    /// The name of this machine, for `name`.
    HostName,
    File {
        path: PathBuf,
        line: usize,
    },
    /// An environment variable, by name.
    Variable(String),
    /// A flag, by name without the dashes.
    Flag(&'static str),
}

/// One thing that is wrong with the configuration, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The place, such as `skep.toml:3`, `SKEP_LISTEN` or `--listen`; empty if it is in no single place.
    pub place: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.place, self.what)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::HostName => f.write_str("host name"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value on its way into the settings: what was given, and where.
struct Given {
    name: String,
    /// The text, or why the file's value is none that the setting can have.
    text: Result<String, String>,
    origin: Origin,
}

impl Config {
    /// Layers the file (`--config`, else the variable `SKEP_CONFIG`), `variables` and `flags` over the defaults, and
    /// checks the whole.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing, in the order file, variables, flags, whole.
    pub fn load(
        file: Option<PathBuf>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Config, Vec<Problem>> {
        let mut problems = Vec::new();
        let environment = environment::read(variables, &mut problems);
        let file = match file.or(environment.config_file) {
            Some(path) => file::read(&path, &mut problems),
            None => file::Contents::default(),
        };
        let mut given = file.given;
        given.extend(environment.given);
        given.extend(flags.into_iter().map(|(name, text)| Given {
            name: name.to_owned(),
            text: Ok(text),
            origin: Origin::Flag(name),
        }));

        let mut config = Config {
            settings: Settings::default(),
            gateway: file.gateway.map(Arc::new),
            origins: vec![Origin::Default; SETTINGS.len()],
        };
        for one in given {
            config.take(one, &mut problems);
        }
        config.name_after_host(&mut problems);
        config.read_password_file(&mut problems);
        problems.extend(check::check(&config));
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Where the value of `name` came from.
    ///
    /// # Panics
    /// If there is no such setting.
    pub fn origin(&self, name: &str) -> &Origin {
        &self.origins[row(name)]
    }

    /// The names of the settings that were given in any way.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = |origin: &Origin| !matches!(origin, Origin::Default | Origin::HostName);
        SETTINGS.iter().zip(&self.origins).filter(move |(_, origin)| given(origin)).map(|(spec, _)| spec.name)
    }

    /// The effective settings as a TOML file, each with a comment that says where it came from. Passwords are left out.
    pub fn to_toml(&self) -> String {
        show::to_toml(self)
    }

    fn take(&mut self, given: Given, problems: &mut Vec<Problem>) {
        let Given { name, text, origin } = given;
        match text.and_then(|text| set(&mut self.settings, &name, &text)) {
            Ok(()) => self.origins[row(&name)] = origin,
            Err(what) => problems.push(Problem { place: origin.to_string(), what }),
        }
    }

    fn name_after_host(&mut self, problems: &mut Vec<Problem>) {
        if !self.settings.name().is_empty() {
            return;
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        match self.settings.set("name", &host) {
            Ok(()) => self.origins[row("name")] = Origin::HostName,
            Err(error) => problems.push(Problem {
                place: "host name".to_owned(),
                what: format!("{error}; give the node another with --name"),
            }),
        }
    }

    /// Puts the first line of `requirepass-file` into `requirepass`.
    fn read_password_file(&mut self, problems: &mut Vec<Problem>) {
        let path = self.settings.requirepass_file().to_owned();
        if path.is_empty() {
            return;
        }
        let origin = self.origin("requirepass-file").clone();
        let place = origin.to_string();
        if *self.origin("requirepass") != Origin::Default {
            let what = format!(
                "`requirepass-file` and `requirepass` ({}) exclude each other; leave one out",
                self.origin("requirepass")
            );
            return problems.push(Problem { place, what });
        }
        let password = match file::read_text(Path::new(&path)) {
            Ok(text) => text.lines().next().unwrap_or("").to_owned(),
            Err(error) => {
                return problems.push(Problem { place, what: format!("`requirepass-file` {path}: {error}") });
            }
        };
        if password.is_empty() {
            let what = format!("`requirepass-file` {path}: the first line is empty, it must be the password");
            return problems.push(Problem { place, what });
        }
        match self.settings.set("requirepass", &password) {
            Ok(()) => self.origins[row("requirepass")] = origin,
            Err(error) => problems.push(Problem { place, what: format!("{path}: {error}") }),
        }
    }
}

/// Sets what may be given at start. `true` and `false` are as good as `yes` and `no` here.
fn set(settings: &mut Settings, name: &str, text: &str) -> Result<(), String> {
    // Keys and variables have one spelling each; only CONFIG ignores the case.
    let unknown = || SettingError::Unknown { name: name.to_owned() }.to_string();
    let spec = find(name).filter(|spec| spec.name == name).ok_or_else(unknown)?;
    if !spec.at_start() {
        return Err(match spec.effect {
            Effect::Remembered => {
                format!(
                    "`{name}` is a Redis setting without effect in skep ({}); remove it",
                    reason(spec.kind, spec.doc)
                )
            }
            Effect::Reported => format!("`{name}` is changed by CONFIG SET only; remove it"),
            _ => format!("`{name}` is a fact about skep that cannot be set; remove it"),
        });
    }
    let text = match (spec.kind, text) {
        (Kind::YesNo, "true" | "1") => "yes",
        (Kind::YesNo, "false" | "0") => "no",
        _ => text,
    };
    settings.set(name, text).map_err(|error| error.to_string())
}

fn reason(kind: Kind, doc: &'static str) -> String {
    match kind {
        Kind::Alias(of) => format!("an older name of {of}"),
        _ => {
            let mut letters = doc.trim_end_matches('.').chars();
            let first = letters.next().map(|c| c.to_ascii_lowercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

fn row(name: &str) -> usize {
    SETTINGS.iter().position(|spec| spec.name == name).expect("the caller names a row of the table")
}
