"""Scripts whose replies must be those of redis-server. Each is one line of a list; KEYS are k1 and k2, ARGV are a1, 2 and -3.5."""

from __future__ import annotations

CONVERSIONS = """
return
return nil
return true
return false
return 1
return 3.99
return -3.99
return 1e15
return 2^53
return 0/0
return 1/0
return -1/0
return ''
return 'text'
return {}
return {1, 2, 3}
return {1, nil, 3}
return {1, false, 3}
return {1, {2, {3, {4}}}}
return {ok = 'fine'}
return {ok = 'two\\r\\nlines'}
return {err = 'no code'}
return {err = 'MYERR with a code'}
return {err = 'two\\nlines\\n'}
return {err = 'x', ok = 'y'}
return {ok = 1}
return {err = 1}
return {double = 3.5}
return {double = 1e300}
return {double = 'x'}
return {map = {a = 1}}
return {set = {a = true}}
return {map = 1}
return {big_number = '123456789012345678901234567890'}
return {verbatim_string = {format = 'txt', string = 'some text'}}
return {a = 1}
return {1, 2, a = 3}
return function() end
return coroutine.create(function() end)
return cjson.null
return setmetatable({}, {__index = function(t, i) if i < 3 then return i end end})
return {'a', {'b', redis.error_reply('ERR c')}, redis.status_reply('d')}
return redis.status_reply('OK')
return redis.status_reply()
return redis.status_reply(1)
return redis.status_reply('a', 'b')
return redis.error_reply('code message')
return redis.error_reply('-CODE message')
return redis.error_reply('word')
return redis.error_reply('-word')
return redis.error_reply()
return redis.error_reply({})
return redis.error_reply('a', 'b')
return {KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4]}
return {#KEYS, #ARGV, table.getn(KEYS), type(KEYS)}
return ARGV[2] + ARGV[3]
return {1, 2}, 3
return redis.call('ping')
return redis.call('echo', 'x')
return redis.pcall('ping').ok
return type(redis.call('get', 'nosuch'))
return tostring(redis.call('get', 'nosuch'))
redis.call('set', KEYS[1], 'v') return redis.call('get', KEYS[1])
redis.call('set', KEYS[1], 10) return redis.call('incr', KEYS[1])
redis.call('set', KEYS[1], 3) return redis.call('get', KEYS[1])
redis.call('set', KEYS[1], -0) return redis.call('get', KEYS[1])
redis.call('set', KEYS[1], 1e15) return redis.call('get', KEYS[1])
redis.call('rpush', KEYS[1], 1, 2, 'three') return redis.call('lrange', KEYS[1], 0, -1)
redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])
redis.setresp(3) redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1])
redis.setresp(3) redis.call('hset', KEYS[1], 'f', 'v') return redis.call('hgetall', KEYS[1]).map.f
redis.setresp(3) redis.call('sadd', KEYS[1], 'a') return redis.call('smembers', KEYS[1])
redis.setresp(3) redis.call('sadd', KEYS[1], 'a') return tostring(redis.call('smembers', KEYS[1]).set.a)
redis.setresp(3) redis.call('zadd', KEYS[1], 1.5, 'a') return redis.call('zscore', KEYS[1], 'a')
redis.setresp(3) redis.call('zadd', KEYS[1], 1.5, 'a') return tostring(redis.call('zscore', KEYS[1], 'a').double)
redis.setresp(3) return type(redis.call('get', 'nosuch'))
redis.setresp(3) return true
redis.setresp(3) return false
redis.setresp(3) return {true, false, nil}
redis.setresp(2) return true
return redis.setresp(1)
return redis.setresp()
return redis.setresp('3')
return redis.setresp({})
redis.call('zadd', KEYS[1], 1, 'a', 2, 'b') return redis.call('zrange', KEYS[1], 0, -1, 'withscores')
redis.call('set', KEYS[1], 'v') return redis.call('del', KEYS[1], KEYS[2])
redis.call('set', KEYS[1], 'v', 'ex', 100) return redis.call('ttl', KEYS[1])
redis.call('select', 3) redis.call('set', KEYS[1], 'in 3') redis.call('select', 0) return redis.call('get', KEYS[1])
return #redis.call('time')
return redis.sha1hex('')
return redis.sha1hex('abc')
return redis.sha1hex(1)
return redis.sha1hex()
return redis.sha1hex('a', 'b')
return redis.replicate_commands()
return tostring(redis.breakpoint())
return redis.set_repl(redis.REPL_ALL)
return redis.set_repl(redis.REPL_NONE)
return redis.set_repl(77)
return redis.set_repl()
return redis.log(redis.LOG_NOTICE, 'text')
return redis.log(redis.LOG_NOTICE, 'text', 1, nil, {})
return redis.log('x', 'text')
return redis.log(99, 'text')
return redis.log()
return {redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING}
return {redis.REPL_ALL, redis.REPL_AOF, redis.REPL_REPLICA, redis.REPL_SLAVE, redis.REPL_NONE}
return tostring(redis.acl_check_cmd('set', 'a', 'b'))
return redis.acl_check_cmd('nosuch')
return redis.acl_check_cmd()
return redis.acl_check_cmd('get')
"""

ERRORS = """
retrn 1
return 'unfinished
return (
x = = 1
for
goto = 1 return goto
return 1 return 2
error('a message')
error('a message', 0)
error('a message', 2)
error(12)
error({err = 'CODE in a table'})
error({err = 'x'})
error(redis.error_reply('CODE raised'))
assert(false)
assert(false, 'told so')
assert(nil, 'told so')
local t = nil return t.x
local t = {} return t.x.y
return nil + 1
return 'x' + 1
return {} .. 'x'
return #5
return {} < {}
return 1 < 'x'
return ('x'):nosuch()
return nosuch
return nosuch.x
nosuch()
x = 1
function f() end
local function f() y = 1 end f()
KEYS = 1
ARGV = {}
redis = nil
redis.call = nil
redis.x = 1
string.x = 1
math.pi = 3
getmetatable('').__index = 1
setmetatable(_G, {})
rawset(_G, 'x', 1)
rawset(string, 'x', 1)
getmetatable(_G).__index = nil
_G.x = 1
_G['redis'] = 1
table.insert(redis, 1)
table.insert(_G, 1)
return redis.nosuch
return redis.call()
return redis.pcall()
return redis.call('nosuch')
return redis.pcall('nosuch')
return redis.pcall('nosuch').err
return redis.call('get')
return redis.pcall('get').err
return redis.call('get', 'a', 'b')
return redis.call('set', KEYS[1], {})
return redis.call('set', KEYS[1], nil)
return redis.call('set', KEYS[1], true)
return redis.call({})
redis.call('set', KEYS[1], 'v') return redis.call('lpush', KEYS[1], 1)
redis.call('set', KEYS[1], 'v') return redis.pcall('lpush', KEYS[1], 1)
redis.call('set', KEYS[1], 'v') return redis.pcall('lpush', KEYS[1], 1).err
redis.call('set', KEYS[1], 'v') return redis.call('incr', KEYS[1])
redis.call('set', KEYS[1], 'v') local ok, e = pcall(redis.call, 'incr', KEYS[1]) return {tostring(ok), type(e), e.err}
local ok, e = pcall(redis.call, 'nosuch') return {tostring(ok), type(e), e.err}
local ok, e = pcall(error, 'x') return {tostring(ok), e}
local ok, e = pcall(function() error('x') end) return {tostring(ok), e}
local ok, e = xpcall(function() error('x') end, function(m) return 'handled ' .. m end) return {tostring(ok), e}
local ok, e = pcall(function() return nosuch end) return e
return redis.call('auth', 'x')
return redis.call('config', 'get', 'save')
return redis.call('client', 'id')
return unpack({}, 1, 1e9)
return unpack({1, 2, 3}, -1, 1)
return unpack({1, 2, 3})
return {unpack({1, 2, 3}, 2)}
return #{unpack({}, 1, 7900)}
return {unpack({}, 1, 8001)}
return string.rep('x', -1)
return loadstring('return 1 +')
return {loadstring('return 1 +')}
return loadstring('return KEYS[1]')()
return loadstring('x = 1')()
return load(function() return nil end)
return select('#', 1, 2, nil)
return select(-1, 1, 2, 3)
return select(0)
return tostring(tonumber('x'))
return tonumber('0x10')
return tonumber('10', 2)
return tonumber('zz', 36)
return tonumber('  12  ')
return tonumber('1e3')
return tonumber({})
return tonumber()
return type()
return next({})
return next({}, 'x')
return {next({5})}
return rawequal('a', 'a')
return setmetatable(1, {})
return getmetatable('').__index.len('abc')
return collectgarbage('nosuch')
return coroutine.yield(1)
return coroutine.running()
return {coroutine.resume(coroutine.create(function(a) return coroutine.yield(a + 1) end), 1)}
return coroutine.wrap(function() error('in a coroutine') end)()
return coroutine.status(coroutine.create(function() end))
local c = coroutine.create(function() return redis.call('echo', 'inside') end) return {coroutine.resume(c)}
local t = {} t[nil] = 1
local t = {} t[0/0] = 1
local function f() return f() + 1 end f()
return string.format('%d', 'x')
return string.format('%y', 1)
return string.format('%s')
return ('%5d|%-5d|%05d|%x|%X|%o|%c|%e|%g|%q|%5.2f|%10s|%-10s|%.2s|%%'):format(1, 2, 3, 255, 255, 8, 65, 1.5, 1e20, 'a"b', 3.14159, 'x', 'y', 'zzz')
return string.find('a', '[')
return string.find('a', '%')
return string.gsub('a', '(', '')
return string.gsub('abc', 'b', '%1')
return string.gsub('abc', '(b)', '%2')
"""

LANGUAGE = """
local s = 0 for i = 1, 10 do s = s + i end return s
local s = '' for i = 3, 1, -1 do s = s .. i end return s
local t = {} for w in string.gmatch('one two three', '%a+') do t[#t + 1] = w end return t
local t = {} for k, v in string.gmatch('a=1, b=2', '(%w+)=(%w+)') do t[#t + 1] = k .. v end return t
return {string.find('hello world', 'o w')}
return {string.find('hello world', '(o)( )(w)')}
return {string.find('a.b', '.', 1, true)}
return {string.find('abc', 'b', -1)}
return {string.find('', '')}
return {string.match('key:123:x', ':(%d+):')}
return {string.match('2026-11-21', '(%d+)-(%d+)-(%d+)')}
return {string.gsub('hello', 'l', 'L')}
return {string.gsub('hello', 'l', 'L', 1)}
return {string.gsub('hello', '', '-')}
return {string.gsub('hello', '.', {h = 'H', e = false})}
return {string.gsub('hello', '(h)(e)', '%2%1')}
return {string.gsub('abc', '%w', '%0%0')}
return {string.gsub('abc def', '%f[%w]%w+', string.upper)}
return string.gsub('f(a(b)c)d', '%b()', '')
return {string.byte('abc', 1, -1)}
return string.char(104, 105)
return {string.len('a\\0b'), #'a\\0b', ('x'):rep(3), ('abc'):reverse(), ('aBc'):upper(), ('AbC'):lower()}
return {('hello'):sub(2, 3), ('hello'):sub(-3), ('hello'):sub(0), ('hello'):sub(10)}
return {'10' + 5, '3' * '4', 10 .. 20, 2^10, 7 % 3, -7 % 3, 7 / 2}
return {tostring(1e100), tostring(0.1), tostring(-0), tostring(1e15), tostring(123456789012345), tostring(1/3)}
return {tostring(nil), tostring(true), tostring('x')}
return {math.floor(3.7), math.ceil(3.2), math.abs(-3), math.max(1, 5, 3), math.min(4, 2), math.fmod(7, 3), math.sqrt(16)}
return {tostring(math.huge), tostring(-math.huge), tostring(math.pi)}
return {tostring(math.modf(3.7)), tostring(math.frexp(8)), tostring(math.ldexp(1, 10))}
return {tostring(math.sin(1)), tostring(math.cos(1)), tostring(math.exp(1)), tostring(math.log(10)), tostring(math.log10(1000))}
local r = math.random() return {type(r), math.random(1), math.random(5, 5)}
math.randomseed(7) return {math.random(1000), math.random(1000)}
return math.random(0)
return math.random(2, 1)
local t = {5, 2, 8, 1} table.sort(t) return t
local t = {5, 2, 8, 1} table.sort(t, function(a, b) return a > b end) return t
local t = {'b', 'a', 'C'} table.sort(t) return t
local t = {3, 'x'} table.sort(t)
local t = {1, 2, 3} table.insert(t, 4) table.insert(t, 1, 0) return t
local t = {1, 2, 3} return {table.remove(t), table.remove(t, 1), #t}
return table.concat({1, 2, 'x'}, ', ')
return table.concat({1, {}, 3})
return {table.maxn({1, 2, [10] = 3}), table.getn({1, 2, 3})}
local r = {} table.foreach({a = 1}, function(k, v) r[1] = k .. v end) return r
local r = {} table.foreachi({7, 8}, function(i, v) r[i] = i * v end) return r
local t = setmetatable({}, {__add = function() return 'sum' end, __call = function(self, x) return x end}) return {t + 1, t(5)}
local t = setmetatable({}, {__tostring = function() return 'me' end, __len = function() return 9 end}) return {tostring(t), #t}
local t = setmetatable({}, {__eq = function() return true end}) return tostring(t == setmetatable({}, getmetatable(t)))
local t = setmetatable({}, {__lt = function() return true end}) return tostring(t < t)
local t = setmetatable({}, {__concat = function() return 'joined' end}) return t .. 'x'
local t = setmetatable({}, {__metatable = 'locked'}) return getmetatable(t)
setmetatable(setmetatable({}, {__metatable = 1}), {})
local function f(...) return select('#', ...), ... end return {f(1, nil, 3)}
local function f(...) return arg.n end return f(1, 2)
local a, b, c = (function() return 1, 2, 3 end)() return {a, b, c}
local t = {(function() return 1, 2 end)(), (function() return 1, 2 end)()} return t
local t = {[1] = 'a', [2] = 'b', n = 'c'} local r = {} for k, v in pairs(t) do r[#r + 1] = tostring(k) .. v end table.sort(r) return r
local r = {} for i, v in ipairs({1, 2, nil, 4}) do r[i] = v end return r
local r = {} for k in pairs({a = 1, b = 2, c = 3, d = 4, e = 5, f = 6}) do r[#r + 1] = k end return r
local r = {} for k in pairs({x1 = 1, x2 = 2, [1] = 1, [2.5] = 2, [true] = 3}) do r[#r + 1] = tostring(k) end return r
local t = {} for i = 1, 100 do t['k' .. i] = i end local r = {} for k in pairs(t) do r[#r + 1] = k end return r
local t = {} for i = 1, 100 do t['k' .. i] = i end for i = 1, 100, 3 do t['k' .. i] = nil end local r = {} for k in pairs(t) do r[#r + 1] = k end return r
local s = 0 for i = 1, 10 do if i % 2 == 0 then s = s + i elseif i > 7 then break end end return s
local i = 0 repeat local j = i i = i + 1 until j >= 3 return i
do local x <const> = 1 end
return 1 and 2 or 3
return nil == false
return not nil
return [[long
string]]
return 'esc\\65\\n\\t\\\\'
return "quote'd" --[[ comment ]] -- more
--[==[ long
comment ]==] return 1
return 0x1F
return 1e2
return .5
local a <close> = nil
return 5 // 2
return 5 & 3
goto done ::done:: return 1
return _VERSION
return type(_G)
return {type(os), 1}
return type(print)
return type(dofile)
return type(require)
return type(io)
return type(debug)
return type(package)
return type(newproxy)
return type(setfenv)
return type(getfenv)
return type(loadfile)
return type(module)
return type(string.gfind)
"""

LIBRARIES = """
return cjson.encode({})
return cjson.encode({1, 2, 3})
return cjson.encode({1, nil, 3})
return cjson.encode({a = 1})
return cjson.encode({[1] = 1, [3] = 3})
return cjson.encode({[1] = 1, [100] = 3})
return cjson.encode({[1.5] = 1})
return cjson.encode({[0] = 1})
return cjson.encode({[-1] = 1})
return cjson.encode({[true] = 1})
return cjson.encode({['1'] = 1, [1] = 2})
return cjson.encode({a = {b = {c = {}}}})
return cjson.encode('q"u\\\\o/t\\8\\9\\10\\12\\13\\1\\127\\200')
return cjson.encode(nil)
return cjson.encode(true)
return cjson.encode(1/3)
return cjson.encode(1e20)
return cjson.encode(1e14)
return cjson.encode(123456789012345678)
return cjson.encode(-0.0001)
return cjson.encode(0.00001)
return cjson.encode(1/0)
return cjson.encode(-1/0)
return cjson.encode(0/0)
return cjson.encode(cjson.null)
return cjson.encode({cjson.null, nil, 1})
return cjson.encode(function() end)
return cjson.encode({function() end})
return cjson.encode(setmetatable({1}, {__index = {2, 3}}))
return cjson.encode()
return cjson.encode(1, 2)
return cjson.encode({id = 'x', name = 'y', data = {1, 2}, opts = {delay = 0, attempts = 3}})
return cjson.decode('1')
return cjson.decode('"x"')
return cjson.decode('[1, 2, [3, {"a": 4}]]')
return cjson.decode('{"a": 1}').a
return cjson.decode('{"a": {"b": [10, 20]}}').a.b[2]
return tostring(cjson.decode('null') == cjson.null)
return type(cjson.decode('null'))
return tostring(cjson.decode('[null]')[1])
return cjson.decode('[true, false, null]')
return #cjson.decode('[]')
return cjson.decode('"\\\\u0041\\\\u00e9\\\\u20ac\\\\ud83d\\\\ude00\\\\n\\\\/"')
return cjson.decode('"\\\\ud83d"')
return cjson.decode('"\\\\ude00"')
return cjson.decode('"\\\\x"')
return cjson.decode('"\\\\u12g4"')
return cjson.decode('"unfinished')
return cjson.decode('')
return cjson.decode('{')
return cjson.decode('{"a"')
return cjson.decode('{"a":')
return cjson.decode('{"a":1')
return cjson.decode('{"a":1,')
return cjson.decode('{1:2}')
return cjson.decode('[1,]')
return cjson.decode('[1 2]')
return cjson.decode('1 2')
return cjson.decode('tru')
return cjson.decode('nul')
return cjson.decode('x')
return cjson.decode('-')
return tostring(cjson.decode('1.5e3'))
return tostring(cjson.decode('-0'))
return tostring(cjson.decode('0x10'))
return tostring(cjson.decode('inf'))
return tostring(cjson.decode('-Infinity'))
return tostring(cjson.decode('01'))
return tostring(cjson.decode('1.'))
return tostring(cjson.decode('.5'))
return tostring(cjson.decode('+1'))
return cjson.decode('12345678901234567890')
return cjson.decode('\\0a')
return cjson.decode('a\\0')
return cjson.decode(' \\t\\r\\n1 ')
return cjson.decode(5)
return cjson.decode()
return cjson.decode({})
return cjson.decode('[' .. ('['):rep(999) .. (']'):rep(999) .. ']') ~= nil
return cjson.decode(('['):rep(1001) .. (']'):rep(1001))
local t = {} t.t = t return cjson.encode(t)
return {cjson.encode_sparse_array()}
cjson.encode_sparse_array(true) return cjson.encode({[1] = 1, [100] = 3})
cjson.encode_sparse_array(true, 1, 1) return cjson.encode({[1] = 1, [5] = 3})
cjson.encode_sparse_array('x')
cjson.encode_sparse_array(true, -1)
cjson.encode_sparse_array(false, 2, 10) return 1
return cjson.encode_max_depth()
cjson.encode_max_depth(2) return cjson.encode({{{}}})
cjson.encode_max_depth(1000) return 1
cjson.encode_max_depth(0)
cjson.decode_max_depth(2) return cjson.decode('[[[]]]')
cjson.decode_max_depth(1000) return 1
cjson.encode_number_precision(3) return cjson.encode(1/3)
cjson.encode_number_precision(15)
cjson.encode_number_precision(14) return 1
cjson.encode_invalid_numbers(true) return cjson.encode({1/0, -1/0, 0/0})
cjson.encode_invalid_numbers('null') return cjson.encode({1/0, 0/0})
cjson.encode_invalid_numbers('x')
return tostring(cjson.encode_invalid_numbers(false))
cjson.decode_invalid_numbers(false) return cjson.decode('0x10')
cjson.decode_invalid_numbers(false) return cjson.decode('inf')
return tostring(cjson.decode_invalid_numbers(true))
return tostring(cjson.encode_keep_buffer())
local c = cjson.new() return c.encode({1})
return {cjson._NAME, cjson._VERSION}
return cmsgpack.pack(1)
return cmsgpack.pack(nil, true, false, 0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 2^53)
return cmsgpack.pack(-1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -2^53)
return cmsgpack.pack(0.5, 0.1, 1e300, 1/0, -1/0)
return cmsgpack.pack('', 'abc', ('x'):rep(31), ('x'):rep(32), ('x'):rep(256))
return cmsgpack.pack({}, {1, 2}, {a = 1}, {[1] = 1, [3] = 3}, {[0] = 1})
return cmsgpack.pack({1, {2, {3}}}, {a = {b = 'c'}})
return cmsgpack.pack(function() end, cjson.null)
local t = {} for i = 1, 20 do t[i] = i end return cmsgpack.pack(t)
local t = {} t[1] = t return cmsgpack.pack(t)
local t = {} t.x = t return cmsgpack.pack(t)
return cmsgpack.pack()
return {cmsgpack.unpack(cmsgpack.pack(1, 'a', {2, 3}, true, false))}
return cmsgpack.unpack(cmsgpack.pack({a = {b = 'deep'}})).a.b
return {cmsgpack.unpack('')}
return cmsgpack.unpack('\\147\\1')
return cmsgpack.unpack('\\193')
return cmsgpack.unpack('\\199\\1\\1\\1')
return cmsgpack.unpack('\\217')
return cmsgpack.unpack('\\221\\255\\255\\255\\255')
return cmsgpack.unpack()
return cmsgpack.unpack({})
return {cmsgpack.unpack_one(cmsgpack.pack(1, 2, 3))}
return {cmsgpack.unpack_one(cmsgpack.pack(1, 2, 3), 1)}
return {cmsgpack.unpack_one(cmsgpack.pack(1))}
return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 2)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 2, 1)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 0)}
return cmsgpack.unpack_limit('x', -1)
return cmsgpack.unpack_limit('x')
return cmsgpack.unpack_one('x', -1)
return cmsgpack.unpack_one('x', 5)
return {cmsgpack._NAME, cmsgpack._VERSION, cmsgpack._DESCRIPTION, cmsgpack._COPYRIGHT}
return struct.pack('>I2', 258)
return struct.pack('<I2', 258)
return struct.pack('bBhHiIlL', -1, 255, -2, 65535, -3, 4294967295, -4, 5)
return struct.pack('>bBhHiIlL', -1, 255, -2, 65535, -3, 4294967295, -4, 5)
return struct.pack('i3i5i8I16', 1, -2, 3, 4)
return struct.pack('fd', 1.5, -2.25)
return struct.pack('>fd', 1.5, -2.25)
return struct.pack('s', 'abc')
return struct.pack('c3c0', 'abcdef', 'xyz')
return struct.pack('xxBx', 1)
return struct.pack('!4 b i', 1, 2)
return struct.pack('!8 b d', 1, 2)
return struct.pack('!3 b', 1)
return struct.pack('>!2 b h', 1, 2)
return struct.pack('i33', 1)
return struct.pack('c5', 'abc')
return struct.pack('q', 1)
return struct.pack('b')
return struct.pack('b', 'x')
return struct.pack('b', 300)
return struct.pack('B', -1)
return struct.pack()
return struct.pack('T', 7)
return struct.pack('i99999999999', 1)
return {struct.unpack('>I2', '\\1\\2')}
return {struct.unpack('<h', '\\255\\255')}
return {struct.unpack('bBhHiI', struct.pack('bBhHiI', -1, 255, -2, 65535, -3, 4294967295))}
return {struct.unpack('s', 'abc\\0def')}
return {struct.unpack('ss', 'abc\\0def\\0')}
return {struct.unpack('c3', 'abcdef')}
return {struct.unpack('Bc0', '\\3abcdef')}
return {struct.unpack('c0', 'abc')}
return {struct.unpack('>I2', 'xx\\1\\2', 3)}
return {struct.unpack('fd', struct.pack('fd', 1.5, -2.25))}
return struct.unpack('I4', 'abc')
return struct.unpack('s', 'abc')
return struct.unpack('c5', 'abc')
return struct.unpack('b', 'a', 5)
return struct.unpack('b', 'a', 0)
return struct.unpack('b')
return {struct.unpack('>Lc0', struct.pack('>Lc0', 3, 'abc'))}
return {struct.unpack('<dLc0', struct.pack('<dLc0', 1.5, 2, 'ab'))}
return {struct.size('bhi'), struct.size('!4 bi'), struct.size('d'), struct.size('c10')}
return struct.size('s')
return struct.size('c0')
return {bit.band(255, 15), bit.bor(1, 2, 4), bit.bxor(5, 3), bit.bnot(0)}
return {bit.lshift(1, 31), bit.rshift(-1, 28), bit.arshift(-256, 4), bit.lshift(1, 32)}
return {bit.rol(0x12345678, 12), bit.ror(0x12345678, 12), bit.bswap(0x12345678)}
return {bit.tohex(255), bit.tohex(255, 4), bit.tohex(255, -4), bit.tohex(-1), bit.tohex(1, 100)}
return {bit.tobit(0xffffffff), bit.tobit(2^32 + 5), bit.tobit(1.5), bit.tobit(2.5), bit.tobit(-1.5)}
return bit.band()
return bit.band('x')
return bit.band('7', 3)
return bit.lshift(1)
"""

SHEBANGS = """
#!lua\\nreturn 1
#!lua flags=no-writes\\nreturn redis.call('get', KEYS[1])
#!lua flags=no-writes\\nreturn redis.call('set', KEYS[1], 1)
#!lua flags=no-writes,allow-stale\\nreturn 1
#!lua flags=no-cluster,allow-oom,allow-cross-slot-keys\\nreturn 1
#!lua flags=\\nreturn 1
#!lua flags=nosuch\\nreturn 1
#!lua name=x\\nreturn 1
#!lua x\\nreturn 1
#!python\\nreturn 1
#!\\nreturn 1
#!lua
#!lua flags=no-writes\\n\\nerror('line 3')
"""


def lines(text: str) -> list[bytes]:
    """The scripts of a list. A backslash and an n is a line break only in a first line; Lua has its own."""
    scripts, rest = [], text.strip("\n").split("\n")
    while rest:
        script = rest.pop(0)
        while script.count("[[") > script.count("]]") or script.count("[==[") > script.count("]==]"):
            script += "\n" + rest.pop(0)
        if script.startswith("#!"):
            script = script.replace("\\n", "\n")
        scripts.append(script.encode("latin-1"))
    return scripts


SCRIPTS = {
    "conversions": lines(CONVERSIONS),
    "errors": lines(ERRORS),
    "language": lines(LANGUAGE),
    "libraries": lines(LIBRARIES),
    "first lines": lines(SHEBANGS),
}

VERSION_DIFFERENCES = {
    b"return {double = 1e300}",
    b"redis.call('set', KEYS[1], -0) return redis.call('get', KEYS[1])",
    b"return {type(os), 1}",
}
"""As Redis 7.4 has it, and not the 7.0 of the comparison: the shortest text of a double, -0 as an argument, os.clock."""


def library(code: str, name: str = "lib", first: str = "") -> list[bytes]:
    return [b"FUNCTION", b"LOAD", (first or f"#!lua name={name}").encode() + b"\n" + code.encode()]


def call(name: str, *rest: str, command: str = "FCALL") -> list[bytes]:
    return [word.encode() for word in (command, name, *rest)]


FUNCTIONS = [
    library("redis.register_function('f', function(keys, args) return {keys[1], args[1], #keys, #args} end)"),
    call("f", "1", "k", "a", "b"),
    call("F", "0"),
    call("nosuch", "0"),
    call("f", "x"),
    call("f", "-1"),
    call("f", "2", "k"),
    call("f", "0", command="FCALL_RO"),
    library("redis.register_function('f', function() return 2 end)"),
    [b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=lib\nredis.register_function('f', function() return 2 end)"],
    call("f", "0"),
    library("redis.register_function('f', function() return 3 end)", "other"),
    library("redis.register_function{function_name = 'g', callback = function() return 'g' end, "
            "description = 'd', flags = {'no-writes', 'allow-stale'}}", "named"),
    call("g", "0"),
    call("g", "0", command="FCALL_RO"),
    library("redis.register_function{function_name = 'w', flags = {'no-writes'}, "
            "callback = function(k) return redis.call('set', k[1], 1) end}", "writing"),
    call("w", "1", "k"),
    library("local shared = 5 local function helper(x) return x * shared end "
            "redis.register_function('h', function(k, a) return helper(a[1]) end)", "helping"),
    call("h", "0", "4"),
    library("redis.register_function('e', function() error('raised') end)\n"
            "redis.register_function('r', function() return redis.call('nosuch') end)\n"
            "redis.register_function('s', function(k) redis.call('set', k[1], 'v') return redis.call('get', k[1]) end)\n"
            "redis.register_function('n', function() return nosuch end)\n"
            "redis.register_function('k', function() return KEYS[1] end)\n"
            "redis.register_function('z', function() x = 1 end)\n"
            "redis.register_function('m', function() redis.setresp(3) return {map = {a = true}} end)", "errors"),
    call("e", "0"), call("r", "0"), call("s", "1", "k"), call("n", "0"), call("k", "0"), call("z", "0"),
    call("m", "0"),
    [b"FUNCTION", b"DELETE", b"errors"],
    [b"FUNCTION", b"DELETE", b"errors"],
    call("e", "0"),
    library("", "empty"),
    library("return 1 +", "broken"),
    library("x = 1", "global"),
    library("return nosuch", "missing"),
    library("redis.call('ping')", "calling"),
    library("redis.register_function('f', function() end)", "taken"),
    library("redis.register_function('p', function() end) redis.register_function('p', function() end)", "twice"),
    library("redis.register_function()", "none"),
    library("redis.register_function('f')", "one"),
    library("redis.register_function({}, function() end)", "table"),
    library("redis.register_function('f', 1)", "number"),
    library("redis.register_function('a-b', function() end)", "badname"),
    library("redis.register_function('', function() end)", "noname"),
    library("redis.register_function('a', function() end, 1)", "three"),
    library("redis.register_function{}", "emptytable"),
    library("redis.register_function{function_name = 'q'}", "nocallback"),
    library("redis.register_function{callback = function() end}", "nofunctionname"),
    library("redis.register_function{function_name = 1, callback = function() end}", "numbername"),
    library("redis.register_function{function_name = 'q', callback = 1}", "badcallback"),
    library("redis.register_function{function_name = 'q', callback = function() end, description = 1}", "baddescription"),
    library("redis.register_function{function_name = 'q', callback = function() end, flags = 1}", "badflags"),
    library("redis.register_function{function_name = 'q', callback = function() end, flags = {'nosuch'}}", "badflag"),
    library("redis.register_function{function_name = 'q', callback = function() end, nosuch = 1}", "badkey"),
    library("redis.register_function{'q', function() end}", "badindex"),
    library("return 1", first="#!python name=x"),
    library("return 1", first="#!lua"),
    library("return 1", first="#!lua name=a-b"),
    library("return 1", first="#!lua name="),
    library("return 1", first="#!lua name=a name=b"),
    library("return 1", first="#!lua nosuch=a"),
    library("return 1", first="local x"),
    [b"FUNCTION", b"LOAD", b"#!lua name=x"],
    [b"FUNCTION", b"FLUSH"],
    call("h", "0", "4"),
    [b"SCRIPT", b"LOAD", b"return 'loaded'"],
    [b"EVALSHA", b"a4ae6a1c7f5ad3a32ecff2b3fa8e0fd3eafec2a5", b"0"],
    [b"SCRIPT", b"EXISTS", b"a4ae6a1c7f5ad3a32ecff2b3fa8e0fd3eafec2a5", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"],
    [b"EVAL", b"return 1", b"0"],
    [b"EVALSHA", b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", b"0"],
    [b"EVALSHA", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"0"],
    [b"SCRIPT", b"LOAD", b"retrn 1"],
    [b"SCRIPT", b"LOAD", b"#!lua flags=nosuch\nreturn 1"],
    [b"SCRIPT", b"FLUSH"],
    [b"EVALSHA", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"0"],
    [b"EVALSHA", b"short", b"0"],
    [b"EVAL", b"return 1", b"x"],
    [b"EVAL", b"return 1", b"-1"],
    [b"EVAL", b"return 1", b"1"],
    [b"EVAL_RO", b"return redis.call('set', KEYS[1], 1)", b"1", b"k"],
    [b"EVAL_RO", b"return redis.call('get', KEYS[1])", b"1", b"k"],
    [b"EVAL_RO", b"#!lua\nreturn 1", b"0"],
    [b"EVAL_RO", b"#!lua flags=no-writes\nreturn 1", b"0"],
    [b"EVALSHA_RO", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"0"],
]
"""Commands in their order, each with the reply that redis-server has for it."""
