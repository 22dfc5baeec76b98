//! The scripts by which the parts of chords are counted.

/// Sets the size of a chord that is sent, and lets a frozen one that was applied before run again.
///
/// A group at the end of a chain in a header is sent later, with a size of its own under the chord's id: it is a part of
/// what was counted already.
///
/// Keys: claim, size.
pub(super) const SIZE: &str = r"
redis.call('DEL', KEYS[1])
local size = tonumber(ARGV[1])
size = math.max(size, tonumber(redis.call('GET', KEYS[2]) or 0))
redis.call('SET', KEYS[2], string.format('%d', size))
if tonumber(ARGV[2]) > 0 then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
return size";

/// Adds a part once, counts, and lets one caller claim the complete chord; what was claimed is registered, so that
/// another worker goes on when this one dies.
///
/// A late copy of a part of a chord that is done is dropped, and so is a part whose message was held for so long that
/// another worker may have run it. A fresh part is no copy: the frozen chord was applied again, and its size is set after
/// its first parts are sent. What an earlier run that failed has left is dropped with the first part. If there is no size
/// yet the chord is registered with the number of its parts, so that somebody sees when there never will be one.
///
/// A part whose message could not be read does not know how to go on. It is told what the first part left that did.
///
/// Keys: parts, difference, size, members, group, claim, registered chords, their completing parts, first part. Returns
/// parts, difference, size, whether it is claimed, and, to a part that does not know, how to go on.
pub(super) const PART: &str = r"
local claim = redis.call('GET', KEYS[6])
if claim == 'done' then
  if ARGV[11] ~= 'fresh' then return {-1, 0, 0, 0} end
  redis.call('DEL', KEYS[6])
end
local member = ARGV[1] .. ':' .. ARGV[4]
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('DEL', KEYS[1], KEYS[9]) end
if redis.call('SADD', KEYS[4], member) == 1 then
  if ARGV[3] == '1' then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2]) else redis.call('RPUSH', KEYS[1], ARGV[2]) end
end
local count
if ARGV[3] == '1' then count = redis.call('ZCARD', KEYS[1]) else count = redis.call('LLEN', KEYS[1]) end
local more = redis.call('GET', KEYS[2])
local size = redis.call('GET', KEYS[3])
if tonumber(ARGV[5]) > 0 then
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  if tonumber(ARGV[6]) > 0 then redis.call('EXPIRE', KEYS[5], ARGV[6]) end
else
  for _, i in ipairs({1, 4}) do
    if size then redis.call('PERSIST', KEYS[i]) else redis.call('EXPIRE', KEYS[i], ARGV[13]) end
  end
end
local claimed, completing, complete = 0, ARGV[10], size and count == tonumber(size) + tonumber(more or 0)
if completing == '' then
  completing = redis.call('GET', KEYS[9]) or ''
elseif not complete then
  local expires = tonumber(ARGV[5]) > 0 and ARGV[5] or ARGV[13]
  if redis.call('EXPIRE', KEYS[9], expires) == 0 then redis.call('SET', KEYS[9], completing, 'EX', expires) end
end
if not size then
  if ARGV[11] ~= 'redelivered' and claim ~= 'gone' and not redis.call('ZSCORE', KEYS[7], ARGV[9]) then
    redis.call('ZADD', KEYS[7], redis.call('TIME')[1] + ARGV[12], ARGV[9])
    redis.call('HSET', KEYS[8], ARGV[9], completing, ARGV[9] .. ':seen', count)
  end
elseif complete then
  if redis.call('SET', KEYS[6], ARGV[8], 'NX', 'EX', ARGV[7]) then
    claimed = 1
    redis.call('ZADD', KEYS[7], redis.call('TIME')[1] + ARGV[7], ARGV[9])
    redis.call('HSET', KEYS[8], ARGV[9], completing)
    redis.call('HDEL', KEYS[8], ARGV[9] .. ':seen')
  end
end
return {count, more, size, claimed, ARGV[10] == '' and completing}";

/// Claims a registered chord whose owner is gone, or whose size is. Returns its completing part and whether the size is
/// gone, or nothing when there is nothing to do.
///
/// Without a size the chord may still be on its way to the broker: as long as further parts return, it is looked at again
/// later. A chord that was complete and has parts but no size was failed by a worker in Python.
///
/// Keys: claim, size, registered chords, their completing parts, parts, difference, first part.
pub(super) const RECLAIM: &str = r"
local function leave()
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1], ARGV[1] .. ':seen')
  return false
end
local owner = redis.call('GET', KEYS[1])
if owner == 'done' or owner == 'gone' then return leave() end
local now = redis.call('TIME')[1]
local count
if ARGV[4] == '1' then count = redis.call('ZCARD', KEYS[5]) else count = redis.call('LLEN', KEYS[5]) end
local size = redis.call('GET', KEYS[2])
local gone = 0
if size then
  if count < tonumber(size) + tonumber(redis.call('GET', KEYS[6]) or 0) then return leave() end
else
  local seen = redis.call('HGET', KEYS[4], ARGV[1] .. ':seen')
  if count > 0 and not seen then return leave() end
  if count > 0 and count ~= tonumber(seen) then
    redis.call('HSET', KEYS[4], ARGV[1] .. ':seen', count)
    redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[1])
    return false
  end
  gone = 1
end
if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then return false end
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
local completing = redis.call('HGET', KEYS[4], ARGV[1])
if not completing or completing == '' then completing = redis.call('GET', KEYS[7]) end
return {completing, gone}";

/// The registered chords whose time has come.
pub(super) const OVERDUE: &str =
    "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1], 'LIMIT', 0, 100)";

/// Lets a registered chord be looked at later.
pub(super) const PUT_OFF: &str =
    "return redis.call('ZADD', KEYS[1], 'XX', redis.call('TIME')[1] + ARGV[2], ARGV[1])";

/// Keeps the claim for longer.
///
/// Keys: claim, size, registered chords.
pub(super) const EXTEND: &str = r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
if not owner and redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[3], 'XX', redis.call('TIME')[1] + ARGV[2], ARGV[3])
return 1";

/// Ends a chord whose body was sent.
///
/// Keys: claim, parts, difference, size, members, registered chords, their completing parts, first part.
pub(super) const CLEAN: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[8])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
redis.call('ZREM', KEYS[6], ARGV[3])
redis.call('HDEL', KEYS[7], ARGV[3], ARGV[3] .. ':seen')
return 1";

/// Ends a chord that failed: a late copy of a part does not fail it again. The returned parts stay for a time, as with
/// Celery: they show what became of each.
///
/// One without a size may have parts that still run, or be on its way still: they are counted, but fail it no more.
///
/// Keys as those of [`CLEAN`].
pub(super) const FAIL: &str = r"
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('HDEL', KEYS[7], ARGV[1], ARGV[1] .. ':seen')
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[8])
  if ARGV[4] == '0' then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
  redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
elseif redis.call('GET', KEYS[1]) ~= 'done' then
  redis.call('SET', KEYS[1], 'gone', 'EX', ARGV[3])
end
return 1";

/// Keeps the counters of chords from expiring.
///
/// Keys, for each chord: size, parts, difference, members, first part, group.
pub(super) const RENEW: &str = r"
for i = 1, #KEYS, 6 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    for j = i, i + 4 do redis.call('EXPIRE', KEYS[j], ARGV[1]) end
    if tonumber(ARGV[2]) > 0 then redis.call('EXPIRE', KEYS[i + 5], ARGV[2]) end
  end
end
return 1";
