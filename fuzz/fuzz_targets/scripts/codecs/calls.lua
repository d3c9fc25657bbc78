-- A function with the values that MessagePack says, then another with its results and more values.
local functions = {
  cjson.encode, cjson.decode, cjson.encode_sparse_array, cjson.encode_max_depth, cjson.decode_max_depth,
  cjson.encode_number_precision, cjson.encode_keep_buffer, cjson.encode_invalid_numbers, cjson.decode_invalid_numbers, cjson.new,
  cmsgpack.pack, cmsgpack.unpack, cmsgpack.unpack_one, cmsgpack.unpack_limit, struct.pack, struct.unpack, struct.size,
  bit.tobit, bit.band, bit.lshift, bit.arshift, bit.tohex,
  string.byte, string.char, string.find, string.format, string.gmatch, string.gsub, string.len, string.lower, string.match,
  string.rep, string.reverse, string.sub, string.upper,
  table.concat, table.insert, table.maxn, table.remove, table.sort, table.getn, table.foreach, table.foreachi,
  math.abs, math.ceil, math.floor, math.fmod, math.modf, math.frexp, math.ldexp, math.log10, math.pow, math.random, math.randomseed,
  tonumber, tostring, unpack, select, next, pairs, rawget, rawset, rawequal, setmetatable, getmetatable, error, assert, type,
  loadstring, load, xpcall, pcall, coroutine.create, coroutine.wrap, coroutine.resume, coroutine.yield, collectgarbage,
  redis.call, redis.pcall, redis.log, redis.sha1hex, redis.error_reply, redis.status_reply, redis.setresp, redis.set_repl,
  redis.acl_check_cmd,
}

local function chosen(number)
  return functions[1 + number % #functions]
end

local first = all(pcall(chosen(SHORT:byte(1) or 0), select(2, pcall(cmsgpack.unpack, SHORT:sub(2)))))
local values = all(select(2, pcall(cmsgpack.unpack, LONG)))
for i = 2, math.min(first.n, 100) do
  values.n = values.n + 1
  values[values.n] = first[i]
end
return {'fine', pcall(chosen(NUMBER), unpack(values, 1, values.n))}
