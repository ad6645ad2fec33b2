-- A worker says that it lives and what it runs.
-- KEYS: journal, workers, the worker's own key
-- ARGV: the worker, what it says, ms to keep that, the record that it started
-- Answers the server's time in ms.
if redis.call('ZADD', KEYS[2], clock(), ARGV[1]) == 1 then
  -- New, or taken for dead while it was cut off.
  append(ARGV[4], false, false)
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return clock()
