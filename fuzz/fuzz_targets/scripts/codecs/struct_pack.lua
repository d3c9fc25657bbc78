local format = SHORT:match('^[^%z]*')
local values = all(pcall(cmsgpack.unpack, LONG))
if not values[1] then return {'fine'} end
local ok, packed = pcall(struct.pack, format, unpack(values, 2, values.n))
if not ok then return {'fine', packed} end
local sized, size = pcall(struct.size, format)
if not sized then return {'fine', packed} end
if size ~= #packed then return {'broken', 'not of its size', packed} end
local read = all(pcall(struct.unpack, format, packed))
if not read[1] then return {says(read[2], 'too many') and 'fine' or 'broken', read[2]} end
return {read[read.n] == size + 1 and 'fine' or 'broken', packed}
