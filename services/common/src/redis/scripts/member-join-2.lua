-- Takes a member's lease.
--
-- KEYS[1] member hash
-- KEYS[2] set of members
-- ARGV[1] kind/id
-- ARGV[2] incarnation
-- ARGV[3] lease in ms
-- ARGV[4] value
-- ARGV[5] events channel
--
-- Returns {1, 0} when the lease is held now, {0, ms left} when another incarnation holds it.
-- Publishes "members" on success.
local owner = redis.call('HGET', KEYS[1], 'incarnation')
if owner and owner ~= ARGV[2] then
  return { 0, redis.call('PTTL', KEYS[1]) }
end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[2], 'value', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[5], 'members')
return { 1, 0 }
