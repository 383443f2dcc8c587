-- Renews leases of running requests, also of those that Redis has lost.
--
-- KEYS[1] leases of a subject
-- ARGV[1] lease in ms
-- Further ARGV: names of the leases.
--
-- Returns 1.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1]), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return 1
