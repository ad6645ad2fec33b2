-- Strikes a worker that has not been heard of off the list; of all that notice it one journals it.
-- What it held last is remembered: that is why its steps do not move.
-- KEYS: journal, workers, silent workers
-- ARGV: the worker, its last word in ms, the record that it was lost, ms for which it is remembered
local seen = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not seen or tonumber(seen) > tonumber(ARGV[2]) then
  return 0
end
local position = append(ARGV[3], false, false)
if failed(position) then
  return position
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', clock() - tonumber(ARGV[4]))
redis.call('ZADD', KEYS[3], seen, ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 1
