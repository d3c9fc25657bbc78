//! Sources of scripts, made of what a fuzzer gives.

/// Pieces of scripts: bytes below 128 choose one, so that mutations make sources that compile.
const PIECES: &[&str] = &[
    "local v = {} ", "v", "[1]", ".a", " = ", "{}", "{v}", "1", "0", "-1", "2^53", "1e300", "0/0", "'x'", "'\\0a%d'", " .. ", " + ",
    "tostring(", "#", "(", ")", ", ", "function(...) return ... end", "return ", "for k, x in pairs(v) do ", "for i = 1, 9 do ",
    " end ", "while true do ", "if v then ", "pcall(", "error(", "setmetatable(", "string.rep(", "string.find(", "string.gsub(",
    "string.format(", "table.sort(", "table.concat(", "table.insert(", "unpack(", "select(", "coroutine.wrap(",
    "coroutine.yield(", "cjson.encode(", "cjson.decode(", "cmsgpack.pack(", "cmsgpack.unpack(", "struct.pack('>i4s', ",
    "struct.unpack('bc0', ", "bit.lshift(", "redis.call('set', 'k', ", "redis.call('get', 'k')", "redis.call('lrange', ", "redis.call('set', 'l', ", "redis.call(unpack(ARGV)) ",
    "redis.pcall(", "redis.setresp(3) ", "redis.error_reply(", "loadstring(", "math.random(", "KEYS[1]", "KEYS[2]", "ARGV[1]", "next(v)",
    "rawset(", "_G", "nil", "true", "collectgarbage()", "{err = ", "{ok = ", "{map = ", "{set = ", "}", "__index = ", "a = ",
    " then ", " do ", " and ", " or ", " not ", "\n", " ", "string.byte(", "('(a*)'):rep(9)", "'%b()%f[%w]'", "v.a = v ",
];

/// A source of the pieces that the bytes behind the first choose, or, if that is 128 or more, of those bytes as they are.
pub fn source(data: &[u8]) -> Vec<u8> {
    match data.split_first() {
        Some((0..128, rest)) => rest.iter().flat_map(|b| PIECES[*b as usize % PIECES.len()].bytes()).collect(),
        Some((_, rest)) => rest.to_vec(),
        None => Vec::new(),
    }
}
