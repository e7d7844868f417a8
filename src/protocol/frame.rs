//! Frames: `length: u32 LE | crc32: u32 LE | sequence: u32 LE | postcard body`.
//!
//! The length counts sequence and body; the checksum covers them. Sequences count up from 0 on
//! each direction of each pipe, so a lost, repeated or reordered frame is a defect too.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame after its length and checksum. A grant of 1000 rows and 64 outcomes with long
/// messages stay far below it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

const HEAD_BYTES: usize = 8;
const SEQUENCE_BYTES: usize = 4;

/// Why a stream of frames cannot be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is out of bounds.
    #[error("a frame of {0} bytes was announced; 4 to {FRAME_BYTES_MAX} are allowed")]
    Length(usize),
    /// The checksum does not match.
    #[error("a frame's checksum does not match its bytes")]
    Checksum,
    /// A frame is missing, repeated or out of order.
    #[error("frame {found} came where {expected} was due")]
    Sequence {
        /// Due.
        expected: u32,
        /// Came.
        found: u32,
    },
    /// The body is no message of this version.
    #[error("a frame's body is no message: {0}")]
    Body(String),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Torn,
}

/// Appends `message` as one frame to `out`.
///
/// # Errors
/// [`FrameError::Length`] when it is longer than [`FRAME_BYTES_MAX`]; `out` is then unchanged.
pub fn encode<T: Serialize>(
    sequence: u32,
    message: &T,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(&sequence.to_le_bytes());
    let frame = postcard::to_extend(message, std::mem::take(out))
        .map_err(|error| FrameError::Body(error.to_string()))?;
    *out = frame;
    let body = out.get(start + HEAD_BYTES..).unwrap_or_default();
    let (length, sum) = (body.len(), crc32fast::hash(body));
    let announced = u32::try_from(length).unwrap_or(u32::MAX);
    if length > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(FrameError::Length(length));
    }
    if let Some(head) = out.get_mut(start..start + HEAD_BYTES) {
        let (length_bytes, sum_bytes) = head.split_at_mut(4);
        length_bytes.copy_from_slice(&announced.to_le_bytes());
        sum_bytes.copy_from_slice(&sum.to_le_bytes());
    }
    Ok(())
}

/// Turns bytes into messages, whatever pieces they arrive in.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
    expected: u32,
}

impl Decoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message, `None` until more bytes come.
    ///
    /// # Errors
    /// Any [`FrameError`]; the stream cannot be read further after one.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let pending = self.buffer.get(self.read..).unwrap_or_default();
        let Some((length, rest)) = pending.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if !(SEQUENCE_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let Some((sum, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        if crc32fast::hash(payload) != u32::from_le_bytes(*sum) {
            return Err(FrameError::Checksum);
        }
        let message = self.open(payload)?;
        self.read += HEAD_BYTES + length;
        self.expected = self.expected.wrapping_add(1);
        Ok(Some(message))
    }

    fn open<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, FrameError> {
        let Some((sequence, body)) = payload.split_first_chunk::<SEQUENCE_BYTES>() else {
            return Err(FrameError::Length(payload.len()));
        };
        let found = u32::from_le_bytes(*sequence);
        if found != self.expected {
            return Err(FrameError::Sequence {
                expected: self.expected,
                found,
            });
        }
        let (message, left) =
            postcard::take_from_bytes(body).map_err(|error| FrameError::Body(error.to_string()))?;
        if left.is_empty() {
            Ok(message)
        } else {
            Err(FrameError::Body(format!("{} bytes too many", left.len())))
        }
    }

    /// Says that the stream ended.
    ///
    /// # Errors
    /// [`FrameError::Torn`] when it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.len() > self.read {
            Err(FrameError::Torn)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FromWorker, ToWorker};
    use super::*;
    use proptest::prelude::*;

    fn stream(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            encode(u32::try_from(n).unwrap(), message, &mut out).unwrap();
        }
        out
    }

    fn decode_all(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(message) = decoder.message()? {
                messages.push(message);
            }
        }
        decoder.finish()?;
        Ok(messages)
    }

    /// A frame that is as it should be around a body that may not be.
    fn framed(body: &[u8]) -> Vec<u8> {
        let mut payload = 0_u32.to_le_bytes().to_vec();
        payload.extend(body);
        let mut out = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        out.extend(crc32fast::hash(&payload).to_le_bytes());
        out.extend(payload);
        out
    }

    /// Bodies that come far: a kind of message there is, and small numbers, which are lengths,
    /// choices and options.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => 0_u8..4, 1 => any::<u8>()];
        let rest = prop::collection::vec(byte, 0..160);
        (0_u8..24, rest).prop_map(|(kind, rest)| [&[kind][..], &rest].concat())
    }

    /// What is taken for a message says the same when it is said again.
    fn says_the_same_again<T: Serialize + DeserializeOwned>(
        body: &[u8],
    ) -> Result<(), TestCaseError> {
        let mut decoder = Decoder::default();
        decoder.push(&framed(body));
        let Ok(Some(message)) = decoder.message::<T>() else {
            return Ok(());
        };
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        encode(0, &message, &mut once).unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&once);
        let again: T = decoder.message().unwrap().unwrap();
        encode(0, &again, &mut twice).unwrap();
        prop_assert_eq!(once, twice);
        Ok(())
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let bytes = stream(&messages);
            cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
            let (mut pieces, mut from) = (Vec::new(), 0);
            for to in cuts.iter().map(|cut| cut.index(bytes.len() + 1)) {
                pieces.push(&bytes[from..to]);
                from = to;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(decode_all(&pieces).unwrap(), messages);
        }

        #[test]
        fn a_body_that_nobody_wrote_is_refused_or_is_a_message(body in bodies()) {
            says_the_same_again::<FromWorker>(&body)?;
            says_the_same_again::<ToWorker>(&body)?;
        }

        #[test]
        fn any_flipped_bit_is_found(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..4),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut bytes = stream(&messages);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode_all(&[&bytes]).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.message::<Vec<u8>>() {}
        }
    }

    #[test]
    fn a_giant_length_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; HEAD_BYTES]);
        assert_eq!(
            decoder.message::<u8>(),
            Err(FrameError::Length(0xffff_ffff))
        );
    }

    #[test]
    fn a_message_longer_than_a_frame_is_refused_and_leaves_no_trace() {
        let mut out = vec![7];
        assert!(encode(0, &vec![0_u8; FRAME_BYTES_MAX], &mut out).is_err());
        assert_eq!(out, [7]);
    }

    #[test]
    fn repeated_frames_are_found() {
        let one = stream(&[vec![1]]);
        let twice = [one.clone(), one].concat();
        assert_eq!(
            decode_all(&[&twice]),
            Err(FrameError::Sequence {
                expected: 1,
                found: 0
            })
        );
    }
}
