-- Ends a background response.
--
-- KEYS[1] hash of the response
-- KEYS[2] sorted set of the tenant's responses, `id:bytes`
-- KEYS[3] bytes of them
-- KEYS[4] sorted set of background responses that are not over
-- ARGV[1] id
-- ARGV[2] owner who must have it; empty for anybody
-- ARGV[3] bytes that it has in the end
-- ARGV[4...] fields and values
--
-- Returns 1, or 0 when it is over or gone, or somebody else has it.
local held = redis.call('HMGET', KEYS[1], 'owner', 'status', 'bytes')
if (held[2] ~= 'queued' and held[2] ~= 'in_progress') or (ARGV[2] ~= '' and held[1] ~= ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[1], 'job', 'owner')
redis.call('HSET', KEYS[1], 'bytes', ARGV[3], unpack(ARGV, 4))
local score = redis.call('ZSCORE', KEYS[2], ARGV[1] .. ':' .. held[3])
if score then
  redis.call('ZREM', KEYS[2], ARGV[1] .. ':' .. held[3])
  redis.call('ZADD', KEYS[2], score, ARGV[1] .. ':' .. ARGV[3])
  redis.call('INCRBY', KEYS[3], ARGV[3] - held[3])
end
return 1
