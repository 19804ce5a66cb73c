//! The pipeline cache's file: compiled shaders that survive the program.
//!
//! wgpu checks that the data is of this device and driver; what it cannot see is a file that was
//! torn or changed, so a checksum goes first and anything that does not match it is ignored.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limits::CACHE_FILE_BYTES_MAX;

/// Where the cache of a device is kept.
pub(crate) fn path_of(folder: &Path, info: &wgpu::AdapterInfo) -> Option<PathBuf> {
    let key = wgpu::util::pipeline_cache_key(info)?;
    Some(folder.join(format!("{key}.bin")))
}

/// FNV-1a, 64 bits: against accidents, not against enemies, who could as well write the program.
fn checksum(data: &[u8]) -> [u8; 8] {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    data.iter().fold(0xCBF2_9CE4_8422_2325, mix).to_le_bytes()
}

/// What was stored, if it is whole.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    if fs::metadata(path).ok()?.len() > CACHE_FILE_BYTES_MAX {
        return None;
    }
    let mut file = fs::read(path).ok()?;
    let data = file.split_off(8.min(file.len()));
    (!data.is_empty() && file == checksum(&data)).then_some(data)
}

/// Stores, whole or not at all. A cache that cannot be written is no error: it only saves time.
pub(crate) fn write(path: &Path, data: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let whole = [&checksum(data)[..], data].concat();
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, whole))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing to be done about a file that cannot be removed either.
        drop(fs::remove_file(&temporary));
    }
}

/// A cache that starts with what the file holds.
#[expect(unsafe_code, reason = "wgpu cannot check that the data came from it")]
pub(crate) fn open(device: &wgpu::Device, path: &Path) -> wgpu::PipelineCache {
    let data = read(path);
    let descriptor = wgpu::PipelineCacheDescriptor {
        label: Some("pipelines"),
        data: data.as_deref(),
        fallback: true,
    };
    // SAFETY: the data was returned by `PipelineCache::get_data` of a device with the same key:
    // only `write` makes the file, its name holds the key, and its checksum says that nothing
    // happened to it since. wgpu checks device and driver again, and starts anew otherwise.
    unsafe { device.create_pipeline_cache(&descriptor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/cache.bin");
        assert_eq!(read(&path), None);
        write(&path, b"some pipelines");
        assert_eq!(read(&path).unwrap(), b"some pipelines");
        let file = fs::read(&path).unwrap();
        for len in 0..file.len() {
            fs::write(&path, &file[..len]).unwrap();
            assert_eq!(read(&path), None, "the first {len} bytes");
        }
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] ^= 1;
            fs::write(&path, broken).unwrap();
            assert_eq!(read(&path), None, "byte {at} changed");
        }
        write(&path, b"others");
        assert_eq!(read(&path).unwrap(), b"others");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left");
    }
}
