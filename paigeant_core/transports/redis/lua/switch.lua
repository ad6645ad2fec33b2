-- Pauses or resumes an activity for all its workers, and journals it, unless it is so already.
-- KEYS: journal, paused, resumed     ARGV: 1 to pause, the activity, the record
-- Answers the record by which it was paused before; false: it was not. What is repeated across a
-- broken line is answered as at first.
local pausing = ARGV[1] == '1'
local before = redis.call('HGET', KEYS[2], ARGV[2])
if before == ARGV[3] then
  return false
end
if not before and not pausing then
  local ended = redis.call('HGET', KEYS[3], ARGV[2])
  local by = ARGV[3] .. '\n'
  return ended and string.sub(ended, 1, #by) == by and string.sub(ended, #by + 1)
end
if pausing == not before then
  local position = append(ARGV[3])
  if failed(position) then
    return position
  end
  if before then
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[3] .. '\n' .. before)
    redis.call('PEXPIRE', KEYS[3], 60000)
  else
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  end
end
return before
