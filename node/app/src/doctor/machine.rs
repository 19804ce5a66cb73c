//! Where facts about the machine are read, and small helpers for saying them.

use std::path::{Path, PathBuf};

/// Where the system tells about itself; other places for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processes, memory, sockets.
    pub proc: PathBuf,
    /// Control groups.
    pub cgroup: PathBuf,
    /// A place on the file system that is asked for its free space; none for the data folder's.
    pub disk: Option<PathBuf>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into(), disk: None }
    }
}

impl Machine {
    /// A small text file of the system; `None` where there is none, as on other systems.
    pub(super) fn text(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }
}

/// Bytes for people: `812 MiB`, `3.4 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", tenths(1 << 30)),
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The name of a user, or its number.
pub(super) fn user(uid: u32) -> String {
    let known = Machine::text(Path::new("/etc/passwd")).unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// A user as `sudo -u` and `chown` take it: `#` before a bare number for the former.
pub(super) fn sudo_user(uid: u32) -> String {
    let name = user(uid);
    if name.bytes().all(|byte| byte.is_ascii_digit()) { format!("'#{name}'") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_paths_and_users_read_well() {
        let sizes = [12, 2_048, 5 << 20, (1 << 30) + (1 << 29)].map(bytes);
        assert_eq!(sizes, ["12 bytes", "2 KiB", "5 MiB", "1.5 GiB"]);
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(user(0), "root");
        assert_eq!(sudo_user(4_000_000_001), "'#4000000001'");
    }
}
