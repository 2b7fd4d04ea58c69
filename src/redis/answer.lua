-- Writes the answer of an instance to a question, unless the instance that asked has stopped
-- waiting: its answers would take memory for nobody. They expire if it does not remove them.
--
-- KEYS: the stream of answers.
--
-- ARGV:
--
-- - `from`: name of the instance
-- - `answer`: its answer
-- - `latest`: time until which answers are waited for, in ms
-- - `seconds`: lifetime of the answers
local answers, args = KEYS[1], cmsgpack.unpack(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > args.latest then
  return
end
redis.call('XADD', answers, '*', 'from', args.from, 'answer', args.answer)
redis.call('EXPIRE', answers, args.seconds)
