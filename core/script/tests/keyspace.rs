//! Scripts on the keyspace: what they may call, and that heavy commands count.

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Keyspace, ReadCx, WriteCx};
use skep_resp::{Protocol, Reply};
use skep_script::{Engine, Invocation, KeyspaceHost, Limits, Run, ScriptCommands, Sha, Surroundings};

const RUN: Run = Run { limits: Limits { work: 1_000_000, memory: 64 << 20 }, seed: 1 };

struct Store {
    engine: Engine,
    commands: ScriptCommands,
    keyspace: Keyspace,
}

impl Store {
    fn new() -> Store {
        let mut keyspace = Keyspace::default();
        keyspace.advance(Millis(1_700_000_000_123));
        Store { engine: Engine::new(), commands: ScriptCommands::new(), keyspace }
    }

    fn write(&mut self, source: &str) -> String {
        self.write_with(source, false)
    }

    fn write_with(&mut self, source: &str, reads_only: bool) -> String {
        let (now, mut rng) = (self.keyspace.stamp(), Rng::new(1));
        let mut cx = WriteCx { keyspace: &mut self.keyspace, db: 0, now, rng: &mut rng };
        let mut host = KeyspaceHost::new(&self.commands, Surroundings::Write(&mut cx), reads_only);
        run(&mut self.engine, &mut host, source)
    }

    fn read(&mut self, source: &str, now: Millis) -> String {
        let mut rng = Rng::new(1);
        let mut cx = ReadCx { keyspace: &self.keyspace, db: 0, now, rng: &mut rng };
        let mut host = KeyspaceHost::new(&self.commands, Surroundings::Read(&mut cx), true);
        run(&mut self.engine, &mut host, source)
    }
}

fn run(engine: &mut Engine, host: &mut KeyspaceHost, source: &str) -> String {
    let args = OwnedArgs::collect([&b"eval"[..], source.as_bytes(), b"0"]);
    let call = Invocation::parse(args.args()).expect("no keys");
    let mut bytes = Vec::new();
    engine.eval(
        source.as_bytes(),
        Sha::of(source.as_bytes()),
        &call,
        RUN,
        host,
        &mut Reply::new(&mut bytes, Protocol::Resp2),
    );
    bytes.escape_ascii().to_string()
}

#[test]
fn a_script_that_only_reads_is_refused_its_writes() {
    let mut store = Store::new();
    store.write("redis.call('set', 'k', 'v')");
    let refused = "-ERR Write commands are not allowed from read-only scripts.";
    let write = "return redis.call('set', 'k', 'other')";
    assert!(store.write_with(write, true).starts_with(refused));
    assert!(store.read(write, Millis(0)).starts_with(refused));
    for source in ["return redis.call('get', 'k')", "return redis.pcall('get', 'k')"] {
        assert_eq!(store.read(source, Millis(0)), "$1\\r\\nv\\r\\n");
        assert_eq!(store.write_with(source, true), "$1\\r\\nv\\r\\n");
    }
}

#[test]
fn time_is_that_of_the_entry_and_stands_still() {
    let mut store = Store::new();
    let source = "local a = redis.call('time') for i = 1, 1000 do redis.call('get', 'k') end
        local b = redis.call('time') return {a[1], a[2], tostring(a[2] == b[2])}";
    assert_eq!(
        store.write(source),
        "*3\\r\\n$10\\r\\n1700000000\\r\\n$6\\r\\n123000\\r\\n$4\\r\\ntrue\\r\\n"
    );
}

#[test]
fn select_holds_within_the_script() {
    let mut store = Store::new();
    store.write("redis.call('select', 5) redis.call('set', 'k', 'in five')");
    assert_eq!(store.write("return redis.call('exists', 'k')"), ":0\\r\\n");
    assert_eq!(
        store.write("redis.call('select', '5') return redis.call('get', 'k')"),
        "$7\\r\\nin five\\r\\n"
    );
    assert!(store.write("return redis.call('select', 99)").starts_with("-ERR DB index is out of range"));
}

#[test]
fn commands_that_are_not_for_scripts_are_refused() {
    let mut store = Store::new();
    for command in ["'auth', 'x'", "'client', 'id'", "'hello', 3", "'config', 'get', 'save'", "'info'"] {
        let reply = store.write(&format!("return redis.call({command})"));
        assert!(
            reply.starts_with("-ERR This Redis command is not allowed from script"),
            "{command}: {reply}"
        );
    }
}

#[test]
fn a_read_tells_of_all_that_was_due_and_not_of_the_last_alone() {
    let mut store = Store::new();
    store.write("redis.call('set', 'k', 'v', 'px', 1) redis.call('set', 'stays', 'v')");
    let later = store.keyspace.stamp().plus(10);
    let source = "local gone = redis.call('get', 'k') redis.call('get', 'stays') return gone";
    store.keyspace.access.take_saw_due();
    assert_eq!(store.read(source, later), "$-1\\r\\n");
    assert!(store.keyspace.access.take_saw_due());
}

#[test]
fn heavy_commands_count_with_what_they_look_at() {
    let mut store = Store::new();
    // Filled in pieces, since a call costs steps too.
    for part in 0..10 {
        let fill = format!(
            "for i = {}, {} do redis.call('sadd', 's', i) redis.call('rpush', 'l', i) redis.call('set', 'key' .. i, 1) end",
            part * 2000 + 1,
            (part + 1) * 2000
        );
        assert_eq!(store.write(&fill), "$-1\\r\\n");
    }
    store.write("redis.call('setrange', 'b', 10000000, 'x')");
    for heavy in [
        "'sintercard', 2, 's', 's'",
        "'sinterstore', 'd', 's', 's'",
        "'lrem', 'l', 0, 'nosuch'",
        "'lpos', 'l', 'nosuch'",
        "'sort', 'l', 'limit', 0, 1",
        "'keys', 'nosuch*'",
        "'scan', 0, 'match', 'nosuch', 'count', 1000000",
        "'bitcount', 'b'",
        "'copy', 's', 'd', 'replace'",
    ] {
        let reply = store.write(&format!("for i = 1, 500 do redis.call({heavy}) end"));
        assert!(reply.starts_with("-ERR script ran out of steps"), "{heavy}: {reply}");
    }
    for light in ["'sismember', 's', 5", "'lpush', 'l', 1", "'get', 'key5'", "'strlen', 'b'", "'scan', 0"] {
        let reply = store.write(&format!("for i = 1, 500 do redis.call({light}) end return 1"));
        assert_eq!(reply, ":1\\r\\n", "{light}");
    }
}
