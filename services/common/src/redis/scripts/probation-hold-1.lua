-- Takes, prolongs or gives up the one place for a suspicious request in a router.
--
-- KEYS[1] the place: its holder, with a lease as its expiry
-- ARGV[1] holder
-- ARGV[2] lease in ms; 0 gives the place up
--
-- Returns 1, or 0 when another one holds it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
