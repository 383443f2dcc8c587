-- Reads a response and those that it continues, and keeps all of them as long as a new one.
--
-- KEYS[1] sorted set of the tenant's responses, `id:bytes` by the ms of this server's clock at which they are forgotten
-- KEYS[2] bytes of them
-- ARGV[1] id of the last one
-- ARGV[2] tenant
-- ARGV[3] ms for which they are kept
-- ARGV[4] prefix of the hashes of responses
-- ARGV[5] how many at most
-- ARGV[6] bytes of their items at most
--
-- Returns {"ok", items, output, items, output, ...} from the last one back, or {"missing", id}, {"running", id}, {"long", id}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = { 'ok' }
local bytes = 0
local id = ARGV[1]
local keys = {}
while id ~= '' do
  local key = ARGV[4] .. id
  local held = redis.call('HMGET', key, 'tenant', 'status', 'previous', 'input', 'output', 'bytes')
  if held[1] ~= ARGV[2] then
    return { 'missing', id }
  end
  if held[2] == 'queued' or held[2] == 'in_progress' then
    return { 'running', id }
  end
  bytes = bytes + #held[4] + #held[5]
  if #keys >= tonumber(ARGV[5]) or bytes > tonumber(ARGV[6]) then
    return { 'long', id }
  end
  out[#out + 1] = held[4]
  out[#out + 1] = held[5]
  keys[#keys + 1] = key
  if redis.call('ZSCORE', KEYS[1], id .. ':' .. held[6]) then
    redis.call('ZADD', KEYS[1], now + ARGV[3], id .. ':' .. held[6])
  end
  id = held[3]
end
for _, key in ipairs(keys) do
  redis.call('PEXPIRE', key, ARGV[3], 'GT')
end
redis.call('PEXPIRE', KEYS[1], ARGV[3], 'GT')
redis.call('PEXPIRE', KEYS[2], ARGV[3], 'GT')
return out
