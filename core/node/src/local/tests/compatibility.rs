//! `docs/commands.md` says what becomes of each command of Redis; here it is held against the command table.

use std::collections::BTreeMap;

use skep_command::{CommandSpec, commands, lookup_full};

use crate::local::elsewhere;
use crate::testing::World;

const DOCS: &str = include_str!("../../../../../docs/commands.md");

/// Commands that Redis does not have.
const OWN: [&str; 17] = [
    "once",
    "qack",
    "qadd",
    "qbeat",
    "qcron",
    "qdrop",
    "qfail",
    "qget",
    "qinfo",
    "qlist",
    "qredo",
    "qset",
    "qtake",
    "skep",
    "skep|gateway",
    "skep|help",
    "skep|node",
];

/// Commands whose handler elsewhere always refuses.
const REFUSED_TOO: [&str; 2] = ["acl|load", "config|rewrite"];

/// By the name in the command table: what the docs say, and their note.
fn documented() -> BTreeMap<String, (&'static str, &'static str)> {
    let mut found = BTreeMap::new();
    for line in DOCS.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| command ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, state, note] = cells[..] else { panic!("three cells are expected: {line}") };
        let name = name.to_ascii_lowercase().replacen(' ', "|", 1);
        assert!(found.insert(name, (state, note)).is_none(), "twice: {line}");
    }
    found
}

fn all() -> impl Iterator<Item = &'static CommandSpec> {
    commands().flat_map(|command| std::iter::once(command).chain(command.subcommands()))
}

#[test]
fn the_docs_have_every_command_and_say_of_each_what_the_table_says() {
    let documented = documented();
    assert!(documented.len() > 360, "{} of Redis's commands are in the docs", documented.len());
    let missing: Vec<&str> =
        all().map(|c| c.name).filter(|name| !OWN.contains(name) && !documented.contains_key(*name)).collect();
    assert_eq!(missing, [""; 0], "docs/commands.md does not have these");
    let refuses = |name: &str| {
        REFUSED_TOO.contains(&name) || elsewhere::COMMANDS.iter().any(|(refused, _)| *refused == name)
    };
    for (name, (state, note)) in &documented {
        let is_known = lookup_full(name.as_bytes()).is_some();
        let expected = match (is_known, refuses(name)) {
            (false, _) => "absent",
            (true, true) => "refused",
            (true, false) if note.is_empty() => "same",
            (true, false) => "differs",
        };
        assert_eq!(*state, expected, "docs/commands.md on {name}");
    }
}

#[test]
fn what_the_docs_call_refused_is_refused_with_what_to_use_instead() {
    let mut w = World::new(&[]);
    let c = w.connect();
    for (name, (state, _)) in documented() {
        let Some(command) = lookup_full(name.as_bytes()).filter(|_| state == "refused") else { continue };
        let words: Vec<&str> = name.split('|').collect();
        let wanted = usize::from(command.arity.unsigned_abs());
        let arguments = vec!["1"; wanted - words.len()];
        let told = w.ask(c, &[words, arguments].concat().join(" "));
        assert!(told.starts_with("-ERR ") && told.len() > 40, "{name}: {told}");
        assert!(!told.contains("unknown") && !told.contains("wrong number"), "{name}: {told}");
    }
}
