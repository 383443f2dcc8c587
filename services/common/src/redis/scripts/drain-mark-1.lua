-- Notes what came of a request to drain, unless it was taken back or changed meanwhile.
--
-- KEYS[1] hash of drains
-- ARGV[1] kind/id
-- ARGV[2] text of the request as it was read
-- ARGV[3] new text
-- ARGV[4] events channel
--
-- Returns 1, or 0 when the request is not the one that was read.
-- Publishes "drains" on 1.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], 'drains')
return 1
