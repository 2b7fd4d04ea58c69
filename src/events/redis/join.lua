-- Enters an instance into the log, and brings the log what the instance has of it.
--
-- Data of another name than at the last time (a restart, a failover), or without a note, may lack events that instances
-- still have in their rings. It is founded anew: for a while every instance may add what is missing, wherever it belongs,
-- and nobody publishes or reads. Then the log is open, and only goes on at its end.
--
-- KEYS: the log, the note about it.
-- ARGV: the name of the data; a number nobody used before; milliseconds in which to add what is missing; the epoch this
--   instance knows, or ''; how far it has read; seconds to keep a key; most entries of the log; what the names of keys
--   begin with; up to where this instance has nothing; then for each event its id, type, data, key and fingerprint ('' for
--   none).
-- Answers: the founding, the epoch ('' while nobody knows it), milliseconds until the log is open.
local log, note = KEYS[1], KEYS[2]
local name, fresh, window, epoch_here, head = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local kept_for, most, prefix, horizon = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local FIRST, FIELDS = 10, 5

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local noted = redis.call('HMGET', note, 'data', 'founding', 'opens', 'epoch')
local founding, opens, epoch = noted[2], tonumber(noted[3]), noted[4]
-- An hour that is far away is one by a clock that was set back since.
if noted[1] ~= name or not founding or not opens or opens - now > 10 * window then
  founding, opens = fresh, now + window
  redis.call('HSET', note, 'data', name, 'founding', founding, 'opens', string.format('%.0f', opens))
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
local function add(id, fields)
  redis.call('XADD', log, 'MAXLEN', '~', most, id, unpack(fields))
end

local function remember(key, id, fingerprint)
  if key ~= '' then
    redis.call('SET', prefix .. key, epoch .. ' ' .. id .. ' ' .. fingerprint, 'EX', kept_for, 'NX')
  end
end

-- What belongs before the end, put there: the end is taken off from the first missing one on, and put back around them.
local function insert(missing)
  local tail = redis.call('XRANGE', log, missing[1].id, '+')
  for _, entry in ipairs(tail) do
    redis.call('XDEL', log, entry[1])
  end
  local before = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  redis.call('XSETID', log, before[1], 'ENTRIESADDED', redis.call('XLEN', log), 'MAXDELETEDID', '0-0')
  local at = 1
  for _, entry in ipairs(tail) do
    while missing[at] and is_after(entry[1], missing[at].id) do
      add(missing[at].id, missing[at].fields)
      at = at + 1
    end
    add(entry[1], entry[2])
  end
  for rest = at, #missing do
    add(missing[rest].id, missing[rest].fields)
  end
end

local lost = false
if epoch and epoch == epoch_here then
  local first, last = first_id(), last_id()
  -- Between the end of the log and what this instance has lies something that neither has.
  lost = last and is_after(horizon, last)
  local missing = {}
  for at = FIRST, #ARGV, FIELDS do
    local id, key, fingerprint = ARGV[at], ARGV[at + 3], ARGV[at + 4]
    local fields = { 'type', ARGV[at + 1], 'data', ARGV[at + 2] }
    if key ~= '' then
      fields[5], fields[6] = 'key', key
    end
    if lost then
      break
    elseif not last or is_after(id, last) then
      add(id, fields)
      remember(key, id, fingerprint)
      first, last = first or id, id
    elseif first and is_after(id, first) and #redis.call('XRANGE', log, id, id) == 0 then
      missing[#missing + 1] = { id = id, fields = fields, key = key, fingerprint = fingerprint }
    end
  end
  if #missing > 0 and not is_open then
    insert(missing)
    for _, entry in ipairs(missing) do
      remember(entry.key, entry.id, entry.fingerprint)
    end
  elseif #missing > 0 then
    lost = true
  end
  -- Ids go on after everything that anybody has seen, even where the clock of this server is behind.
  if not lost and head ~= '0-0' and (not last or is_after(head, last)) then
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
return { founding, epoch or '', string.format('%.0f', math.max(0, opens - now)) }
