-- Takes a ticket: a token that opens one stream.
--
-- KEYS: the ticket, a hash: `first`, the time of the first opening; `holder`, empty if it was
-- released; `again` if it was opened more than once; `gone:<holder>` for an attempt that was given
-- up with its outcome unknown.
--
-- ARGV:
--
-- - `holder`: the stream with its instance, or the request
-- - `stays`: whether the holder stays until it is released, as a stream does
-- - `age`: ms since the opening
-- - `window`: ms after the first opening in which the ticket may be taken again
-- - `displaced`: holder that is known to be dead, or empty
-- - `seconds`: lifetime of the ticket
--
-- Answer: 'first' or 'again' if it is taken; 'used'; or 'held' and the holder.
local ticket, args = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', ticket, 'first', 'holder', 'gone:' .. args.holder)
local first, holder, gone = tonumber(known[1]), known[2], known[3]

-- A call that was long on its way must not take a ticket for a stream that has ended since.
if gone then
  return { 'used' }
end
-- After a loss of data, an instance that opened it later may have taken it first.
if first and now - args.age < first then
  first = now - args.age
  redis.call('HSET', ticket, 'first', string.format('%.0f', first))
end
if first then
  local is_over = now - first >= args.window
  if holder == args.holder then
    return { (args.stays or not is_over) and 'again' or 'used' }
  elseif is_over then
    return { 'used' }
  elseif holder ~= '' and holder ~= args.displaced then
    return { 'held', holder }
  end
end
first = string.format('%.0f', first or now - args.age)
redis.call('HSET', ticket, 'first', first, 'holder', args.holder)
if known[1] then
  redis.call('HSET', ticket, 'again', 1)
end
redis.call('EXPIRE', ticket, args.seconds)
return { known[1] and 'again' or 'first' }
