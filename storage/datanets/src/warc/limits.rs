//! Bounds of reading and writing WARC files, with their reasons.

/// Bounds of a reader, in bytes. A WARC file may come from a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Named fields of one record. Ours take under 1 KiB; a long address 8 KiB.
    pub header_bytes_max: u64,
    /// Block of one record: the largest page that is fetched (50 MiB decoded),
    /// with its HTTP head and room to spare.
    pub block_bytes_max: u64,
    /// Unpacked bytes per packed byte of one record.
    pub ratio_max: u64,
    /// Unpacked bytes of a record to which `ratio_max` does not apply.
    pub ratio_free_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 << 10,
            block_bytes_max: 64 << 20,
            ratio_max: 100,
            ratio_free_bytes: 1 << 20,
        }
    }
}

/// Size at which a writer starts a new file by default: 1 GB is the custom of web
/// archives; a quarter of it keeps re-sending a lost file cheap for a home line.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;

/// Most named fields in one record; the standard defines 22.
pub(crate) const FIELDS_MAX: usize = 64;
