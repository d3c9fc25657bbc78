//! The arguments of a command as a tree, read from the row's `syntax`.
//!
//! The notation is the one of manuals: `WORD` and the signs `* $ = ~` are typed as they stand, `name` or `name:type` is a value, `[x]` may be left
//! out, `x | y` is one of both, `(x)` groups, `x...` may be repeated. A `WORD` belongs to the value or group behind it.
//! The type of a value follows from its name where none is given.

use skep_resp::Reply;

/// One argument, or a group of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Argument {
    pub name: String,
    pub kind: Kind,
    pub token: Option<String>,
    pub optional: bool,
    pub multiple: bool,
    /// Each repetition begins with the token again.
    pub multiple_token: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A value of the type of that name (`string`, `integer`, …).
    Value(String),
    /// A word without a value.
    Token,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
}

/// Types of values that are not strings, by their names.
const TYPES: [(&str, &[&str]); 5] = [
    (
        "key",
        &["key", "source", "destination", "newkey", "destkey", "key1", "key2", "src", "dst", "sourcekey"],
    ),
    (
        "integer",
        &[
            "client-id",
            "count",
            "cursor",
            "db",
            "decrement",
            "destination-db",
            "end",
            "frequency",
            "increment",
            "index",
            "index1",
            "index2",
            "bit",
            "limit",
            "len",
            "milliseconds",
            "num-matches",
            "numkeys",
            "numfields",
            "offset",
            "port",
            "protover",
            "rank",
            "seconds",
            "slot",
            "start",
            "stop",
            "timeout",
            "ttl",
            "version",
        ],
    ),
    ("double", &["height", "latitude", "longitude", "max", "min", "radius", "score", "weight", "width"]),
    ("unix-time", &["unix-time-seconds", "unix-time-milliseconds"]),
    ("pattern", &["pattern"]),
];

/// The arguments that `syntax` describes.
pub(crate) fn arguments(syntax: &str) -> Vec<Argument> {
    let spaced = ["[", "]", "(", ")", "|", "..."]
        .iter()
        .fold(syntax.to_owned(), |text, mark| text.replace(mark, &format!(" {mark} ")));
    let words: Vec<&str> = spaced.split_whitespace().collect();
    sequence(&mut words.as_slice())
}

/// The syntax without its types, for people.
pub(crate) fn shown(syntax: &str) -> String {
    let mut text = String::with_capacity(syntax.len());
    for (at, part) in syntax.split(':').enumerate() {
        let skip =
            if at == 0 { 0 } else { part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len()) };
        text.push_str(&part[skip..]);
    }
    text
}

/// Everything up to a closing mark or `|`.
fn sequence(words: &mut &[&str]) -> Vec<Argument> {
    let mut found = Vec::new();
    while let Some((word, rest)) = words.split_first()
        && !["]", ")", "|"].contains(word)
    {
        *words = rest;
        let is_token = |w: &str| w.starts_with(|c: char| c.is_ascii_uppercase()) || sign_name(w).is_some();
        let mut argument = if is_token(word) {
            let takes_next = words
                .first()
                .is_some_and(|next| *next == "(" || next.starts_with(|c: char| c.is_ascii_lowercase()));
            if takes_next {
                let (next, rest) = words.split_first().expect("just looked at");
                *words = rest;
                Argument { token: Some((*word).to_owned()), ..value_or_group(next, words) }
            } else {
                let name = sign_name(word).map_or_else(|| word.to_ascii_lowercase(), str::to_owned);
                Argument { token: Some((*word).to_owned()), ..plain(&name, Kind::Token) }
            }
        } else {
            value_or_group(word, words)
        };
        if let Some((&"...", rest)) = words.split_first() {
            *words = rest;
            argument.multiple = true;
            // `[GET pattern]...`: the dots are behind the bracket that holds the token.
            argument.multiple_token = argument.optional && argument.token.is_some();
        }
        found.push(argument);
    }
    found
}

/// The name of a word that is a sign.
fn sign_name(word: &str) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 4] =
        [("*", "auto-id"), ("$", "new-id"), ("=", "equal"), ("~", "approximately")];
    SIGNS.iter().find(|(sign, _)| *sign == word).map(|(_, name)| *name)
}

fn value_or_group(word: &str, words: &mut &[&str]) -> Argument {
    if word != "[" && word != "(" {
        let (name, kind) = word.split_once(':').unwrap_or((word, type_of(word)));
        return plain(name, Kind::Value(kind.to_owned()));
    }
    let mut alternatives = vec![joined(sequence(words))];
    while let Some((&"|", rest)) = words.split_first() {
        *words = rest;
        alternatives.push(joined(sequence(words)));
    }
    *words = words.split_first().map_or(&[], |(_, rest)| rest);
    let mut group = match alternatives.len() {
        1 => alternatives.remove(0),
        _ => plain(&names(&alternatives), Kind::OneOf(alternatives)),
    };
    group.optional |= word == "[";
    group
}

/// Several arguments in a row as one block.
fn joined(mut arguments: Vec<Argument>) -> Argument {
    match arguments.len() {
        1 => arguments.remove(0),
        _ => plain(&names(&arguments), Kind::Block(arguments)),
    }
}

fn names(arguments: &[Argument]) -> String {
    arguments.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join("_")
}

fn plain(name: &str, kind: Kind) -> Argument {
    Argument {
        name: name.to_owned(),
        kind,
        token: None,
        optional: false,
        multiple: false,
        multiple_token: false,
    }
}

fn type_of(name: &str) -> &'static str {
    TYPES.iter().find(|(_, names)| names.contains(&name)).map_or("string", |(kind, _)| kind)
}

/// Writes arguments as `COMMAND DOCS` does: an array of maps. `key_specs` is how many key positions can be told from
/// the arguments; the keys among the arguments take their turn.
pub(crate) fn write(arguments: &[Argument], key_specs: usize, reply: &mut Reply<'_>) {
    write_level(arguments, key_specs, &mut 0, reply);
}

fn write_level(arguments: &[Argument], key_specs: usize, keys_seen: &mut usize, reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    for argument in arguments {
        let (kind, inner) = match &argument.kind {
            Kind::Value(kind) => (kind.as_str(), None),
            Kind::Token => ("pure-token", None),
            Kind::OneOf(inner) => ("oneof", Some(inner)),
            Kind::Block(inner) => ("block", Some(inner)),
        };
        let key_spec = (kind == "key" && *keys_seen < key_specs).then_some(*keys_seen);
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let extras = [key_spec.is_some(), argument.token.is_some(), !flags.is_empty(), inner.is_some()];
        reply.map(2 + extras.iter().filter(|there| **there).count());
        text(reply, "name", &argument.name);
        text(reply, "type", kind);
        if let Some(index) = key_spec {
            *keys_seen += 1;
            reply.bulk(b"key_spec_index");
            reply.len(index);
        }
        if let Some(token) = &argument.token {
            text(reply, "token", token);
        }
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if let Some(inner) = inner {
            reply.bulk(b"arguments");
            write_level(inner, key_specs, keys_seen, reply);
        }
    }
}

fn text(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as text: `name:type` with `=TOKEN`, `?` for optional, `+` for multiple, `*` for a repeated token.
    fn tree(arguments: &[Argument]) -> String {
        let one = |a: &Argument| {
            let inner = match &a.kind {
                Kind::Value(kind) => format!("{}:{kind}", a.name),
                Kind::Token => a.name.clone(),
                Kind::OneOf(inner) => format!("oneof({})", tree(inner)),
                Kind::Block(inner) => format!("block({})", tree(inner)),
            };
            let token = a.token.as_ref().map(|t| format!("={t}")).unwrap_or_default();
            let flag = |set: bool, mark: &'static str| if set { mark } else { "" };
            format!(
                "{inner}{token}{}{}{}",
                flag(a.optional, "?"),
                flag(a.multiple, "+"),
                flag(a.multiple_token, "*")
            )
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn syntax_is_read_into_a_tree() {
        let table = [
            ("", ""),
            ("key value", "key:key value:string"),
            ("key [count]", "key:key count:integer?"),
            ("key...", "key:key+"),
            ("(key value)...", "block(key:key value:string)+"),
            ("[NX | XX] [GET]", "oneof(nx=NX xx=XX)? get=GET?"),
            ("[EX seconds | KEEPTTL]", "oneof(seconds:integer=EX keepttl=KEEPTTL)?"),
            ("[LIMIT offset count]", "block(offset:integer=LIMIT count:integer)?"),
            ("[GET pattern]...", "pattern:pattern=GET?+*"),
            ("[ID client-id...]", "client-id:integer=ID+?"),
            ("[AGGREGATE (SUM | MIN)]", "oneof(sum=SUM min=MIN)=AGGREGATE?"),
            ("(host port | NO ONE)", "oneof(block(host:string port:integer) block(no=NO one=ONE))"),
            ("[count [WITHSCORES]]", "block(count:integer withscores=WITHSCORES?)?"),
            ("increment:double", "increment:double"),
            ("[= | ~] (* | id)", "oneof(equal== approximately=~)? oneof(auto-id=* id:string)"),
        ];
        for (syntax, expected) in table {
            let expected = expected.replace("+?", "?+");
            assert_eq!(tree(&arguments(syntax)), expected, "{syntax}");
        }
    }

    #[test]
    fn every_row_has_a_readable_syntax() {
        for command in &crate::COMMANDS {
            let syntax = command.syntax;
            let opened = syntax.matches(['[', '(']).count();
            assert_eq!(opened, syntax.matches([']', ')']).count(), "{}: {syntax}", command.name);
            let least = arguments(syntax).iter().filter(|a| !a.optional).count();
            let arity = usize::from(command.arity.unsigned_abs());
            let named = 1 + usize::from(command.is_subcommand());
            assert!(command.is_container() || named + least <= arity, "{}: {syntax}", command.name);
            let fixed = command.arity > 0;
            let open = arguments(syntax).iter().any(|a| a.optional || a.multiple);
            assert!(!(fixed && open), "{}: {syntax} with arity {}", command.name, command.arity);
        }
    }

    #[test]
    fn types_are_not_shown_to_people() {
        assert_eq!(shown("key increment:double [MAXAGE maxage:integer]"), "key increment [MAXAGE maxage]");
        assert_eq!(shown("(parameter value)..."), "(parameter value)...");
    }
}
