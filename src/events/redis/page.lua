-- Reads a page of the log, bounded in bytes. The first entry always fits.
--
-- Redis bounds the answers of XRANGE in entries only. A script is atomic, so the id of the log's
-- first entry belongs to the same moment as the page.
--
-- KEYS: the log, its state.
--
-- ARGV:
--
-- - `generation`: log generation that the instance has entered
-- - `command`: XRANGE or XREVRANGE
-- - `from`, `to`: the range
-- - `bytes`: bound in bytes
-- - `entries`: bound in entries
--
-- Answer: id of the log's first entry ('' for none); bytes of the page; 1 if entries may follow
-- that did not fit, otherwise 0; the entries. Empty if the log generation has changed.
local log, state, args = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1])
local from, room, most = args.from, args.bytes, args.entries
-- Entries read at once: 1 MiB of the largest.
local STEP = 16
-- Bytes of an entry in an answer, without its fields.
local OVERHEAD = 64

if redis.call('HGET', state, 'founding') ~= args.generation then
  return {}
end

local function size_of(entry)
  local size = OVERHEAD
  for _, text in ipairs(entry[2]) do
    size = size + #text
  end
  return size
end

local page, bytes, more, step = {}, 0, 0, 1
while more == 0 and #page < most do
  local found = redis.call(args.command, log, from, args.to, 'COUNT', step)
  for _, entry in ipairs(found) do
    local size = size_of(entry)
    if #page == most or (#page > 0 and bytes + size > room) then
      -- The page ends before the first entry that does not fit: a later one in its place would hide
      -- it.
      more = 1
      break
    end
    page[#page + 1] = entry
    bytes = bytes + size
  end
  if more == 0 and #found == step then
    from = '(' .. found[#found][1]
    if bytes >= room or #page == most then
      more = 1
    else
      -- Entries that fit if they have the mean size of those before.
      step = math.max(1, math.min(STEP, math.floor((room - bytes) * #page / bytes)))
    end
  else
    break
  end
end

local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
return { first and first[1] or '', bytes, more, page }
