//! Where a reply ends, without reading it.

/// The length of the whole reply at the front of `bytes`; `None` if it is not whole, or none. Cost: O(its values).
pub fn reply_len(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut values) = (0, 1_usize);
    while values > 0 {
        let rest = bytes.get(at..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let text = rest.get(1..end)?;
        let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        at += end + 2;
        values -= 1;
        match rest[0] {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'$' | b'=' | b'!' => {
                // -1 is the absence of a value.
                if let Ok(len) = usize::try_from(number()?) {
                    at = at.checked_add(len)?.checked_add(2)?;
                }
            }
            b'*' | b'~' | b'>' => values = values.checked_add(usize::try_from(number()?.max(0)).ok()?)?,
            b'%' => values = values.checked_add(usize::try_from(number()?).ok()?.checked_mul(2)?)?,
            // Attributes stand in front of the value that they are of.
            b'|' => {
                values =
                    values.checked_add(usize::try_from(number()?).ok()?.checked_mul(2)?.checked_add(1)?)?
            }
            _ => return None,
        }
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_where_it_ends_and_no_prefix_has_an_end() {
        let replies: [&[u8]; 12] = [
            b"+OK\r\n",
            b"-ERR a\r\n",
            b":-12\r\n",
            b"$-1\r\n",
            b"$4\r\n\r\n\r\n\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n+a\r\n$0\r\n\r\n",
            b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"|1\r\n+a\r\n_\r\n(123\r\n",
            b">1\r\n!5\r\nERR a\r\n",
        ];
        for reply in replies {
            let followed = [reply, b"+more\r\n"].concat();
            assert_eq!(reply_len(&followed), Some(reply.len()), "{}", String::from_utf8_lossy(reply));
            for cut in 0..reply.len() {
                assert_eq!(reply_len(&reply[..cut]), None, "{} cut at {cut}", String::from_utf8_lossy(reply));
            }
        }
        for bad in ["?1\r\n", "*x\r\n", "%-1\r\n", "*9223372036854775807\r\n", "$9223372036854775807\r\n"] {
            assert_eq!(reply_len(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
