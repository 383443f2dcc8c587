-- Takes requests of a shrink back, if the caller leads: their pods are gone, or are to get work again.
--
-- KEYS[1] hash of drains
-- KEYS[2] leader hash
-- ARGV[1] owner of the lead
-- ARGV[2] fence of the lead
-- ARGV[3] `by` of the shrink's requests
-- ARGV[4] events channel
-- ARGV[5...] kind/id of each
--
-- Returns how many were taken back, -1 when the caller does not lead. Requests of others stay.
-- Publishes "drains" when there was one.
local leader = redis.call('HMGET', KEYS[2], 'owner', 'fence')
if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then
  return -1
end
local gone = 0
for i = 5, #ARGV do
  local text = redis.call('HGET', KEYS[1], ARGV[i])
  local ok, request = pcall(cjson.decode, text or '')
  if ok and type(request) == 'table' and request.by == ARGV[3] then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
if gone > 0 then
  redis.call('PUBLISH', ARGV[4], 'drains')
end
return gone
