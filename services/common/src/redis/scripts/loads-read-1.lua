-- Lists the load reports that count and forgets reporters whose report has expired.
--
-- KEYS[1] set of reporters
-- ARGV[1] prefix of the reports (same hash tag as the key)
--
-- Returns {reporter, bytes, reporter, bytes, ...}.
local out = {}
for _, reporter in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local report = redis.call('GET', ARGV[1] .. reporter)
  if report then
    out[#out + 1] = reporter
    out[#out + 1] = report
  else
    redis.call('SREM', KEYS[1], reporter)
  end
end
return out
