-- Removes those of KEYS whose value is tagged with an epoch below ARGV[1]. Returns how many.
local dropped = 0
for _, name in ipairs(KEYS) do
  local tag = string.match(redis.call('GETRANGE', name, 0, 20), '^(%d+):')
  if tag and tonumber(tag) < tonumber(ARGV[1]) then
    dropped = dropped + redis.call('UNLINK', name)
  end
end
return dropped
