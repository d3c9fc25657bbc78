local json = settings()
local ok, value = pcall(json.decode, LONG)
if cjson.encode(0.1234567890123) ~= '0.1234567890123' then return {'broken', 'settings of another instance'} end
if not ok then return {'fine', value} end
local ok, text = stays(json, value)
return {ok and 'fine' or 'broken', text}
