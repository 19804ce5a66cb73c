//! A disk in memory that fails and loses power on purpose, for tests and for the simulator.
//!
//! [`FaultDisk`] remembers what has been synced and, apart from it, every write since. A power cut
//! gives the image that is left: unsynced writes gone, or kept in part and in pieces, by seed. The
//! same seed always leaves the same image. Not for production: nothing here reaches a real disk.
//!
//! The model is harsher than a disk: any unsynced write may be lost or torn at any byte
//! independently of all others, and changes of length are writes too.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::Backend;

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultDisk(Arc<Mutex<Disk>>);

/// An I/O error to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which operation fails: 0 is the next after this was set.
    pub after_operations: u64,
    /// What it fails with.
    pub kind: io::ErrorKind,
    /// Whether all later operations fail as well, or only this one.
    pub lasting: bool,
}

/// What a power cut does to the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// They are gone.
    LosesUnsynced,
    /// They all arrived.
    KeepsUnsynced,
    /// Some are gone, some arrived, some are torn; the seed decides which.
    TearsUnsynced {
        /// Seed of the decision.
        seed: u64,
    },
}

#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
    operations: u64,
    fault: Option<Fault>,
    is_dead: bool,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("len_bytes", &self.current.len())
            .field("unsynced", &self.unsynced.len())
            .field("operations", &self.operations)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl FaultDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds `image`, all of it synced.
    #[must_use]
    pub fn from_image(image: Vec<u8>) -> Self {
        let disk = Disk { synced: image.clone(), current: image, ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// The disk as a back-end, for [`crate::Store::open_with_backend`].
    #[must_use]
    pub fn backend(&self) -> Box<dyn Backend> {
        Box::new(self.clone())
    }

    /// Sets the next fault, in place of one that has not come yet; `None` for none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Operations so far, failed ones included: a run without faults tells how many there are to
    /// let fail, one by one.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Cuts the power: every later operation of this disk fails, and the image it leaves is
    /// returned, to start again from with [`FaultDisk::from_image`].
    #[must_use]
    pub fn power_cut(&self, cut: PowerCut) -> Vec<u8> {
        let mut disk = self.lock();
        disk.is_dead = true;
        let mut image = disk.synced.clone();
        let mut dice = Dice::new(match cut {
            PowerCut::TearsUnsynced { seed } => seed,
            PowerCut::LosesUnsynced | PowerCut::KeepsUnsynced => 0,
        });
        for change in &disk.unsynced {
            match cut {
                PowerCut::LosesUnsynced => {}
                PowerCut::KeepsUnsynced => change.apply(&mut image),
                PowerCut::TearsUnsynced { .. } => change.apply_torn(&mut image, &mut dice),
            }
        }
        image
    }

    /// Counts an operation and fails it where a fault says so.
    fn operation(&self) -> Result<MutexGuard<'_, Disk>, (MutexGuard<'_, Disk>, io::Error)> {
        let mut disk = self.lock();
        disk.operations += 1;
        if disk.is_dead {
            return Err((disk, io::Error::other("the power has been cut")));
        }
        match disk.fault {
            Some(fault) if fault.after_operations == 0 => {
                if !fault.lasting {
                    disk.fault = None;
                }
                Err((disk, fault.kind.into()))
            }
            Some(fault) => {
                let after_operations = fault.after_operations - 1;
                disk.fault = Some(Fault { after_operations, ..fault });
                Ok(disk)
            }
            None => Ok(disk),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for FaultDisk {
    fn len_bytes(&self) -> io::Result<u64> {
        let disk = self.operation().map_err(|(_, error)| error)?;
        Ok(disk.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.operation().map_err(|(_, error)| error)?;
        let range = range(offset, out.len())?;
        out.copy_from_slice(disk.current.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let mut disk = self.operation().map_err(|(_, error)| error)?;
        disk.change(Change::Length(to_usize(len_bytes)?));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.operation().map_err(|(_, error)| error)?;
        let disk = &mut *disk;
        for change in disk.unsynced.drain(..) {
            change.apply(&mut disk.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        match self.operation() {
            Ok(mut disk) => {
                if range.end > disk.current.len() {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                disk.change(Change::Write { offset: range.start, data: data.to_vec() });
                Ok(())
            }
            Err((mut disk, error)) => {
                // A failed write may have begun: its first half arrives, unless the power is off.
                if !disk.is_dead && range.end <= disk.current.len() {
                    let begun = data.iter().take(data.len() / 2).copied().collect();
                    disk.change(Change::Write { offset: range.start, data: begun });
                }
                Err(error)
            }
        }
    }
}

impl Disk {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(len_bytes) => image.resize(*len_bytes, 0),
            Self::Write { offset, data } => put(image, *offset, data),
        }
    }

    /// A quarter of the changes is lost, a quarter arrives, and half is torn: each run of bytes
    /// between two random places arrives or not.
    fn apply_torn(&self, image: &mut Vec<u8>, dice: &mut Dice) {
        let fate = dice.below(4);
        match self {
            _ if fate == 0 => {}
            Self::Write { offset, data } if fate > 1 => {
                let mut start = 0;
                while start < data.len() {
                    let length = 1 + dice.below(data.len() - start);
                    if let Some(piece) = data.get(start..start + length)
                        && dice.below(2) == 0
                    {
                        put(image, offset + start, piece);
                    }
                    start += length;
                }
            }
            _ => self.apply(image),
        }
    }
}

/// Writes into an image, lengthening it where the change of length itself was lost.
fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(place) = image.get_mut(offset..end) {
        place.copy_from_slice(data);
    }
}

fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = to_usize(offset)?;
    let end = start.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The splitmix64 generator (Steele, Lea, Flood 2014): enough for deciding what a power cut keeps.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> FaultDisk {
        let disk = FaultDisk::new();
        disk.set_len(8).unwrap();
        disk.write(0, b"synced..").unwrap();
        disk.sync().unwrap();
        disk.write(4, b"lost").unwrap();
        disk
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced() {
        assert_eq!(written().power_cut(PowerCut::LosesUnsynced), b"synced..");
        assert_eq!(written().power_cut(PowerCut::KeepsUnsynced), b"synclost");
    }

    #[test]
    fn the_same_seed_tears_the_same_way_and_seeds_differ() {
        let image = |seed| written().power_cut(PowerCut::TearsUnsynced { seed });
        let mut images: Vec<_> = (0..40).map(image).collect();
        assert_eq!(image(7), images[7]);
        assert!(images.iter().all(|image| image.starts_with(b"sync")));
        images.sort();
        images.dedup();
        assert!(images.len() > 4, "only {} different images", images.len());
    }

    #[test]
    fn faults_come_when_they_are_set_for() {
        let disk = written();
        disk.set_fault(Some(Fault {
            after_operations: 1,
            kind: io::ErrorKind::StorageFull,
            lasting: false,
        }));
        disk.sync().unwrap();
        assert_eq!(disk.sync().unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.sync().unwrap();
    }

    #[test]
    fn nothing_works_after_a_power_cut() {
        let disk = written();
        let _ = disk.power_cut(PowerCut::LosesUnsynced);
        assert!(disk.sync().is_err() && disk.len_bytes().is_err());
    }
}
