-- Gives one entry back to its queue as a new entry, if `me` holds it. `d` beside the message is the
-- number of workers that died with it, which the group's own count would forget.
local function back(stream, id, me)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1, me)
  if failed(pending) or #pending == 0 then
    return 0
  end
  local found = redis.call('XRANGE', stream, id, id)
  if #found == 0 then
    redis.call('XACK', stream, group, id)
    return 0
  end
  local fields, body, deaths, rest = found[1][2], nil, pending[1][4] - 1, {}
  for i = 1, #fields, 2 do
    if fields[i] == 'd' then
      deaths = deaths + (tonumber(fields[i + 1]) or 0)
    else
      if fields[i] == 'm' then
        body = fields[i + 1]
      end
      rest[#rest + 1] = fields[i]
      rest[#rest + 1] = fields[i + 1]
    end
  end
  if not body or #rest > 2 then
    -- Nobody's message (see admission): it keeps the fields it came with.
    rest, deaths = fields, 0
  end
  if deaths > 0 then
    rest[#rest + 1] = 'd'
    rest[#rest + 1] = tostring(deaths)
  end
  if #rest > 4000 then
    -- More than Lua can hand to a command: it comes again when its lease is over.
    return 0
  end
  local new = redis.call('XADD', stream, '*', unpack(rest))
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  if body then
    local readable, headers = pcall(cjson.decode, string.match(body, '^[^\n]*'))
    if readable and type(headers) == 'table' and type(headers.correlation_id) == 'string' then
      local wf = prefix .. 'wf:' .. headers.correlation_id
      local at = redis.call('HMGET', wf, 'entry', 'message', 'asked', 'asked_of')
      -- While something is asked of the step, the fence stands at that.
      local current = at[2] == at[3] and at[4] or at[2]
      if at[1] == id and current == headers.message_id then
        redis.call('HSET', wf, 'entry', new)
      end
    end
  end
  return 1
end
