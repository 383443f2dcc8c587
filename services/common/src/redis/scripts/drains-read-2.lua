-- Lists the requests to drain, with the generation of the data: another generation means that Redis lost them.
--
-- KEYS[1] hash of drains
-- KEYS[2] generation of the data
-- ARGV[1] generation to write when there is none
--
-- Returns {generation, kind/id, text, kind/id, text, ...}.
local generation = redis.call('GET', KEYS[2])
-- Redis refuses a SET for want of memory even where it would change nothing.
if not generation then
  generation = ARGV[1]
  redis.call('SET', KEYS[2], generation)
end
local out = redis.call('HGETALL', KEYS[1])
table.insert(out, 1, generation)
return out
