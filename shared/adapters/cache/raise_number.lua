-- Sets KEYS[1] to the number ARGV[1] unless it holds one at least as great; kept for ARGV[2] seconds.
local held = redis.call('GET', KEYS[1])
if not held or tonumber(held) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return 1
end
return 0
