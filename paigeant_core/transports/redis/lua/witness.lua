-- What the fence knows of the workflow of a message that was claimed.
-- KEYS: the workflow's hash, the stream the message was claimed from     ARGV: the entry it was claimed as
-- Answers what the copy is to it, and the mark of the signed records of where the workflow stands.
local h = redis.call('HMGET', KEYS[1], 'place', 'entry', 'mark')
local copy = 'other'
if h[1] == 'work' and h[2] == ARGV[1] then
  copy = 'current'
elseif #redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1]) == 0 then
  copy = 'gone'
end
return {copy, h[3] or ''}
