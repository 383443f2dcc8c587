-- Lists API keys, and forgets the ids of those that are gone.
--
-- KEYS[1] sorted set of the ids of keys by creation
-- ARGV[1] prefix of the keys' hashes
--
-- Returns the records, in the order of creation.
local out = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local record = redis.call('HGET', ARGV[1] .. id, 'record')
  if record then
    out[#out + 1] = record
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return out
