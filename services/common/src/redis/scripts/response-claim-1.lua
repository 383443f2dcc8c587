-- Takes background responses that nobody has: new ones, and those whose owner gave them up or died.
--
-- KEYS[1] sorted set of background responses that are not over, by the ms at which anybody may take them
-- ARGV[1] owner
-- ARGV[2] ms for which the owner keeps them
-- ARGV[3] how many at most
-- ARGV[4] prefix of the hashes of responses
--
-- Returns the ids.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local key = ARGV[4] .. id
  local held = redis.call('HMGET', key, 'owner', 'status')
  if held[2] == 'queued' or held[2] == 'in_progress' then
    -- A lease that ran out is a death; one that was given up is not, nor one that its owner finds itself.
    if held[1] ~= '' and held[1] ~= ARGV[1] then
      redis.call('HINCRBY', key, 'deaths', 1)
    end
    redis.call('HSET', key, 'owner', ARGV[1])
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
    taken[#taken + 1] = id
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return taken
