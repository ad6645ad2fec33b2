-- How far a topic's journal goes. XINFO itself would answer with the first and the last message too.
-- KEYS: journal
-- Answers nothing where there is none; else its first entry ('' where there is none), the last ID that it gave out,
-- how many entries there are, and how many were ever added (none before Redis 7.0).
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
local told = {}
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  told[info[i]] = info[i + 1]
end
local first = told['first-entry']
return {first and first[1] or '', told['last-generated-id'], told['length'], told['entries-added']}
