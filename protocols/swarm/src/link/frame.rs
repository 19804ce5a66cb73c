//! Frames: four bytes of length, big endian, then one canonical CBOR value.
//!
//! Memory follows what has arrived, never what was announced.

use bytes::Bytes;
use openledger_wire::limits::LINK_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::LinkError;

/// Why a frame could not be read.
#[derive(Debug)]
pub(super) enum FrameError {
    /// Longer than the link carries.
    TooLong(usize),
    /// The stream ended or broke inside the frame.
    Broken(String),
    /// Not the value that is expected.
    Decode(openledger_wire::DecodeError),
}

impl From<FrameError> for LinkError {
    fn from(e: FrameError) -> Self {
        match e {
            FrameError::TooLong(len) => Self::TooLong { len, max: LINK_MAX },
            FrameError::Broken(reason) => Self::Closed { reason },
            FrameError::Decode(e) => Self::Decode(e),
        }
    }
}

/// A value as a frame.
pub(super) fn frame<T: Serialize>(value: &T) -> Result<Bytes, LinkError> {
    let body = openledger_wire::encode(value)?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= LINK_MAX);
    let Some(len) = len else {
        return Err(LinkError::TooLong { len: body.len(), max: LINK_MAX });
    };
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes.into())
}

/// The length that a frame announces, if the link carries it.
pub(super) async fn read_len(recv: &mut quinn::RecvStream) -> Result<usize, FrameError> {
    let mut len = [0u8; 4];
    recv.read_exact(&mut len).await.map_err(|e| FrameError::Broken(e.to_string()))?;
    let len = u32::from_be_bytes(len) as usize;
    if len > LINK_MAX { Err(FrameError::TooLong(len)) } else { Ok(len) }
}

/// The value behind a length.
pub(super) async fn read_value<T: Serialize + DeserializeOwned>(
    recv: &mut quinn::RecvStream,
    len: usize,
) -> Result<T, FrameError> {
    let mut body: Vec<u8> = Vec::new();
    while body.len() < len {
        let chunk = recv
            .read_chunk(len - body.len(), true)
            .await
            .map_err(|e| FrameError::Broken(e.to_string()))?
            .ok_or_else(|| {
                FrameError::Broken(format!("the stream ended after {} of {len} bytes", body.len()))
            })?;
        body.extend_from_slice(&chunk.bytes);
    }
    openledger_wire::decode(&body, LINK_MAX).map_err(FrameError::Decode)
}

/// A whole frame.
pub(super) async fn read_frame<T: Serialize + DeserializeOwned>(
    recv: &mut quinn::RecvStream,
) -> Result<T, FrameError> {
    let len = read_len(recv).await?;
    read_value(recv, len).await
}

/// Writes a frame and ends the stream.
pub(super) async fn write_frame(
    send: &mut quinn::SendStream,
    frame: Bytes,
) -> Result<(), FrameError> {
    send.write_chunk(frame).await.map_err(|e| FrameError::Broken(e.to_string()))?;
    send.finish().map_err(|e| FrameError::Broken(e.to_string()))
}
