-- Writes the answer of an instance to a question. The answers expire together, also if the instance
-- that asked does not read them.
--
-- KEYS: the stream of answers.
--
-- ARGV:
--
-- - `from`: name of the instance
-- - `answer`: its answer
-- - `seconds`: lifetime of the answers
local answers, args = KEYS[1], cmsgpack.unpack(ARGV[1])

redis.call('XADD', answers, '*', 'from', args.from, 'answer', args.answer)
redis.call('EXPIRE', answers, args.seconds)
