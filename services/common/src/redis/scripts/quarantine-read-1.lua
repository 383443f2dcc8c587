-- Lists what is quarantined.
--
-- KEYS[1] sorted set of fingerprints by the end of their quarantine, in ms of this server's clock
--
-- No ARGV.
--
-- Returns {fingerprint, ms left, fingerprint, ms left, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {}
local found = redis.call('ZRANGE', KEYS[1], '(' .. now, '+inf', 'BYSCORE', 'WITHSCORES')
for i = 1, #found, 2 do
  out[i] = found[i]
  out[i + 1] = string.format('%d', found[i + 1] - now)
end
return out
