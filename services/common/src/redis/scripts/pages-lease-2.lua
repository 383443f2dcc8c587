-- Pins entries of a holder for a while.
--
-- KEYS[1] holder's entries
-- KEYS[2] leases on them: hash of `#version` and, for each lease, its end (ms, little-endian double) and its entries
-- ARGV[1] lease, unique; the same one again is replaced
-- ARGV[2] ms
-- ARGV[3] entries, 17 bytes each: kind, name
--
-- Returns one byte for each entry: '1' leased, '0' the holder does not have it.
local entries = {}
for at = 1, #ARGV[3], 17 do
  entries[#entries + 1] = string.sub(ARGV[3], at, at + 16)
end
local out, leased = {}, {}
for i, record in ipairs(redis.call('HMGET', KEYS[1], '#fence', unpack(entries))) do
  if i > 1 then
    out[i - 1] = record and '1' or '0'
    if record then
      leased[#leased + 1] = entries[i - 1]
    end
  end
end
if #leased > 0 then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  -- A number that an expired hash has not had before.
  local version = math.max(tonumber(redis.call('HGET', KEYS[2], '#version') or '0') + 1, now)
  local record = struct.pack('<d', now + tonumber(ARGV[2])) .. table.concat(leased)
  redis.call('HSET', KEYS[2], '#version', string.format('%.0f', version), ARGV[1], record)
  if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
end
return table.concat(out)
