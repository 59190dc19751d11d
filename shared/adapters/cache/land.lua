-- Ends the flight KEYS[1] of the owner ARGV[1]: deleted, or for ARGV[3] seconds ARGV[2] unless that is empty.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  return redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
