-- Strikes a worker that has not been heard of off the list; of all that notice it one journals it.
-- KEYS: journal, workers, the worker's own key
-- ARGV: the worker, its last word in ms, the record that it was lost
local seen = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not seen or tonumber(seen) > tonumber(ARGV[2]) then
  return 0
end
append(ARGV[3], false, false)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
