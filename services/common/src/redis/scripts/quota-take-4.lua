-- Takes requests, tokens and a place among the running requests from the quotas of two subjects, all of it or nothing.
--
-- A bucket holds a minute's worth and is refilled evenly. Levels are kept in 1/60000 of a request or token, so that a millisecond
-- adds as many of them as the quota has units in a minute: all numbers are whole.
--
-- KEYS[1] levels of the first subject
-- KEYS[2] leases of the first subject
-- KEYS[3] levels of the second subject
-- KEYS[4] leases of the second subject
-- ARGV[1] requests
-- ARGV[2] tokens
-- ARGV[3] name of the lease to take; empty for none
-- ARGV[4] lease in ms
-- ARGV[5] requests per minute of the first subject; 0 for no limit, as everywhere here
-- ARGV[6] tokens per minute of the first subject
-- ARGV[7] running requests of the first subject
-- ARGV[8] requests per minute of the second subject
-- ARGV[9] tokens per minute of the second subject
-- ARGV[10] running requests of the second subject
--
-- Returns {what refused, of which subject, ms until it would not, requests: quota, left, ms until full, tokens: quota, left, ms until
-- full}. What refused is 0 nothing, 1 requests, 2 tokens, 3 running requests, 4 the quota is smaller than what is asked for. Of two
-- quotas the one with less left is told of; one that there is not is 0, 0, 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = ARGV[3]
local asked = { tonumber(ARGV[1]), tonumber(ARGV[2]) }
local fields = { 'requests', 'tokens' }
local subjects = {
  { levels = KEYS[1], leases = KEYS[2], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]) },
  { levels = KEYS[3], leases = KEYS[4], tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) },
}

local refused, whose, wait = 0, 0, -1
local function refuse(what, subject, ms)
  if refused ~= 4 and (what == 4 or ms > wait) then
    refused, whose, wait = what, subject, ms
  end
end

for s, subject in ipairs(subjects) do
  subject.level = {}
  for d, field in ipairs(fields) do
    local quota = subject[d]
    if quota > 0 then
      local full = quota * 60000
      local held = redis.call('HMGET', subject.levels, field, field .. '@')
      local level = full
      if held[1] then
        level = math.min(full, held[1] + math.max(0, now - held[2]) * quota)
      end
      subject.level[d] = level
      local cost = asked[d] * 60000
      if cost > full then
        refuse(4, s, 0)
      elseif cost > 0 and level < cost then
        refuse(d, s, math.ceil((cost - level) / quota))
      end
    end
  end
  if subject[3] > 0 and lease ~= '' then
    redis.call('ZREMRANGEBYSCORE', subject.leases, '-inf', now)
    if redis.call('ZCARD', subject.leases) >= subject[3] then
      refuse(3, s, 0)
    end
  end
end

local told = { { 0, 0, 0 }, { 0, 0, 0 } }
for _, subject in ipairs(subjects) do
  local ttl = 0
  for d, field in ipairs(fields) do
    local quota = subject[d]
    if quota > 0 then
      local level = subject.level[d]
      if refused == 0 and asked[d] > 0 then
        level = level - asked[d] * 60000
        redis.call('HSET', subject.levels, field, string.format('%.0f', level), field .. '@', string.format('%.0f', now))
      end
      local reset = math.ceil((quota * 60000 - level) / quota)
      local left = math.max(0, math.floor(level / 60000))
      ttl = math.max(ttl, reset)
      if told[d][1] == 0 or left < told[d][2] then
        told[d] = { quota, left, reset }
      end
    end
  end
  if refused == 0 then
    redis.call('PEXPIRE', subject.levels, ttl + 60000)
    if subject[3] > 0 and lease ~= '' then
      redis.call('ZADD', subject.leases, string.format('%.0f', now + ARGV[4]), lease)
      redis.call('PEXPIRE', subject.leases, 2 * ARGV[4])
    end
  end
end
return { refused, whose, math.max(0, wait), told[1][1], told[1][2], told[1][3], told[2][1], told[2][2], told[2][3] }
