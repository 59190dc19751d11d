-- One request's whole business with Redis: its key's record, its tenant's epoch, the cached answer and vector, the rates,
-- a stream's slot, what was spent this month, and the usage counters.
-- KEYS 1 key record  2 epoch  3 ticket  4 answer  5 vector  6 key's rate  7 tenant's rate  8 streams  9 usage  10 spent
-- ARGV 1-4 key's and tenant's rate per second and burst  5 most streams  6 stream's id or ''  7 its seconds
--      8 a ticket  9 'read' a question's answer, only 'count' it, or ''  10 seconds a counter is kept
-- Returns now (microseconds), record, epoch, ticket, answer, vector (when there is no answer), milliseconds to wait, stream granted (0 or 1), spent.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local micros = time[1] .. string.format('%06d', tonumber(time[2]))

-- The generic cell rate algorithm: the theoretical arrival time may lie up to burst / rate ahead of the clock.
local function due(key, rate, burst)
  local arrival = math.max(tonumber(redis.call('GET', key) or '0'), now)
  local interval = 1 / rate
  return arrival + interval, arrival + interval - now - burst * interval
end

local arrival_key, wait_key = due(KEYS[6], tonumber(ARGV[1]), tonumber(ARGV[2]))
local arrival_tenant, wait_tenant = due(KEYS[7], tonumber(ARGV[3]), tonumber(ARGV[4]))
local wait = math.max(wait_key, wait_tenant)
local found = redis.call('MGET', KEYS[1], KEYS[2], KEYS[10])
if wait > 0 then
  return {micros, found[1], found[2], false, false, false, math.ceil(wait * 1000), 0, found[3]}
end
redis.call('SET', KEYS[6], string.format('%.6f', arrival_key), 'PX', math.ceil((arrival_key - now) * 1000) + 1000)
redis.call('SET', KEYS[7], string.format('%.6f', arrival_tenant), 'PX', math.ceil((arrival_tenant - now) * 1000) + 1000)

local ticket = false
if not found[2] then
  redis.call('SET', KEYS[3], ARGV[8], 'NX', 'EX', 10)
  ticket = redis.call('GET', KEYS[3])
end

local answer, vector = false, false
if ARGV[9] ~= '' then
  local kept = redis.call('MGET', KEYS[4], KEYS[5])
  local tag = ARGV[9] == 'read' and found[2] and (found[2] .. ':')
  if tag and kept[1] and string.sub(kept[1], 1, #tag) == tag then
    answer = string.sub(kept[1], #tag + 1)
  end
  vector = not answer and kept[2]
  if redis.call('HINCRBY', KEYS[9], 'questions', 1) == 1 then
    redis.call('EXPIRE', KEYS[9], ARGV[10])
  end
  if answer then
    redis.call('HINCRBY', KEYS[9], 'hits', 1)
  end
end

local granted = 0
if ARGV[6] ~= '' and not answer then
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', now)
  if redis.call('ZCARD', KEYS[8]) < tonumber(ARGV[5]) then
    redis.call('ZADD', KEYS[8], now + tonumber(ARGV[7]), ARGV[6])
    redis.call('EXPIRE', KEYS[8], ARGV[10])
    granted = 1
  end
end
return {micros, found[1], found[2], ticket, answer, vector, 0, granted, found[3]}
