-- Reads the alive entry of the instance that holds a ticket.
--
-- KEYS: the alive entries (`alive.lua`).
--
-- ARGV:
--
-- - `field`: field of the instance
--
-- Answer: the time; the entry, or nil.
local alive, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return { now, redis.call('HGET', alive, args.field) }
