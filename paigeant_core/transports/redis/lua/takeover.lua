-- Takes over what its holder has not renewed, and what this worker holds without knowing it (the
-- answer to a claim got lost on the line).
-- KEYS: the streams     ARGV: who, lease in ms (0: only its own), slots, what the names of workers'
-- keys begin with, then what it knows it holds, each as number of the stream, colon, entry
local me, lease, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held, known = {}, 0
for i = 5, #ARGV do
  held[ARGV[i]] = true
  known = known + 1
end
-- Workers of one activity may have leases of their own, and each has said how long its is.
local leases = {}
local function lease_of(worker)
  if not leases[worker] then
    local said = redis.call('GET', ARGV[4] .. worker)
    local read, presence = pcall(cjson.decode, said or '')
    local its = read and type(presence) == 'table' and tonumber(presence.lease) or 0
    leases[worker] = math.max(lease, its * 1000)
  end
  return leases[worker]
end
-- What one call looks at in a stream: the server does nothing else meanwhile, for some milliseconds.
local PAGE, MOST = 100, 2000
local found = {}
-- Takes what it may of one page; returns how much was on it, and where the next begins.
local function take(i, stream, start, count)
  local pending
  if lease > 0 then
    pending = redis.pcall('XPENDING', stream, 'workers', 'IDLE', lease, start, '+', count)
  else
    pending = redis.pcall('XPENDING', stream, 'workers', start, '+', count, me)
  end
  if pending.err then
    return 0, start
  end
  for _, p in ipairs(pending) do
    local id, deaths = p[1], p[4]
    if left > 0 and not held[i .. ':' .. id] and (lease == 0 or p[3] >= lease_of(p[2])) then
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
  return #pending, #pending > 0 and '(' .. pending[#pending][1] or start
end
for i, stream in ipairs(KEYS) do
  if left <= 0 then
    break
  end
  local count, seen, start, on_page = math.max(PAGE, left + known), 0, '-', nil
  -- What comes first may be a holder's whose lease is long, and hide what others left behind it.
  repeat
    on_page, start = take(i, stream, start, count)
    seen = seen + on_page
  until left <= 0 or on_page < count or seen >= MOST
end
return found
