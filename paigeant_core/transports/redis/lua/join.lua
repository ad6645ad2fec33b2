-- Makes the queues of activities known, and ready to be read by workers.
-- KEYS: activities, then the stream of each     ARGV: the activities
for i, activity in ipairs(ARGV) do
  redis.call('SADD', KEYS[1], activity)
  local reply = redis.pcall('XGROUP', 'CREATE', KEYS[i + 1], 'workers', '0', 'MKSTREAM')
  if reply.err and not string.find(reply.err, 'BUSYGROUP') then
    return reply
  end
end
return 0
