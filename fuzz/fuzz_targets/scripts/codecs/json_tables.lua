local ok, _, value = pcall(cmsgpack.unpack_one, LONG)
if not ok then return {'fine'} end
local ok, text = stays(settings(), value)
return {ok and 'fine' or 'broken', text}
