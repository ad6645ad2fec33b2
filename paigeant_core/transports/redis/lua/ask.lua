-- Asks for something at the hand-off of a step: moves the fence, and leaves the message where it is.
-- KEYS: journal, the workflow's hash
-- ARGV: the request's ID, what the fence must stand at, the ID of the message that is run, meta
-- Answers 0 done, 1 already done, 2 superseded, or an error.
local wf = KEYS[2]
local h = redis.call('HMGET', wf, 'message', 'place', 'position')
if h[1] == ARGV[1] then
  return 1
end
if not h[1] or h[1] ~= ARGV[2] or h[2] ~= 'work' then
  -- Repeated across a broken line, when the step was handed on meanwhile or something else asked of it?
  return done_before(h[3], ARGV[1]) and 1 or 2
end
local position = append(ARGV[4], false, h[3])
if failed(position) then
  return position
end
-- It counts while `message` is its own ID: whatever moves the workflow makes an end of it.
redis.call('HSET', wf, 'message', ARGV[1], 'position', position, 'asked', ARGV[1], 'asked_of', ARGV[3], 'asked_meta', ARGV[4])
return 0
