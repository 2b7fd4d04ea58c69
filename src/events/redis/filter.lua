-- Filter of the log's entries by the patterns of a stream. Prepended to `page.lua`.
--
-- `src/topic.rs` has the rules of patterns. The instance applies them again to what it gets, so a
-- mistake here can withhold an event and cannot disclose one.
--
-- ARGV: `patterns`, among the arguments of the script: the patterns; absent: every entry passes.
local args = cmsgpack.unpack(ARGV[1])
-- Patterns that are topics; prefixes up to their last `/`, and the length of the longest; and
-- whether `*` is a pattern.
local exact, prefixes, longest, all = {}, {}, 0, false
for _, pattern in ipairs(args.patterns or {}) do
  if pattern == '*' then
    all = true
  elseif string.sub(pattern, -2) == '/*' then
    prefixes[string.sub(pattern, 1, -2)] = true
    longest = math.max(longest, #pattern - 1)
  else
    exact[pattern] = true
  end
end

-- Whether a pattern matches. A topic has eight segments at most, so this takes at most eight
-- lookups, whatever the number of patterns.
local function matches(topic)
  if exact[topic] or (all and string.sub(topic, 1, 1) ~= '$') then
    return true
  end
  for place in string.gmatch(topic, '()/') do
    if place > longest then
      return false
    elseif prefixes[string.sub(topic, 1, place)] then
      return true
    end
  end
  return false
end

-- Decisions by the written form of topics, which many entries share.
local decided = {}
local function matches_any(topics)
  if decided[topics] == nil then
    decided[topics] = false
    for topic in string.gmatch(topics, '[^ ]+') do
      if matches(topic) then
        decided[topics] = true
        break
      end
    end
  end
  return decided[topics]
end

-- Whether an entry passes. An entry that is no event passes, and so does one that lacks a part of
-- an event: the instance announces it as unreadable.
local function passes(entry)
  if not args.patterns then
    return true
  end
  local fields = entry[2]
  local control, kind, data, topics
  for at = 1, #fields - 1, 2 do
    local name, value = fields[at], fields[at + 1]
    if name == 'control' then
      control = control or value
    elseif name == 'type' then
      kind = kind or value
    elseif name == 'data' then
      data = data or value
    elseif name == 'topics' then
      topics = topics or value
    end
  end
  local is_event = kind and data and (not control or (control == 'event' and topics))
  return not is_event or matches_any(topics or 'default')
end
