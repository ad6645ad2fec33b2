-- Pauses or resumes an activity for all its workers, and journals it, unless it is so already.
-- KEYS: journal, paused     ARGV: 1 to pause, the activity, the record
-- Answers the record by which it was paused before; false: it was not.
local before = redis.call('HGET', KEYS[2], ARGV[2])
if (ARGV[1] == '1') == not before then
  local position = append(ARGV[3])
  if failed(position) then
    return position
  end
  if before then
    redis.call('HDEL', KEYS[2], ARGV[2])
  else
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  end
end
return before
