-- One workflow's records, newest first, by the chain that leads from each to the one before.
-- KEYS: journal, the workflow's hash
-- ARGV: where to go on ('' at first), records at most, bytes after which to pause
-- Answers the workflow's hash (at first), the records, and where to go on ('' at the end).
local known, position = {}, ARGV[1]
if position == '' then
  known = redis.call('HMGET', KEYS[2], 'message', 'position', 'state', 'place', 'activity', 'entry',
    'epoch', 'run', 'hop', 'attempt', 'asked', 'asked_of', 'asked_meta')
  if not known[1] or not known[2] then
    return {{}, {}, ''}
  end
  position = known[2]
end
-- Whoever may write into the journal may have written a chain that leads round in a circle.
local function older(one, other)
  local a, b = string.match(one, '^(%d+)%-(%d+)$')
  local c, d = string.match(other, '^(%d+)%-(%d+)$')
  if not a or not c then
    return false
  end
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a < c or (a == c and b < d)
end
local found, bytes = {}, 0
while position ~= '' and #found < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local entries = redis.call('XRANGE', journal, position, position)
  position = ''
  if #entries > 0 then
    found[#found + 1] = entries[1]
    local fields = entries[1][2]
    for i = 1, #fields, 2 do
      bytes = bytes + #fields[i + 1]
      if fields[i] == 'b' then
        position = fields[i + 1]
      end
    end
    if position ~= '' and not older(position, entries[1][1]) then
      position = ''
    end
  end
end
return {known, found, position}
