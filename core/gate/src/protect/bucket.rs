//! The store's side of a cluster-wide rate, as a command of its own protocol: one script on one key, and so one entry of one
//! shard. It is [`Bucket`](super::share::Bucket) in whole millionths of a token, so that each copy of the shard comes to the
//! same number, by the time of the entry.

use skep_base::Micros;
use skep_resp::Value;

use super::share::{Ask, Grant};
use crate::config::protect::Limit;

/// Arguments: requests, time in us, burst, wanted, given back. Kept: millionths of a token, and when. A bucket that nobody
/// asks is full after a while, and so is one that is not there.
const GRANT: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rate = ARGV[1] / ARGV[2]
local burst = ARGV[3] * 1000000
local tokens, at = burst, now
local known = redis.call('GET', KEYS[1])
if known then
  local kept, stamp = string.match(known, '^(%d+) (%d+)$')
  if not kept then return redis.error_reply('ERR no bucket is kept there') end
  tokens, at = tonumber(kept), tonumber(stamp)
end
local made = math.floor(math.max(0, now - at) * rate * 1000000)
tokens = math.min(burst, tokens + made + ARGV[5] * 1000000)
local granted = math.min(tonumber(ARGV[4]), math.floor(tokens / 1000000))
tokens = tokens - granted * 1000000
local pause = math.ceil((1000000 - math.min(tokens, 1000000)) / 1000000 / rate)
local full = math.ceil((burst - tokens) / 1000000 / rate / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f %.0f', tokens, math.max(now, at)), 'PX', string.format('%.0f', full))
return {granted, pause, math.floor(tokens / 1000000)}";

/// The name of a caller's bucket in the store; `caller` tells callers of one limit apart.
pub fn key(limit: &str, caller: &[u8]) -> Vec<u8> {
    let mut name = b"skep.gateway.rate:".to_vec();
    name.extend(crate::hex(&crate::digest([limit.as_bytes(), caller])));
    name
}

/// The command that asks for tokens: its name and arguments.
pub fn words(key: &[u8], limit: &Limit, ask: Ask) -> Vec<Vec<u8>> {
    let numbers = [
        u64::from(limit.requests),
        limit.per.0,
        u64::from(limit.burst),
        u64::from(ask.want),
        u64::from(ask.back),
    ];
    let head = [&b"EVAL"[..], GRANT.as_bytes(), b"1", key].map(<[u8]>::to_vec);
    head.into_iter().chain(numbers.map(|number| number.to_string().into_bytes())).collect()
}

/// What the store granted; `None` if its reply is an error, or none.
pub fn grant(reply: &[u8]) -> Option<Grant> {
    let (value, _) = Value::parse(reply).ok()??;
    let [granted, next, left] = value.as_elements()? else { return None };
    let small = |value: &Value| value.as_int().and_then(|number| u32::try_from(number).ok());
    let next = Micros(u64::try_from(next.as_int()?).ok()?);
    Some(Grant { granted: small(granted)?, next, left: small(left)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_and_an_error_is_none() {
        let told = grant(b"*3\r\n:2\r\n:1500\r\n:0\r\n");
        assert_eq!(told, Some(Grant { granted: 2, next: Micros(1_500), left: 0 }));
        for other in
            [&b"-TRYAGAIN no leader\r\n"[..], b"*2\r\n:2\r\n:1\r\n", b"*3\r\n:-1\r\n:1\r\n:1\r\n", b"*3"]
        {
            assert_eq!(grant(other), None);
        }
    }
}
