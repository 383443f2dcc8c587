-- Changes the record of an API key; a key that is revoked loses its hash, and is forgotten after a while.
--
-- KEYS[1] hash of the key
-- ARGV[1] id
-- ARGV[2] record as it was read
-- ARGV[3] record as it is to be
-- ARGV[4] ms after which it is forgotten; 0 for a key that stays valid
-- ARGV[5] events channel
--
-- Returns 1, or 0 when the record is another one by now.
-- Publishes "key:<id>".
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'record', ARGV[3])
if tonumber(ARGV[4]) > 0 then
  redis.call('HDEL', KEYS[1], 'hash')
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
redis.call('PUBLISH', ARGV[5], 'key:' .. ARGV[1])
return 1
