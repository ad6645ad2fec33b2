-- Keeps an audit entry, once however often it is sent.
-- KEYS: audit     ARGV: what this entry is known by, the entry
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 16)) do
  if entry[2][2] == ARGV[1] then
    return 0
  end
end
redis.call('XADD', KEYS[1], '*', 'i', ARGV[1], 'e', ARGV[2])
return 1
