-- Takes leases for streams of one subject, within its limit.
--
-- A lease counts while its instance renews its alive entry and keeps the session in which it took
-- the lease. A lease that the instance has already is kept, so the script may be repeated.
--
-- KEYS: the leases of the subject, a hash from stream id to `<opening> <session> <field of the
-- instance>`; the alive entries (`alive.lua`).
--
-- ARGV:
--
-- - `field`: field of the instance in the alive entries
-- - `fresh`: ms without renewal after which an instance counts as dead
-- - `renewed`: last renewal that the instance knows of
-- - `limit`: limit of the subject's streams
-- - `replaces`: whether the oldest stream makes room
-- - `seconds`: lifetime of the leases after this opening
-- - `streams`: id of each stream, and the ms since its opening
--
-- Answer: nil if the instance has to renew first; or the ids of refused streams, and those of
-- replaced ones.
local leases, alive, args = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local sessions = {}
local entries = redis.call('HGETALL', alive)
for at = 1, #entries, 2 do
  local seen, session = string.match(entries[at + 1], '^(%d+) (%d+)')
  -- A time in the future comes from a clock that was set back since.
  if seen and math.abs(now - seen) <= args.fresh then
    sessions[entries[at]] = session
  end
end
local session = sessions[args.field]
-- A call that was long on its way must not take a lease that its instance has given up since.
if not session or math.abs(now - args.renewed) > args.fresh then
  return false
end

local held, places, void = {}, {}, {}
local found = redis.call('HGETALL', leases)
for at = 1, #found, 2 do
  local opened, of, field = string.match(found[at + 1], '^(%d+) (%d+) (.+)$')
  if field and sessions[field] == of then
    held[found[at]] = true
    places[#places + 1] = { found[at], tonumber(opened), field }
  else
    void[#void + 1] = found[at]
  end
end
-- The oldest is last.
table.sort(places, function(one, other)
  return one[2] > other[2] or (one[2] == other[2] and one[1] > other[1])
end)

local taken, refused, replaced = {}, {}, {}
for _, stream in ipairs(args.streams) do
  local id, opened = stream[1], now - stream[2]
  if not held[id] then
    while args.replaces and #places >= args.limit do
      replaced[#replaced + 1] = table.remove(places)
    end
    if #places < args.limit then
      table.insert(places, 1, { id, opened, args.field })
      taken[#taken + 1] = { id, opened }
    else
      refused[#refused + 1] = id
    end
  end
end

for _, id in ipairs(void) do
  redis.call('HDEL', leases, id)
end
local replaced_ids = {}
for _, place in ipairs(replaced) do
  redis.call('HDEL', leases, place[1])
  -- Their instances read it with their next renewal.
  redis.call('HSET', alive, 'replaced:' .. place[1], place[3])
  replaced_ids[#replaced_ids + 1] = place[1]
end
for _, stream in ipairs(taken) do
  local lease = string.format('%.0f %s %s', stream[2], session, args.field)
  redis.call('HSET', leases, stream[1], lease)
end
if #taken > 0 then
  -- Another instance may let its streams live longer.
  redis.call('EXPIRE', leases, args.seconds, 'NX')
  redis.call('EXPIRE', leases, args.seconds, 'GT')
end
return { refused, replaced_ids }
