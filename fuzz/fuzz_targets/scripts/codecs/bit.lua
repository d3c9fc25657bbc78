local values = all(pcall(cmsgpack.unpack, LONG))
for i = 2, values.n do
  local x = tonumber(values[i])
  if x then
    local bits = bit.tobit(x)
    local holds = bits >= -2^31 and bits < 2^31 and bits % 1 == 0
      and bit.bnot(bit.bnot(x)) == bits and bit.bxor(x, x, bits) == bits and bit.bswap(bit.bswap(x)) == bits
      and bit.band(x, -1) == bits and bit.bor(x, 0) == bits and bit.ror(bit.rol(x, NUMBER), NUMBER) == bits
      and tonumber(bit.tohex(x), 16) == bits % 2^32 and #bit.tohex(x, NUMBER) == math.min(NUMBER, 8)
      and bit.lshift(bit.rshift(x, NUMBER), NUMBER) == bit.band(x, bit.lshift(-1, NUMBER))
      and bit.rshift(bit.arshift(x, NUMBER), 31) == bit.rshift(x, 31)
    if not holds then return {'broken', tostring(x), NUMBER} end
  end
end
return {'fine', values.n}
