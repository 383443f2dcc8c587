-- Adds to the log of a background response, and keeps it for its owner or gives it up.
--
-- KEYS[1] hash of the response
-- KEYS[2] list of what was generated
-- KEYS[3] sorted set of background responses that are not over, by the ms at which anybody may take them
-- ARGV[1] id
-- ARGV[2] owner
-- ARGV[3] ms for which the owner keeps it; 0 gives it up
-- ARGV[4] entry of the log; empty for none
--
-- Returns 1, or 0 when it is over or gone, or somebody else has it.
local held = redis.call('HMGET', KEYS[1], 'owner', 'status')
if held[1] ~= ARGV[2] or (held[2] ~= 'queued' and held[2] ~= 'in_progress') then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
end
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[1], 'status', 'in_progress', 'owner', ARGV[3] == '0' and '' or ARGV[2])
return 1
