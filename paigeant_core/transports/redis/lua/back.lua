-- Gives entries back to their queues.
-- KEYS: journal, then the stream of each entry     ARGV: who holds them, then the entries
for i = 2, #ARGV do
  back(KEYS[i], ARGV[i], ARGV[1])
end
return 0
