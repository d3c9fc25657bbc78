-- Tables are packed 16 deep.
local first = all(pcall(cmsgpack.unpack, LONG))
if not first[1] or first.n == 1 then return {'fine', first[2]} end
local ok, packed = pcall(cmsgpack.pack, unpack(first, 2, first.n))
if not ok then return {says(packed, 'stack overflow') and 'fine' or 'broken', packed} end
local second = all(pcall(cmsgpack.unpack, packed))
-- Of a key nested too deep.
if says(second[2], 'table index is nil') then return {'fine'} end
if second.n ~= first.n then return {'broken', 'another number of values', packed} end
for i = 1, first.n do
  if not same(first[i], second[i], 16, 0) then return {'broken', i, packed} end
end
return {'fine', packed, first[2]}
