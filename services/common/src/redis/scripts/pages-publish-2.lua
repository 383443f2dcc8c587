-- Adds and removes entries of a holder and renews its lease; with nothing to change it only renews.
--
-- KEYS[1] holder's entries
-- KEYS[2] leases on them
-- ARGV[1] fence of the caller
-- ARGV[2] lease in ms
-- ARGV[3] version of the leases that the caller knows
-- ARGV[4] entries to remove, 17 bytes each: kind, name
-- ARGV[5] entries to add or replace, 26 bytes each: kind, name, record
--
-- Returns {1, version of the leases} and, when that is not what the caller knows, two more for each lease: ms left and
-- its entries; the same with a 2 in front when Redis has no memory for what was to be added; {0} when the holder is not
-- known (its lease ended, or Redis lost its data), {-1} when another process owns it.
local fence = redis.call('HGET', KEYS[1], '#fence')
if not fence then
  return { 0 }
elseif fence ~= ARGV[1] then
  return { -1 }
end
local added = {}
for at = 1, #ARGV[5], 26 do
  added[#added + 1] = string.sub(ARGV[5], at, at + 16)
  added[#added + 1] = string.sub(ARGV[5], at + 17, at + 25)
end
local out = { 1 }
if #added > 0 then
  -- The first write of the script: only there does Redis refuse for want of memory.
  local answer = redis.pcall('HSET', KEYS[1], unpack(added))
  if type(answer) == 'table' and answer.err then
    if not string.find(answer.err, 'OOM', 1, true) then
      return answer
    end
    out[1] = 2
  end
end
local removed = {}
for at = 1, #ARGV[4], 17 do
  removed[#removed + 1] = string.sub(ARGV[4], at, at + 16)
end
if #removed > 0 then
  redis.call('HDEL', KEYS[1], unpack(removed))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
out[2] = redis.call('HGET', KEYS[2], '#version') or '0'
if out[2] == ARGV[3] then
  return out
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local ends = all[i] == '#version' and 0 or struct.unpack('<d', all[i + 1])
  if ends > now then
    out[#out + 1] = ends - now
    out[#out + 1] = string.sub(all[i + 1], 9)
  end
end
return out
