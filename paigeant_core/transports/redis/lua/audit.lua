-- Keeps an audit entry, once however often it is sent.
-- KEYS: audit     ARGV: what this entry is known by, the entry, the SHA-1 of the one it follows (empty: of any)
-- Answers 1 kept, 0 kept before, 2 another entry came first.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 16)
for _, entry in ipairs(newest) do
  if entry[2][2] == ARGV[1] then
    return 0
  end
end
if ARGV[3] ~= '' then
  local last = ''
  if newest[1] then
    local fields = newest[1][2]
    for i = 1, #fields, 2 do
      if fields[i] == 'e' then
        last = fields[i + 1]
      end
    end
  end
  if redis.sha1hex(last) ~= ARGV[3] then
    return 2
  end
end
redis.call('XADD', KEYS[1], '*', 'i', ARGV[1], 'e', ARGV[2])
return 1
