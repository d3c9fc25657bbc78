//! One rule of `ACL SETUSER`, read from text, and the text of it without passwords.

use skep_command::{Categories, lookup_full};

use crate::password::PasswordHash;

/// A change of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    On,
    Off,
    /// Any password is right.
    NoPass,
    ResetPass,
    AddPassword(PasswordHash),
    RemovePassword(PasswordHash),
    /// `skip-sanitize-payload` or its opposite. Remembered only: RESTORE checks every payload.
    SkipSanitize(bool),
    Reset,
    ClearSelectors,
    /// Rules within parentheses: other rights beside the user's own.
    Selector(Vec<Rule>),
    AllKeys,
    ResetKeys,
    Keys {
        pattern: Vec<u8>,
        read: bool,
        write: bool,
    },
    AllChannels,
    ResetChannels,
    Channels(Vec<u8>),
    /// `+@all` or `-@all`.
    AllCommands(bool),
    /// A command, `config|get`, `@category` or `select|0`, in lower case.
    Command {
        allow: bool,
        what: String,
    },
}

/// Why a rule cannot be taken, in Redis's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    Syntax,
    UnknownCommand,
    /// A key pattern behind `*`.
    AllKeysAlready,
    /// A channel pattern behind `*`.
    AllChannelsAlready,
    NoSuchPassword,
    BadHash,
    FirstArgumentOfSubcommand,
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RuleError::Syntax => "Syntax error",
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::AllKeysAlready => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AllChannelsAlready => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgumentOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

impl Rule {
    /// Reads a rule. Whether its commands exist, [`Rule::check_commands`] says. `None` for the empty text, which changes
    /// nothing.
    ///
    /// # Errors
    /// [`RuleError`], as Redis has them.
    pub fn parse(text: &[u8]) -> Result<Option<Rule>, RuleError> {
        let Some(first) = text.first() else { return Ok(None) };
        let rest = &text[1..];
        let hash = |digits: &[u8]| PasswordHash::parse(digits).ok_or(RuleError::BadHash);
        let word = text.to_ascii_lowercase();
        let rule = match (word.as_slice(), first) {
            (b"on", _) => Rule::On,
            (b"off", _) => Rule::Off,
            (b"skip-sanitize-payload", _) => Rule::SkipSanitize(true),
            (b"sanitize-payload", _) => Rule::SkipSanitize(false),
            (b"nopass", _) => Rule::NoPass,
            (b"resetpass", _) => Rule::ResetPass,
            (b"reset", _) => Rule::Reset,
            (b"clearselectors", _) => Rule::ClearSelectors,
            (_, b'>') => Rule::AddPassword(PasswordHash::of(rest)),
            (_, b'#') => Rule::AddPassword(hash(rest)?),
            (_, b'<') => Rule::RemovePassword(PasswordHash::of(rest)),
            (_, b'!') => Rule::RemovePassword(hash(rest)?),
            (_, b'(') if text.last() == Some(&b')') => {
                Rule::Selector(parse_selector(&text[1..text.len() - 1])?)
            }
            _ => return parse_right(text).map(Some),
        };
        Ok(Some(rule))
    }

    /// Refuses commands and categories that this node's table does not have.
    ///
    /// # Errors
    /// [`RuleError::UnknownCommand`], [`RuleError::FirstArgumentOfSubcommand`], [`RuleError::Syntax`].
    pub fn check_commands(&self) -> Result<(), RuleError> {
        match self {
            Rule::Selector(rules) => rules.iter().try_for_each(Rule::check_commands),
            Rule::Command { what, .. } if what.starts_with('@') => {
                Categories::named(&what.as_bytes()[1..]).map(|_| ()).ok_or(RuleError::UnknownCommand)
            }
            Rule::Command { allow, what } => check_command(*allow, what),
            _ => Ok(()),
        }
    }

    /// The rule as text, without a password in it.
    pub fn text(&self) -> Vec<u8> {
        let joined = |parts: &[&[u8]]| parts.concat();
        match self {
            Rule::On => b"on".to_vec(),
            Rule::Off => b"off".to_vec(),
            Rule::NoPass => b"nopass".to_vec(),
            Rule::ResetPass => b"resetpass".to_vec(),
            Rule::AddPassword(hash) => format!("#{hash}").into_bytes(),
            Rule::RemovePassword(hash) => format!("!{hash}").into_bytes(),
            Rule::SkipSanitize(true) => b"skip-sanitize-payload".to_vec(),
            Rule::SkipSanitize(false) => b"sanitize-payload".to_vec(),
            Rule::Reset => b"reset".to_vec(),
            Rule::ClearSelectors => b"clearselectors".to_vec(),
            Rule::Selector(rules) => {
                let rules: Vec<Vec<u8>> = rules.iter().map(Rule::text).collect();
                joined(&[b"(", &rules.join(&b' '), b")"])
            }
            Rule::AllKeys => b"~*".to_vec(),
            Rule::ResetKeys => b"resetkeys".to_vec(),
            // Without the letters it would be the right to all keys, behind which there can be no other pattern.
            Rule::Keys { pattern, read: true, write: true } if pattern == b"*" => b"%RW~*".to_vec(),
            Rule::Keys { pattern, read: true, write: true } => joined(&[b"~", pattern]),
            Rule::Keys { pattern, read: true, .. } => joined(&[b"%R~", pattern]),
            Rule::Keys { pattern, .. } => joined(&[b"%W~", pattern]),
            Rule::AllChannels => b"&*".to_vec(),
            Rule::ResetChannels => b"resetchannels".to_vec(),
            Rule::Channels(pattern) => joined(&[b"&", pattern]),
            Rule::AllCommands(true) => b"+@all".to_vec(),
            Rule::AllCommands(false) => b"-@all".to_vec(),
            Rule::Command { allow, what } => joined(&[if *allow { b"+" } else { b"-" }, what.as_bytes()]),
        }
    }
}

/// A rule about commands, keys or channels, as may stand in a selector too.
fn parse_right(text: &[u8]) -> Result<Rule, RuleError> {
    let (first, rest) = text.split_first().ok_or(RuleError::Syntax)?;
    let word = text.to_ascii_lowercase();
    Ok(match (word.as_slice(), first) {
        (b"allkeys" | b"~*", _) => Rule::AllKeys,
        (b"resetkeys", _) => Rule::ResetKeys,
        (b"allchannels" | b"&*", _) => Rule::AllChannels,
        (b"resetchannels", _) => Rule::ResetChannels,
        (b"allcommands" | b"+@all", _) => Rule::AllCommands(true),
        (b"nocommands" | b"-@all", _) => Rule::AllCommands(false),
        (_, b'~') => Rule::Keys { pattern: pattern(rest)?, read: true, write: true },
        (_, b'%') => {
            let end = rest.iter().position(|b| *b == b'~').ok_or(RuleError::Syntax)?;
            let kinds = rest[..end].to_ascii_lowercase();
            let (read, write) = match kinds.as_slice() {
                b"r" => (true, false),
                b"w" => (false, true),
                b"rw" | b"wr" => (true, true),
                _ => return Err(RuleError::Syntax),
            };
            Rule::Keys { pattern: pattern(&rest[end + 1..])?, read, write }
        }
        (_, b'&') => Rule::Channels(pattern(rest)?),
        (_, b'+' | b'-') => {
            let what = std::str::from_utf8(&word[1..]).map_err(|_| RuleError::UnknownCommand)?;
            if what.is_empty() || has_spaces(rest) {
                return Err(RuleError::UnknownCommand);
            }
            Rule::Command { allow: *first == b'+', what: what.to_owned() }
        }
        _ => return Err(RuleError::Syntax),
    })
}

fn parse_selector(text: &[u8]) -> Result<Vec<Rule>, RuleError> {
    text.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty()).map(parse_right).collect()
}

fn pattern(text: &[u8]) -> Result<Vec<u8>, RuleError> {
    if has_spaces(text) { Err(RuleError::Syntax) } else { Ok(text.to_vec()) }
}

/// As C's `isspace`, and null.
pub(crate) fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, 0 | b' ' | b'\t'..=b'\r'))
}

fn check_command(allow: bool, what: &str) -> Result<(), RuleError> {
    if lookup_full(what.as_bytes()).is_some() {
        return Ok(());
    }
    // What is left is a command with its first argument, which may only be allowed.
    let Some((command, first)) = what.rsplit_once('|').filter(|_| allow) else {
        return Err(RuleError::UnknownCommand);
    };
    let command = lookup_full(command.as_bytes()).ok_or(RuleError::UnknownCommand)?;
    match () {
        () if command.is_subcommand() => Err(RuleError::FirstArgumentOfSubcommand),
        () if first.is_empty() => Err(RuleError::Syntax),
        () if command.is_container() => Err(RuleError::UnknownCommand),
        () => Ok(()),
    }
}

/// Joins arguments that belong to one selector, since its rules may come as arguments of their own: from one that begins
/// with `(` to one that ends with `)`.
///
/// # Errors
/// The argument that opens a selector which is not closed.
pub fn join_selectors<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut joined = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for argument in arguments {
        match &mut open {
            Some((_, text)) => {
                text.push(b' ');
                text.extend_from_slice(argument);
            }
            None if argument.first() == Some(&b'(') && argument.last() != Some(&b')') => {
                open = Some((argument, argument.to_vec()));
                continue;
            }
            None => joined.push(argument.to_vec()),
        }
        if open.is_some() && argument.last() == Some(&b')') {
            joined.extend(open.take().map(|(_, text)| text));
        }
    }
    match open {
        Some((first, _)) => Err(first),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let rule = Rule::parse(text.as_bytes()).and_then(|rule| {
            rule.iter().try_for_each(Rule::check_commands)?;
            Ok(rule)
        });
        match rule {
            Ok(rule) => Ok(rule.map_or(String::new(), |r| String::from_utf8_lossy(&r.text()).into_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn rules_are_read_and_written_in_one_form() {
        for (text, written) in [
            ("ON", "on"),
            ("AllKeys", "~*"),
            ("allchannels", "&*"),
            ("ALLCOMMANDS", "+@all"),
            ("nocommands", "-@all"),
            ("%RW~a", "~a"),
            ("%wr~a", "~a"),
            ("%RW~*", "%RW~*"),
            ("%r~a*", "%R~a*"),
            ("%W~a", "%W~a"),
            ("+GET", "+get"),
            ("-@READ", "-@read"),
            ("+CONFIG|Get", "+config|get"),
            ("+select|0", "+select|0"),
            ("(%R~a   +GET)", "(%R~a +get)"),
            ("()", "()"),
            ("", ""),
            (">p", "#148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940"),
            ("<p", "!148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(written), "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_in_the_words_of_redis() {
        let unknown = "Unknown command or category name in ACL";
        let syntax = "Syntax error";
        for (text, error) in [
            ("foo", syntax),
            ("+foo", unknown),
            ("-foo", unknown),
            ("+", unknown),
            ("+@foo", unknown),
            ("+config|foo", unknown),
            ("-select|0", unknown),
            ("+select|", syntax),
            ("+config|get|a", "Allowing first-arg of a subcommand is not supported"),
            ("%Z~a", syntax),
            ("%~a", syntax),
            ("%RR~a", syntax),
            ("%R", syntax),
            ("~a b", syntax),
            ("&a b", syntax),
            ("(on)", syntax),
            ("(+foo)", unknown),
            (
                "#12",
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
            ),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_selector_may_be_given_in_several_arguments() {
        let join = |words: &[&'static str]| {
            join_selectors(words.iter().map(|w| w.as_bytes())).map(|rules| {
                rules.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(join(&["on", "(+get", "~a)", "off"]).unwrap(), ["on", "(+get ~a)", "off"]);
        assert_eq!(join(&["(+get)", "(~a", "~b", "+@all)"]).unwrap(), ["(+get)", "(~a ~b +@all)"]);
        assert_eq!(join(&["on", "(+get", "~a"]), Err(&b"(+get"[..]));
    }
}
