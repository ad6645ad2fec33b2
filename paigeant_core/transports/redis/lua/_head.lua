-- Put before each script. KEYS[1] is always the topic's journal; the names of the other keys of
-- the topic follow from it where a script cannot be told them beforehand. All of them carry the
-- topic's hash tag, so all are in one slot.
--
-- Order matters in every script: what memory can be refused for (XADD) comes first. Redis looks at
-- its memory once, when a script starts, so if the first XADD passes nothing later is refused, and
-- if it does not, nothing was taken from anywhere yet.

local journal = KEYS[1]
local prefix = string.sub(journal, 1, -8)
local group = 'workers'
local now

local function clock()
  if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return now
end

-- A journal record: r = what happened, m = the message, b = the workflow's record before this one.
local function append(meta, body, before)
  if body then
    if before then
      return redis.pcall('XADD', journal, '*', 'r', meta, 'm', body, 'b', before)
    end
    return redis.pcall('XADD', journal, '*', 'r', meta, 'm', body)
  end
  if before then
    return redis.pcall('XADD', journal, '*', 'r', meta, 'b', before)
  end
  return redis.pcall('XADD', journal, '*', 'r', meta)
end

local function park(stream, meta, body, position)
  return redis.pcall('XADD', stream, '*', 'r', meta, 'm', body, 'p', position)
end

local function failed(reply)
  return type(reply) == 'table' and reply.err
end
