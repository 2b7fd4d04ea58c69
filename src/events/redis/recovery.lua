-- Enters the log, and takes events that an instance re-submits after a loss of data.
--
-- The data id differs from the one in the log's state after a restart or failover of Redis, and
-- there is no state after a flush. The log may then lack events that instances still hold in their
-- rings. The script starts a new log generation and a recovery window: every instance re-submits
-- what it holds, and nobody publishes or reads. After the window the log is open, and events are
-- only appended.
--
-- An open log that lacks nothing is not written to. A full Redis refuses writes, and an instance
-- that cannot enter could not make room either.
--
-- KEYS: the log (a stream), its state (a hash).
--
-- ARGV:
--
-- 1. bound of the log in bytes
-- 2. data id
-- 3. number for a new log generation, not used before
-- 4. length of the recovery window in ms
-- 5. log epoch that this instance knows, or ''
-- 6. head of this instance with its last batch, otherwise 0-0
-- 7. lifetime of an idempotency key in seconds
-- 8. bound of the log in entries
-- 9. prefix of the names of idempotency keys
-- 10. horizon: this instance holds nothing up to here
-- 11. '' for later events; for events before the log's first entry the next event held
-- 12. 1 if more batches follow, otherwise 0
-- 13. and more, for each event: id, type, data, idempotency key or '', fingerprint or ''
--
-- Answer: log generation; log epoch, or '' while no instance knows it; ms until the log opens; id
-- of the first entry ('' for none, and if the log is open); 1 if the events were not taken because
-- earlier ones are missing, otherwise 0.
local name, fresh, window, epoch_here, head = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local kept_for, most, prefix, horizon = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local next_here, goes_on = ARGV[11], ARGV[12] == '1'
local FIRST, FIELDS = 13, 5
-- Bound of the extension of recovery, in windows, for instances with many events.
local LONGEST = 5
-- Bound of the arguments of XADD. Entries of this service have four to six; a foreign one may have
-- more.
local MOST_TEXTS = 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local noted =
  redis.call('HMGET', note, 'data', 'founding', 'opens', 'epoch', 'founded', 'awaited', 'reach', 'marked')
local founding, opens, epoch = noted[2], tonumber(noted[3]), noted[4]
-- Start of the recovery; and the largest horizon of an instance whose events could not be taken
-- yet.
local founded, awaited = tonumber(noted[5]), noted[6]
local size = { reach = tonumber(noted[7]) or 0, marked = tonumber(noted[8]) }
-- An opening time far in the future comes from a clock that was set back since.
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
-- The last id that was assigned, even if its entry was trimmed.
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
-- Whether the log has no room for earlier events.
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

-- Inserts events before the end of the log. A stream takes no entry before its last one, so the log
-- is read, emptied and written again. The oldest events are dropped if they exceed the bounds.
-- `last` is the last id that was assigned.
local function insert(missing, last)
  local there, from = {}, '-'
  repeat
    local some = redis.call('XRANGE', log, from, '+', 'COUNT', 100)
    for _, entry in ipairs(some) do
      there[#there + 1], from = entry, '(' .. entry[1]
    end
    -- Trim in steps, so that the log is not in memory three times. Without the right to XTRIM it
    -- is.
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
      -- The event replaces a mark.
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

-- Whether the log lacks the event with this id: there is nothing, or a mark of an instance that no
-- longer holds it.
local function lacks(id)
  local there = redis.call('XRANGE', log, id, id)[1]
  return not there or (not is_open and there[2][1] == 'control' and there[2][2] == 'mark')
end

local lost, waits = false, false
if is_open and awaited then
  -- First call after the opening. Nobody has published yet, so the last id shows whether the
  -- awaited events came.
  local last = last_id()
  lost = last and is_after(awaited, last)
  redis.call('HDEL', note, 'awaited')
end
if epoch and epoch == epoch_here then
  local first, last = first_id(), last_id()
  if last and is_after(horizon, last) then
    -- Events between the end of the log and this instance's horizon are missing. Others may still
    -- re-submit them.
    lost, waits = is_open, not is_open
  end
  if waits and (not awaited or is_after(horizon, awaited)) then
    redis.call('HSET', note, 'awaited', horizon)
  end
  -- Earlier events must reach the first entry without a hole.
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
  -- A mark at the head: new ids are then larger than any that was seen, even if this server's clock
  -- is behind.
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
