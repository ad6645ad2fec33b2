-- Whether this very record was journalled before: a move that the client repeats across a broken
-- line, when the workflow has gone on meanwhile. Asked only where the fence refuses.
local function done_before(position, record)
  for _ = 1, 500 do
    local entries = position and redis.call('XRANGE', journal, position, position) or {}
    if #entries == 0 then
      return false
    end
    local fields = entries[1][2]
    position = nil
    local meta, body = '', ''
    for i = 1, #fields, 2 do
      if fields[i] == 'r' then
        meta = fields[i + 1]
      elseif fields[i] == 'm' then
        body = string.match(fields[i + 1], '^[^\n]*')
      elseif fields[i] == 'b' then
        position = fields[i + 1]
      end
    end
    if not string.find(meta, '"kind":"superseded"', 1, true) then
      if string.find(meta, '"id":"' .. record .. '"', 1, true)
        or string.find(body, '"message_id":"' .. record .. '"', 1, true) then
        return true
      end
    end
  end
  return false
end
