-- Makes the caller the owner of a holder's entries and forgets all that is listed: the caller publishes what it has.
-- Processes with the same id are ordered by their first fence: a later one replaces an earlier one, never the reverse.
--
-- KEYS[1] holder's entries
-- KEYS[2] leases on them
-- KEYS[3] set of holders
-- KEYS[4] fence counter
-- KEYS[5] who owned the holder last: hash `incarnation`, `born`, `fence`
-- ARGV[1] holder
-- ARGV[2] incarnation of the caller
-- ARGV[3] its first fence, 0 when it has none yet
-- ARGV[4] lease in ms
-- ARGV[5] ms for which KEYS[5] is kept
--
-- Returns {fence, first fence of this incarnation} as decimal text, {0, first fence of the other} when a later
-- process has replaced the caller.
local last = redis.call('HMGET', KEYS[5], 'incarnation', 'born')
local same = last[1] == ARGV[2]
local born = tonumber(ARGV[3])
if same then
  born = tonumber(last[2])
elseif last[1] and born > 0 and born < tonumber(last[2]) then
  return { '0', last[2] }
end
-- From the clock, so that fences grow even when Redis has lost its counter.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fence = math.max(tonumber(redis.call('GET', KEYS[4]) or '0') + 1, born + 1, now)
if born == 0 then
  born = fence
end
local text = string.format('%.0f', fence)
local bornText = string.format('%.0f', born)
redis.call('SET', KEYS[4], text)
redis.call('HSET', KEYS[5], 'incarnation', ARGV[2], 'born', bornText, 'fence', text)
redis.call('PEXPIRE', KEYS[5], ARGV[5])
redis.call('UNLINK', KEYS[1])
if not same then
  redis.call('UNLINK', KEYS[2])
end
redis.call('HSET', KEYS[1], '#fence', text)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[3], ARGV[1])
return { text, bornText }
