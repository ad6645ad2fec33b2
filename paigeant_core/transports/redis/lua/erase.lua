-- Takes away what there is of a workflow that waits for no worker, and leaves a tombstone.
-- KEYS: journal, delayed, the workflow's hash, dead, held, quarantine
-- ARGV: the correlation ID, what the fence must stand at, the marker's ID, its meta, its state, its epoch,
--       and for how many ms the tombstone is kept
-- Answers the verdict (0 done, 1 already done, 2 superseded), records and parked messages that are gone; or an error.
local delayed, wf = KEYS[2], KEYS[3]
local parked = {dead = KEYS[4], held = KEYS[5], quarantine = KEYS[6]}
local h = redis.call('HMGET', wf, 'message', 'place', 'entry', 'position')
if h[1] == ARGV[3] then
  return {1, 0, 0}
end
if not h[1] or h[1] ~= ARGV[2] or h[2] == 'work' or h[2] == 'delayed' then
  return {2, 0, 0}
end
-- It names no record before it: the chain begins anew here.
local marked = append(ARGV[4])
if failed(marked) then
  return {marked, 0, 0}
end
local records, position = 0, h[4]
while position do
  local entries = redis.call('XRANGE', journal, position, position)
  local before = nil
  if #entries > 0 then
    local fields = entries[1][2]
    for i = 1, #fields, 2 do
      if fields[i] == 'b' then
        before = fields[i + 1]
      end
    end
    records = records + redis.call('XDEL', journal, position)
  end
  position = before
end
local messages = 0
if parked[h[2]] then
  messages = redis.call('XDEL', parked[h[2]], h[3])
  redis.call('ZREM', delayed, ARGV[1])
end
local kept = redis.call('HMGET', wf, 'run', 'hop', 'attempt', 'first', 'mark')
redis.call('DEL', wf)
redis.call('HSET', wf, 'epoch', ARGV[6], 'run', kept[1] or '1', 'hop', kept[2] or '1', 'attempt', kept[3] or '1',
  'message', ARGV[3], 'position', marked, 'place', 'nowhere', 'activity', '', 'entry', '', 'state', ARGV[5],
  'erased', '1')
if kept[4] then
  redis.call('HSET', wf, 'first', kept[4])
end
if kept[5] then
  redis.call('HSET', wf, 'mark', kept[5])
end
redis.call('PEXPIRE', wf, ARGV[7])
return {0, records, messages}
