local ok, first = pcall(cjson.decode, LONG)
if not ok then return {'fine', first} end
local ok, text = pcall(cjson.encode, first)
if not ok then return {says(text, 'NaN or Inf') and 'fine' or 'broken', text} end
local second = cjson.decode(text)
if not same(first, second, 1001, 1e-13) then return {'broken', 'not what was read', text} end
local again = cjson.encode(second)
if not same(second, cjson.decode(again), 1001, 0) then return {'broken', 'not what was written', again} end
return {'fine', text, first}
