//! The node's log: one line per event, to a file that never grows without bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::limits;

/// A log file that is begun anew at [`limits::LOG_BYTES_MAX`]; one older one is kept as `.1`.
#[derive(Clone)]
pub struct LogFile(Arc<Mutex<Open>>);

struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Opens a log for appending.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, bytes) = append(path)?;
        Ok(Self(Arc::new(Mutex::new(Open { path: path.to_owned(), file, bytes }))))
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bytes > limits::LOG_BYTES_MAX {
            let mut older = open.path.as_os_str().to_owned();
            older.push(".1");
            fs::rename(&open.path, &older)?;
            (open.file, open.bytes) = append(&open.path)?;
        }
        open.file.write_all(bytes)?;
        open.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a Self;
    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Sends events of this process to the terminal and, where one is given, to a file.
///
/// # Errors
/// A filter that cannot be read, in words.
pub fn start(level: &str, file: Option<LogFile>, quiet: bool) -> Result<(), String> {
    // A bare level is ours; other people's libraries speak only when something is wrong.
    let ours = ["error", "warn", "info", "debug", "trace"].contains(&level);
    let directives = if ours { format!("error,openledger={level}") } else { level.to_owned() };
    let filter = || {
        EnvFilter::try_new(&directives)
            .map_err(|error| format!("log.level = {level:?}: {error}; use \"info\" or \"debug\""))
    };
    let terminal = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_filter(if quiet { EnvFilter::new("warn") } else { filter()? });
    let file = match file {
        Some(file) => Some(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_target(false)
                .with_writer(file)
                .with_filter(filter()?),
        ),
        None => None,
    };
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(terminal).with(file).try_init();
    Ok(())
}

/// The last lines of a log.
///
/// # Errors
/// The file system's, with the path.
pub fn tail(path: &Path, lines_max: usize) -> io::Result<Vec<String>> {
    const BYTES_MAX: u64 = 4 << 20;
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("read {}: {error}; no node logged here yet?", path.display()),
        )
    };
    let mut file = File::open(path).map_err(named)?;
    let len = file.metadata().map_err(named)?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(BYTES_MAX))).map_err(named)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(named)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(lines_max.min(limits::LOG_LINES_MAX));
    Ok(lines.iter().skip(from).map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.log");
        assert!(tail(&path, 3).unwrap_err().to_string().contains("node.log"));
        let log = LogFile::open(&path).unwrap();
        for line in 0..5 {
            writeln!(&log, "line {line}").unwrap();
        }
        assert_eq!(tail(&path, 2).unwrap(), ["line 3", "line 4"]);
        assert_eq!(tail(&path, 100).unwrap().len(), 5);
    }
}
