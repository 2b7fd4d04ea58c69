-- Releases a ticket, if it is still held. Also notes an opening that Redis does not know of.
--
-- KEYS: the ticket (`ticket.lua`).
--
-- ARGV:
--
-- - `holder`: the stream with its instance
-- - `age`: ms since the opening
-- - `undone`: whether the holder has opened nothing: the ticket is as it was before
-- - `uncertain`: whether a call that takes the ticket may still be on its way
-- - `seconds`: lifetime of the ticket
local ticket, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', ticket, 'first', 'holder', 'again')
local first, holder, was_open = tonumber(known[1]), known[2], known[3]
local is_held = holder == args.holder

if args.undone then
  if is_held and was_open then
    redis.call('HSET', ticket, 'holder', '')
  elseif is_held then
    redis.call('HDEL', ticket, 'first', 'holder')
  end
else
  local opened = string.format('%.0f', math.min(first or math.huge, now - args.age))
  redis.call('HSET', ticket, 'first', opened, 'holder', is_held and '' or holder or '')
end
if args.uncertain then
  redis.call('HSET', ticket, 'gone:' .. args.holder, 1)
end
redis.call('EXPIRE', ticket, args.seconds)
return true
