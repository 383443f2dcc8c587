-- Publishes a placement under the next number, if the caller leads and nobody published meanwhile.
--
-- KEYS[1] current epoch
-- KEYS[2] placement of the new number
-- KEYS[3] leader hash
-- KEYS[4] placement of the expected current number
-- ARGV[1] expected current epoch, 0 for none
-- ARGV[2] new epoch, larger
-- ARGV[3] bytes of the placement
-- ARGV[4] owner of the leader lock
-- ARGV[5] fence of the leader lock
-- ARGV[6] ms for which the superseded placement is kept
-- ARGV[7] events channel
--
-- Returns 1 published, -1 the caller does not lead, -2 the current epoch is not the expected one,
-- -3 the new number is taken or not larger.
-- Publishes "epoch" on 1.
local leader = redis.call('HMGET', KEYS[3], 'owner', 'fence')
if leader[1] ~= ARGV[4] or leader[2] ~= ARGV[5] then
  return -1
end
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then
  return -2
end
if tonumber(ARGV[2]) <= tonumber(ARGV[1]) or redis.call('EXISTS', KEYS[2]) == 1 then
  return -3
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[4], ARGV[6])
redis.call('PUBLISH', ARGV[7], 'epoch')
return 1
