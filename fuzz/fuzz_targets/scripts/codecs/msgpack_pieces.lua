-- With what another text says for limit and offset; then as much as the number says at a time, and in one piece.
pcall(cmsgpack.unpack_limit, LONG, unpack(all(pcall(cmsgpack.unpack, SHORT)), 2))
pcall(cmsgpack.unpack_one, LONG, unpack(all(pcall(cmsgpack.unpack, SHORT)), 2))

local whole = all(pcall(cmsgpack.unpack, LONG))
local step, at, count = 1 + NUMBER % 5, 0, 1
while at ~= -1 do
  local piece = all(pcall(cmsgpack.unpack_limit, LONG, step, at))
  if not piece[1] then return {whole[1] and 'broken' or 'fine', piece[2]} end
  if step == 1 and not same(piece, all(pcall(cmsgpack.unpack_one, LONG, at)), 17, 0) then return {'broken', 'one', at} end
  for i = 3, piece.n do
    count = count + 1
    if whole[1] and not same(piece[i], whole[count], 16, 0) then return {'broken', 'another value', count} end
  end
  if piece[2] ~= -1 and piece[2] <= at then return {'broken', 'no further', at} end
  at = piece[2]
end
if not whole[1] then return {says(whole[2], 'too many') and 'fine' or 'broken', whole[2]} end
return {count == whole.n and 'fine' or 'broken', count, whole[2]}
