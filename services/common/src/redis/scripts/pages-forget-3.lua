-- Takes a holder with all of its entries and the leases on them off the list, because it leaves.
--
-- KEYS[1] holder's entries
-- KEYS[2] leases on them
-- KEYS[3] set of holders
-- ARGV[1] holder
-- ARGV[2] fence of the caller
--
-- Returns 1, or 0 when the caller does not own the holder.
if redis.call('HGET', KEYS[1], '#fence') ~= ARGV[2] then
  return 0
end
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
