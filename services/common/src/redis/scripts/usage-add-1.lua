-- Adds to what was used within this hour. A report that is sent again because nobody answered counts once.
--
-- KEYS[1] number of the last report from this source
-- ARGV[1] number of this report
-- ARGV[2] ms for which that number is remembered
-- ARGV[3] prefix of the hashes of hours
-- ARGV[4] ms for which an hour is kept
-- Further ARGV: field, by how much, field, by how much, ...
--
-- Returns 1, or 0 for a report that is known.
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[1]) then
  return 0
end
local hour = math.floor(redis.call('TIME')[1] / 3600)
local key = ARGV[3] .. string.format('%.0f', hour)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', key, ARGV[4])
return 1
