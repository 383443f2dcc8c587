-- Gives the leader lock up.
--
-- KEYS[1] leader hash
-- ARGV[1] owner
--
-- Returns 1, or 0 when this owner does not hold it.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
