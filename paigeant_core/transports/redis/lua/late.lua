-- Journals a result that came too late, and takes the copy it was made from out of its queue.
-- Of a workflow that was erased nothing is kept. The workflow's current copy stays: it comes again
-- when its lease is over, and without it there would be nothing to go on from.
-- KEYS: journal, the workflow's hash, the stream the copy was claimed from
-- ARGV: the record's ID, the copy's entry, meta, body
local wf, source = KEYS[2], KEYS[3]
local h = redis.call('HMGET', wf, 'late', 'position', 'erased', 'place', 'activity', 'entry')
if h[1] == ARGV[1] then
  return 1
end
if not h[3] then
  local position = append(ARGV[3], ARGV[4] ~= '' and ARGV[4], h[2])
  if failed(position) then
    return position
  end
  if h[2] then
    redis.call('HSET', wf, 'late', ARGV[1], 'position', position)
  end
end
local current = h[4] == 'work' and h[6] == ARGV[2] and prefix .. 'work:' .. h[5] == source
if ARGV[2] ~= '' and not current then
  redis.call('XACK', source, group, ARGV[2])
  redis.call('XDEL', source, ARGV[2])
end
return 0
