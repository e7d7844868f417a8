//! Frames that do not arrive as they were sent: what the real decoder makes of them.

use super::World;
use crate::model::rng::Rng;
use crate::protocol::{Decoder, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What comes out of a disturbed pipe.
#[derive(Debug)]
pub(super) struct Noise<T> {
    /// What arrives all the same, before the defect.
    pub(super) whole: Vec<T>,
    /// What the reader says; none while it waits for bytes that are not going to come.
    pub(super) defect: Option<String>,
}

/// The bytes of a stream in which `message` is changed, repeated, missing, or cut off.
fn disturb<T: Serialize>(rng: &mut Rng, message: &T) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), Vec::new());
    encode(0, message, &mut bytes).unwrap();
    encode(1, message, &mut next).unwrap();
    match rng.below(4) {
        0 => {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            bytes
        }
        1 => bytes.repeat(2),
        2 => next,
        _ => {
            bytes.truncate(rng.below(bytes.len()));
            [bytes, next].concat()
        }
    }
}

impl World {
    /// Sends `message` through a pipe that does not keep it as it is.
    pub(super) fn noise<T>(&mut self, message: &T) -> Noise<T>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        self.figures.faults += 1;
        let bytes = disturb(&mut self.rng, message);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let (mut whole, mut defect) = (Vec::new(), None);
        loop {
            match decoder.message::<T>() {
                Ok(Some(message)) => whole.push(message),
                Ok(None) => break,
                Err(error) => {
                    defect = Some(error.to_string());
                    break;
                }
            }
        }
        let trusted = defect.is_some() || decoder.finish().is_err();
        let changed = whole.iter().any(|arrived| arrived != message);
        self.check(trusted && !changed && whole.len() <= 1, "frames", || {
            "a disturbed frame was believed".into()
        });
        self.log(|| format!("         … noise: {defect:?}"));
        Noise { whole, defect }
    }
}
