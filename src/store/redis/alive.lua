-- Renews the alive entry of an instance, and hands it the streams whose leases others have
-- replaced.
--
-- KEYS: the alive entries, a hash. An instance has the field of its member record with the value
-- `<last renewal> <session> <settled>`. A stream that was replaced has the field `replaced:<id>`
-- with the field of its instance.
--
-- ARGV:
--
-- - `field`: field of the instance
-- - `fresh`: ms without renewal after which an instance counts as dead
-- - `gives_up`: whether the leases of the present session are given up
-- - `settled`: time up to which the instance has released what it no longer holds
-- - `ended`: ids of replaced streams that the instance has ended
-- - `forgotten`: ms without renewal after which an entry is removed
-- - `seconds`: lifetime of the hash
--
-- Answer: the time; the session; the ids of replaced streams of the instance.
local alive, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local session, last, seen_of, replaced, old = nil, 0, {}, {}, {}
local entries = redis.call('HGETALL', alive)
for at = 1, #entries, 2 do
  local name, value = entries[at], entries[at + 1]
  local stream = string.match(name, '^replaced:(.+)$')
  if stream then
    replaced[stream] = value
  else
    local seen, of = string.match(value, '^(%d+) (%d+)')
    -- A time in the future comes from a clock that was set back since.
    local age = seen and math.abs(now - seen) or math.huge
    if name == args.field then
      last = tonumber(of) or 0
      if age <= args.fresh and not args.gives_up then
        session = of
      end
    elseif age > args.forgotten then
      old[#old + 1] = name
    else
      seen_of[name] = true
    end
  end
end
-- Leases of a former session are void: others may have taken their places meanwhile.
session = session or string.format('%.0f', math.max(now, last + 1))

local ended, own = {}, {}
for _, stream in ipairs(args.ended) do
  ended[stream] = true
end
for stream, field in pairs(replaced) do
  if field == args.field and not ended[stream] then
    own[#own + 1] = stream
  elseif field == args.field or not seen_of[field] then
    old[#old + 1] = 'replaced:' .. stream
  end
end
redis.call('HSET', alive, args.field, string.format('%.0f %s %.0f', now, session, args.settled))
for _, name in ipairs(old) do
  redis.call('HDEL', alive, name)
end
redis.call('EXPIRE', alive, args.seconds)
return { now, session, own }
