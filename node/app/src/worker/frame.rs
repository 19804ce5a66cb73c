//! Frames between node and worker.

use openledger_wire::{DecodeError, EncodeError, decode, encode, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a frame did not pass.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket failed.
    #[error("talk to the other process: {0}")]
    Io(#[from] std::io::Error),
    /// The announced length is more than any message has.
    #[error(
        "read a message of {len} bytes from the other process: at most {max} are read; both must be of one version"
    )]
    TooLong {
        /// As announced.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The message does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Reads one message; `None` at the end of the stream between two frames.
///
/// # Errors
/// [`FrameError`]; the stream is of no use after one.
pub async fn read_frame<T: Serialize + DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut head = [0u8; 4];
    let mut got = 0;
    while let Some(rest) = head.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match from.read(rest).await? {
            0 if got == 0 => return Ok(None),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            read => got += read,
        }
    }
    let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if len > limits::WORKER_MAX {
        return Err(FrameError::TooLong { len, max: limits::WORKER_MAX });
    }
    // Memory is taken as bytes arrive, not as they are announced.
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    from.take(len as u64).read_to_end(&mut bytes).await?;
    if bytes.len() != len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(decode(&bytes, limits::WORKER_MAX)?))
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`]; the stream is of no use after an I/O error.
pub async fn write_frame<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    let bytes = encode(message)?;
    let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limits::WORKER_MAX);
    let too_long = FrameError::TooLong { len: bytes.len(), max: limits::WORKER_MAX };
    let len = len.ok_or(too_long)?;
    to.write_all(&len.to_be_bytes()).await?;
    to.write_all(&bytes).await?;
    to.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_pass_and_wrong_ones_do_not() {
        let (mut a, mut b) = tokio::io::duplex(1 << 20);
        write_frame(&mut a, &vec![7u64, 8]).await.unwrap();
        assert_eq!(read_frame::<Vec<u64>>(&mut b).await.unwrap(), Some(vec![7, 8]));
        a.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(read_frame::<u64>(&mut b).await, Err(FrameError::TooLong { .. })));
        a.write_all(&[0, 0, 0, 2, 0xff, 0xff]).await.unwrap();
        assert!(matches!(read_frame::<u64>(&mut b).await, Err(FrameError::Decode(_))));
        a.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
        drop(a);
        assert!(matches!(read_frame::<u64>(&mut b).await, Err(FrameError::Io(_))));
        let (c, mut d) = tokio::io::duplex(16);
        drop(c);
        assert_eq!(read_frame::<u64>(&mut d).await.unwrap(), None);
    }
}
