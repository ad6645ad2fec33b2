-- Renews leases, but only of what this worker still holds: one that stalled must not steal back.
-- KEYS: the streams     ARGV: who, then for each stream a number and so many entries
local me, at, renewed = ARGV[1], 2, 0
for _, stream in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  local asked = {}
  for i = at + 1, at + count do
    asked[ARGV[i]] = true
  end
  at = at + 1 + count
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', count + 1000, me)
  local command = {stream, 'workers', me, 0}
  local function claim()
    if #command > 4 then
      command[#command + 1] = 'JUSTID'
      renewed = renewed + #redis.call('XCLAIM', unpack(command))
    end
    command = {stream, 'workers', me, 0}
  end
  if not pending.err then
    for _, p in ipairs(pending) do
      if asked[p[1]] then
        command[#command + 1] = p[1]
      end
      if #command > 1000 then
        claim()
      end
    end
    claim()
  end
end
return renewed
