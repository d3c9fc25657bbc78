-- In front of each script. ARGV: a number from 0 to 255, a short text, a long one.
-- A script answers 'fine' first, or 'broken' if what it has seen may not be.

local NUMBER, SHORT, LONG = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local function all(...)
  return {n = select('#', ...), ...}
end

-- Whether two values are equal, tables by what they hold down to a depth, numbers but for `near` of them. Keys that are
-- tables are not compared.
local function same(a, b, depth, near)
  if depth == 0 then return true end
  if type(a) == 'number' and type(b) == 'number' then
    return a == b or (a ~= a and b ~= b) or math.abs(a - b) <= math.abs(a) * near
  end
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for k, v in pairs(a) do
    if type(k) ~= 'table' and not same(v, b[k], depth - 1, near) then return false end
  end
  for k in pairs(b) do
    if type(k) ~= 'table' and a[k] == nil then return false end
  end
  return true
end

local function says(message, text)
  return type(message) == 'string' and message:find(text, 1, true)
end

-- An instance of cjson with settings of the number and the short text.
local function settings()
  local json, of = cjson.new(), {SHORT:byte(1, -1)}
  json.decode_invalid_numbers(NUMBER % 2 == 1)
  json.encode_invalid_numbers(({false, true, 'null'})[1 + math.floor(NUMBER / 2) % 3])
  json.encode_keep_buffer(NUMBER % 8 < 4)
  json.encode_number_precision(1 + (of[1] or 13) % 14)
  json.decode_max_depth(1 + (of[2] or 255))
  json.encode_max_depth(1 + (of[3] or 255))
  json.encode_sparse_array(NUMBER >= 128, (of[4] or 2) % 16, of[5] or 10)
  return json
end

-- What an instance writes of a value that was read is read, and the next time it is equal.
local function stays(json, value)
  local ok, text = pcall(json.encode, value)
  if not ok then return true, text end
  local read = {}
  for i = 1, 3 do
    read[i] = cjson.decode(text)
    ok, text = pcall(json.encode, read[i])
    if not ok then return says(text, 'NaN or Inf') or says(text, 'nesting') or says(text, 'sparse'), text end
  end
  return same(read[2], read[3], 1001, 0), text
end

