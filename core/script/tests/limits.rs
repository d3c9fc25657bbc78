//! A script that runs away ends, whatever it does, and leaves the engine as it was.

mod common;

use common::{Table, run};
use skep_resp::Protocol;
use skep_script::Engine;

const OUT_OF_STEPS: &str = "-ERR script ran out of steps";
const OUT_OF_MEMORY: &str = "-ERR script ran out of memory";

/// The reply of a script without keys, in RESP2, in a new engine.
fn eval(source: &str) -> String {
    let (bytes, _) =
        run(&mut Engine::new(), &mut Table::default(), source.as_bytes(), &[b"0"], Protocol::Resp2);
    bytes.escape_ascii().to_string()
}

fn ends(source: &str, expected: &str) {
    let reply = eval(source);
    assert!(reply.starts_with(expected), "{source}\n{reply}");
}

#[test]
fn loops_end() {
    ends("while true do end", OUT_OF_STEPS);
    ends("repeat until false", OUT_OF_STEPS);
    ends("for i = 1, 1e18 do end", OUT_OF_STEPS);
    ends("local function f() return f() end return f()", OUT_OF_STEPS);
    ends("while true do redis.call('get', 'k') end", OUT_OF_STEPS);
    ends("local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) return t[1]", "-ERR");
}

#[test]
fn nobody_catches_the_end() {
    ends("while true do pcall(function() while true do end end) end", OUT_OF_STEPS);
    ends("xpcall(function() while true do end end, function() while true do end end) return 1", OUT_OF_STEPS);
    ends(
        "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end",
        OUT_OF_STEPS,
    );
    ends(
        "while true do local c = coroutine.create(function() while true do end end) coroutine.resume(c) end",
        OUT_OF_STEPS,
    );
    ends("pcall(string.rep, 'x', 1e9) return 1", OUT_OF_MEMORY);
    ends("while true do pcall(error) end", OUT_OF_STEPS);
    ends("table.insert({}, -2^31, 1) return 1", OUT_OF_STEPS);
}

#[test]
fn work_inside_of_library_functions_counts() {
    ends(
        "return string.find(string.rep('a', 40), string.rep('a?', 40) .. string.rep('a', 40) .. 'b')",
        OUT_OF_STEPS,
    );
    ends("return string.find(string.rep('a', 1e6), string.rep('a', 5e5) .. 'b', 1, true)", OUT_OF_STEPS);
    ends("return string.match(string.rep('a', 1e5), '.-.-.-.-b')", OUT_OF_STEPS);
    ends("return string.find(string.rep('a', 1e6), '[' .. string.rep('b', 1e6) .. ']')", OUT_OF_STEPS);
    ends("return string.gsub(string.rep('(', 1e5), '%b()', '')", OUT_OF_STEPS);
    ends("local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 1) end", OUT_OF_STEPS);
    ends(
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.remove(t, 1) t[1e5] = 1 end",
        OUT_OF_STEPS,
    );
    ends("local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t, rawequal) end", "-ERR");
    ends("local t = {} for i = 1, 1e5 do t[i] = i end while true do table.maxn(t) end", OUT_OF_STEPS);
    ends("local t = {} for i = 1, 1e5 do t[i] = 1 t[i] = nil end while true do next(t) end", OUT_OF_STEPS);
    ends("local s = string.rep('a', 1e6) while true do local _ = s < s .. 'a' end", "-ERR script ran out of");
    ends("local s = string.rep('x = 1 ', 1e5) while true do loadstring(s) end", OUT_OF_STEPS);
    ends("while true do cjson.decode('[1,2,3]') end", OUT_OF_STEPS);
    ends("while true do redis.sha1hex(string.rep('a', 1e5)) end", "-ERR script ran out of");
    ends("local t = {1} for i = 1, 60 do t = {t, t} end return cjson.encode(t)", OUT_OF_STEPS);
    ends("local t = {1} for i = 1, 60 do t = {t, t} end return t", OUT_OF_STEPS);
    ends("local t = {1} for i = 1, 12 do t = {t, t, t, t, t} end return cmsgpack.pack(t)", OUT_OF_STEPS);
}

#[test]
fn memory_ends() {
    ends("local s, t = string.rep('x', 1000), {} while true do t[#t + 1] = s .. #t end", OUT_OF_MEMORY);
    ends("local s = 'x' while true do s = s .. s end", OUT_OF_MEMORY);
    ends("return string.rep('x', 2^31 - 1)", OUT_OF_MEMORY);
    ends("return string.rep(string.rep('x', 1e6), 2^31 - 1)", OUT_OF_MEMORY);
    ends("local t = {} for i = 1, 1e9 do t[i] = {} end", OUT_OF_MEMORY);
    ends("local s = string.rep('x', 1e5) return string.gsub(s, '.', s)", OUT_OF_MEMORY);
    ends(
        "local s, t = string.rep('x', 1e6), {} for i = 1, 100 do t[i] = s end return table.concat(t)",
        OUT_OF_MEMORY,
    );
    ends("local t = {} while true do t[#t + 1] = coroutine.create(function() end) end", OUT_OF_MEMORY);
    ends("local t = {} while true do local c = {} t[#t + 1] = function() return c end end", OUT_OF_MEMORY);
    // A deep stack in each of many coroutines.
    let deep = "local function deep(n) if n == 0 then coroutine.yield() end return 1 + deep(n - 1) end
        local all = {} while true do
        local c = coroutine.create(deep) coroutine.resume(c, 10000) all[#all + 1] = c end";
    ends(deep, "-ERR script ran out of");
    ends("local s, t = string.rep('x', 1e6), {} for i = 1, 100 do t[i] = s end return t", "-ERR script: ");
}

#[test]
fn recursion_ends_with_an_error_that_scripts_may_catch() {
    ends("local function f() return 1 + f() end return f()", "-ERR user_script:1: stack overflow script: ");
    let caught = "local function f() return 1 + f() end local ok, e = pcall(f) return {tostring(ok), e}";
    ends(caught, "*2\\r\\n$5\\r\\nfalse\\r\\n$29\\r\\nuser_script:1: stack overflow\\r\\n");
    let handled =
        "local function f() return 1 + f() end return {xpcall(f, function(e) return 'handled ' .. e end)}";
    ends(handled, "*2\\r\\n$-1\\r\\n$37\\r\\nhandled user_script:1: stack overflow");
    ends("local function f(s) return string.gsub(s, '.', f) end return f('a')", "-ERR C stack overflow");
    ends("local function f() return coroutine.wrap(f)() end return f()", "-ERR ");
    ends(
        "return string.find(string.rep('a', 1000), string.rep('a?', 1000))",
        "-ERR user_script:1: pattern too complex",
    );
    ends("return loadstring(string.rep('(', 1e5))", "$-1");
    ends("return loadstring('return ' .. string.rep('{', 1e5))", "$-1");
    ends("local t = {} t[1] = t return t", "-ERR reached lua stack limit\\r\\n");
    ends(
        "local t = {} t.t = t return cjson.encode(t)",
        "-ERR user_script:1: Cannot serialise, excessive nesting (1001)",
    );
    ends(
        "return cjson.decode(string.rep('[', 1e5))",
        "-ERR user_script:1: Found too many nested data structures (1001)",
    );
    ends(
        "cjson.encode_max_depth(1e9) local t = {} t.t = t return cjson.encode(t)",
        "-ERR user_script:1: Cannot serialise",
    );
    ends("return cmsgpack.unpack(string.rep('\\145', 1e5))", "-ERR user_script:1: stack overflow");
    ends("return unpack({}, 1, 1e8)", "-ERR user_script:1: too many results to unpack");
    ends("return unpack({}, -2^31, 2^31 - 1)", "-ERR user_script:1: too many results to unpack");
}

#[test]
fn an_engine_goes_on_after_a_script_that_ran_away() {
    let mut engine = Engine::new();
    let mut host = Table::default();
    let sources: [&[u8]; 5] = [
        b"while true do end",
        b"local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end",
        b"local function f() return 1 + f() end return f()",
        b"return coroutine.wrap(function() while true do end end)()",
        b"return string.find(string.rep('a', 40), string.rep('a?', 40) .. string.rep('a', 40))",
    ];
    for source in sources {
        run(&mut engine, &mut host, source, &[b"0"], Protocol::Resp2);
        let (reply, _) =
            run(&mut engine, &mut host, b"return redis.call('echo', 'fine')", &[b"0"], Protocol::Resp2);
        assert_eq!(reply, b"$4\r\nfine\r\n");
    }
}

#[test]
fn what_a_script_did_before_its_end_stays() {
    let mut host = Table::default();
    run(
        &mut Engine::new(),
        &mut host,
        b"redis.call('set', 'k', 'v') while true do end",
        &[b"0"],
        Protocol::Resp2,
    );
    assert_eq!(host.values[&b"k"[..]], b"v");
}
