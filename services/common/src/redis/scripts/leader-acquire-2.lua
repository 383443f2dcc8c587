-- Takes or renews the leader lock.
--
-- KEYS[1] leader hash
-- KEYS[2] fence counter
-- ARGV[1] owner
-- ARGV[2] lease in ms
--
-- Returns the fence (> 0) when the lock is held now, 0 when another owner holds it.
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence')
if held[1] and held[1] ~= ARGV[1] then
  return 0
end
local fence = held[2]
if not held[1] then
  fence = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(fence)
