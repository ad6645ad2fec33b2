-- Moves what has come due: a delayed message to its queue, a held one to where its deadline says.
-- KEYS: journal, delayed, delayed counts, dead, held, quarantine, activities
-- ARGV: how many at most
-- Answers how many were due, the ms until the next one (-1: there is none), where some could not be
-- moved how many and why, and the time. Those stay, and do not keep the others.
local delayed, counts, activities = KEYS[2], KEYS[3], KEYS[7]
local parked = {dead = KEYS[4], held = KEYS[5], quarantine = KEYS[6]}

local stuck, why = 0, nil

local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', clock(), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
  local wf = prefix .. 'wf:' .. id
  local h = redis.call('HMGET', wf, 'place', 'activity', 'bytes', 'entry', 'position')
  if h[1] == 'delayed' and h[3] then
    local entry = redis.pcall('XADD', prefix .. 'work:' .. h[2], '*', 'm', h[3])
    if failed(entry) then
      stuck, why = stuck + 1, entry.err
    else
      redis.call('ZREM', delayed, id)
      redis.call('HINCRBY', counts, h[2], -1)
      redis.call('HSET', wf, 'place', 'work', 'entry', entry)
      redis.call('HDEL', wf, 'bytes')
    end
  elseif h[1] == 'held' then
    local d = redis.call('HMGET', wf, 'due_meta', 'due_body', 'due_place', 'due_activity', 'due_state', 'due_id', 'due_ttl')
    local problem
    if d[1] then
      local place, activity, ttl = d[3], d[4], d[7]
      local position = append(d[1], d[2], h[5])
      problem = failed(position)
      local entry = ''
      if not problem then
        if place == 'work' then
          entry = redis.pcall('XADD', prefix .. 'work:' .. activity, '*', 'm', d[2])
        elseif parked[place] then
          entry = park(parked[place], d[1], d[2], position)
        end
        problem = failed(entry)
        if problem then
          redis.call('XDEL', journal, position)
        end
      end
      if not problem then
        redis.call('XDEL', parked.held, h[4])
        redis.call('HSET', wf, 'message', d[6], 'position', position, 'place', place, 'activity', activity,
          'entry', entry, 'state', d[5])
        redis.call('HDEL', wf, 'due_meta', 'due_body', 'due_place', 'due_activity', 'due_state', 'due_id', 'due_ttl')
        if ttl ~= '0' then
          redis.call('PEXPIRE', wf, ttl)
        else
          redis.call('PERSIST', wf)
        end
        if place == 'work' then
          redis.call('SADD', activities, activity)
        end
      end
    end
    if problem then
      stuck, why = stuck + 1, problem
    else
      redis.call('ZREM', delayed, id)
    end
  else
    -- A timer of a workflow that is elsewhere by now, or of none.
    redis.call('ZREM', delayed, id)
  end
end
local following = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
if #following == 0 then
  return {#due, -1, false, clock()}
end
if stuck > 0 then
  -- Not at once again: the next turn is soon enough for what cannot be moved.
  return {0, -1, {stuck, why}, clock()}
end
return {#due, math.max(0, tonumber(following[2]) - clock()), false, clock()}
