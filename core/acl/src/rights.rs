//! What a user may do on this node: its rules made into a set of commands of this node's table, and commands checked
//! against it.

use skep_base::{Args, glob};
use skep_command::{
    COMMAND_COUNT, COMMANDS, Categories, CommandId, CommandSpec, KeyFlags, lookup_full, resolve,
    sort_patterns,
};

use crate::user::{KeyPattern, Selector, User};

const WORDS: usize = COMMAND_COUNT.div_ceil(64);

/// The part of a command that is denied. A later one says more of why: the command itself was allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Denied {
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
    /// This option of SORT, which reads keys that are not among the arguments: it needs the right to read every key.
    Pattern(&'static str),
}

impl Denied {
    /// What an error says to who was denied something: no more than it knows. Redis's words, behind `NOPERM`.
    pub fn brief(self, user: &[u8], command: &CommandSpec) -> String {
        match self {
            Denied::Command => self.at_length(user, command, &[]),
            Denied::Key(_) => "No permissions to access a key".into(),
            Denied::Channel(_) => "No permissions to access a channel".into(),
            Denied::Pattern(_) => self.at_length(user, command, &[]),
        }
    }

    /// What `ACL DRYRUN` says of it; `object` is the key or channel.
    pub fn at_length(self, user: &[u8], command: &CommandSpec, object: &[u8]) -> String {
        let (user, object) = (String::from_utf8_lossy(user), String::from_utf8_lossy(object));
        match self {
            Denied::Command => {
                format!("User {user} has no permissions to run the '{}' command", command.name)
            }
            Denied::Key(_) => format!("User {user} has no permissions to access the '{object}' key"),
            Denied::Channel(_) => format!("User {user} has no permissions to access the '{object}' channel"),
            Denied::Pattern(option) => {
                format!("{option} option of SORT denied due to insufficient ACL permissions.")
            }
        }
    }
}

/// A user's rights.
#[derive(Clone, Debug)]
pub struct Rights {
    selectors: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    /// A bit for each command of the table.
    commands: [u64; WORDS],
    /// Commands that are allowed with this first argument alone.
    first_arguments: Vec<(CommandId, Vec<u8>)>,
    /// `None`: all.
    keys: Option<Vec<KeyPattern>>,
    channels: Option<Vec<Vec<u8>>>,
}

impl Rights {
    /// Cost: O(commands) for each rule about a category.
    pub fn of(user: &User) -> Rights {
        Rights { selectors: std::iter::once(&user.root).chain(&user.selectors).map(Compiled::of).collect() }
    }

    /// True if nothing is ever denied.
    pub fn is_unlimited(&self) -> bool {
        let has_all = |c: &Compiled| (0..COMMAND_COUNT).all(|id| c.commands[id / 64] & 1 << (id % 64) != 0);
        self.selectors.iter().any(|s| s.keys.is_none() && s.channels.is_none() && has_all(s))
    }

    /// Whether a command may run with these arguments, its name at 0. `args` must have passed the check of their number.
    ///
    /// # Errors
    /// What is denied; of several selectors the one that comes closest says it, as in Redis.
    pub fn check(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<(), Denied> {
        if command.name == "once" {
            self.check_one(command, args)?;
            // Its keys are those of the inner command.
            const INNER: usize = 2;
            let inner = args.from(INNER);
            return match resolve(inner) {
                Ok(command) => self.check_one(command, inner).map_err(|denied| match denied {
                    Denied::Command => Denied::Command,
                    Denied::Key(at) => Denied::Key(at + INNER),
                    Denied::Channel(at) => Denied::Channel(at + INNER),
                    Denied::Pattern(option) => Denied::Pattern(option),
                }),
                Err(_) => Ok(()),
            };
        }
        self.check_one(command, args)
    }

    fn check_one(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<(), Denied> {
        let mut closest = Denied::Command;
        for selector in &self.selectors {
            match selector.check(command, args) {
                Ok(()) => return Ok(()),
                Err(denied) => closest = closest.max(denied),
            }
        }
        Err(closest)
    }

    /// Whether the command may be called at all, whatever its keys.
    pub fn may_call(&self, command: &'static CommandSpec, args: Args<'_>) -> bool {
        self.selectors.iter().any(|selector| selector.has_command(command, args))
    }

    /// Whether messages of a channel, or of a pattern, may be received.
    pub fn may_receive(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors.iter().any(|selector| selector.has_channel(channel, is_pattern))
    }
}

impl Compiled {
    fn of(selector: &Selector) -> Compiled {
        let mut compiled = Compiled {
            commands: [if selector.all_commands { u64::MAX } else { 0 }; WORDS],
            first_arguments: Vec::new(),
            keys: (!selector.all_keys).then(|| selector.keys.clone()),
            channels: (!selector.all_channels).then(|| selector.channels.clone()),
        };
        for (allow, what) in &selector.commands {
            compiled.apply(*allow, what);
        }
        compiled
    }

    /// What this table does not have is passed over: another node knows it.
    fn apply(&mut self, allow: bool, what: &str) {
        if let Some(category) = what.strip_prefix('@') {
            if let Some(category) = Categories::named(category.as_bytes()) {
                COMMANDS.iter().filter(|c| c.categories.has(category)).for_each(|c| self.set(c, allow));
            }
        } else if let Some(command) = lookup_full(what.as_bytes()) {
            self.set(command, allow);
        } else if let Some((command, first)) = what.split_once('|')
            && let Some(command) = lookup_full(command.as_bytes())
            && !command.is_container()
            && allow
        {
            self.first_arguments.push((command.id(), first.as_bytes().to_vec()));
        }
    }

    /// Allows or denies a command, with its subcommands.
    fn set(&mut self, command: &'static CommandSpec, allow: bool) {
        self.first_arguments.retain(|(id, _)| *id != command.id());
        for command in std::iter::once(command).chain(command.subcommands()) {
            let (word, bit) = (command.id().index() / 64, 1 << (command.id().index() % 64));
            if allow {
                self.commands[word] |= bit;
            } else {
                self.commands[word] &= !bit;
            }
        }
    }

    fn check(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<(), Denied> {
        if !self.has_command(command, args) {
            return Err(Denied::Command);
        }
        if let Some(patterns) = &self.keys
            && !command.keys.is_empty()
            // Where the keys cannot be told, the command will answer with an error and touch nothing.
            && let Ok(keys) = command.keys(args)
        {
            for key in keys.iter() {
                if !has_key(patterns, &args[key.index], key.flags) {
                    return Err(Denied::Key(key.index));
                }
            }
        }
        if self.channels.is_some() {
            let (channels, is_pattern) = channels_of(command, args);
            for at in channels {
                if !self.has_channel(&args[at], is_pattern) {
                    return Err(Denied::Channel(at));
                }
            }
        }
        if !self.reads_all()
            // A BY that names no keys only says that nothing is to be sorted. GET is denied in any case, as in Redis.
            && let Some(denied) = sort_patterns(command, args).find(|p| p.option == "GET" || p.names_keys())
        {
            return Err(Denied::Pattern(denied.option));
        }
        Ok(())
    }

    fn has_command(&self, command: &'static CommandSpec, args: Args<'_>) -> bool {
        let id = command.id();
        self.commands[id.index() / 64] & 1 << (id.index() % 64) != 0
            // Logging in, and out, is never denied.
            || command.flags.has(skep_command::Flags::NO_AUTH)
            || args.get(1).is_some_and(|first| {
                self.first_arguments.iter().any(|(of, allowed)| *of == id && allowed.eq_ignore_ascii_case(first))
            })
    }

    fn has_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.channels.as_ref().is_none_or(|allowed| {
            allowed
                .iter()
                .any(|pattern| if is_pattern { pattern == channel } else { glob::matches(pattern, channel) })
        })
    }

    fn reads_all(&self) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.read && key.pattern == b"*"))
    }
}

/// One pattern must allow all that is done to the key.
fn has_key(patterns: &[KeyPattern], key: &[u8], flags: KeyFlags) -> bool {
    let reads = flags.has(KeyFlags::ACCESS);
    let writes = flags.has_any(KeyFlags::UPDATE.and(KeyFlags::INSERT).and(KeyFlags::DELETE));
    patterns.iter().any(|allowed| {
        (allowed.read || !reads) && (allowed.write || !writes) && glob::matches(&allowed.pattern, key)
    })
}

/// The arguments that are channels, and whether they are patterns, which must be allowed word for word.
fn channels_of(command: &CommandSpec, args: Args<'_>) -> (std::ops::Range<usize>, bool) {
    match command.name {
        "publish" | "spublish" => (1..args.len().min(2), false),
        "subscribe" | "ssubscribe" => (1..args.len(), false),
        "psubscribe" => (1..args.len(), true),
        _ => (0..0, false),
    }
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;

    use super::*;
    use crate::rule::Rule;

    fn rights(rules: &[&str]) -> Rights {
        let mut user = User::default();
        for rule in rules {
            let rule = Rule::parse(rule.as_bytes()).unwrap().unwrap();
            rule.check_commands().unwrap();
            user.apply(&rule).unwrap();
        }
        Rights::of(&user)
    }

    fn check(rules: &[&str], command: &str) -> Result<(), Denied> {
        let args = OwnedArgs::collect(command.split_whitespace().map(str::as_bytes));
        rights(rules).check(resolve(args.args()).unwrap(), args.args())
    }

    #[test]
    fn commands_are_allowed_one_by_one_by_category_and_by_first_argument() {
        let denied = Err(Denied::Command);
        for (rules, command, expected) in [
            (&["+get", "~*"][..], "GET a", Ok(())),
            (&["+get", "~*"], "SET a b", denied),
            (&["+@read", "-get", "~*"], "GET a", denied),
            (&["+@read", "-get", "~*"], "MGET a", Ok(())),
            (&["-get", "+@all", "~*"], "GET a", Ok(())),
            (&["+config"], "CONFIG GET a", Ok(())),
            (&["+config", "-config|set"], "CONFIG SET a b", denied),
            (&["+config", "-config|set"], "CONFIG GET a", Ok(())),
            (&["+config|get"], "CONFIG SET a b", denied),
            (&["+select|1"], "SELECT 1", Ok(())),
            (&["+select|1"], "SELECT 2", denied),
            (&["+select|1", "-select"], "SELECT 1", denied),
            (&[], "PING", denied),
            (&[], "AUTH a", Ok(())),
            (&[], "QUIT", Ok(())),
        ] {
            assert_eq!(check(rules, command), expected, "{rules:?} {command}");
        }
    }

    #[test]
    fn keys_are_allowed_for_what_is_done_to_them() {
        for (rules, command, expected) in [
            (&["+@all", "~a*"][..], "GET a1", Ok(())),
            (&["+@all", "~a*"], "GET b", Err(Denied::Key(1))),
            (&["+@all", "~a*"], "MSET a 1 b 2", Err(Denied::Key(3))),
            (&["+@all", "%R~a"], "GET a", Ok(())),
            (&["+@all", "%R~a"], "SET a 1", Err(Denied::Key(1))),
            (&["+@all", "%W~a"], "SET a 1", Ok(())),
            (&["+@all", "%W~a"], "SET a 1 GET", Err(Denied::Key(1))),
            (&["+@all", "%W~a", "%R~*"], "SET a 1 GET", Err(Denied::Key(1))),
            (&["+@all", "%R~a", "%W~b"], "COPY a b", Ok(())),
            (&["+@all", "%R~a", "%W~b"], "COPY b a", Err(Denied::Key(1))),
            (&["+@all", "%W~a"], "EXISTS a", Ok(())),
            (&["+@all"], "PING", Ok(())),
        ] {
            assert_eq!(check(rules, command), expected, "{rules:?} {command}");
        }
    }

    #[test]
    fn one_selector_must_allow_all_of_a_command() {
        let rules = ["+get", "~a", "(+set ~b)", "(+set ~c)"];
        assert_eq!(check(&rules, "GET a"), Ok(()));
        assert_eq!(check(&rules, "SET b 1"), Ok(()));
        assert_eq!(check(&rules, "GET b"), Err(Denied::Key(1)));
        assert_eq!(check(&rules, "SET a 1"), Err(Denied::Key(1)));
        assert_eq!(check(&rules, "DEL a"), Err(Denied::Command));
    }

    #[test]
    fn once_needs_the_right_to_what_it_runs() {
        assert_eq!(check(&["+once", "+set", "~a"], "ONCE t SET a 1"), Ok(()));
        assert_eq!(check(&["+once", "+set", "~a"], "ONCE t SET b 1"), Err(Denied::Key(3)));
        assert_eq!(check(&["+once", "~*"], "ONCE t SET a 1"), Err(Denied::Command));
        assert_eq!(check(&["+set", "~*"], "ONCE t SET a 1"), Err(Denied::Command));
    }

    #[test]
    fn sort_by_patterns_needs_the_right_to_read_every_key() {
        let (some, all) = (&["+@all", "~a*"][..], &["+@all", "~a*", "%R~*"][..]);
        let split = &["+@all", "~a*", "(+@all %R~*)"][..];
        for (rules, command, allowed) in [
            (some, "SORT a", true),
            (some, "SORT a BY nosort LIMIT 0 5 STORE a2", true),
            (some, "SORT a BY w_*", false),
            (some, "SORT_RO a BY w_*", false),
            (some, "SORT a BY nosort GET secret:*", false),
            (some, "SORT a STORE by LIMIT get 5", false), // the key is not allowed
            (some, "SORT a STORE aby LIMIT get 5 ASC", true),
            (some, "ONCE t SORT a GET secret:*", false),
            (some, "ONCE t SORT a STORE a2", true),
            (all, "SORT a BY w_* GET #", true),
            (all, "ONCE t SORT a BY w_* STORE a2", true),
            (split, "SORT_RO a BY w_*", true),
            // The one may not store, the other not read what the patterns name.
            (split, "SORT a BY w_* STORE a2", false),
        ] {
            let checked = check(rules, command);
            assert_eq!(checked.is_ok(), allowed, "{rules:?} {command}: {checked:?}");
        }
    }

    #[test]
    fn channels_match_and_patterns_are_taken_word_for_word() {
        let rights = rights(&["&news.*", "&x"]);
        assert!(rights.may_receive(b"news.a", false) && rights.may_receive(b"news.*", true));
        assert!(!rights.may_receive(b"news.a", true) && !rights.may_receive(b"y", false));
    }

    #[test]
    fn whoever_may_do_everything_need_not_be_checked() {
        assert!(rights(&["+@all", "~*", "&*"]).is_unlimited());
        assert!(rights(&["(+@all ~* &*)"]).is_unlimited());
        assert!(rights(&["-get", "+@all", "~*", "&*"]).is_unlimited());
        assert!(!rights(&["+@all", "-get", "~*", "&*"]).is_unlimited());
        assert!(!rights(&["+@all", "~*"]).is_unlimited());
        assert!(!rights(&["+@all", "~a", "&*"]).is_unlimited());
    }
}
