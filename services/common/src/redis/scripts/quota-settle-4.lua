-- Gives back to the quotas of two subjects what was taken and not used, or takes what was used beyond it, into debt if need be; and
-- ends a lease. Levels are as in quota-take.
--
-- KEYS[1] levels of the first subject
-- KEYS[2] leases of the first subject
-- KEYS[3] levels of the second subject
-- KEYS[4] leases of the second subject
-- ARGV[1] requests to give back
-- ARGV[2] tokens to give back; negative takes
-- ARGV[3] name of the lease to end; empty for none
-- ARGV[4] requests per minute of the first subject; 0 for no limit
-- ARGV[5] tokens per minute of the first subject
-- ARGV[6] requests per minute of the second subject
-- ARGV[7] tokens per minute of the second subject
--
-- Returns 1.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local given = { tonumber(ARGV[1]), tonumber(ARGV[2]) }
local fields = { 'requests', 'tokens' }
local subjects = {
  { levels = KEYS[1], leases = KEYS[2], tonumber(ARGV[4]), tonumber(ARGV[5]) },
  { levels = KEYS[3], leases = KEYS[4], tonumber(ARGV[6]), tonumber(ARGV[7]) },
}
for _, subject in ipairs(subjects) do
  for d, field in ipairs(fields) do
    local quota = subject[d]
    if quota > 0 and given[d] ~= 0 then
      local full = quota * 60000
      local held = redis.call('HMGET', subject.levels, field, field .. '@')
      local level = full
      if held[1] then
        level = math.min(full, held[1] + math.max(0, now - held[2]) * quota)
      end
      level = math.min(full, level + given[d] * 60000)
      redis.call('HSET', subject.levels, field, string.format('%.0f', level), field .. '@', string.format('%.0f', now))
      local ttl = math.max(math.ceil((full - level) / quota) + 60000, redis.call('PTTL', subject.levels))
      redis.call('PEXPIRE', subject.levels, ttl)
    end
  end
  if ARGV[3] ~= '' then
    redis.call('ZREM', subject.leases, ARGV[3])
  end
end
return 1
