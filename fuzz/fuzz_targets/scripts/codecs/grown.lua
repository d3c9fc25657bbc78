-- A long text given many times: its memory is counted once.
local text, many = LONG:rep(1 + 200 * math.floor(NUMBER / 10)), {}
for i = 1, 1000 do many[i] = text end
local what = ({
  function() return cjson.encode(many) end,
  function() return cmsgpack.pack(many) end,
  function() return cmsgpack.pack(unpack(many)) end,
  function() return struct.pack(('s'):rep(#many), unpack(many)) end,
  function() return struct.pack(('c0'):rep(#many), unpack(many)) end,
  function() return redis.call('rpush', 'key', unpack(many)) end,
  function() return redis.acl_check_cmd('set', 'key', unpack(many)) end,
  function() return redis.log(redis.LOG_WARNING, unpack(many)) end,
  function() return table.concat(many) end,
  function() return many end,
})[1 + NUMBER % 10]
return {'fine', pcall(what)}
