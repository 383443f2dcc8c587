-- Makes a process the owner of a batch: what an earlier owner still wants to write is refused from now on.
--
-- KEYS[1] hash of the batch
-- ARGV[1] new owner
--
-- Returns the status of the batch, or an empty string when there is no such batch.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then
  return ''
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return status
