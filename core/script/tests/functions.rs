//! What of scripts and libraries is kept, and what a call leaves behind: nothing.

mod common;

use common::{RUN, Table, run};
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_command::resolve;
use skep_keyspace::{Keyspace, Restore, WriteCx, handler_of};
use skep_resp::{Protocol, Reply};
use skep_script::{Engine, Invocation, Library, LogLevel, Runner, Scripts, Sha};

fn fcall(engine: &mut Engine, library: &Library, words: &[&[u8]]) -> String {
    let args = OwnedArgs::collect([&b"fcall"[..]].into_iter().chain(words.iter().copied()));
    let call = Invocation::parse(args.args()).expect("its keys are given right");
    let mut bytes = Vec::new();
    engine.fcall(library, &call, RUN, &mut Table::default(), &mut Reply::new(&mut bytes, Protocol::Resp2));
    bytes.escape_ascii().to_string()
}

fn load(engine: &mut Engine, code: &str) -> Library {
    engine.load_library(code.as_bytes(), RUN).expect("a right library")
}

#[test]
fn variables_of_a_library_do_not_outlive_a_call() {
    let mut engine = Engine::new();
    let library = load(
        &mut engine,
        "#!lua name=counting\nlocal n = 0\nredis.register_function('count', function() n = n + 1 return n end)",
    );
    for _ in 0..3 {
        assert_eq!(fcall(&mut engine, &library, &[b"count", b"0"]), ":1\\r\\n");
    }
}

#[test]
fn functions_of_one_library_are_called_by_their_own_name() {
    let mut engine = Engine::new();
    let code = "#!lua name=two\nredis.register_function('b', function(k, a) return 'b' .. a[1] end)
        redis.register_function{function_name = 'a', callback = function(k) return k end, flags = {'no-writes'}}";
    let library = load(&mut engine, code);
    assert_eq!(library.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(library.functions[0].flags.no_writes() && !library.functions[1].flags.no_writes());
    assert_eq!(fcall(&mut engine, &library, &[b"b", b"0", b"x"]), "$2\\r\\nbx\\r\\n");
    assert_eq!(fcall(&mut engine, &library, &[b"a", b"1", b"k"]), "*1\\r\\n$1\\r\\nk\\r\\n");
    // In an engine that has not loaded it: after a restart, or on another replica.
    assert_eq!(fcall(&mut Engine::new(), &library, &[b"b", b"0", b"x"]), "$2\\r\\nbx\\r\\n");
}

#[test]
fn a_library_that_runs_away_while_it_is_loaded_is_refused() {
    let mut engine = Engine::new();
    let refusal = engine.load_library(b"#!lua name=x\nwhile true do end", RUN).unwrap_err();
    assert!(refusal.to_string().contains("ran out of steps"), "{refusal}");
    assert_eq!(load(&mut engine, "#!lua name=y\nredis.register_function('f', function() end)").name, "y");
}

#[test]
fn a_script_leaves_nothing_to_the_next() {
    let mut engine = Engine::new();
    let mut host = Table::default();
    let mut eval = |source: &str| {
        let (reply, _) =
            run(&mut engine, &mut host, source.as_bytes(), &[b"1", b"key", b"arg"], Protocol::Resp2);
        reply.escape_ascii().to_string()
    };
    for meddling in [
        "cjson.encode_number_precision(2) return 1",
        "cjson.encode_sparse_array(true, 1, 1) return 1",
        "redis.setresp(3) return 1",
        "math.randomseed(5) return 1",
        "local t = {} t[1] = KEYS t[2] = ARGV KEYS[1] = 'changed' ARGV[1] = 'changed' return 1",
        "KEYS = {} return 1",
        "string.format = nil return 1",
        "getmetatable('').__index = {} return 1",
        "getmetatable(_G).__index = nil return 1",
        "redis.call = print return 1",
        "server.call = print return 1",
        "cjson.new().encode_max_depth(1) return 1",
        "_G.leaked = 1 return 1",
        "rawset(_G, 'leaked', 1) return 1",
        "setmetatable(string, {}) return 1",
        "table.insert(math, 1) return 1",
        "coroutine.wrap(function() cjson.decode_max_depth(1) end)() return 1",
    ] {
        eval(meddling);
        let state = "return {cjson.encode(1/3), tostring(pcall(cjson.encode, {[1] = 1, [100] = 1})), KEYS[1], ARGV[1],
            tostring(math.random()), tostring(rawget(_G, 'leaked')), type(string.format), tostring(redis.call('get', 'x')),
            #cjson.decode('[[1]]'), type(server.call)}";
        let expected = {
            let mut engine = Engine::new();
            let mut host = Table::default();
            let (reply, _) =
                run(&mut engine, &mut host, state.as_bytes(), &[b"1", b"key", b"arg"], Protocol::Resp2);
            reply.escape_ascii().to_string()
        };
        assert_eq!(eval(state), expected, "after {meddling}");
    }
}

#[test]
fn nothing_of_the_machine_can_be_reached() {
    let mut engine = Engine::new();
    let source = "local found = {} for _, name in ipairs({'io', 'require', 'package', 'debug', 'dofile', 'loadfile', 'print',
        'newproxy', 'getfenv', 'setfenv', 'module'}) do if rawget(_G, name) ~= nil then found[#found + 1] = name end end
        for name in pairs(os) do found[#found + 1] = name end found[#found + 1] = tostring(string.dump)
        found[#found + 1] = tostring(loadstring('\\27Lua')) return found";
    let (reply, _) = run(&mut engine, &mut Table::default(), source.as_bytes(), &[b"0"], Protocol::Resp2);
    assert_eq!(
        reply.escape_ascii().to_string(),
        "*3\\r\\n$5\\r\\nclock\\r\\n$3\\r\\nnil\\r\\n$3\\r\\nnil\\r\\n"
    );
}

#[test]
fn log_lines_and_numbers_reach_the_host() {
    let mut host = Table::default();
    let source =
        "redis.log(redis.LOG_WARNING, 'a', 1, 'b') redis.call('set', 'n', 3.3) redis.call('set', 'i', 2^53)
        local minus = -1 redis.call('set', 'z', 0 * minus) redis.call('set', 'x', 1e300) redis.call('set', 'inf', 1/0)";
    run(&mut Engine::new(), &mut host, source.as_bytes(), &[b"0"], Protocol::Resp2);
    assert_eq!(host.logged, [(LogLevel::Warning, b"a 1 b".to_vec())]);
    let value = |key: &str| String::from_utf8(host.values[key.as_bytes()].clone()).unwrap();
    let found = [value("n"), value("i"), value("z"), value("x"), value("inf")];
    assert_eq!(found, ["3.3", "9007199254740992", "0", "1e+300", "inf"]);
    assert_eq!(host.calls, 5);
}

#[test]
fn a_source_that_is_too_long_is_refused() {
    let mut engine = Engine::new();
    let source = vec![b' '; skep_script::SOURCE_BYTES_MAX + 1];
    let refusal = engine.compile(&source, Sha::of(&source)).unwrap_err();
    assert_eq!(refusal.to_string(), "ERR script is 1048577 bytes, limit is 1048576");
}

#[test]
fn more_scripts_than_are_kept_compiled_run_all_the_same() {
    let mut engine = Engine::new();
    for round in 0..2 {
        for i in 0..1500 {
            let source = format!("return {i}");
            let (reply, _) =
                run(&mut engine, &mut Table::default(), source.as_bytes(), &[b"0"], Protocol::Resp2);
            assert_eq!(reply, format!(":{i}\r\n").into_bytes(), "round {round}");
        }
    }
}

#[test]
fn loaded_scripts_stay_and_evaluated_ones_go_the_oldest_first() {
    let mut scripts = Scripts::default();
    let loaded = scripts.load(b"return 'loaded'").unwrap();
    let sources: Vec<String> = (0..501).map(|i| format!("return {i}")).collect();
    let shas: Vec<Sha> = sources.iter().map(|source| Sha::of(source.as_bytes())).collect();
    for (sha, source) in shas.iter().zip(&sources) {
        scripts.remember(*sha, source.as_bytes());
    }
    assert_eq!(scripts.source(loaded).unwrap()[..], b"return 'loaded'"[..]);
    assert_eq!(scripts.source(shas[0]), None);
    assert_eq!(scripts.source(shas[1]).unwrap()[..], *sources[1].as_bytes());
    // What is loaded later is not among those that go.
    scripts.load(sources[1].as_bytes()).unwrap();
    for i in 0..600 {
        let source = format!("return 'more {i}'");
        scripts.remember(Sha::of(source.as_bytes()), source.as_bytes());
    }
    assert_eq!(scripts.source(shas[1]).unwrap()[..], *sources[1].as_bytes());
    assert_eq!(scripts.source(shas[500]), None);
    scripts.flush();
    assert_eq!(scripts.source(loaded), None);
    assert_eq!(scripts, Scripts::default());
}

#[test]
fn of_evaluated_scripts_the_one_that_was_called_longest_ago_goes_also_behind_a_checkpoint() {
    let mut keyspace = Keyspace::default();
    keyspace.set_interpreter(Box::new(Runner::default()));
    let name_of = |number: u32| Sha::of(format!("return {number}").as_bytes()).to_string();
    let call = |keyspace: &mut Keyspace, words: &[&str]| {
        let args = OwnedArgs::collect(words.iter().map(|word| word.as_bytes()));
        let (now, mut rng, mut bytes) = (keyspace.advance(Millis(1_000)), Rng::new(1), Vec::new());
        let handler = handler_of(resolve(args.args()).expect("a command")).expect("of the keyspace");
        let mut cx = WriteCx { keyspace, db: 0, now, rng: &mut rng };
        handler.write(&mut cx, args.args(), &mut Reply::new(&mut bytes, Protocol::Resp2));
        String::from_utf8(bytes).expect("text")
    };
    for number in 0..500 {
        call(&mut keyspace, &["EVAL", &format!("return {number}"), "0"]);
    }
    // By their names and by their texts.
    assert_eq!(call(&mut keyspace, &["EVALSHA", &name_of(0), "0"]), ":0\r\n");
    assert_eq!(call(&mut keyspace, &["EVAL", "return 2", "0"]), ":2\r\n");
    keyspace.scripts().assert_invariants();
    let mut cut = Vec::new();
    keyspace.begin_cut();
    while !keyspace.cut_step(&mut cut, 1 << 20) {}
    let mut restore = Restore::default();
    restore.feed(&cut).expect("the cut is whole");
    let mut restored = restore.finish().expect("the cut is whole");
    restored.set_interpreter(Box::new(Runner::default()));
    assert_eq!(restored.digest(), keyspace.digest());
    for keyspace in [&mut keyspace, &mut restored] {
        for number in 500..502 {
            call(keyspace, &["EVAL", &format!("return {number}"), "0"]);
        }
        let gone: Vec<u32> = (0..502)
            .filter(|number| {
                keyspace.scripts().source(Sha::of(format!("return {number}").as_bytes())).is_none()
            })
            .collect();
        assert_eq!(gone, [1, 3]);
    }
    assert_eq!(restored.digest(), keyspace.digest());
}

#[test]
fn libraries_are_replaced_refused_and_removed() {
    let mut engine = Engine::new();
    let mut scripts = Scripts::default();
    let library = |engine: &mut Engine, name: &str, function: &str| {
        load(engine, &format!("#!lua name={name}\nredis.register_function('{function}', function() end)"))
    };
    scripts.add_library(library(&mut engine, "one", "f"), false).unwrap();
    let refused = scripts.add_library(library(&mut engine, "one", "g"), false).unwrap_err();
    assert_eq!(refused.to_string(), "ERR Library 'one' already exists");
    let refused = scripts.add_library(library(&mut engine, "two", "F"), false).unwrap_err();
    assert_eq!(refused.to_string(), "ERR Function F already exists");
    scripts.add_library(library(&mut engine, "one", "g"), true).unwrap();
    assert!(scripts.library_of(b"f").is_none() && scripts.library_of(b"G").is_some());
    assert_eq!(scripts.delete_library(b"nosuch").unwrap_err().to_string(), "ERR Library not found");
    scripts.delete_library(b"one").unwrap();
    assert_eq!(scripts, Scripts::default());
}
