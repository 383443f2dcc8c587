-- Makes an API key.
--
-- KEYS[1] hash of the key
-- KEYS[2] sorted set of the ids of keys by creation
-- ARGV[1] id
-- ARGV[2] SHA-256 of the key, hex
-- ARGV[3] record
-- ARGV[4] ms since the Unix epoch at which it is made
-- ARGV[5] events channel
--
-- Returns 1, or 0 when the id is taken.
-- Publishes "key:<id>".
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'hash', ARGV[2], 'record', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('PUBLISH', ARGV[5], 'key:' .. ARGV[1])
return 1
