//! What must hold for every row, key positions of real calls, and the shapes of the COMMAND replies.
//!
//! The facts themselves are compared with a real server by `tests/differential/test_command_table.py`.

use std::collections::BTreeSet;

use proptest::prelude::*;
use skep_base::args::OwnedArgs;
use skep_command::{
    Begin, COMMAND_COUNT, COMMANDS, Find, Flags, KeyError, commands, describe, entry, lookup, resolve,
};
use skep_resp::{Protocol, Reply, Value};

fn args(call: &str) -> OwnedArgs {
    OwnedArgs::collect(call.split(' ').filter(|w| !w.is_empty()).map(str::as_bytes))
}

/// The keys of a call with their flags: `a:RO+access b:OW+update`.
fn keys(call: &str) -> String {
    let args = args(call);
    let command = resolve(args.args()).unwrap_or_else(|e| panic!("{call}: {e}"));
    match command.keys(args.args()) {
        Err(KeyError) => "error".into(),
        Ok(keys) => {
            let shown: Vec<String> = keys
                .iter()
                .map(|k| {
                    let flags: Vec<_> = k.flags.names().collect();
                    format!("{}:{}", String::from_utf8_lossy(&args.args()[k.index]), flags.join("+"))
                })
                .collect();
            assert_eq!((keys.len(), keys.is_empty()), (shown.len(), shown.is_empty()), "{call}");
            assert_eq!(keys.first(), keys.iter().next().map(|k| k.index), "{call}");
            shown.join(" ")
        }
    }
}

#[test]
fn keys_are_found() {
    let table = [
        ("ping", ""),
        ("get k", "k:RO+access"),
        ("set k v", "k:OW+update"),
        ("set k get", "k:OW+update"),
        ("set k v ex 1 get", "k:RW+access+update"),
        ("mget a b c", "a:RO+access b:RO+access c:RO+access"),
        ("mset a 1 b 2", "a:OW+update b:OW+update"),
        ("mset a 1 b", "a:OW+update b:OW+update"),
        ("del a b", "a:RM+delete b:RM+delete"),
        ("lmove a b left right", "a:RW+access+delete b:RW+insert"),
        ("bitop and d a b", "d:OW+update a:RO+access b:RO+access"),
        ("bitfield a get u8 0", "a:RO+access"),
        ("bitfield a get u8 0 set u8 0 1", "a:RW+access+update"),
        ("zunionstore d 2 a b weights 1 2", "d:OW+update a:RO+access b:RO+access"),
        ("zunionstore d 3 a b", "error"),
        ("zunionstore d x a", "error"),
        ("zinter 0 a", "error"),
        ("zinter 9223372036854775807 a", "error"),
        ("lmpop 2 a b left", "a:RW+access+delete b:RW+access+delete"),
        ("pfmerge d", "d:RW+access+insert"),
        ("sort a", "a:RO+access"),
        ("sort a by store get store limit store store store b", "a:RO+access b:OW+update"),
        ("sort a store b store c", "a:RO+access c:OW+update"),
        ("sort_ro a get b", "a:RO+access"),
        ("georadius a 1 2 3 km", "a:RO+access"),
        ("georadius a 1 2 3 km store b STOREDIST c", "a:RO+access b:OW+update c:OW+update"),
        ("georadius a 1 2 3 km store b store c", "a:RO+access c:OW+update"),
        ("georadius a 1 2 3 km store", "a:RO+access"),
        ("georadius a 1 2 3 km store store count 5", "a:RO+access store:OW+update"),
        ("georadius a 1 2 3 km storedist store asc", "a:RO+access store:OW+update"),
        ("georadius a 1 2 3 km count store store storedist", "a:RO+access storedist:OW+update"),
        ("georadius a store storedist store m store b", "a:RO+access b:OW+update"),
        ("georadiusbymember a store 5 km STORE store COUNT 5", "a:RO+access store:OW+update"),
        ("object encoding k", "k:RO"),
        ("once t set k v", "k:OW+update"),
        ("once t set k v get", "k:RW+access+update"),
        ("once t lmove a b left right", "a:RW+access+delete b:RW+insert"),
        ("once t sort a store b", "a:RO+access b:OW+update"),
        ("once t zunionstore d 2 a b", "d:OW+update a:RO+access b:RO+access"),
        ("once t zunionstore d 3 a b", "error"),
        ("once t config set a b", ""),
        ("once t nope k", "error"),
        ("once t once u set k v", "error"),
        ("once t set k", "error"),
        ("memory usage k samples 5", "k:RO"),
        ("hpexpire k 1 fields 1 f", "k:RW+update"),
        ("xadd k * f v", "k:RW+update"),
        ("xread streams a b 0 0", "a:RO+access b:RO+access"),
        ("xread count 1 block 5 streams streams a 0 streams", "streams:RO+access a:RO+access"),
        ("xread count streams streams k 0", "k:RO+access"),
        ("xread streams a b 0", "error"),
        ("xread count 1 streams", "error"),
        ("xread nope streams a 0", "error"),
        ("xreadgroup group streams streams noack streams a >", "a:RO+access"),
        ("xgroup create k g 0", "k:RW+insert"),
        ("xinfo stream k", "k:RO+access"),
        ("once t xreadgroup group g c streams a b > >", "a:RO+access b:RO+access"),
    ];
    for (call, expected) in table {
        assert_eq!(keys(call), expected, "{call}");
    }
}

#[test]
fn every_row_is_consistent() {
    let mut names = BTreeSet::new();
    let mut container = None;
    for (at, command) in COMMANDS.iter().enumerate() {
        let name = command.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_|-".contains(&b)),
            "{name}"
        );
        assert_eq!(entry(at).unwrap().name, name);
        assert_ne!(command.arity, 0, "{name}");
        assert!(command.summary.ends_with('.') && !command.complexity.is_empty(), "{name} is not documented");
        assert!(!command.flags.has(Flags::WRITE.and(Flags::READONLY)), "{name}");
        match name.split_once('|') {
            None => container = Some(name),
            Some((parent, _)) => assert_eq!(Some(parent), container, "{name} does not follow its container"),
        }
        let movable =
            command.keys.iter().any(|k| !matches!((k.begin, k.find), (Begin::Index(_), Find::Range { .. })));
        assert_eq!(command.flags.has(Flags::MOVABLEKEYS), movable, "{name}");
    }
    assert_eq!(names.len(), COMMAND_COUNT);
    let ids: usize = commands().map(|c| 1 + c.subcommands().len()).sum();
    assert_eq!(ids, COMMAND_COUNT);
}

#[test]
fn arity_counts_the_name() {
    let get = lookup(b"get").unwrap();
    assert!(get.check_arity(2) && !get.check_arity(1) && !get.check_arity(3));
    let del = lookup(b"DEL").unwrap();
    assert!(del.check_arity(2) && del.check_arity(100) && !del.check_arity(1));
}

fn answer(protocol: Protocol, call: &str) -> Value {
    let (args, mut out) = (args(call), Vec::new());
    let mut reply = Reply::new(&mut out, protocol);
    if let Err(refusal) = describe::answer(args.args(), &mut reply) {
        reply.refusal(&refusal);
    }
    drop(reply);
    let (value, consumed) = Value::parse(&out).expect("a reply").expect("a whole reply");
    assert_eq!(consumed, out.len(), "{call}: one reply, no more");
    value
}

fn written(protocol: Protocol, call: &str) -> String {
    let mut out = Vec::new();
    answer(protocol, call).write(&mut out);
    String::from_utf8_lossy(&out).replace("\r\n", " ").trim().into()
}

#[test]
fn command_info_has_redis_shapes() {
    assert_eq!(
        written(Protocol::Resp2, "command info GET nope"),
        "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 $5 flags *2 +RO +access \
         $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 $9 find_keys *4 $4 type $5 range $4 spec \
         *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0 $-1"
    );
    assert_eq!(
        written(Protocol::Resp3, "command info GET nope"),
        "*2 *10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@read +@string +@fast ~0 ~1 %3 $5 flags ~2 +RO +access \
         $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 $9 find_keys %2 $4 type $5 range $4 spec \
         %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 ~0 _"
    );
    let all = answer(Protocol::Resp3, "command");
    assert_eq!(
        all.as_elements().unwrap().len() as i64,
        answer(Protocol::Resp3, "command count").as_int().unwrap()
    );
    assert_eq!(all, answer(Protocol::Resp3, "command info"));
}

#[test]
fn command_docs_are_maps_by_name() {
    let Value::Map(all) = answer(Protocol::Resp3, "command docs") else { panic!("not a map") };
    assert_eq!(all.len(), commands().count());
    let Value::Map(some) = answer(Protocol::Resp3, "command docs getset nope config|get") else {
        panic!("not a map")
    };
    assert_eq!(some.len(), 2);
    assert_eq!(some[1].0, Value::Bulk("config|get".into()));
    assert!(
        written(Protocol::Resp3, "command docs getset")
            .contains("$9 doc_flags ~1 +deprecated $16 deprecated_since $5 6.2.0")
    );
}

#[test]
fn command_list_and_getkeys_answer_as_redis() {
    assert_eq!(answer(Protocol::Resp3, "command list").as_elements().unwrap().len(), COMMAND_COUNT);
    let table = [
        (
            "command list filterby aclcat hyperloglog",
            "*5 $5 pfadd $7 pfcount $7 pfdebug $7 pfmerge $10 pfselftest",
        ),
        ("command list filterby aclcat nope", "*0"),
        ("command list filterby pattern CONFIG|S*", "*1 $10 config|set"),
        ("command list filterby module json", "*0"),
        ("command list filterby color blue", "-ERR syntax error"),
        ("command list everything", "-ERR syntax error"),
        ("command getkeys mset a 1 b 2", "*2 $1 a $1 b"),
        ("command getkeys once t mset a 1 b 2", "*2 $1 a $1 b"),
        ("command getkeysandflags get a", "*1 *2 $1 a *2 +RO +access"),
        ("command getkeys nope a", "-ERR Invalid command specified"),
        ("command getkeys config nope a", "-ERR Invalid command specified"),
        ("command getkeys config get a", "-ERR The command has no key arguments"),
        ("command getkeys lmove a b", "-ERR Invalid number of arguments specified for command"),
        ("command getkeys zinter x a", "-ERR Invalid arguments specified for command"),
    ];
    for (call, expected) in table {
        assert_eq!(written(Protocol::Resp2, call), expected, "{call}");
    }
    assert!(written(Protocol::Resp2, "command help").starts_with("*15 +COMMAND <subcommand>"));
}

proptest! {
    #[test]
    fn keys_of_any_arguments_are_arguments(
        command in 0..COMMAND_COUNT,
        words in prop::collection::vec("[a-c]|store|get|set|limit|by|[0-9]{1,20}|-1", 0..12),
    ) {
        let command = entry(command).unwrap();
        let call = command.name.replace('|', " ") + " " + &words.join(" ");
        let args = args(&call);
        if command.check_arity(args.args().len()) && let Ok(keys) = command.keys(args.args()) {
            prop_assert!(keys.iter().all(|k| (1..args.args().len()).contains(&k.index)), "{}", call);
        }
    }
}
