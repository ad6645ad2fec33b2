-- Takes over what its holder has not renewed, and what this worker holds without knowing it (the
-- answer to a claim got lost on the line).
-- KEYS: the streams     ARGV: who, lease in ms (0: only its own), slots, then what it knows it
-- holds, each as number of the stream, colon, entry
local me, lease, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held, known = {}, 0
for i = 4, #ARGV do
  held[ARGV[i]] = true
  known = known + 1
end
local found = {}
for i, stream in ipairs(KEYS) do
  local pending
  if lease > 0 then
    pending = redis.pcall('XPENDING', stream, 'workers', 'IDLE', lease, '-', '+', left + known)
  else
    pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', left + known, me)
  end
  if pending.err then
    pending = {}
  end
  for _, p in ipairs(pending) do
    local id, deaths = p[1], p[4]
    if left > 0 and not held[i .. ':' .. id] then
      if lease == 0 then
        -- Nobody died of it: its claim was answered into the void.
        deaths = deaths - 1
        redis.call('XCLAIM', stream, 'workers', me, 0, id, 'JUSTID')
      else
        redis.call('XCLAIM', stream, 'workers', me, lease, id)
      end
      local entry = redis.call('XRANGE', stream, id, id)
      if #entry == 0 then
        redis.call('XACK', stream, 'workers', id)
      else
        left = left - 1
        found[#found + 1] = {i, deaths, id, entry[1][2]}
      end
    end
  end
end
return found
