//! The command line. Subcommands are derived; the flags for settings are made from the one table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueHint};
use skep_settings::{Kind, SETTINGS, SettingSpec};

/// One system of a handful of machines: a store, cache and queue that speaks the Redis protocol and loses nothing.
#[derive(Parser, Debug)]
#[command(
    name = "skep",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run one node, in the foreground, until SIGTERM or Ctrl-C.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Show nodes, shards, leaders, lag and health of a running cluster; ends with 1 if it is not well.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// List the nodes of a running cluster, move everything off one, or remove one.
    #[command(subcommand, after_help = NODE_EXAMPLES)]
    Node(NodeCommand),
    /// Put a file's `[gateway]` in force on all nodes, at once or not at all.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Put an earlier version of the gateway's configuration in force again.
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Print the settings that `serve` would run with, as TOML, and where each comes from.
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ServeArgs),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions { shell: clap_complete::Shell },
}

const SERVE_EXAMPLES: &str = "\
Each flag is also a key of the TOML file (--data-dir: data-dir) and a variable
(SKEP_DATA_DIR). A flag beats the variable, the variable beats the file. The
password is a key or a variable (requirepass), never a flag. Sizes are bytes or
have a unit: k, m and g count in thousands, kb, mb and gb in 1024s.

Examples:
  skep serve
  skep serve --data-dir /var/lib/skep --maxmemory 4gb --maxmemory-policy allkeys-lru
  skep serve --config /etc/skep.toml
  SKEP_REQUIREPASS=secret skep serve --listen 0.0.0.0:6379

Three machines that form a cluster; the same on each, with its own address:
  SKEP_REQUIREPASS=secret skep serve --listen 10.0.0.1:6379 --peer-listen 10.0.0.1:7379 \\
      --join 10.0.0.1:7379,10.0.0.2:7379,10.0.0.3:7379";

const STATUS_EXAMPLES: &str = "\
Examples:
  skep status
  skep status --http 10.0.0.2:8379
  skep status --json | jq .problems";

const NODE_EXAMPLES: &str = "\
Examples:
  skep node list
  skep node drain n3                     then stop it, and:
  skep node remove n3
  SKEP_PASSWORD=secret skep node remove n3 --yes --http 10.0.0.1:8379";

const DRAIN_EXAMPLES: &str = "\
Ends when nothing is left on the node. It stays a member until it is removed.

Examples:
  skep node drain n3
  skep node drain n3 --undo              it takes copies again";

const REMOVE_EXAMPLES: &str = "\
A node that is up and holds copies is not removed: drain it, or stop it, first.
Of what a dead node held others get copies before it is removed.
A removed node's data directory cannot join again; an empty one can, under the
same name.

Examples:
  skep node remove n3
  skep node remove n3 --yes              asks nothing";

const APPLY_EXAMPLES: &str = "\
Checks the file, prints what changes, and returns when all nodes that answer
work by it. A file with a mistake changes nothing (exit status 2); what a node
cannot carry out, for want of a file or a port, is taken back on all (1). The
cluster keeps the last versions. If somebody else applied one meanwhile, nothing is
changed: look at theirs, and apply again.

Examples:
  skep apply gateway.toml --dry-run      what would change
  skep apply gateway.toml
  skep apply --list                      the versions that are kept
  skep apply --show                      the text in force
  skep apply --show 3 > gateway.toml";

const ROLLBACK_EXAMPLES: &str = "\
The earlier version becomes a new one. Without a number it is the one before the
newest, so that rolling back twice leads to where you were.

Examples:
  skep rollback
  skep rollback 3 --dry-run";

const CONFIG_EXAMPLES: &str = "\
Examples:
  skep config                            the defaults
  skep config --config /etc/skep.toml    checks the file, and shows what it amounts to";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(skep completions bash)
  skep completions fish > ~/.config/fish/completions/skep.fish";

#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// List the nodes.
    List(ListArgs),
    /// Move everything off a node.
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(DrainArgs),
    /// Take a node out of the cluster for good.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
}

/// Which node is asked.
#[derive(Args, Debug)]
pub struct HttpAt {
    /// The HTTP address of any node.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8379", value_hint = ValueHint::Hostname)]
    pub http: String,
}

/// Which node is told, and with which password.
#[derive(Args, Debug)]
pub struct TellAt {
    #[command(flatten)]
    pub http: HttpAt,
    /// Where that node takes clients, if it is not the address that the node tells.
    #[arg(long, value_name = "ADDR", value_hint = ValueHint::Hostname)]
    pub client: Option<String>,
    /// A file whose first line is the cluster's password [variable with the password: SKEP_PASSWORD].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub at: HttpAt,
    /// Print JSON, as `GET /api/v1/cluster` answers.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub at: HttpAt,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DrainArgs {
    /// The node's name or id.
    pub node: String,
    /// Let the node take copies again.
    #[arg(long)]
    pub undo: bool,
    /// Give up waiting after so long. The node goes on being drained.
    #[arg(long, value_name = "SECONDS", conflicts_with = "undo")]
    pub timeout: Option<u64>,
    #[command(flatten)]
    pub at: TellAt,
}

#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The node's name or id.
    pub node: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Give up after so long if others cannot take over what the node held.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    #[command(flatten)]
    pub at: TellAt,
}

#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// A TOML file with a table [gateway]; - for standard input.
    #[arg(required_unless_present_any = ["list", "show"], conflicts_with_all = ["list", "show"], value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Only say what would change.
    #[arg(long, conflicts_with_all = ["list", "show"])]
    pub dry_run: bool,
    /// List the versions that are kept.
    #[arg(long, conflicts_with = "show")]
    pub list: bool,
    /// Print a version's text; without a number that of the newest.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, default_missing_value = "0")]
    pub show: Option<u64>,
    #[command(flatten)]
    pub at: TellAt,
}

#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The version; without it the one before the newest.
    pub version: Option<u64>,
    /// Only say what would change.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub at: TellAt,
}

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Read settings from this TOML file [variable: SKEP_CONFIG].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// The settings given as flags, by name, in the order of the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SettingFlags {
    pub given: Vec<(&'static str, String)>,
}

fn flags() -> impl Iterator<Item = &'static SettingSpec> {
    SETTINGS.iter().filter(|spec| spec.is_flag())
}

impl Args for SettingFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        flags().fold(command, |command, spec| command.arg(flag(spec)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |spec: &SettingSpec| matches.get_one::<String>(spec.name).cloned();
        Ok(SettingFlags { given: flags().filter_map(|spec| Some((spec.name, value(spec)?))).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(spec: &'static SettingSpec) -> Arg {
    let arg = Arg::new(spec.name)
        .long(spec.name)
        .value_name(spec.placeholder())
        .help(help(spec))
        // The last one counts, so that a script can add to the flags that it was given.
        .overrides_with(spec.name)
        .allow_negative_numbers(true);
    match spec.kind {
        Kind::YesNo => arg.num_args(0..=1).require_equals(true).default_missing_value("yes"),
        Kind::Dir => arg.value_hint(ValueHint::DirPath),
        Kind::File => arg.value_hint(ValueHint::FilePath),
        _ => arg,
    }
}

fn help(spec: &SettingSpec) -> String {
    let mut help = spec.doc.to_owned();
    if let Kind::Choice(words) = spec.kind {
        help += &format!(" One of {}.", words.join(", "));
    }
    match (spec.default, spec.unit) {
        ("", _) => {}
        (default, "" | "bytes") => help += &format!(" [default: {default}]"),
        (default, unit) => help += &format!(" [default: {default} {unit}]"),
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn serve(args: &[&str]) -> Result<ServeArgs, clap::Error> {
        let cli = Cli::try_parse_from([&["skep", "serve"], args].concat())?;
        match cli.command {
            Command::Serve(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_those_of_the_table() {
        let args = serve(&[
            "--listen",
            "127.0.0.1:1",
            "--insecure",
            "--config",
            "f.toml",
            "--timeout",
            "-1",
            "--maxmemory=2gb",
        ])
        .unwrap();
        assert_eq!(args.config, Some(PathBuf::from("f.toml")));
        let given: Vec<(&str, &str)> = args.settings.given.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(
            given,
            [("listen", "127.0.0.1:1"), ("insecure", "yes"), ("maxmemory", "2gb"), ("timeout", "-1")]
        );
        assert_eq!(serve(&["--insecure=no"]).unwrap().settings.given, [("insecure", "no".to_owned())]);
    }

    #[test]
    fn of_a_flag_given_twice_the_last_counts() {
        let args = serve(&["--name", "a", "--listen", "127.0.0.1:1", "--name", "b"]).unwrap();
        assert_eq!(args.settings.given[0], ("name", "b".to_owned()));
    }

    #[test]
    fn a_password_is_no_flag_but_its_file_is() {
        assert!(serve(&["--requirepass", "x"]).is_err());
        assert!(serve(&["--requirepass-file", "x"]).is_ok());
    }

    #[test]
    fn a_mistyped_flag_is_answered_with_the_nearest() {
        let error = serve(&["--lisen", "x"]).unwrap_err().to_string();
        assert!(error.contains("--listen"), "{error}");
    }
}
