-- Takes what waits, never more than there are slots.
-- KEYS: the streams, in the order of this turn     ARGV: who, slots
local left = tonumber(ARGV[2])
local found = {}
for i, stream in ipairs(KEYS) do
  if left <= 0 then
    break
  end
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', left, 'STREAMS', stream, '>')
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP') then
      return reply
    end
    -- The stream was deleted under us: make it again.
    redis.call('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
    reply = false
  end
  if reply then
    local entries = reply[1][2]
    left = left - #entries
    found[#found + 1] = {i, entries}
  end
end
return found
