-- Notes that a part of a batch's results is stored, and with it that its lines are done.
--
-- KEYS[1] hash of the batch
-- KEYS[2] bits of the lines that are done
-- KEYS[3] list of the parts
-- ARGV[1] owner who must own it
-- ARGV[2] name of the part
-- ARGV[3] lines that succeeded in it
-- ARGV[4] lines that failed in it
-- ARGV[5...] numbers of its lines, from 0
--
-- Returns 1, or 0 when another process owns the batch: the part does not count.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
for i = 5, #ARGV do
  redis.call('SETBIT', KEYS[2], ARGV[i], 1)
end
redis.call('RPUSH', KEYS[3], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'completed', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[4])
return 1
