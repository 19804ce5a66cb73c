//! The storage below a store, as a parameter: a file, memory, or something that fails on purpose.

use std::fmt::Debug;
use std::io;

/// A growable array of bytes with a sync, which is all that a store needs of a disk.
///
/// After [`Backend::sync`] returns, everything written before it must survive a power cut. What
/// was written since may survive or not, in any order and in pieces.
pub trait Backend: Debug + Send + Sync + 'static {
    /// The length, in bytes.
    ///
    /// # Errors
    /// Whatever the device says.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// When the range reaches past the end, or whatever the device says.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Cuts or extends; new bytes are zero.
    ///
    /// # Errors
    /// Whatever the device says; [`io::ErrorKind::StorageFull`] when there is no room.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Whatever the device says; nothing is known then about what is durable.
    fn sync(&self) -> io::Result<()>;

    /// Writes `data` at `offset`, within the length.
    ///
    /// # Errors
    /// When the range reaches past the end, or whatever the device says.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
}

/// Our trait as redb wants it. Locks are not for back-ends: who passes one in owns it.
#[derive(Debug)]
pub(crate) struct Adapter(pub(crate) Box<dyn Backend>);

impl redb::StorageBackend for Adapter {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
}

/// Whether `backend` holds the beginning of a store whose creation never finished: no magic
/// number, and nothing but zeros behind the header's page. Such an image has never held a row.
///
/// redb itself refuses such a file for good, although power may fail while one is created.
pub(crate) fn is_unfinished(backend: &dyn Backend) -> io::Result<bool> {
    const PAGE: usize = 4096;
    const MAGIC: usize = 9;
    let len_bytes = backend.len_bytes()?;
    if len_bytes == 0 {
        return Ok(false);
    }
    let mut offset = 0;
    let mut page = [0_u8; PAGE];
    while offset < len_bytes {
        let take = usize::try_from(len_bytes - offset).map_or(PAGE, |left| left.min(PAGE));
        let piece = page.get_mut(..take).unwrap_or_default();
        backend.read(offset, piece)?;
        let must_be_zero = if offset == 0 { take.min(MAGIC) } else { take };
        if piece.iter().take(must_be_zero).any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += take as u64;
    }
    Ok(true)
}
