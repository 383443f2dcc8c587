-- Keeps a response of a tenant, in the place of those that would be forgotten first where the tenant keeps too much.
--
-- KEYS[1] hash of the response
-- KEYS[2] sorted set of the tenant's responses, `id:bytes` by the ms of this server's clock at which they are forgotten
-- KEYS[3] bytes of them
-- KEYS[4] sorted set of background responses that are not over, by the ms at which anybody may take them
-- ARGV[1] id
-- ARGV[2] ms for which it is kept
-- ARGV[3] its bytes
-- ARGV[4] bytes that the tenant may keep
-- ARGV[5] prefix of the hashes of responses
-- ARGV[6] prefix of the logs of responses
-- ARGV[7] ms after which anybody may take it, -1 where it does not run in the background
-- ARGV[8] background responses that may wait or run
-- ARGV[9...] fields and values
--
-- Returns 1, or 0 when too many background responses wait or run.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[7])
if lease >= 0 and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[8]) then
  return 0
end
local total = tonumber(redis.call('GET', KEYS[3]) or '0')
local function forget(member)
  if redis.call('ZREM', KEYS[2], member) == 1 then
    total = total - tonumber(string.match(member, ':(%d+)$'))
  end
end
local before = redis.call('HGET', KEYS[1], 'bytes')
if before then
  forget(ARGV[1] .. ':' .. before)
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  forget(member)
end
if total + ARGV[3] > tonumber(ARGV[4]) then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, 999)) do
    if total + ARGV[3] <= tonumber(ARGV[4]) then
      break
    end
    local id = string.match(member, '^(.*):%d+$')
    -- What still runs is left alone: somebody waits for it.
    if not redis.call('ZSCORE', KEYS[4], id) then
      forget(member)
      redis.call('DEL', ARGV[5] .. id, ARGV[6] .. id)
    end
  end
end
redis.call('HSET', KEYS[1], 'bytes', ARGV[3], unpack(ARGV, 9))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1] .. ':' .. ARGV[3])
-- The sums outlive what they are of, also where a shorter time is set than before.
redis.call('PEXPIRE', KEYS[2], ARGV[2], 'NX')
redis.call('PEXPIRE', KEYS[2], ARGV[2], 'GT')
redis.call('SET', KEYS[3], total + ARGV[3], 'PX', redis.call('PTTL', KEYS[2]))
if lease >= 0 then
  redis.call('ZADD', KEYS[4], now + lease, ARGV[1])
end
return 1
