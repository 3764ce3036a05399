//! What is done in the servers: each script touches the keys of one tag, and decides nothing but whether what
//! was read before still holds.
//!
//! All that is kept of the users of a slot is one hash, so that a script has one key: it works while a
//! cluster moves slots, too. Its fields:
//!
//! - `s` and an id: a session, or where it is (see [`super::rows`]).
//! - `i` and a byte: ids of sessions, 20 bytes each: four of a hash of the user, and the id.
//! - `a` and an id: until when an adopted token is remembered.
//! - `v` and a user: the user's `valid_from`. `u` and a user: the account. `r` and a user: a reset.
//! - `o`: batches on their way to the logs, each with its number and its length. `n`: the last number.
//! - `l`: the mark of a store that was left.
//!
//! Numbers of batches and places in the logs are microseconds of the server's clock, or one more than the
//! last, or one more than any that the node which asks has seen: so they are not given twice, even where a
//! server that takes over has not heard of the last ones and its clock is behind.
//!
//! What ends sessions, moves ends and cleans up works where the memory is full, too ([`ALWAYS`]).

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};

/// A script, and what servers know it by.
pub(super) struct Script {
    text: String,
    pub(super) name: String,
}

impl Script {
    fn new(text: impl Into<String>) -> Script {
        let text = text.into();
        let name = redis::Script::new(&text).get_hash().to_owned();
        Script { text, name }
    }
}

/// Makes a connection's server know them.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut pipeline = Pipeline::with_capacity(ALL.len());
    for script in ALL {
        pipeline
            .cmd("SCRIPT")
            .arg("LOAD")
            .arg(&script.text)
            .ignore();
    }
    pipeline.query_async(connection).await
}

macro_rules! scripts {
    ($($(#[doc = $doc:literal])* $name:ident = $text:expr;)*) => {
        $($(#[doc = $doc])* pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($text));)*

        /// Every script: each connection makes its server know them.
        static ALL: &[&LazyLock<Script>] = &[$(&$name),*];
    };
}

/// Begins scripts that a server whose memory is full carries out all the same.
const ALWAYS: &str = "#!lua flags=allow-oom";

const LEFT: &str = r"
local mark = redis.call('HGET', KEYS[1], 'l')
if mark then return redis.error_reply('LEFT ' .. mark) end
";

const FIELDS: &str = r"
local key, sub = KEYS[1], string.sub
local function get(field) return redis.call('HGET', key, field) end
local function set(field, value) redis.call('HSET', key, field, value) end
local function drop(field) redis.call('HDEL', key, field) end
local function enlist(bucket, entry) set('i' .. bucket, (get('i' .. bucket) or '') .. entry) end
local function strike(bucket, id)
  local all = get('i' .. bucket) or ''
  for p = 1, #all, 20 do
    if sub(all, p + 4, p + 19) == id then
      all = sub(all, 1, p - 1) .. sub(all, p + 20)
      if all == '' then drop('i' .. bucket) else set('i' .. bucket, all) end
      return
    end
  end
end
local function strike_all(bucket, rows)
  local all, gone, left = get('i' .. bucket) or '', {}, {}
  for _, one in ipairs(rows) do gone[one[1]] = true end
  for p = 1, #all, 20 do
    if not gone[sub(all, p + 4, p + 19)] then left[#left + 1] = sub(all, p, p + 19) end
  end
  if #left == 0 then drop('i' .. bucket) else set('i' .. bucket, table.concat(left)) end
end
local function theirs(bucket, mark, user)
  local all, found = get('i' .. bucket) or '', {}
  for p = 1, #all, 20 do
    if sub(all, p, p + 3) == mark then
      local id = sub(all, p + 4, p + 19)
      local row = get('s' .. id)
      if row and sub(row, 6, 5 + #user) == user then found[#found + 1] = {id, row} end
    end
  end
  return found
end
local function is_live(row) return string.byte(row) == 0 end
local function finish(id, row, reason, at)
  local version = struct.unpack('>I4', row, 2) + 1
  row = reason .. struct.pack('>I4', version) .. sub(row, 6) .. at
  set('s' .. id, row)
  return row
end
local function leave(batch)
  local now = redis.call('TIME')
  local number = now[1] * 1000000 + now[2]
  local last = math.max(tonumber(get('n') or '0'), tonumber(ARGV[#ARGV]))
  if number <= last then number = last + 1 end
  set('n', string.format('%.0f', number))
  set('o', (get('o') or '') .. struct.pack('>I8I4', number, #batch) .. batch)
end
";

const PLACES: &str = r"
local meta, ends, events = KEYS[1], KEYS[2], KEYS[3]
local now = redis.call('TIME')
local place, seen = tonumber(redis.call('HGET', meta, 'p') or '0'), 0
local function step() place = math.max(place + 1, seen + 1, now[1] * 1000000 + now[2]) end
local function tell(ended)
  step()
  redis.call('XADD', ends, string.format('%.0f-0', place), 'e', ended)
end
local function record(bytes)
  step()
  redis.call('ZADD', events, string.format('%.0f', place), struct.pack('>I8', place) .. bytes)
end
local function keep() redis.call('HSET', meta, 'p', string.format('%.0f', place)) end
";

scripts! {
    /// id, how a live row of the version before begins, the new row.
    SWAP = r"
local rows = redis.call('HMGET', KEYS[1], 's' .. ARGV[1], 'l')
if rows[2] then return redis.error_reply('LEFT ' .. rows[2]) end
if not rows[1] or string.sub(rows[1], 1, 5) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 's' .. ARGV[1], ARGV[3])
return 1";

    /// id, row, bucket, mark, user, `valid_from` that was seen, '1' and the ids of the user's live sessions or
    /// '', until when an adopted id is remembered or '', batch, whether it is to be left in any case, time,
    /// another batch or '', then ids that end and reasons, and the last number or place that was seen. 0: lost.
    /// 1: done, rows that ended, batches. 2: other sessions are live.
    OPEN = format!("{LEFT}{FIELDS}{}", r"
local id, row, bucket, mark, user = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local adopted, batch, at = ARGV[8], ARGV[9], ARGV[11]
if get('s' .. id) or (adopted ~= '' and get('a' .. id)) then return {0} end
if (get('v' .. sub(user, 2)) or string.rep('\0', 8)) ~= ARGV[6] then return {0} end
if ARGV[7] ~= '' then
  local live = '1'
  for _, one in ipairs(theirs(bucket, mark, user)) do
    if is_live(one[2]) then live = live .. one[1] end
  end
  if live ~= ARGV[7] then return {2} end
end
set('s' .. id, row)
enlist(bucket, mark .. id)
if adopted ~= '' then set('a' .. id, adopted) end
local ended, told = {}, ''
for n = 13, #ARGV - 1, 2 do
  local other = get('s' .. ARGV[n])
  if other and is_live(other) then
    other = finish(ARGV[n], other, ARGV[n + 1], at)
    told = told .. ARGV[n] .. at .. ARGV[n + 1]
  end
  if other then ended[#ended + 1] = {ARGV[n], other} end
end
if ARGV[10] == '1' or told ~= '' then leave(batch .. user .. told) end
if ARGV[12] ~= '' then leave(ARGV[12]) end
return {1, ended, get('o') or ''}");

    /// id, pointer. 1: it leads there now; 0: the id is another's.
    POINT = format!("{FIELDS}{}", r"
local row = get('s' .. ARGV[1])
if get('a' .. ARGV[1]) then return 0 end
if row and sub(row, 1, 3) ~= sub(ARGV[2], 1, 3) then return 0 end
set('s' .. ARGV[1], ARGV[2])
return 1");

    /// id, reason, time, batch, the last number that was seen. Nothing, a pointer, or a row; whether it ended now, and batches. One that had
    /// ended is written again, so that it can be waited for.
    END = format!("{ALWAYS}{LEFT}{FIELDS}{}", r"
local row = get('s' .. ARGV[1])
if not row then return {} end
if string.byte(row) == 255 then return {row} end
if not is_live(row) then
  set('s' .. ARGV[1], row)
  return {row, 0, get('o') or ''}
end
local user = sub(row, 6, 6 + string.byte(row, 6))
row = finish(ARGV[1], row, ARGV[2], ARGV[3])
leave(ARGV[4] .. user .. ARGV[1] .. ARGV[3] .. ARGV[2])
return {row, 1, get('o')}");

    /// What changes of a user: bucket, mark, user, `valid_from` that was seen or '', '1' and the account that was
    /// seen or '', 's' and the new account, 'd' or '', 's' and the new reset, 'd' or '', time to which
    /// `valid_from` moves or '', reason for which sessions end or '', time, id that does not end, batch,
    /// whether it is to be left in any case, '1' to remove the rows, '1' and the reset that was seen or '',
    /// the last number that was seen.
    /// 0: something was no longer as it was seen. Or 1, `valid_from`, ends, how many rows went, batches.
    CHANGE = format!("{ALWAYS}{LEFT}{FIELDS}{}", r"
local bucket, mark, user, name = ARGV[1], ARGV[2], ARGV[3], sub(ARGV[3], 2)
local none = string.rep('\0', 8)
if ARGV[4] ~= '' and (get('v' .. name) or none) ~= ARGV[4] then return {0} end
if ARGV[5] ~= '' and '1' .. (get('u' .. name) or '') ~= ARGV[5] then return {0} end
if ARGV[15] ~= '' and '1' .. (get('r' .. name) or '') ~= ARGV[15] then return {0} end
local function change(field, to)
  if sub(to, 1, 1) == 's' then set(field, sub(to, 2)) end
  if to == 'd' then drop(field) end
end
change('u' .. name, ARGV[6])
change('r' .. name, ARGV[7])
if ARGV[8] ~= '' then
  local at = struct.unpack('>i8', ARGV[8])
  local before = struct.unpack('>i8', get('v' .. name) or none)
  set('v' .. name, struct.pack('>i8', math.max(at, before + 1)))
end
local told, at, gone = {}, ARGV[10], 0
if ARGV[9] ~= '' then
  for _, one in ipairs(theirs(bucket, mark, user)) do
    if is_live(one[2]) and one[1] ~= ARGV[11] then
      finish(one[1], one[2], ARGV[9], at)
      told[#told + 1] = one[1] .. at .. ARGV[9]
    end
  end
end
told = table.concat(told)
if ARGV[14] == '1' then
  local rows = theirs(bucket, mark, user)
  for _, one in ipairs(rows) do drop('s' .. one[1]) end
  strike_all(bucket, rows)
  gone = #rows
end
if ARGV[13] == '1' or told ~= '' then leave(ARGV[12] .. user .. told) end
return {1, get('v' .. name) or none, told, gone, get('o') or ''}");

    /// Groups of four: field, the value that it must still have, bucket or '', batch or ''; the last number
    /// that was seen. How many went, batches.
    DROP = format!("{ALWAYS}{LEFT}{FIELDS}{}", r"
local gone = 0
for n = 1, #ARGV - 1, 4 do
  if get(ARGV[n]) == ARGV[n + 1] then
    drop(ARGV[n])
    gone = gone + 1
    if ARGV[n + 2] ~= '' then strike(ARGV[n + 2], sub(ARGV[n], 2)) end
    if ARGV[n + 3] ~= '' then leave(ARGV[n + 3]) end
  end
end
return {gone, get('o') or ''}");

    /// The number of the last batch that is in the logs: it and those before are removed.
    SENT = format!("{ALWAYS}{}", r"
local all = redis.call('HGET', KEYS[1], 'o') or ''
local from, last = 1, tonumber(ARGV[1])
while from <= #all do
  local number, length = struct.unpack('>I8I4', all, from)
  if number > last then break end
  from = from + 12 + length
end
if from > #all then redis.call('HDEL', KEYS[1], 'o')
elseif from > 1 then redis.call('HSET', KEYS[1], 'o', string.sub(all, from)) end
return 0");

    /// Appends to the logs, once: slot or '', channel, the last place that was seen, then batches: number, ends,
    /// how many records, records. The last place.
    MOVE = format!("{ALWAYS}{LEFT}{PLACES}{}", r"
local slot = ARGV[1]
local last, told, n = -1, '', 4
seen = tonumber(ARGV[3])
if slot ~= '' then last = tonumber(redis.call('HGET', meta, 's' .. slot) or '-1') end
while n <= #ARGV do
  local number, count = tonumber(ARGV[n]), tonumber(ARGV[n + 2])
  if number > last then
    for at = 1, #ARGV[n + 1], 25 do
      tell(string.sub(ARGV[n + 1], at, at + 24))
    end
    for at = n + 3, n + 2 + count do record(ARGV[at]) end
    told, last = told .. ARGV[n + 1], number
  end
  n = n + 3 + count
end
if slot ~= '' then redis.call('HSET', meta, 's' .. slot, string.format('%.0f', last)) end
keep()
if told ~= '' then redis.call('PUBLISH', ARGV[2], told) end
return place");

    /// Ends or records with their places, in their order: 'e' or 'r', then place and entry, again and again.
    PUT = format!("{PLACES}{}", r"
local newest = redis.call('XREVRANGE', ends, '+', '-', 'COUNT', 1)[1]
local last = newest and tonumber(string.match(newest[1], '%d+')) or 0
for n = 2, #ARGV, 2 do
  local at = tonumber(ARGV[n])
  if ARGV[1] == 'r' then
    redis.call('ZREMRANGEBYSCORE', events, ARGV[n], ARGV[n])
    redis.call('ZADD', events, ARGV[n], struct.pack('>I8', at) .. ARGV[n + 1])
  elseif at > last then
    redis.call('XADD', ends, ARGV[n] .. '-0', 'e', ARGV[n + 1])
    last = at
  end
  place = math.max(place, at)
end
keep()
return 0");

    /// id, row, bucket, mark: it takes the place of an earlier version only.
    PUT_ROW = format!("{FIELDS}{}", r"
local row = get('s' .. ARGV[1])
if row and struct.unpack('>I4', row, 2) >= struct.unpack('>I4', ARGV[2], 2) then return 0 end
set('s' .. ARGV[1], ARGV[2])
if not row then enlist(ARGV[3], ARGV[4] .. ARGV[1]) end
return 1");

    /// User, time: `valid_from` only grows.
    PUT_VALID_FROM = format!("{FIELDS}{}", r"
local before = struct.unpack('>i8', get('v' .. ARGV[1]) or string.rep('\0', 8))
if struct.unpack('>i8', ARGV[2]) > before then set('v' .. ARGV[1], ARGV[2]) end
return 0");

    /// Ids and keys: those that are there keep their places, others come last.
    PUT_KEYS = format!("{FIELDS}{}", r"
local count = 0
local all = redis.call('HGETALL', key)
for n = 1, #all, 2 do
  if sub(all[n], 1, 1) == 'k' then count = math.max(count, struct.unpack('>I8', all[n + 1])) end
end
for n = 1, #ARGV, 2 do
  local old = get('k' .. ARGV[n])
  if not old then count = count + 1 end
  set('k' .. ARGV[n], (old and sub(old, 1, 8) or struct.pack('>I8', count)) .. ARGV[n + 1])
end
return 0");

    /// id, bucket: the session goes.
    REMOVE = format!("{FIELDS}{}", r"
drop('s' .. ARGV[1])
strike(ARGV[2], ARGV[1])
return 0");

    /// What fields begin with that go.
    CLEAR = format!("{FIELDS}{}", r"
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.find(ARGV[1], sub(field, 1, 1), 1, true) then drop(field) end
end
return 0");

    /// Ids of live sessions, and of pointers to some.
    LIVE = r"
local ids = {}
local all = redis.call('HGETALL', KEYS[1])
for n = 1, #all, 2 do
  local state = string.byte(all[n + 1])
  if string.sub(all[n], 1, 1) == 's' and (state == 0 or state == 255) then ids[#ids + 1] = string.sub(all[n], 2) end
end
return ids";

    /// Place, text, how many: of so many records after the place, the last place and those that contain the text.
    /// Nothing: there are none.
    NAMING = r"
local all = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[3])
if #all == 0 then return {} end
local found = {string.sub(all[#all], 1, 8)}
for _, record in ipairs(all) do
  if string.find(record, ARGV[2], 9, true) then found[#found + 1] = record end
end
return found";

    /// When the store was restored, and a record or ''.
    RESTORE = format!("{LEFT}{PLACES}{}", r"
local at = tonumber(ARGV[1])
if at <= tonumber(redis.call('HGET', meta, 'r') or '0') then return 0 end
redis.call('HSET', meta, 'r', ARGV[1])
if ARGV[2] ~= '' then record(ARGV[2]) end
keep()
return 1");

    /// id, key (which begins with its purpose), '1' if only as the first of its purpose.
    ADD_KEY = format!("{LEFT}{}", r"
if redis.call('HEXISTS', KEYS[1], 'k' .. ARGV[1]) == 1 then return 0 end
local count = 0
local all = redis.call('HGETALL', KEYS[1])
for n = 1, #all, 2 do
  if string.sub(all[n], 1, 1) == 'k' then
    local key = all[n + 1]
    count = math.max(count, struct.unpack('>I8', key))
    if ARGV[3] == '1' and string.sub(key, 9, 9) == string.sub(ARGV[2], 1, 1) then return 0 end
  end
end
redis.call('HSET', KEYS[1], 'k' .. ARGV[1], struct.pack('>I8', count + 1) .. ARGV[2])
return 1");

    /// Ids and keys (whose second byte says whether they are retired), again and again.
    UPDATE_KEYS = format!("{LEFT}{}", r"
local olds = {}
for n = 1, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], 'k' .. ARGV[n])
  if not old or string.byte(old, 10) ~= 0 then return 0 end
  olds[n] = old
end
for n = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], 'k' .. ARGV[n], string.sub(olds[n], 1, 8) .. ARGV[n + 1])
end
return 1");

    /// The field of a key, which goes.
    REMOVE_KEY = format!("{LEFT}{}", r"return redis.call('HDEL', KEYS[1], ARGV[1])");

    /// Groups of four: key, the bucket that was seen or '', bucket, when it is idle. Nothing if it was done, or
    /// what all those buckets are now.
    BUCKETS = format!("{LEFT}{}", r"
local now, is_other = {}, false
for n = 1, #ARGV, 4 do
  local bucket = redis.call('HGET', KEYS[2], ARGV[n]) or ''
  now[#now + 1] = bucket
  if bucket ~= ARGV[n + 1] then is_other = true end
end
if is_other then return now end
for n = 1, #ARGV, 4 do
  redis.call('HSET', KEYS[2], ARGV[n], ARGV[n + 2])
  redis.call('ZADD', KEYS[3], ARGV[n + 3], ARGV[n])
end
return {}");

    /// Time before which buckets were idle, how many at most.
    PURGE_BUCKETS = format!("{ALWAYS}{LEFT}{}", r"
local idle = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(idle) do
  redis.call('HDEL', KEYS[2], key)
  redis.call('ZREM', KEYS[3], key)
end
return #idle");

    /// Username, claim, the claim that was seen or '' (with its time). 1 and nothing: it is claimed, as of now. 0, the
    /// claim that stands with its time, and its age.
    CLAIM_NAME = format!("{LEFT}{}", r"
local now = redis.call('TIME')
local millis = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local before = redis.call('HGET', KEYS[2], ARGV[1]) or ''
local since = 0
if before ~= '' then since = tonumber(millis) - struct.unpack('>i8', before) end
if before ~= ARGV[3] then return {0, before, since} end
redis.call('HSET', KEYS[2], ARGV[1], struct.pack('>i8', tonumber(millis)) .. ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return {1, '', 0}");

    /// Username, claim: whether it still is that, and stays so. It works in a store that was left, where it changes
    /// nothing that is moved, and where the memory is full.
    KEEP_NAME = format!("{ALWAYS}{}", r"
local claim = redis.call('HGET', KEYS[2], ARGV[1])
if not claim or string.sub(claim, 9) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], string.rep('\0', 8) .. ARGV[2])
return 1");

    /// Username, claim: it is given back if it still is that.
    RELEASE_NAME = format!("{LEFT}{}", r"
local claim = redis.call('HGET', KEYS[2], ARGV[1])
if not claim or string.sub(claim, 9) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1");

    /// Address, cursor that was seen or '', cursor, when due, then places (eight bytes).
    ENQUEUE = format!("{LEFT}{}", r"
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for n = 5, #ARGV do redis.call('ZADD', KEYS[3], ARGV[4], ARGV[n]) end
return 1");

    /// Now, until when, how many: places and attempts.
    CLAIM = format!("{LEFT}{}", r"
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
local claimed = {}
for _, place in ipairs(due) do
  redis.call('ZADD', KEYS[3], ARGV[2], place)
  claimed[#claimed + 1] = place
  claimed[#claimed + 1] = tonumber(redis.call('HGET', KEYS[4], place) or '0')
end
return claimed");

    /// Place, attempts or '', when due.
    SETTLE = format!("{LEFT}{}", r"
if ARGV[2] == '' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
elseif redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
end
return 0");

    /// Holder, milliseconds: whether the lease is the holder's for so long.
    LEASE = format!("{ALWAYS}{}", r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1");
}
