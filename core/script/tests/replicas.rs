//! Replicas never differ: what a script answers, does and uses up depends on nothing but the script, its arguments and the
//! limits. Each script runs in a new engine and in engines with different pasts, and all must agree to the byte.

mod common;

use common::{Table, run};
use proptest::prelude::*;
use skep_base::Rng;
use skep_resp::Protocol;
use skep_script::{Engine, Usage};

/// Scripts that show what differs between processes, or between runs in one: addresses, order in tables, garbage,
/// time, randomness, sizes that grew before.
const REVEALING: &[&str] = &[
    "return tostring({}) .. tostring(function() end) .. tostring(print == nil) .. tostring(coroutine.create(function() end))",
    "return tostring(redis) .. tostring(string.format) .. tostring(_G) .. tostring(KEYS) .. tostring(ARGV)",
    // Tables and functions as keys: their order is that of creation, not of addresses.
    "local t, r = {}, {} for i = 1, 200 do t[{}] = i end for k, v in pairs(t) do r[#r + 1] = v end return table.concat(r, ',')",
    "local t, r = {}, {} for i = 1, 99 do t[function() return i end] = i end for k, v in pairs(t) do r[#r + 1] = v end return r",
    "local t, r = {}, {} for i = 1, 50 do t[coroutine.create(function() end)] = i end for _, v in pairs(t) do r[#r + 1] = v end return r",
    "local t = {[redis] = 1, [string] = 2, [_G] = 3, [pairs] = 4, [math.floor] = 5, [cjson.null] = 6, [true] = 7}
     local r = {} for k, v in pairs(t) do r[#r + 1] = v end return r",
    "local t = {} for i = 1, 300 do t['key' .. i] = i end for i = 1, 300, 2 do t['key' .. i] = nil end
     local r = {} for k in pairs(t) do r[#r + 1] = k end return r",
    "local r = {} for k in pairs(_G) do r[#r + 1] = k end for k in pairs(string) do r[#r + 1] = k end return r",
    "return cjson.encode({a = 1, b = {x = 1, y = 2, z = {}}, [1.5] = 2, ['10'] = 3})",
    "return cmsgpack.pack({a = 1, b = {x = 1, y = 2}, c = 'longer text', d = 1e300})",
    // Weak tables would show when garbage is collected.
    "local w = setmetatable({}, {__mode = 'kv'}) for i = 1, 2000 do w[i] = {} w[{}] = i end collectgarbage()
     local n = 0 for _ in pairs(w) do n = n + 1 end return n",
    // A removed key is found by `next` whether or not its string was collected.
    "local t = {} for i = 1, 40 do t['k' .. i] = i end for i = 1, 40 do t['k' .. i] = nil end
     for i = 1, 3000 do local _ = 'garbage' .. i end return {pcall(next, t, 'k' .. 7)}",
    "return {collectgarbage('count') * 1024, gcinfo(), collectgarbage('step') and 1 or 0}",
    "for i = 1, 5000 do local _ = {i} end return math.floor(collectgarbage('count') * 1024)",
    "return {tostring(math.random()), math.random(1000), math.random(-5, 5)}",
    "math.randomseed(42) return {math.random(1e6), math.random(1e6)}",
    "local x = 0 for i = 1, 1000 do x = x + i end return tostring(os.clock())",
    "return {tostring(0/0), tostring(-(0/0)), string.format('%f %d', 0/0, 1e300), tostring(2^0.5), tostring(math.sin(1e10))}",
    "return struct.pack('<dfd', 0/0, 0/0, -(0/0)) .. cmsgpack.pack(0/0)",
    "return {math.exp(1.5), math.log(3), math.pow(2, 0.3), math.tan(5), 3 % -2, -3 % 2, 5.5 % 1}",
    // How deep the stack may get must not hang on how large it was.
    "local function depth(n) local ok, r = pcall(function() return depth and 0 end) return n end
     local n = 0 local function f() n = n + 1 return 1 + f() end pcall(f) return n",
    "local n = 0 local function f() n = n + 1 return 1 + f() end pcall(f) for i = 1, 1e5 do local _ = {} end
     local first = n n = 0 pcall(f) return {first, n}",
    "local n = 0 local c = coroutine.wrap(function() local function f() n = n + 1 return 1 + f() end f() end) pcall(c) return n",
    "local n = 0 local function f(s) n = n + 1 return (string.gsub(s, '.', f)) end pcall(f, 'a') return n",
    // Limits are reached at the same step.
    "redis.call('set', 'n', 0) local n = 0 while true do n = n + 1 redis.call('set', 'n', n) end",
    "local t, n = {}, 0 while true do n = n + 1 t[n] = ('x'):rep(100) .. n redis.call('set', 'n', n) end",
    "cjson.encode_number_precision(3) redis.setresp(3) return cjson.encode(1/3)",
    "return cjson.encode(1/3)",
    "local ok, e = pcall(error, {code = {}}) return {tostring(e), tostring(e.code)}",
    "return loadstring('return tostring({})')()",
    "string.x = 1",
    "return redis.call('raw', '*2\\r\\n+OK\\r\\n*-1\\r\\n')",
];

type Seen = (Vec<u8>, Usage, Vec<(Vec<u8>, Vec<u8>)>);

fn observe(engine: &mut Engine, source: &str) -> Seen {
    let mut host = Table::default();
    let rest: [&[u8]; 4] = [b"1", b"key", b"first", b"second"];
    let (reply, usage) = run(engine, &mut host, source.as_bytes(), &rest, Protocol::Resp3);
    (reply, usage, host.values.into_iter().collect())
}

/// An engine that has run many things, chosen by `seed`.
fn with_a_past(seed: u64) -> Engine {
    let mut engine = Engine::new();
    let mut rng = Rng::new(seed);
    for _ in 0..rng.below(40) {
        let source = match rng.below(8) {
            0 => format!("local t = {{}} for i = 1, {} do t[i] = 'k' .. i end return #t", rng.below(20_000)),
            1 => "local function f() return 1 + f() end return f()".to_owned(),
            2 => format!("return string.rep('x', {})", rng.below(3_000_000)),
            3 => format!(
                "local c = coroutine.wrap(function() coroutine.yield({{}}) end) c() return {}",
                rng.below(1000)
            ),
            4 => {
                "cjson.encode_max_depth(3) redis.setresp(3) math.randomseed(7) return cjson.new()".to_owned()
            }
            5 => format!(
                "local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end return f({})",
                rng.below(15_000)
            ),
            6 => format!("return #cjson.encode({{'{}', {{}}}})", rng.next_u64()),
            _ => REVEALING[rng.below(REVEALING.len() as u64) as usize].to_owned(),
        };
        observe(&mut engine, &source);
    }
    engine
}

#[test]
fn revealing_scripts_answer_the_same_whatever_ran_before() {
    for source in REVEALING {
        let expected = observe(&mut Engine::new(), source);
        for seed in 0..4 {
            let mut engine = with_a_past(seed);
            assert_eq!(observe(&mut engine, source), expected, "seed {seed}: {source}");
            assert_eq!(observe(&mut engine, source), expected, "seed {seed}, again: {source}");
        }
    }
}

/// Pieces of scripts that use `v`, a table of values, and leave something in it.
const PIECES: &[&str] = &[
    "v[#v + 1] = {}",
    "v[#v + 1] = tostring(v[#v])",
    "v[v[#v] or 1] = #v",
    "for k, x in pairs(v) do v.last = tostring(k) .. tostring(x) end",
    "v.s = (v.s or 'a') .. 'b' .. #v",
    "v[#v + 1] = function() return v end",
    "v.n = (v.n or 1) * 1.7 + math.random(100)",
    "v.c = coroutine.wrap(function(a) local b = coroutine.yield(a) return b end) v.r = v.c(#v)",
    "v.e = select(2, pcall(error, v))",
    "v.m = setmetatable({}, {__index = v, __mode = 'k', __tostring = function() return 'm' end})",
    "redis.call('set', 'k' .. #v, tostring(v.n))",
    "v[#v + 1] = redis.call('get', 'k' .. (#v - 1))",
    "v.j = #cjson.encode({v.s, v.n, {a = v.last}})",
    "v.p = cmsgpack.unpack(cmsgpack.pack({v.s, v.n, v.j}))",
    "table.sort({5, 2, 8, #v}, function(a, b) v.q = a return a < b end)",
    "v.g = string.gsub(tostring(v.last), '%w', function(c) return c:upper() end)",
    "v[{}] = v[#v]",
    "v[#v] = nil",
    "for i = 1, 50 do v['t' .. i] = {i} end for i = 1, 50 do v['t' .. i] = nil end",
    "collectgarbage() v.gc = collectgarbage('count')",
    "for i = 1, 30 do v.s = string.format('%s%5.2f', tostring(v.s):sub(1, 40), i) end",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_answer_the_same_whatever_ran_before(pieces in prop::collection::vec(0..PIECES.len(), 1..25), seed: u64) {
        let body: Vec<&str> = pieces.iter().map(|i| PIECES[*i]).collect();
        let source = format!(
            "local v = {{}} {} local r = {{}} for k, x in pairs(v) do r[#r + 1] = tostring(k) r[#r + 1] = tostring(x) end return r",
            body.join("\n")
        );
        let expected = observe(&mut Engine::new(), &source);
        let mut engine = with_a_past(seed);
        prop_assert_eq!(observe(&mut engine, &source), expected);
    }
}
