//! Ends in the payload of a notification: 25 bytes each, in base64.

use base64_simd::STANDARD_NO_PAD as BASE64;
use doorward_core::Timestamp;
use doorward_core::id::SessionId;
use doorward_core::revocation::Ended;
use doorward_core::session::EndReason;

const BYTES: usize = 25;
/// A payload has less than 8,000 bytes.
const MOST: usize = 7_900 * 3 / 4 / BYTES;

pub(super) fn payloads(ends: &[Ended]) -> Vec<String> {
    ends.chunks(MOST).map(packed).collect()
}

fn packed(ends: &[Ended]) -> String {
    let mut bytes = Vec::with_capacity(ends.len() * BYTES);
    for end in ends {
        bytes.extend(end.session.0);
        bytes.extend(end.at.0.to_be_bytes());
        bytes.push(end.reason as u8);
    }
    BASE64.encode_to_string(bytes)
}

/// What this version cannot read is left to the log.
pub(super) fn ends(payload: &str) -> Vec<Ended> {
    let bytes = BASE64.decode_to_vec(payload).unwrap_or_default();
    bytes.chunks_exact(BYTES).filter_map(end).collect()
}

fn end(bytes: &[u8]) -> Option<Ended> {
    let (session, rest) = bytes.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    Some(Ended {
        session: SessionId(*session),
        at: Timestamp(i64::from_be_bytes(*at)),
        reason: EndReason::stored(*rest.first()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_in_payloads_that_fit() {
        let end = |number: u8| Ended {
            session: SessionId([number; 16]),
            at: Timestamp(i64::from(number) << 40),
            reason: EndReason::Reuse,
        };
        let all: Vec<_> = (0..=255).chain(0..=255).map(end).collect();
        let payloads = payloads(&all);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let read: Vec<_> = payloads.iter().flat_map(|payload| ends(payload)).collect();
        assert_eq!(read, all);
        assert_eq!(ends("?"), []);
    }
}
