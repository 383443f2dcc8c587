-- Takes a request to drain back.
--
-- KEYS[1] hash of drains
-- ARGV[1] kind/id
-- ARGV[2] events channel
--
-- Returns 1, or 0 when there was none.
-- Publishes "drains" on 1.
local gone = redis.call('HDEL', KEYS[1], ARGV[1])
if gone == 1 then
  redis.call('PUBLISH', ARGV[2], 'drains')
end
return gone
