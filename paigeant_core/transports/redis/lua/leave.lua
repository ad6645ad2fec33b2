-- A worker stops: what it still holds goes back, and so does its place in the groups.
-- KEYS: journal, workers, the worker's own key, then the streams
-- ARGV: the worker, the record that it stopped
local me = ARGV[1]
local returned = 0
for i = 4, #KEYS do
  local stream = KEYS[i]
  local last = '-'
  while true do
    local pending = redis.pcall('XPENDING', stream, group, last, '+', 100, me)
    if pending.err or #pending == 0 then
      break
    end
    for _, p in ipairs(pending) do
      returned = returned + back(stream, p[1], me)
      last = '(' .. p[1]
    end
  end
  local left = redis.pcall('XPENDING', stream, group, '-', '+', 1, me)
  if not left.err and #left == 0 then
    redis.pcall('XGROUP', 'DELCONSUMER', stream, group, me)
  end
end
if redis.call('ZREM', KEYS[2], me) == 1 then
  append(ARGV[2], false, false)
end
redis.call('DEL', KEYS[3])
return returned
