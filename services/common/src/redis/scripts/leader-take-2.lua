-- Takes or renews the lead for the holder of a Lease of Kubernetes, which decides who leads. Of two who believe that they
-- hold it the one of the later term wins; whoever leads without a term gives way.
--
-- KEYS[1] leader hash
-- KEYS[2] fence counter
-- ARGV[1] owner
-- ARGV[2] lease in ms
-- ARGV[3] when the Lease was created, s since the Unix epoch: a later one replaces a deleted one
-- ARGV[4] number of changes of its holder
--
-- Returns the fence (> 0) when the caller leads now, 0 when one of a later term does.
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'born', 'term')
local fence = held[2]
if held[1] ~= ARGV[1] then
  local born, term = tonumber(held[3] or -1), tonumber(held[4] or -1)
  local later = born > tonumber(ARGV[3]) or (born == tonumber(ARGV[3]) and term >= tonumber(ARGV[4]))
  if held[1] and later then
    return 0
  end
  fence = redis.call('INCR', KEYS[2])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence, 'born', ARGV[3], 'term', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(fence)
