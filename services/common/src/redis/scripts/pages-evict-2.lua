-- Takes entries that nobody leases off the list, because their holder is about to drop them.
--
-- KEYS[1] holder's entries
-- KEYS[2] leases on them
-- ARGV[1] fence of the caller
-- ARGV[2] lease in ms
-- ARGV[3] entries, 17 bytes each: kind, name
--
-- Returns {1, those that are leased and stay}, {0} when the holder is not known, {-1} when another process owns it.
local fence = redis.call('HGET', KEYS[1], '#fence')
if not fence then
  return { 0 }
elseif fence ~= ARGV[1] then
  return { -1 }
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local leased = {}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local record = all[i + 1]
  if all[i] ~= '#version' then
    if struct.unpack('<d', record) > now then
      for at = 9, #record, 17 do
        leased[string.sub(record, at, at + 16)] = true
      end
    else
      redis.call('HDEL', KEYS[2], all[i])
    end
  end
end
local kept, gone = {}, {}
for at = 1, #ARGV[3], 17 do
  local entry = string.sub(ARGV[3], at, at + 16)
  local list = leased[entry] and kept or gone
  list[#list + 1] = entry
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
end
return { 1, table.concat(kept) }
