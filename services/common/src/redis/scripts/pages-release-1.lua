-- Ends leases on entries of a holder.
--
-- KEYS[1] leases
-- ARGV[1] number of leases
-- ARGV[2] the leases, one after the other, of the same length
--
-- Returns how many of them there were.
local size = #ARGV[2] / tonumber(ARGV[1])
local leases = {}
for at = 1, #ARGV[2], size do
  leases[#leases + 1] = string.sub(ARGV[2], at, at + size - 1)
end
local ended = redis.call('HDEL', KEYS[1], unpack(leases))
if ended > 0 then
  local version = tonumber(redis.call('HGET', KEYS[1], '#version') or '0') + 1
  redis.call('HSET', KEYS[1], '#version', string.format('%.0f', version))
end
return ended
