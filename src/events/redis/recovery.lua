-- Enters the log, and takes events that an instance re-submits after a loss of data.
--
-- `size.lua` and `fields.lua` are prepended. They define `log`, `state`, `args`, `bound`,
-- `written`, `size_of`, `count` and `fields_of`. `keys.rs` explains the fields of the state.
--
-- The data id differs from the one in the log's state after a restart or failover of Redis, and
-- there is no state after a flush. The log may then lack events that instances still hold in their
-- rings. The script starts a new log generation and a recovery window: every instance re-submits
-- what it holds, and nobody publishes or reads. After the window the log is open, and events are
-- only appended.
--
-- The script does not write to an open log that lacks nothing. A full Redis refuses writes, and an
-- instance that could not enter for that reason could not make room either.
--
-- KEYS: the log (a stream), its state (a hash).
--
-- ARGV:
--
-- - `log_bytes`, `log_entries`: bounds of the log
-- - `data_id`: data id
-- - `new_generation`: number for a new log generation, not used before
-- - `window`: length of the recovery window in ms
-- - `epoch`: log epoch that this instance knows, if it knows one
-- - `head`: head of this instance, with its last batch
-- - `horizon`: this instance holds nothing up to here
-- - `next`: for events before the log's first entry, the next event that this instance holds
-- - `more_follow`: whether more batches follow
-- - `key_prefix`, `key_seconds`: names of idempotency keys, and their lifetime
-- - `events`: for each event `id`, `type`, `data`, `topics` unless `default` is the only one,
--   `fingerprint`, and `key` if it has one
--
-- Answer: log generation; log epoch, or '' while no instance knows it; ms until the log opens; id
-- of the first entry ('' for none, and if the log is open); 1 if the events were not taken because
-- earlier ones are missing, otherwise 0.
local window = args.window
-- Bound of the extension of recovery, in windows, for instances with many events.
local LONGEST = 5
-- Bound of the arguments of XADD. Entries of this service have two to ten; a foreign one may have
-- more.
local MOST_TEXTS = 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found =
  redis.call('HMGET', state, 'data', 'founding', 'opens', 'epoch', 'founded', 'awaited', 'reach', 'marked')
local data_id, generation, opens, epoch = found[1], found[2], tonumber(found[3]), found[4]
-- Start of the recovery; and the largest horizon of an instance whose events could not be taken
-- yet.
local began, awaited = tonumber(found[5]), found[6]
local size = { reach = tonumber(found[7]) or 0, marked = tonumber(found[8]) }
-- An opening time far in the future comes from a clock that was set back since.
if data_id ~= args.data_id or not generation or not opens or opens - now > 10 * window then
  generation, opens, began, awaited = args.new_generation, now + window, now, false
  redis.call(
    'HSET', state, 'data', args.data_id, 'founding', generation, 'opens', written(opens), 'founded', written(began))
  redis.call('HDEL', state, 'awaited')
end
local is_open = now >= opens
if not epoch and args.epoch then
  epoch = args.epoch
  redis.call('HSET', state, 'epoch', epoch)
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
  local marks = redis.call('HGET', state, 'marks') or ''
  local reached = string.match(marks, '^%S+ (%d+);')
  return redis.call('XLEN', log) >= args.log_entries or (reached and size.reach - reached > bound - 2 * bound / 64)
end
local function add(id, fields)
  redis.call('XADD', log, 'MAXLEN', '~', args.log_entries, id, unpack(fields))
  count(size, id, size_of(fields))
end

local function remember(event)
  if event.key then
    local name, place = args.key_prefix .. event.key, epoch .. ' ' .. event.id .. ' '
    -- Another event under this key is newer. The same one is of the previous release, whose
    -- fingerprint does not cover topics.
    local known = redis.call('GET', name)
    if not known or string.sub(known, 1, #place) == place then
      redis.call('SET', name, place .. event.fingerprint, 'EX', args.key_seconds)
    end
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
    -- Trim after each step: otherwise the log would be in memory three times. Without the right to
    -- XTRIM it is.
    redis.pcall('XTRIM', log, 'MAXLEN', redis.call('XLEN', log) - #some)
  until #some == 0
  redis.call('EXPIRE', log, -1)
  redis.call('HDEL', state, 'reach', 'marked', 'marks')
  size = { reach = 0 }
  local at = 1
  for _, entry in ipairs(there) do
    while missing[at] and is_after(entry[1], missing[at].id) do
      add(missing[at].id, fields_of(missing[at]))
      at = at + 1
    end
    if missing[at] and missing[at].id == entry[1] then
      -- The event replaces a mark, or itself without its topics.
      add(entry[1], fields_of(missing[at]))
      at = at + 1
    else
      add(entry[1], #entry[2] > MOST_TEXTS and { 'unreadable', '1' } or entry[2])
    end
  end
  for rest = at, #missing do
    add(missing[rest].id, fields_of(missing[rest]))
  end
  redis.call('XSETID', log, last)
end

-- Whether the log lacks an event. There is nothing with its id; or a mark of an instance that does
-- not hold it, because it has restarted, or is of the previous release and passed it; or the event
-- without its topics, as the previous release re-submits it. An event that begins with `control`
-- has the value `event` there, and is no mark.
local function lacks(event)
  local there = redis.call('XRANGE', log, event.id, event.id)[1]
  if not there or is_open then
    return not there
  end
  local first, value, fifth = there[2][1], there[2][2], there[2][5]
  local is_mark = first == 'control' and value == 'mark'
  local lacks_topics = event.topics and first == 'type' and fifth ~= 'topics'
  return is_mark or lacks_topics
end

local lost, waits = false, false
if is_open and awaited then
  -- First call after the opening. Nobody has published yet, so the last id shows whether the
  -- awaited events came.
  local last = last_id()
  lost = last and is_after(awaited, last)
  redis.call('HDEL', state, 'awaited')
end
if epoch and epoch == args.epoch then
  local first, last = first_id(), last_id()
  if last and is_after(args.horizon, last) then
    -- Events between the end of the log and this instance's horizon are missing. Others may still
    -- re-submit them.
    lost, waits = is_open, not is_open
  end
  if waits and (not awaited or is_after(args.horizon, awaited)) then
    redis.call('HSET', state, 'awaited', args.horizon)
  end
  -- Earlier events must reach the first entry without a hole.
  local is_earlier = args.next
  local takes_earlier = is_earlier and not is_open and first and not is_after(first, args.next) and not is_full()
  local may_extend = not is_open and began and now < began + (LONGEST - 1) * window
  if args.more_follow and not waits and may_extend and now + window > opens then
    opens = now + window
    redis.call('HSET', state, 'opens', written(opens))
  end
  local missing = {}
  for _, event in ipairs(args.events) do
    local id = event.id
    if lost or waits then
      break
    elseif is_earlier then
      if takes_earlier and is_after(first, id) then
        missing[#missing + 1] = event
      end
    elseif not last or is_after(id, last) then
      add(id, fields_of(event))
      remember(event)
      first, last = first or id, id
    elseif first and not is_after(first, id) and lacks(event) then
      missing[#missing + 1] = event
    end
  end
  if #missing > 0 and not is_open then
    insert(missing, last)
    for _, event in ipairs(missing) do
      remember(event)
    end
  elseif #missing > 0 then
    lost = true
  end
  -- A mark at the head: new ids are then larger than any that was seen, even if this server's clock
  -- is behind.
  if not lost and not waits and args.head and (not last or is_after(args.head, last)) then
    add(args.head, { 'control', 'mark' })
  end
end

if lost or (is_open and not epoch) then
  epoch = string.sub(args.new_generation, 1, 8)
  redis.call('HSET', state, 'epoch', epoch)
  redis.call('XADD', log, 'MAXLEN', '~', args.log_entries, '*', 'control', 'epoch', 'epoch', epoch)
elseif is_open and redis.call('EXISTS', log) == 0 then
  redis.call('XADD', log, '*', 'control', 'mark')
end
local first = not is_open and first_id() or ''
return { generation, epoch or '', written(math.max(0, opens - now)), first, waits and '1' or '0' }
