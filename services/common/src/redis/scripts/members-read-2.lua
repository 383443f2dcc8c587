-- Lists the live members and forgets those whose lease is over.
--
-- KEYS[1] set of members
-- KEYS[2] generation of the data
-- ARGV[1] prefix of the member hashes (same hash tag as the keys)
-- ARGV[2] generation to write when there is none
--
-- Returns {generation, tag, incarnation, value, tag, incarnation, value, ...} with tag = kind/id.
local generation = redis.call('GET', KEYS[2])
-- Redis refuses a SET for want of memory even where it would change nothing.
if not generation then
  generation = ARGV[2]
  redis.call('SET', KEYS[2], generation)
end
local out = { generation }
for _, tag in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local held = redis.call('HMGET', ARGV[1] .. string.gsub(tag, '/', ':', 1), 'incarnation', 'value')
  if held[1] then
    out[#out + 1] = tag
    out[#out + 1] = held[1]
    out[#out + 1] = held[2]
  else
    redis.call('SREM', KEYS[1], tag)
  end
end
return out
