//! Free memory of the machine and of the control group that this process is in.

use std::path::Path;

use openledger_web::doctor::Finding;
use openledger_wire::task::TaskKind;

use super::examine::Patient;
use super::machine::{Machine, bytes};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::limits;
use crate::serving::{EntryKind, Library, shape_of};
use crate::worker::kv_bytes;

const CODE: &str = "memory";

/// Memory that can be had, and who sets that limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    limit: Limit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    Machine,
    /// A control group's, with its size.
    Group(u64),
}

/// Free memory against what the configured kinds of work need.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    let Some(room) = room(&patient.machine) else {
        return vec![Finding::skipped(CODE, "this system does not tell how much memory is free")];
    };
    let need = match patient.running {
        // What it needs it has already, but for a reserve.
        Some(_) => Need::at_least(limits::MEMORY_RESERVE_BYTES),
        None => Need::of(&patient.config, Engine::of(&patient.config, &patient.data)),
    };
    vec![judge(&room, &need, &patient.config)]
}

/// What the node needs.
#[derive(Clone, Debug)]
struct Need {
    /// For anything at all.
    least: u64,
    /// For everything that is configured at the same time.
    all: u64,
    /// The engine's part of that, if there is a model.
    engine: Option<Engine>,
}

impl Need {
    const fn at_least(bytes: u64) -> Self {
        Self { least: bytes, all: bytes, engine: None }
    }

    fn of(config: &Config, engine: Option<Engine>) -> Self {
        let mut all = limits::MEMORY_NODE_BYTES;
        for kind in config.kinds() {
            all += match kind {
                TaskKind::Fetch => limits::MEMORY_FETCH_BYTES,
                TaskKind::Refine => {
                    limits::MEMORY_REFINE_BYTES.saturating_mul(config.parallel() as u64)
                }
                // Counted once, for tasks and calls alike.
                _ => 0,
            };
        }
        let all = all.saturating_add(engine.as_ref().map_or(0, |engine| engine.bytes));
        Self { least: limits::MEMORY_NODE_BYTES, all, engine }
    }
}

/// The infer workers over the base model that they would load.
#[derive(Clone, Debug)]
struct Engine {
    model: String,
    bytes: u64,
}

impl Engine {
    /// Its file, mapped or as a packed copy and read again with every token, what
    /// `models.tokens_max` takes in keys and values, and all adapters that may be held. Tasks may
    /// want a worker of their own, of another backend class, in which little is held at a time.
    /// Without a base, nothing is loaded; where several lie and none is configured, the largest
    /// counts.
    fn of(config: &Config, data: &DataDir) -> Option<Self> {
        let library = Library::open(data.join("models"));
        let base = library.default_base(&config.models.base).ok().or_else(|| {
            let all = library.entries().into_iter();
            all.filter(|one| one.kind == EntryKind::Base).max_by_key(|one| one.bytes)
        })?;
        let tokens = usize::try_from(config.models.tokens_max).unwrap_or(usize::MAX);
        let kept = shape_of(&base.path).map_or(0, |shape| kv_bytes(&shape, tokens));
        let worker = limits::MEMORY_INFER_BYTES.saturating_add(base.bytes);
        let for_tasks = if config.models.tasks { worker } else { 0 };
        let parts = [worker, for_tasks, kept, config.models.adapters_mib_max << 20];
        let bytes = parts.into_iter().fold(0, u64::saturating_add);
        Some(Self { model: base.name, bytes })
    }
}

fn judge(room: &Room, need: &Need, config: &Config) -> Finding {
    let free = bytes(room.bytes);
    let (found, whose) = match room.limit {
        Limit::Machine => (format!("{free} free"), "this machine has too little memory left"),
        Limit::Group(max) => (
            format!("{free} free of the {} that this control group may use", bytes(max)),
            "the limit of the container or service is too low",
        ),
    };
    if room.bytes >= need.all {
        return Finding::fine(CODE, found);
    }
    let mut cause = format!(
        "{whose}: {} are needed for work.kinds = [{}] and {} refine workers",
        bytes(need.all),
        config.work.kinds.join(", "),
        config.parallel()
    );
    let mut less = "`openledger config set work.parallel 1`, or fewer work.kinds".to_owned();
    if let Some(engine) = &need.engine {
        let models = &config.models;
        cause = format!(
            "{cause}, {} of it for model {} with models.tokens_max = {} and models.adapters_mib_max = {}",
            bytes(engine.bytes),
            engine.model,
            models.tokens_max,
            models.adapters_mib_max
        );
        less = format!("{less}, or smaller values there");
    }
    let more = match room.limit {
        Limit::Machine => "stop other programs (`ps aux --sort=-rss | head` shows the largest)",
        Limit::Group(_) => {
            "raise the limit (`MemoryMax=` of the unit, `--memory` of the container)"
        }
    };
    let mend = format!("{more}, or let the node do less: {less}");
    if room.bytes < need.least {
        Finding::error(CODE, found, cause, mend)
    } else {
        Finding::warning(CODE, found, cause, mend)
    }
}

/// The tighter of the machine's and the control groups' room.
fn room(machine: &Machine) -> Option<Room> {
    let text = Machine::text(&machine.proc.join("meminfo"))?;
    let free = Room { bytes: available(&text)?, limit: Limit::Machine };
    let groups = Machine::text(&machine.proc.join("self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| group_room(&machine.cgroup, line));
    Some(groups.fold(free, |least, room| if room.bytes < least.bytes { room } else { least }))
}

/// `MemAvailable` of `/proc/meminfo`, in bytes (proc(5)).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The room of one line of `/proc/self/cgroup` (cgroups(7)): `0::/path` of version 2, or
/// `4:memory:/path` of version 1. Limits of all groups above hold too.
fn group_room(root: &Path, line: &str) -> Option<Room> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, files) = match controllers {
        "" => (root.to_owned(), ["memory.max", "memory.current", "inactive_file"]),
        "memory" => (
            root.join("memory"),
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
        ),
        _ => return None,
    };
    let inside = root.join(path.trim_start_matches('/'));
    let groups = inside.ancestors().take_while(|at| at.starts_with(&root));
    groups.filter_map(|at| one_group(at, files)).min_by_key(|room| room.bytes)
}

fn one_group(at: &Path, [max, current, cache]: [&str; 3]) -> Option<Room> {
    let number = |name: &str| Machine::text(&at.join(name))?.trim().parse::<u64>().ok();
    // No limit is "max" in version 2, and a number beyond any machine in version 1.
    let max = number(max).filter(|max| *max < 1 << 60)?;
    let stat = Machine::text(&at.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == cache).then(|| value.trim().parse::<u64>().ok())?
    });
    let used = number(current)?.saturating_sub(cached.unwrap_or_default());
    Some(Room { bytes: max.saturating_sub(used), limit: Limit::Group(max) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Entry;
    use openledger_web::doctor::Severity;
    use openledger_wire::BlobId;
    use std::fs;

    fn machine(folder: &Path, available_mib: u64, group: &str) -> Machine {
        let machine = Machine {
            proc: folder.join("proc"),
            cgroup: folder.join("cgroup"),
            ..Machine::default()
        };
        fs::create_dir_all(machine.proc.join("self")).unwrap();
        let meminfo = format!("MemTotal: 99 kB\nMemAvailable:   {} kB\n", available_mib * 1_024);
        fs::write(machine.proc.join("meminfo"), meminfo).unwrap();
        fs::write(machine.proc.join("self/cgroup"), group).unwrap();
        machine
    }

    #[test]
    fn the_tightest_limit_counts_and_cache_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path(), 4_096, "1:cpu:/x\n4:memory:/a/b\n0::/outer/inner\n");
        assert_eq!(room(&machine), Some(Room { bytes: 4 << 30, limit: Limit::Machine }));
        let outer = machine.cgroup.join("outer");
        fs::create_dir_all(outer.join("inner")).unwrap();
        fs::write(outer.join("inner/memory.max"), "max\n").unwrap();
        fs::write(outer.join("inner/memory.current"), "1\n").unwrap();
        fs::write(outer.join("memory.max"), "1073741824\n").unwrap();
        fs::write(outer.join("memory.current"), "1073741824\n").unwrap();
        fs::write(outer.join("memory.stat"), "anon 5\ninactive_file 536870912\n").unwrap();
        let tight = Room { bytes: 512 << 20, limit: Limit::Group(1 << 30) };
        assert_eq!(room(&machine), Some(tight));
        let first = machine.cgroup.join("memory/a/b");
        fs::create_dir_all(&first).unwrap();
        fs::write(first.join("memory.limit_in_bytes"), "1000000").unwrap();
        fs::write(first.join("memory.usage_in_bytes"), "400000").unwrap();
        assert_eq!(room(&machine).map(|room| room.bytes), Some(600_000));
    }

    #[test]
    fn what_is_configured_decides_what_is_needed() {
        let mut config = Config::default();
        config.work.parallel = 4;
        let need = Need::of(&config, None);
        let at = |bytes| judge(&Room { bytes, limit: Limit::Machine }, &need, &config).severity;
        assert_eq!(at(need.all), Severity::Fine);
        assert_eq!(at(need.all - 1), Severity::Warning);
        assert_eq!(at(need.least - 1), Severity::Error);
        config.work.kinds = vec!["fetch".to_owned()];
        assert!(Need::of(&config, None).all < need.all);
        // A model is counted, and named where it is too much.
        let engine = Engine { model: "smol".to_owned(), bytes: 5 << 30 };
        let more = Need::of(&config, Some(engine));
        assert_eq!(more.all, Need::of(&config, None).all + (5 << 30));
        let room = Room { bytes: 1 << 30, limit: Limit::Machine };
        let judged = judge(&room, &more, &config);
        assert_eq!(judged.severity, Severity::Warning);
        let cause = judged.cause.unwrap();
        assert!(cause.contains("5.0 GiB of it for model smol"), "{cause}");
        assert!(cause.contains("models.tokens_max = 8192"), "{cause}");
    }

    #[test]
    fn a_base_counts_with_its_keys_values_and_adapters() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::find(Some(folder.path())).unwrap();
        let mut config = Config::default();
        config.models.tasks = false;
        assert!(Engine::of(&config, &data).is_none(), "nothing is loaded without a model");
        let models = data.make("models").unwrap();
        let library = Library::open(&models);
        for (number, bytes) in [(1u8, 4_000u64), (2, 9_000)] {
            let (blob, kind) = (BlobId([number; 32]), EntryKind::Base);
            let path = library.place(blob, kind);
            fs::write(&path, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
            let (name, base, problem) = (format!("model{number}"), None, None);
            library
                .note(Entry { name, blob, bytes, kind, base, path, source: None, problem })
                .unwrap();
        }
        let adapters = config.models.adapters_mib_max << 20;
        let of_file = |config: &Config| {
            let engine = Engine::of(config, &data).unwrap();
            (engine.model, engine.bytes - adapters - limits::MEMORY_INFER_BYTES)
        };
        assert_eq!(of_file(&config), ("model2".to_owned(), 9_000), "the largest");
        config.models.base = "model1".to_owned();
        assert_eq!(of_file(&config), ("model1".to_owned(), 4_000));
        config.models.tasks = true;
        let second = 4_000 + limits::MEMORY_INFER_BYTES;
        assert_eq!(of_file(&config), ("model1".to_owned(), 4_000 + second), "a worker for tasks");
    }
}
