-- Forgets a response of a tenant.
--
-- KEYS[1] hash of the response
-- KEYS[2] list of what was generated
-- KEYS[3] sorted set of the tenant's responses, `id:bytes`
-- KEYS[4] bytes of them
-- KEYS[5] sorted set of background responses that are not over
-- ARGV[1] id
-- ARGV[2] tenant
--
-- Returns 1, or 0 when the tenant has no such response.
local held = redis.call('HMGET', KEYS[1], 'tenant', 'bytes')
if held[1] ~= ARGV[2] then
  return 0
end
if redis.call('ZREM', KEYS[3], ARGV[1] .. ':' .. held[2]) == 1 then
  redis.call('DECRBY', KEYS[4], held[2])
end
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
return 1
