local format = SHORT:match('^[^%z]*')
local first = all(pcall(struct.unpack, format, LONG, 1 + NUMBER % 8))
-- 'c0' takes the number before it out of the values.
if not first[1] or format:find('c0') then return {'fine', first[2]} end
local ok, packed = pcall(struct.pack, format, unpack(first, 2, first.n - 1))
if not ok then return {'broken', packed} end
local second = all(pcall(struct.unpack, format, packed))
if second.n ~= first.n then return {'broken', 'another number of values', packed} end
for i = 1, first.n - 1 do
  local a, b = first[i], second[i]
  -- Integers that were rounded to what does not fit the format wrap around.
  local is_rounded = type(a) == 'number' and math.abs(a) >= 2^63
  if not is_rounded and not same(a, b, 1, 0) and not same(a, b, 2, 0) then return {'broken', i, packed} end
end
if second[second.n] ~= #packed + 1 then return {'broken', 'not all of it', packed} end
local ok, size = pcall(struct.size, format)
if ok and size ~= #packed then return {'broken', size, packed} end
return {'fine', packed, size}
