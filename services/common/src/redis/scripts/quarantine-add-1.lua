-- Quarantines a fingerprint, or prolongs its quarantine, and forgets those that are over.
--
-- KEYS[1] sorted set of fingerprints by the end of their quarantine, in ms of this server's clock
-- ARGV[1] fingerprint
-- ARGV[2] ms for which it is quarantined
-- ARGV[3] fingerprints kept at most; those that end first go
-- ARGV[4] events channel
--
-- Returns 1.
-- Publishes "quarantine".
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', KEYS[1], last[2])
redis.call('PUBLISH', ARGV[4], 'quarantine')
return 1
