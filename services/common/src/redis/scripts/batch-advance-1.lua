-- Moves a batch to its next status.
--
-- KEYS[1] hash of the batch
-- ARGV[1] owner who must own it, or an empty string for anybody
-- ARGV[2] statuses that it may be in, separated by commas, with a comma before the first and after the last
-- ARGV[3] new status
-- ARGV[4...] fields and values to set; a field that begins with "?" is set only if it is not there
--
-- Returns 1, or 0 when the batch is gone, in another status, or owned by another process.
local status = redis.call('HGET', KEYS[1], 'status')
if not status or not string.find(ARGV[2], ',' .. status .. ',', 1, true) then
  return 0
end
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'status', ARGV[3])
for i = 4, #ARGV, 2 do
  if string.sub(ARGV[i], 1, 1) == '?' then
    redis.call('HSETNX', KEYS[1], string.sub(ARGV[i], 2), ARGV[i + 1])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
