-- Enters an instance into the log, and brings the log what the instance has of it.
--
-- Data of another name than at the last time (a restart, a failover), or without a note, may lack events that instances
-- still have in their rings. It is founded anew: for a while every instance may add what is missing, wherever it belongs,
-- and nobody publishes or reads. Then the log is open, and only goes on at its end.
--
-- While the log is open and lacks nothing, nothing is written: a full Redis refuses writes, and who cannot join cannot make
-- room either.
--
-- KEYS: the log, the note about it.
-- ARGV: most bytes of the log; the name of the data; a number nobody used before; milliseconds in which to add what is
--   missing; the epoch this instance knows, or ''; how far it has read; seconds to keep a key; most entries of the log; what
--   the names of keys begin with; up to where this instance has nothing; '' for events that belong into the log or after it,
--   and for earlier ones what this instance has next after them; 1 if it brings more after these, or 0; then for each event
--   its id, type, data, key and fingerprint ('' for none).
-- Answers: the founding, the epoch ('' while nobody knows it), milliseconds until the log is open, the id of its first entry
--   ('' for none, and when it is open), 1 if these events were not taken because others that belong before them are missing,
--   or 0.
local name, fresh, window, epoch_here, head = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local kept_for, most, prefix, horizon = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local next_here, goes_on = ARGV[11], ARGV[12] == '1'
local FIRST, FIELDS = 13, 5
-- Who brings many events may keep the others waiting for so many windows.
local LONGEST = 5
-- An entry has a few fields. One that somebody else wrote may have more than a call takes.
local MOST_TEXTS = 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local noted =
  redis.call('HMGET', note, 'data', 'founding', 'opens', 'epoch', 'founded', 'awaited', 'reach', 'marked')
local founding, opens, epoch = noted[2], tonumber(noted[3]), noted[4]
-- When that was; and up to where somebody has nothing whose events the log could not take yet.
local founded, awaited = tonumber(noted[5]), noted[6]
local size = { reach = tonumber(noted[7]) or 0, marked = tonumber(noted[8]) }
-- An hour that is far away is one by a clock that was set back since.
if noted[1] ~= name or not founding or not opens or opens - now > 10 * window then
  founding, opens, founded, awaited = fresh, now + window, now, false
  redis.call('HSET', note, 'data', name, 'founding', founding, 'opens', written(opens), 'founded', written(founded))
  redis.call('HDEL', note, 'awaited')
end
local is_open = now >= opens
if not epoch and epoch_here ~= '' then
  epoch = epoch_here
  redis.call('HSET', note, 'epoch', epoch)
end

local function parse(id)
  local millis, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(millis), tonumber(seq)
end
local function is_after(one, other)
  local a, b = parse(one)
  local c, d = parse(other)
  return a > c or (a == c and b > d)
end
local function first_id()
  local found = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  return found and found[1]
end
-- The last id that was given out, whether or not its entry is still there.
local function last_id()
  if redis.call('EXISTS', log) == 0 then
    return nil
  end
  local info = redis.call('XINFO', 'STREAM', log)
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      return info[at + 1]
    end
  end
end
-- Whether there is no room for what lies before the log.
local function is_full()
  local marks = redis.call('HGET', note, 'marks') or ''
  local reached = string.match(marks, '^%S+ (%d+);')
  return redis.call('XLEN', log) >= tonumber(most) or (reached and size.reach - reached > bound - 2 * bound / 64)
end
local function add(id, fields)
  redis.call('XADD', log, 'MAXLEN', '~', most, id, unpack(fields))
  count(size, id, size_of(fields))
end

local function remember(key, id, fingerprint)
  if key ~= '' then
    redis.call('SET', prefix .. key, epoch .. ' ' .. id .. ' ' .. fingerprint, 'EX', kept_for, 'NX')
  end
end

-- Puts what belongs before the end of the log in its place. A stream takes no entry before its last one, so the log is read,
-- removed and written again. Of what does not fit the oldest is left out. `last` is the last id that was given out.
local function insert(missing, last)
  local there, from = {}, '-'
  repeat
    local some = redis.call('XRANGE', log, from, '+', 'COUNT', 100)
    for _, entry in ipairs(some) do
      there[#there + 1], from = entry, '(' .. entry[1]
    end
    -- Bit by bit, so that the log is not in memory three times. A user of Redis without this right costs that.
    redis.pcall('XTRIM', log, 'MAXLEN', redis.call('XLEN', log) - #some)
  until #some == 0
  redis.call('EXPIRE', log, -1)
  redis.call('HDEL', note, 'reach', 'marked', 'marks')
  size = { reach = 0 }
  local at = 1
  for _, entry in ipairs(there) do
    while missing[at] and is_after(entry[1], missing[at].id) do
      add(missing[at].id, missing[at].fields)
      at = at + 1
    end
    if missing[at] and missing[at].id == entry[1] then
      -- In place of a mark.
      add(entry[1], missing[at].fields)
      at = at + 1
    else
      add(entry[1], #entry[2] > MOST_TEXTS and { 'unreadable', '1' } or entry[2])
    end
  end
  for rest = at, #missing do
    add(missing[rest].id, missing[rest].fields)
  end
  redis.call('XSETID', log, last)
end

-- Whether the log has nothing at this place, or the mark of an instance that has read an event there and does not hold it.
local function lacks(id)
  local there = redis.call('XRANGE', log, id, id)[1]
  return not there or (not is_open and there[2][1] == 'control' and there[2][2] == 'mark')
end

local lost, waits = false, false
if is_open and awaited then
  -- Whoever comes first after the log has opened finds out whether somebody has brought it: nobody has published yet.
  local last = last_id()
  lost = last and is_after(awaited, last)
  redis.call('HDEL', note, 'awaited')
end
if epoch and epoch == epoch_here then
  local first, last = first_id(), last_id()
  if last and is_after(horizon, last) then
    -- Between the end of the log and what this instance has lies something. Others may still bring it before the log is open.
    lost, waits = is_open, not is_open
  end
  if waits and (not awaited or is_after(horizon, awaited)) then
    redis.call('HSET', note, 'awaited', horizon)
  end
  -- Earlier events must go on to the first entry without a hole.
  local is_earlier = next_here ~= ''
  local takes_earlier = is_earlier and not is_open and first and not is_after(first, next_here) and not is_full()
  local may_extend = not is_open and founded and now < founded + (LONGEST - 1) * window
  if goes_on and not waits and may_extend and now + window > opens then
    opens = now + window
    redis.call('HSET', note, 'opens', written(opens))
  end
  local missing = {}
  for at = FIRST, #ARGV, FIELDS do
    local id, key, fingerprint = ARGV[at], ARGV[at + 3], ARGV[at + 4]
    local fields = { 'type', ARGV[at + 1], 'data', ARGV[at + 2] }
    if key ~= '' then
      fields[5], fields[6] = 'key', key
    end
    if lost or waits then
      break
    elseif is_earlier then
      if takes_earlier and is_after(first, id) then
        missing[#missing + 1] = { id = id, fields = fields, key = key, fingerprint = fingerprint }
      end
    elseif not last or is_after(id, last) then
      add(id, fields)
      remember(key, id, fingerprint)
      first, last = first or id, id
    elseif first and not is_after(first, id) and lacks(id) then
      missing[#missing + 1] = { id = id, fields = fields, key = key, fingerprint = fingerprint }
    end
  end
  if #missing > 0 and not is_open then
    insert(missing, last)
    for _, entry in ipairs(missing) do
      remember(entry.key, entry.id, entry.fingerprint)
    end
  elseif #missing > 0 then
    lost = true
  end
  -- Ids go on after everything that anybody has seen, even where the clock of this server is behind.
  if not lost and not waits and head ~= '0-0' and (not last or is_after(head, last)) then
    add(head, { 'control', 'mark' })
  end
end

if lost or (is_open and not epoch) then
  epoch = string.sub(fresh, 1, 8)
  redis.call('HSET', note, 'epoch', epoch)
  redis.call('XADD', log, 'MAXLEN', '~', most, '*', 'control', 'epoch', 'epoch', epoch)
elseif is_open and redis.call('EXISTS', log) == 0 then
  redis.call('XADD', log, '*', 'control', 'mark')
end
local first = not is_open and first_id() or ''
return { founding, epoch or '', written(math.max(0, opens - now)), first, waits and '1' or '0' }
