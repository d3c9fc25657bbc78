//! A user as the cluster knows it: changed by rules, printed as rules.
//!
//! It holds the rules about commands as they were given, not the commands that they mean: what `+@read` means is a matter of
//! each node's command table, so nodes of different releases agree on the user.

use std::collections::BTreeMap;

use crate::password::PasswordHash;
use crate::rule::{Rule, RuleError, has_spaces};

/// The user of connections that have not logged in as another.
pub const DEFAULT_USER: &[u8] = b"default";

/// Users by name.
pub type Users = BTreeMap<Vec<u8>, User>;

/// A user: who may log in as it, and its rights.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    pub enabled: bool,
    /// Any password is right.
    pub no_password: bool,
    pub skips_sanitize: bool,
    pub passwords: Vec<PasswordHash>,
    /// Its own rights.
    pub root: Selector,
    /// Further rights. A command is allowed if the root or one of these allows all of it.
    pub selectors: Vec<Selector>,
}

/// Rights to commands, keys and channels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    pub all_keys: bool,
    pub keys: Vec<KeyPattern>,
    pub all_channels: bool,
    pub channels: Vec<Vec<u8>>,
    /// Whether the rules about commands start from all commands or from none.
    pub all_commands: bool,
    /// Rules about commands in their order: whether it allows, and what (see [`Rule::Command`]).
    pub commands: Vec<(bool, String)>,
}

/// Keys that may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPattern {
    pub pattern: Vec<u8>,
    pub read: bool,
    pub write: bool,
}

/// Whether a user may be called so: no spaces, as the lines of `ACL LIST` have them between words.
pub fn is_valid_name(name: &[u8]) -> bool {
    !has_spaces(name)
}

impl User {
    /// The default user as it is before anybody changes it: with a password if the node asks for one.
    pub fn first_default(password: Option<PasswordHash>) -> User {
        let root = Selector { all_keys: true, all_channels: true, all_commands: true, ..Selector::default() };
        User {
            enabled: true,
            no_password: password.is_none(),
            passwords: password.into_iter().collect(),
            root,
            ..User::default()
        }
    }

    /// Changes the user as `ACL SETUSER` does.
    ///
    /// # Errors
    /// The rule does not fit the user; the user may have been changed by the rules in front of it.
    pub fn apply(&mut self, rule: &Rule) -> Result<(), RuleError> {
        match rule {
            Rule::On => self.enabled = true,
            Rule::Off => self.enabled = false,
            Rule::SkipSanitize(skips) => self.skips_sanitize = *skips,
            Rule::NoPass => {
                self.no_password = true;
                self.passwords.clear();
            }
            Rule::ResetPass => {
                self.no_password = false;
                self.passwords.clear();
            }
            Rule::AddPassword(hash) => {
                self.no_password = false;
                if !self.passwords.contains(hash) {
                    self.passwords.push(*hash);
                }
            }
            Rule::RemovePassword(hash) => {
                let at = self.passwords.iter().position(|known| known == hash);
                self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
            }
            Rule::Reset => *self = User::default(),
            Rule::ClearSelectors => self.selectors.clear(),
            Rule::Selector(rules) => {
                let mut selector = Selector::default();
                rules.iter().try_for_each(|rule| selector.apply(rule))?;
                self.selectors.push(selector);
            }
            _ => self.root.apply(rule)?,
        }
        Ok(())
    }

    /// The same for a change that the cluster has agreed on, which may be carried out twice if the answer to the first time
    /// was lost: what is done already is passed over.
    pub fn apply_again(&mut self, rule: &Rule) {
        let before = self.selectors.len();
        // Refused is only what the user has, or has not, already.
        let _ = self.apply(rule);
        if let Some(added) = self.selectors.get(before)
            && self.selectors[..before].contains(added)
        {
            self.selectors.truncate(before);
        }
    }

    /// True if `password` lets somebody in as this user.
    pub fn admits(&self, password: &[u8]) -> bool {
        if !self.enabled || self.no_password {
            return self.enabled;
        }
        let hash = PasswordHash::of(password);
        self.passwords.iter().fold(false, |found, known| known.is_same(&hash) | found)
    }

    /// True if connections need no password to be this user.
    pub fn is_open(&self) -> bool {
        self.enabled && self.no_password
    }

    /// The words of `ACL GETUSER` for what it is, beside its rights.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.no_password {
            flags.push("nopass");
        }
        flags.push(if self.skips_sanitize { "skip-sanitize-payload" } else { "sanitize-payload" });
        flags
    }

    /// The user as one line of `ACL LIST`, without its name.
    pub fn line(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().into_iter().map(|flag| flag.as_bytes().to_vec()).collect();
        words.extend(self.passwords.iter().map(|hash| format!("#{hash}").into_bytes()));
        words.push(self.root.line());
        words.extend(self.selectors.iter().map(|selector| [b"(", &selector.line()[..], b")"].concat()));
        words.join(&b' ')
    }

    /// Rules that make this user of a new one.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        let mut rules: Vec<Vec<u8>> = self.flags().into_iter().map(|flag| flag.as_bytes().to_vec()).collect();
        rules.extend(self.passwords.iter().map(|hash| format!("#{hash}").into_bytes()));
        rules.extend(self.root.words(false));
        rules.extend(self.selectors.iter().map(|s| [b"(", &s.words(false).join(&b' ')[..], b")"].concat()));
        rules
    }

    /// Makes a user of what [`User::rules`] wrote.
    ///
    /// # Errors
    /// [`RuleError`]: not those rules.
    pub fn of_rules<'a>(rules: impl Iterator<Item = &'a [u8]>) -> Result<User, RuleError> {
        let mut user = User::default();
        for text in rules {
            if let Some(rule) = Rule::parse(text)? {
                user.apply(&rule)?;
            }
        }
        Ok(user)
    }

    /// Bytes that the user takes, about.
    pub fn bytes(&self) -> usize {
        self.passwords.len() * 32
            + std::iter::once(&self.root).chain(&self.selectors).map(Selector::bytes).sum::<usize>()
    }
}

impl Selector {
    fn apply(&mut self, rule: &Rule) -> Result<(), RuleError> {
        match rule {
            Rule::AllKeys => {
                self.all_keys = true;
                self.keys.clear();
            }
            Rule::ResetKeys => {
                self.all_keys = false;
                self.keys.clear();
            }
            Rule::Keys { .. } if self.all_keys => return Err(RuleError::AllKeysAlready),
            Rule::Keys { pattern, read, write } => {
                match self.keys.iter_mut().find(|known| known.pattern == *pattern) {
                    Some(known) => (known.read, known.write) = (known.read || *read, known.write || *write),
                    None => {
                        self.keys.push(KeyPattern { pattern: pattern.clone(), read: *read, write: *write })
                    }
                }
            }
            Rule::AllChannels => {
                self.all_channels = true;
                self.channels.clear();
            }
            Rule::ResetChannels => {
                self.all_channels = false;
                self.channels.clear();
            }
            Rule::Channels(_) if self.all_channels => return Err(RuleError::AllChannelsAlready),
            Rule::Channels(pattern) => {
                if !self.channels.contains(pattern) {
                    self.channels.push(pattern.clone());
                }
            }
            Rule::AllCommands(allow) => {
                self.all_commands = *allow;
                self.commands.clear();
            }
            Rule::Command { allow, what } => {
                // A rule replaces those about the same command or category, and about a command's subcommands.
                let replaced = |known: &str| {
                    known
                        .strip_prefix(what.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
                };
                self.commands.retain(|(_, known)| !replaced(known));
                self.commands.push((*allow, what.clone()));
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    /// The rules about commands, as `ACL GETUSER` shows them.
    pub fn commands_line(&self) -> Vec<u8> {
        self.command_words().join(&b' ')
    }

    /// The patterns of keys, as `ACL GETUSER` shows them.
    pub fn keys_line(&self) -> Vec<u8> {
        self.key_words(true).join(&b' ')
    }

    /// The patterns of channels, as `ACL GETUSER` shows them.
    pub fn channels_line(&self) -> Vec<u8> {
        self.channel_words().join(&b' ')
    }

    fn line(&self) -> Vec<u8> {
        self.words(true).join(&b' ')
    }

    /// Rules that make this selector; as they are shown, or so that each is what it was.
    fn words(&self, shown: bool) -> Vec<Vec<u8>> {
        let mut words = self.key_words(shown);
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(self.channel_words());
        words.extend(self.command_words());
        words
    }

    fn key_words(&self, shown: bool) -> Vec<Vec<u8>> {
        let of = |KeyPattern { pattern, read, write }: &KeyPattern| match () {
            // Redis shows it so, though it is not the right to all keys.
            () if shown && *read && *write && pattern == b"*" => b"~*".to_vec(),
            () => Rule::Keys { pattern: pattern.clone(), read: *read, write: *write }.text(),
        };
        if self.all_keys { vec![b"~*".to_vec()] } else { self.keys.iter().map(of).collect() }
    }

    fn channel_words(&self) -> Vec<Vec<u8>> {
        let of = |pattern: &Vec<u8>| [b"&", &pattern[..]].concat();
        if self.all_channels { vec![b"&*".to_vec()] } else { self.channels.iter().map(of).collect() }
    }

    fn command_words(&self) -> Vec<Vec<u8>> {
        let mut words = vec![Rule::AllCommands(self.all_commands).text()];
        words.extend(self.commands.iter().map(|(allow, what)| {
            let sign: &[u8] = if *allow { b"+" } else { b"-" };
            [sign, what.as_bytes()].concat()
        }));
        words
    }

    fn bytes(&self) -> usize {
        let keys: usize = self.keys.iter().map(|key| key.pattern.len() + 48).sum();
        let channels: usize = self.channels.iter().map(|channel| channel.len() + 48).sum();
        let commands: usize = self.commands.iter().map(|(_, what)| what.len() + 48).sum();
        keys + channels + commands + size_of::<Selector>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(rules: &[&str]) -> Result<User, RuleError> {
        let mut user = User::default();
        for rule in rules {
            user.apply(&Rule::parse(rule.as_bytes())?.ok_or(RuleError::Syntax)?)?;
        }
        Ok(user)
    }

    fn line(rules: &[&str]) -> String {
        String::from_utf8_lossy(&user(rules).unwrap().line()).into_owned()
    }

    #[test]
    fn users_are_listed_as_redis_lists_them() {
        let p = "#148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940";
        for (rules, listed) in [
            (&[][..], "off sanitize-payload resetchannels -@all"),
            (&["on", "nopass", "~*", "&*", "+@all"], "on nopass sanitize-payload ~* &* +@all"),
            (
                &["on", ">p", "~a*", "%R~b*", "&c*", "+@read", "-get", "(+set ~z* %RW~y)"],
                &format!(
                    "on sanitize-payload {p} ~a* %R~b* resetchannels &c* -@all +@read -get (~z* ~y resetchannels -@all +set)"
                ),
            ),
            (&["%RW~*", "~a"], "off sanitize-payload ~* ~a resetchannels -@all"),
            (&["nopass", ">p"], &format!("off sanitize-payload {p} resetchannels -@all")),
            (&[">p", ">p", "nopass"], "off nopass sanitize-payload resetchannels -@all"),
            (&["%R~a", "%W~a", "~b", "~b"], "off sanitize-payload ~a ~b resetchannels -@all"),
            (&["+config|get", "+config|set", "-config"], "off sanitize-payload resetchannels -@all -config"),
            (
                &["+get", "-@read", "+getex", "-get"],
                "off sanitize-payload resetchannels -@all -@read +getex -get",
            ),
            (&["+get", "+@all", "-set"], "off sanitize-payload resetchannels +@all -set"),
            (&["on", "~*", "(+get)", "reset"], "off sanitize-payload resetchannels -@all"),
            (
                &["(+get)", "clearselectors", "skip-sanitize-payload"],
                "off skip-sanitize-payload resetchannels -@all",
            ),
        ] {
            assert_eq!(line(rules), listed, "{rules:?}");
        }
    }

    #[test]
    fn rules_that_do_not_fit_the_user_are_refused() {
        assert_eq!(user(&["~*", "~a"]), Err(RuleError::AllKeysAlready));
        assert_eq!(user(&["&*", "&a"]), Err(RuleError::AllChannelsAlready));
        assert_eq!(user(&["<p"]), Err(RuleError::NoSuchPassword));
        assert_eq!(user(&["(~* ~a)"]), Err(RuleError::AllKeysAlready));
        assert!(user(&[">p", "<p", "~*", "resetkeys", "~a"]).is_ok());
    }

    #[test]
    fn passwords_admit_as_in_redis() {
        let admits = |rules: &[&str], password: &str| user(rules).unwrap().admits(password.as_bytes());
        assert!(admits(&["on", ">p", ">q"], "p") && admits(&["on", ">p", ">q"], "q"));
        assert!(!admits(&["on", ">p"], "q") && !admits(&["on", ">p"], "") && !admits(&["on"], ""));
        assert!(!admits(&["off", ">p"], "p") && !admits(&["off", "nopass"], "p"));
        assert!(admits(&["on", "nopass"], "anything"));
        assert!(!admits(&["on", ">p", "resetpass"], "p"));
    }

    #[test]
    fn a_change_that_is_carried_out_twice_is_carried_out_once() {
        let rules = [">p", "<p", "~a", "allkeys", "(+get ~x)", "+@read"];
        let mut once = User::default();
        let mut twice = User::default();
        let run = |user: &mut User| {
            rules.iter().for_each(|rule| user.apply_again(&Rule::parse(rule.as_bytes()).unwrap().unwrap()));
        };
        run(&mut once);
        run(&mut twice);
        run(&mut twice);
        assert_eq!(once, twice);
        assert_eq!(once.selectors.len(), 1);
    }

    proptest! {
        #[test]
        fn a_user_is_made_again_by_its_rules(rules in prop::collection::vec("on|off|nopass|resetpass|>[ab]|~[ab*]|%RW~[*]|%R~[ab]|%W~[ab]|&[ab*]|\\+@(all|read|write)|-@(all|read)|[+-](get|set|config|config\\|get)|\\(~[ab] \\+get\\)|allkeys|resetkeys|resetchannels|reset|clearselectors", 0..20)) {
            let mut made = User::default();
            for rule in &rules {
                let _ = made.apply(&Rule::parse(rule.as_bytes()).unwrap().unwrap());
            }
            let texts = made.rules();
            prop_assert_eq!(User::of_rules(texts.iter().map(Vec::as_slice)).unwrap(), made);
        }
    }
}
