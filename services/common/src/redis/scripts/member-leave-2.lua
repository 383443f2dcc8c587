-- Gives a member's lease up.
--
-- KEYS[1] member hash
-- KEYS[2] set of members
-- ARGV[1] kind/id
-- ARGV[2] incarnation
-- ARGV[3] events channel
--
-- Returns 1, or 0 when this incarnation does not hold the lease.
-- Publishes "leave:<kind>/<id>" on 1.
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[3], 'leave:' .. ARGV[1])
return 1
