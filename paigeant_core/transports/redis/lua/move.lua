-- Moves workflows: settles, operations, dispatches and deferrals, several in one call.
--
-- KEYS: journal, delayed, delayed counts, dead, held, quarantine, activities; then for each move the
--       workflow's hash, the stream its message goes to and the stream it was claimed from (the
--       journal where there is none)
-- ARGV: the number of moves; then for each: fourteen words (below), the correlation ID, what the
--       fence must stand at, the entry it was claimed as, the record's ID, its meta and its message;
--       then its `before` records, and seven values of its deadline where it has one
-- Answers for each move: 0 done, 1 already done, 2 superseded, 3 the workflow exists, 4 a worker has
--         it, an error, or as text the request that a settle or deferral has to heed first.

local delayed, counts, activities = KEYS[2], KEYS[3], KEYS[7]
local parked = {dead = KEYS[4], held = KEYS[5], quarantine = KEYS[6]}
local WORDS = '^' .. string.rep('(%S*) ', 13) .. '(%S*)$'

-- Takes the workflow's current copy out of wherever it is.
local function drop(id, wf, place, activity, entry)
  if place == 'work' then
    local stream = prefix .. 'work:' .. activity
    redis.call('XACK', stream, group, entry)
    redis.call('XDEL', stream, entry)
  elseif place == 'delayed' then
    if redis.call('ZREM', delayed, id) == 1 then
      redis.call('HINCRBY', counts, activity, -1)
    end
    redis.call('HDEL', wf, 'bytes')
  elseif parked[place] then
    redis.call('XDEL', parked[place], entry)
    if place == 'held' and redis.call('ZREM', delayed, id) == 1 then
      redis.call('HDEL', wf, 'due_meta', 'due_body', 'due_place', 'due_activity', 'due_state', 'due_id', 'due_ttl')
    end
  end
end

-- What was asked of the step whose message the fence stood at before, as its record's meta.
local function asked_of(wf, current, expect)
  local a = redis.call('HMGET', wf, 'asked', 'asked_of', 'asked_meta')
  return a[1] == current and a[2] == expect and a[3]
end

local at = 1
local results = {}

for n = 1, tonumber(ARGV[1]) do
  local wf, target, source = KEYS[5 + n * 3], KEYS[6 + n * 3], KEYS[7 + n * 3]
  local mode, place, activity, state, epoch, run, hop, attempt, ttl, fresh, delay, notes, deadline, mark =
    string.match(ARGV[at + 1], WORDS)
  local id, expect, claimed, record = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local meta, body = ARGV[at + 6], ARGV[at + 7]
  delay, notes, deadline = tonumber(delay), tonumber(notes), deadline == '1'
  local first = at + 7
  at = first + notes + (deadline and 7 or 0)

  local h = redis.call('HMGET', wf, 'message', 'place', 'activity', 'entry', 'position')
  local current, old_place, old_activity, old_entry, before = h[1], h[2], h[3], h[4], h[5]
  local verdict

  if current then
    if mode == 'dispatch' then
      -- `first` knows a dispatch that is repeated when the workflow has long moved on.
      verdict = redis.call('HGET', wf, 'first') == record and 1 or 3
    elseif mode == 'defer' then
      local asked = current ~= expect and asked_of(wf, current, expect)
      if current ~= expect and not asked then
        verdict = #redis.call('XRANGE', source, claimed, claimed) > 0 and 2 or 1
      elseif old_place ~= 'work' or old_entry ~= claimed then
        verdict = 1
      else
        verdict = asked
      end
    elseif current == record then
      verdict = 1
    elseif current ~= expect then
      verdict = mode == 'settle' and asked_of(wf, current, expect) or done_before(before, record) and 1 or 2
    elseif mode == 'unclaimed' and old_place == 'work' then
      local pending = redis.pcall('XPENDING', prefix .. 'work:' .. old_activity, group, old_entry, old_entry, 1)
      if not failed(pending) and #pending > 0 then
        verdict = 4
      end
    end
  elseif mode == 'operate' or mode == 'unclaimed' then
    verdict = 2
  end

  if not verdict then
    local written, problem = {}, nil
    for i = 1, notes do
      local position = append(ARGV[first + i], false, before)
      if failed(position) then
        problem = position
        break
      end
      before = position
      written[#written + 1] = position
    end
    local position
    if not problem then
      -- What was quarantined may be no bytes at all; elsewhere that means that there is no message.
      position = append(meta, (body ~= '' or place == 'quarantine') and body, before)
      if failed(position) then
        problem = position
      else
        written[#written + 1] = position
      end
    end

    local entry = ''
    if not problem then
      if place == 'delayed' and delay <= 0 then
        place = 'work'
      end
      if place == 'work' then
        entry = redis.pcall('XADD', target, '*', 'm', body)
      elseif parked[place] then
        entry = park(target, meta, body, position)
      end
      if failed(entry) then
        problem = entry
      end
    end

    if problem then
      for _, done in ipairs(written) do
        redis.call('XDEL', journal, done)
      end
      results[n] = problem
    else
      if current then
        drop(id, wf, old_place, old_activity, old_entry)
      end
      if claimed ~= '' and not (old_place == 'work' and old_entry == claimed and prefix .. 'work:' .. old_activity == source) then
        -- A copy that the index does not know: put there by hand, or its tombstone forgotten.
        redis.call('XACK', source, group, claimed)
        redis.call('XDEL', source, claimed)
      end
      if place == 'delayed' then
        redis.call('ZADD', delayed, clock() + delay, id)
        redis.call('HINCRBY', counts, activity, 1)
        redis.call('HSET', wf, 'bytes', body)
      elseif deadline then
        local d = first + notes
        redis.call('ZADD', delayed, clock() + delay, id)
        redis.call('HSET', wf, 'due_meta', ARGV[d + 1], 'due_body', ARGV[d + 2], 'due_place', ARGV[d + 3],
          'due_activity', ARGV[d + 4], 'due_state', ARGV[d + 5], 'due_id', ARGV[d + 6], 'due_ttl', ARGV[d + 7])
      end
      redis.call('HSET', wf, 'epoch', epoch, 'run', run, 'hop', hop, 'attempt', attempt, 'message', record,
        'position', position, 'place', place, 'activity', activity, 'entry', entry, 'state', state)
      if mark ~= '-' then
        redis.call('HSET', wf, 'mark', mark)
      end
      if mode == 'dispatch' then
        redis.call('HSET', wf, 'first', record)
      end
      if fresh == '1' and activity ~= '' then
        redis.call('SADD', activities, activity)
      end
      if ttl ~= '0' then
        redis.call('PEXPIRE', wf, ttl)
      elseif current and old_place ~= 'work' and old_place ~= 'delayed' then
        redis.call('PERSIST', wf)
      end
      verdict = 0
    end
  elseif verdict == 1 and mode == 'defer' and claimed ~= '' then
    -- Somebody else put this message back already; the copy at hand is a second one.
    redis.call('XACK', source, group, claimed)
    redis.call('XDEL', source, claimed)
  end

  if verdict then
    results[n] = verdict
  end
end

return results
