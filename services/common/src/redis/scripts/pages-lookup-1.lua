-- Says how much of a prompt each live holder has, and forgets holders whose lease is over.
--
-- Holders drop the end of a prefix before its beginning, as a rule. So only the last page of each block of 64 is looked
-- at, and then the pages of the first block that lacks it: a hole in the blocks before is not seen, and costs its finder
-- a miss. Up to 64 pages all are looked at. States are looked for at the last 512 page ends, and before those at every 16th.
--
-- KEYS[1] set of holders
-- ARGV[1] prefix of the holders' entries (same hash tag as the key)
-- ARGV[2] 1 when every page end can be resumed from, 0 when only those with a state
-- ARGV[3] names of the prompt's pages in order, 16 bytes each
--
-- Returns {holder, fence, leading pages, worst tier seen among them, pages to resume behind, worst tier seen among
-- those and the state, ...} for each holder with at least one page; tier 0 where there is nothing.
local BLOCK, NEAR, GRID = 64, 512, 16
local names, stateless = ARGV[3], ARGV[2] == '1'
local count = #names / 16

-- Reads the records of entries `first`, `first + step`, ... up to `last`.
local function read(key, kind, first, last, step)
  local fields = {}
  for i = first, last, step do
    fields[#fields + 1] = kind .. string.sub(names, i * 16 - 15, i * 16)
  end
  return #fields > 0 and redis.call('HMGET', key, unpack(fields)) or fields
end

-- Number of leading pages; `firsts` gets the first page seen in each tier.
local function leading(key, firsts)
  local pages = 0
  -- Walks on while records are there; true when one is missing.
  local function walk(records, step)
    for _, record in ipairs(records) do
      if not record then
        return true
      end
      pages = pages + step
      local tier = string.byte(record)
      firsts[tier] = firsts[tier] or pages
    end
    return false
  end
  walk(read(key, 'p', BLOCK, count, BLOCK), BLOCK)
  walk(read(key, 'p', pages + 1, math.min(count, pages + BLOCK), 1), 1)
  return pages
end

-- The deepest state behind one of the first pages, and its tier.
local function deepest(key, pages)
  for last = pages, math.max(1, pages - NEAR + 1), -BLOCK do
    local first = math.max(1, last - BLOCK + 1)
    local records = read(key, 's', first, last, 1)
    for i = #records, 1, -1 do
      if records[i] then
        return first + i - 1, string.byte(records[i])
      end
    end
  end
  local records = read(key, 's', GRID, pages - NEAR, GRID)
  for i = #records, 1, -1 do
    if records[i] then
      return i * GRID, string.byte(records[i])
    end
  end
  return 0, 0
end

local function worst(firsts, pages)
  local tier = 0
  for t, first in pairs(firsts) do
    if first <= pages then
      tier = math.max(tier, t)
    end
  end
  return tier
end

local out = {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local key = ARGV[1] .. holder
  local head = redis.call('HMGET', key, '#fence', 'p' .. string.sub(names, 1, 16))
  if not head[1] then
    redis.call('SREM', KEYS[1], holder)
  elseif head[2] then
    local firsts = {}
    local pages = leading(key, firsts)
    local resume, tier = pages, 0
    if not stateless then
      resume, tier = deepest(key, pages)
    end
    if resume > 0 then
      tier = math.max(tier, worst(firsts, resume))
    end
    for _, value in ipairs({ holder, head[1], pages, worst(firsts, pages), resume, tier }) do
      out[#out + 1] = value
    end
  end
end
return out
