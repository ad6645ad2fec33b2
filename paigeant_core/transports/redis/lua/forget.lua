-- Forgets the consumers of a queue that hold nothing and were not heard of for long: workers that were
-- killed, each of which had a name of its own. One that lives after all is made anew by its next read.
-- KEYS: the stream     ARGV: ms for which it was not heard of
-- Answers how many they were.
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], 'workers')
if consumers.err then
  return 0
end
local gone = 0
for _, consumer in ipairs(consumers) do
  local told = {}
  for i = 1, #consumer, 2 do
    told[consumer[i]] = consumer[i + 1]
  end
  if told.pending == 0 and told.idle > tonumber(ARGV[1]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', told.name)
    gone = gone + 1
  end
end
return gone
