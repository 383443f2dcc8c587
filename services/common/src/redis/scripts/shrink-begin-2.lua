-- Asks the pods of a workload that is to shrink to drain, all or none, if the caller leads.
--
-- KEYS[1] hash of drains
-- KEYS[2] leader hash
-- ARGV[1] owner of the lead
-- ARGV[2] fence of the lead
-- ARGV[3] how the workload's requests begin their `by`, up to what names one shrink
-- ARGV[4] events channel
-- ARGV[5...] kind/id and text of each request
--
-- Returns 1 begun, 0 when a shrink of the workload is under way or one of the pods is asked already, -1 when the caller does not
-- lead.
-- Publishes "drains" on 1.
local leader = redis.call('HMGET', KEYS[2], 'owner', 'fence')
if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then
  return -1
end
local all = redis.call('HGETALL', KEYS[1])
for i = 2, #all, 2 do
  local ok, request = pcall(cjson.decode, all[i])
  local by = ok and type(request) == 'table' and request.by
  if type(by) == 'string' and string.sub(by, 1, #ARGV[3]) == ARGV[3] then
    return 0
  end
end
for i = 5, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    return 0
  end
end
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PUBLISH', ARGV[4], 'drains')
return 1
