-- Asks a member to drain; a request that is there already stays as it is.
--
-- KEYS[1] hash of drains
-- ARGV[1] kind/id
-- ARGV[2] text of the request
-- ARGV[3] events channel
--
-- Returns 1 when the request is new, else 0.
-- Publishes "drains" on 1.
local new = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
if new == 1 then
  redis.call('PUBLISH', ARGV[3], 'drains')
end
return new
