-- Renews a member's lease; takes it again if it is gone (it expired, or Redis lost its data).
--
-- KEYS[1] member hash
-- KEYS[2] set of members
-- ARGV[1] kind/id
-- ARGV[2] incarnation
-- ARGV[3] lease in ms
-- ARGV[4] value
-- ARGV[5] events channel
--
-- Returns 0 renewed, 1 renewed with a new value, 2 taken again, -1 another incarnation holds it.
-- Publishes "members" on 1 and 2.
local held = redis.call('HMGET', KEYS[1], 'incarnation', 'value')
if held[1] and held[1] ~= ARGV[2] then
  return -1
end
-- The first write of a script is the one that Redis refuses for want of memory, unless it needs none: this one.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local result = 0
if not held[1] then
  result = 2
elseif held[2] ~= ARGV[4] then
  result = 1
end
if result > 0 then
  redis.call('HSET', KEYS[1], 'incarnation', ARGV[2], 'value', ARGV[4])
end
if result == 2 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 and result == 0 then
  result = 2
end
if result > 0 then
  redis.call('PUBLISH', ARGV[5], 'members')
end
return result
