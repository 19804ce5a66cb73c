//! Faults planted one at a time into a healthy node: doctor names each, alone, and when its mend
//! was done, all is well again.

pub(crate) mod plant;

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openledger_app::data_dir::DataDir;
use openledger_app::doctor::{Doctor, Machine};
use openledger_models::{GgufWriter, TensorKind};
use openledger_wire::NetworkId;

use self::plant::{BootstrapPeer, CHAIN, Examined, Plant, command};
use crate::process::json;
use crate::serving::model_path;

/// Files below a folder with their contents, but for the lock that opening the vault takes.
fn everything(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything(&path));
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_node_is_well_and_nothing_is_changed() {
    let plant = Plant::healthy().await;
    let before = everything(&plant.data());
    plant.examine().await.is_well();
    assert_eq!(everything(&plant.data()), before);
    let text = plant.openledger(&["doctor"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["ok    running", "coordinator-link (test)", "\nall is well\n"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let help = plant.openledger(&["doctor", "--help"]).await;
    assert!(String::from_utf8(help.stdout).unwrap().contains("Exit codes: 0"));
}

#[tokio::test]
async fn an_empty_folder_says_how_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("none");
    let output = command(&data).args(["--json", "doctor"]).output().await.unwrap();
    let examined = Examined::of(&output);
    assert_eq!((examined.exit_code, examined.finding("identity")["ok"] == true), (2, true));
    examined.names("network", &["openledger up --network FILE"]);
    assert!(!data.exists(), "looking made the folder");
    // Without any folder, doctor has nothing to look at.
    let mut nowhere = command(&data);
    let output = nowhere.env_remove("OPENLEDGER_DATA").arg("doctor").output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_1_a_taken_port_is_named_with_its_holder_and_key() {
    let plant = Plant::healthy().await;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = std::process::id().to_string();
    for (key, port) in [
        ("network.control_port", tcp.local_addr().unwrap().port().to_string()),
        ("network.blob_port", udp.local_addr().unwrap().port().to_string()),
    ] {
        plant.set(key, &port).await;
        let examined = plant.examine().await;
        assert_eq!((examined.bad(), examined.exit_code), (vec!["port"], 2));
        examined.names("port", &[key, &port, &format!("kill {own}")]);
        plant.sh(&examined.command("port", 1));
        plant.examine().await.is_well();
    }
    // The other mend: who held it is gone.
    let port = udp.local_addr().unwrap().port().to_string();
    plant.set("network.peer_port", &port).await;
    assert_eq!(plant.examine().await.bad(), ["port"]);
    drop(udp);
    plant.examine().await.is_well();
}

/// A line that is seen although the test passes: what a test prints by Rust's means is kept back.
fn said_aloud(line: &str) {
    let _ = std::io::stderr().write_all(format!("doctor: {line}\n").as_bytes());
}

/// Runs doctor where the data folder is a file system of its own.
async fn in_a_mount(plant: &Plant, between: &str) -> Option<Examined> {
    let script = format!(
        "set -e; cp -a \"$OPENLEDGER_DATA\" \"$OPENLEDGER_DATA.copy\"; \
         mount -t tmpfs -o size=2m,mode=700 tmpfs \"$OPENLEDGER_DATA\"; \
         cp -a \"$OPENLEDGER_DATA.copy/.\" \"$OPENLEDGER_DATA\"; rm -r \"$OPENLEDGER_DATA.copy\"; \
         {between}; exec \"$0\" --json doctor"
    );
    let in_namespace = |script: &str| {
        let mut command = tokio::process::Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_openledger"));
        command.env("OPENLEDGER_DATA", plant.data()).kill_on_drop(true);
        command
    };
    // Some build machines allow no namespaces: what needs none is tested there all the same.
    let possible = in_namespace("mount -t tmpfs tmpfs /mnt").output().await;
    if !possible.is_ok_and(|output| output.status.success()) {
        said_aloud(
            "skipped: no mount namespace to be had, so no small or read-only disk was tried",
        );
        return None;
    }
    Some(Examined::of(&in_namespace(&script).output().await.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_2_a_full_disk_is_named_with_what_is_missing() {
    let plant = Plant::healthy().await;
    // A file system that never has room, on every Linux: no right to mount is needed.
    let look = |disk: Option<&str>| {
        let machine = Machine { disk: disk.map(Into::into), ..Machine::default() };
        let data = DataDir::find(Some(&plant.data())).unwrap();
        async move {
            let report = Doctor::new(data, None).on(machine).examine().await;
            let disk = report.checks.iter().find(|one| one.code == "disk").unwrap().clone();
            (report.exit_code(), disk)
        }
    };
    let (exit_code, disk) = look(Some("/proc")).await;
    assert_eq!(exit_code, 2, "{disk:?}");
    assert!(disk.found.starts_with("0 bytes free"), "{disk:?}");
    assert!(disk.cause.unwrap().contains("the disk is full"));
    assert!(disk.mend.unwrap().contains("free at least 128 MiB"));
    let (exit_code, disk) = look(None).await;
    assert!(exit_code == 0 && disk.ok, "another disk mends it: {disk:?}");

    let Some(full) = in_a_mount(&plant, "true").await else { return };
    assert_eq!((full.bad(), full.exit_code), (vec!["disk"], 2));
    full.names("disk", &["1 MiB free", "at least 126 MiB", "--data-dir"]);
    // Room is made.
    let remount = "mount -o remount,size=1g \"$OPENLEDGER_DATA\"";
    in_a_mount(&plant, remount).await.unwrap().is_well();
    // Enough to work, but less than the owner allowed: the mend is a number that fits.
    plant.set("work.disk_mib_max", "2048").await;
    let tight = in_a_mount(&plant, remount).await.unwrap();
    assert_eq!((tight.bad(), tight.exit_code), (vec!["disk"], 1));
    plant.sh(&tight.command("disk", 0));
    in_a_mount(&plant, remount).await.unwrap().is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_3_a_clock_that_is_off_is_named_with_seconds() {
    let plant = Plant::healthy().await;
    for (shift_s, exit_code, words) in
        [(42, 1, "s behind"), (-42, 1, "s ahead of"), (7_200, 2, "not to be valid")]
    {
        plant.clock_shift_s.store(shift_s, Ordering::SeqCst);
        let examined = plant.examine().await;
        assert_eq!((examined.bad(), examined.exit_code), (vec!["clock"], exit_code));
        examined.names("clock", &[words, "timedatectl set-ntp true"]);
        let found = examined.finding("clock")["found"].as_str().unwrap().to_owned();
        let seconds: f64 = found.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!((seconds - f64::from(shift_s.unsigned_abs() as u32)).abs() < 3.0, "{found}");
    }
    plant.clock_shift_s.store(0, Ordering::SeqCst);
    plant.examine().await.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_chain_that_is_gone_or_another_one_is_named() {
    let mut plant = Plant::healthy().await;
    let address = plant.rpc.take().unwrap().address.to_string();
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["chain"], 1));
    examined.names("chain", &[&address, "does not answer", "claims"]);

    plant.start_rpc(&address);
    plant.chain_id.store(5, Ordering::SeqCst);
    let examined = plant.examine().await;
    assert_eq!(examined.bad(), ["chain"]);
    examined.names("chain", &["serves chain 5", &CHAIN.to_string(), "profile"]);

    plant.chain_id.store(CHAIN, Ordering::SeqCst);
    plant.examine().await.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_a_coordinator_that_is_gone_is_told_from_one_with_another_key() {
    let mut plant = Plant::healthy().await;
    let api = plant.api.take().unwrap().address.to_string();
    let link = plant.profile.coordinator.link[0].to_string();
    // Only HTTP is gone: the node works.
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["coordinator-api"], 1));
    examined.names("coordinator-api", &[&api, "the link works"]);

    // All of it is gone, and with it the only clock to compare with.
    plant.stop_link().await;
    plant.peer.take().unwrap().handle.shutdown().await;
    let examined = plant.examine().await;
    assert_eq!(examined.bad(), ["coordinator-link", "coordinator-api", "bootstrap"]);
    assert_eq!(examined.exit_code, 2);
    examined.names("coordinator-link", &[&link, "neither HTTP nor QUIC"]);
    assert_eq!(examined.finding("udp")["severity"], "skipped");
    assert_eq!(examined.finding("clock")["severity"], "skipped");
    let bootstrap = plant.profile.bootstrap[0].to_string();
    let listen = bootstrap.split("/p2p/").next().unwrap();
    plant.peer = Some(BootstrapPeer::start(2, listen, plant.profile.network()).await);

    // Somebody else took its place.
    plant.start_api(&api);
    plant.start_link([7; 32], link.parse().unwrap()).await;
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["coordinator-link"], 2));
    let expected = plant.profile.coordinator.node.to_string();
    examined.names("coordinator-link", &["answers with key", &expected, "profile anew"]);
    plant.restart_link().await;
    plant.examine().await.is_well();

    // The right key for another network: an old profile.
    *plant.network.lock().unwrap() = NetworkId([5; 32]);
    let examined = plant.examine().await;
    assert_eq!(examined.bad(), ["coordinator-api"]);
    examined.names("coordinator-api", &["another network", "newer profile"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_6_dead_bootstrap_peers_are_named_and_remembered_ones_counted() {
    let mut plant = Plant::healthy().await;
    let bootstrap = plant.profile.bootstrap[0].to_string();
    let id = plant.profile.network();
    plant.peer.take().unwrap().handle.shutdown().await;
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["bootstrap"], 2));
    examined.names("bootstrap", &[&bootstrap, "no remembered peer", "network.peers"]);

    // The mend that a user can do: name a peer that runs.
    let other = BootstrapPeer::start(3, "/ip4/127.0.0.1/tcp/0", id).await;
    plant.set("network.peers", &format!("[{:?}]", other.address())).await;
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["bootstrap"], 1));
    examined.names("bootstrap", &["1 of 2", "the others suffice"]);
    plant.set("network.peers", "[]").await;

    // It was connected once, so it is remembered, which suffices.
    let folder = plant.data().join("networks/test/peers");
    std::fs::create_dir_all(&folder).unwrap();
    let address = other.address();
    let address = address.split("/p2p/").next().unwrap();
    let text = format!("openledger peers 1\n{} 1000 {address}\n", other.handle.node());
    std::fs::write(folder.join("peers.txt"), text).unwrap();
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["bootstrap"], 1));
    examined.names("bootstrap", &["1 remembered peers answer", "suffices"]);

    let listen = bootstrap.split("/p2p/").next().unwrap();
    plant.peer = Some(BootstrapPeer::start(2, listen, id).await);
    plant.examine().await.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_7_a_truncated_model_is_named_with_what_is_missing() {
    let plant = Plant::healthy().await;
    let folder = plant.data().join("models/some");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tiny.gguf");
    let whole = GgufWriter::new()
        .text("general.architecture", "llama")
        .tensor("output.weight", &[64, 8], TensorKind::F32, &[0; 64 * 8 * 4])
        .finish();
    std::fs::write(&file, &whole[..whole.len() - 1_000]).unwrap();
    let examined = plant.examine().await;
    assert_eq!(examined.bad(), ["model"]);
    let path = file.display().to_string();
    examined.names("model", &[&path, "cut short", "1000 bytes", "output.weight"]);
    // Removed and fetched again.
    plant.sh(&examined.command("model", 0));
    assert!(!file.exists());
    std::fs::write(&file, &whole).unwrap();
    plant.examine().await.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_8_wrong_permissions_are_named_with_the_command_that_mends_them() {
    let plant = Plant::healthy().await;
    let data = plant.data();
    for (name, mode) in
        [("identity/vault", 0o644), ("identity/vault.key", 0o640), ("identity", 0o755)]
    {
        let path = data.join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let examined = plant.examine().await;
        assert_eq!((examined.bad(), examined.exit_code), (vec!["permissions"], 2), "{name}");
        let (path, mode) = (path.display().to_string(), format!("mode {mode:o}"));
        examined.names("permissions", &[&path, &mode, "chmod"]);
        plant.sh(&examined.command("permissions", 0));
        plant.examine().await.is_well();
    }
    if let Some(examined) = in_a_mount(&plant, "mount -o remount,ro \"$OPENLEDGER_DATA\"").await {
        examined.names("permissions", &["cannot be written", "read-only", "remount,rw"]);
    }
    // Only root can give files away.
    if std::os::unix::fs::chown(data.join("config.toml"), Some(12_345), None).is_ok() {
        let examined = plant.examine().await;
        assert_eq!(examined.bad(), ["permissions"]);
        examined.names("permissions", &["config.toml", "12345", "chown -R"]);
        plant.sh(&examined.command("permissions", 0).replace("sudo ", ""));
        plant.examine().await.is_well();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_9_low_memory_is_named_against_what_is_configured() {
    let plant = Plant::healthy().await;
    let fake = tempfile::tempdir().unwrap();
    let (proc, cgroup) = (fake.path().join("proc"), fake.path().join("cgroup"));
    let machine = Machine { proc, cgroup, ..Machine::default() };
    std::fs::create_dir_all(machine.proc.join("self")).unwrap();
    std::fs::create_dir_all(machine.cgroup.join("box")).unwrap();
    std::fs::write(machine.proc.join("self/cgroup"), "0::/box\n").unwrap();
    let set = |available_mib: u64, limit: &str| {
        let meminfo = format!("MemAvailable: {} kB\n", available_mib << 10);
        std::fs::write(machine.proc.join("meminfo"), meminfo).unwrap();
        std::fs::write(machine.cgroup.join("box/memory.max"), limit).unwrap();
        std::fs::write(machine.cgroup.join("box/memory.current"), "0").unwrap();
    };
    let examine = || async {
        let data = DataDir::find(Some(&plant.data())).unwrap();
        let report = Doctor::new(data, None).on(machine.clone()).examine().await;
        let memory = report.checks.iter().find(|one| one.code == "memory").unwrap().clone();
        (report.exit_code(), memory)
    };
    plant.set("work.parallel", "4").await;
    set(8_192, "max");
    let (exit_code, memory) = examine().await;
    assert!(exit_code == 0 && memory.ok, "{memory:?}");
    set(700, "max");
    let (exit_code, memory) = examine().await;
    assert_eq!(exit_code, 1, "{memory:?}");
    assert!(memory.found.contains("700 MiB"), "{memory:?}");
    // The mend: less work.
    let mend = memory.mend.unwrap();
    plant.sh(mend.split('`').find(|part| part.starts_with("openledger config")).unwrap());
    assert_eq!(examine().await.0, 0);
    // A container's limit counts as well.
    set(8_192, "134217728");
    let (exit_code, memory) = examine().await;
    assert_eq!(exit_code, 2);
    assert!(memory.cause.unwrap().contains("container"));
    set(8_192, "4294967296");
    assert_eq!(examine().await.0, 0);
    // The engine counts as soon as there is a model for it, with what it may hold.
    let file = model_path();
    json(&plant.data(), &["model", "add", file.to_str().unwrap(), "--name", "smol"]);
    set(1_200, "max");
    let (exit_code, memory) = examine().await;
    assert_eq!(exit_code, 1, "{memory:?}");
    let cause = memory.cause.unwrap();
    assert!(cause.contains("for model smol") && cause.contains("models.tokens_max"), "{cause}");
    plant.set("models.tokens_max", "512").await;
    plant.set("models.adapters_mib_max", "64").await;
    let (exit_code, memory) = examine().await;
    assert!(exit_code == 0 && memory.ok, "{memory:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_10_blocked_udp_is_told_from_a_dead_coordinator() {
    let mut plant = Plant::healthy().await;
    let link = plant.profile.coordinator.link[0];
    plant.stop_link().await;
    // Swallowed on the way, then rejected on the way.
    for (silent, word) in [(true, "vanish"), (false, "rejected")] {
        let socket = silent.then(|| UdpSocket::bind(link).unwrap());
        let examined = plant.examine().await;
        assert_eq!((examined.bad(), examined.exit_code), (vec!["coordinator-link", "udp"], 2));
        examined.names("coordinator-link", &["HTTP API answers", "see `udp`"]);
        let port = format!("{}/udp", link.port());
        examined.names("udp", &[word, "TCP to the coordinator works", &port, "over TCP"]);
        drop(socket);
    }
    // Peers answer over UDP: then it is that one port.
    let peer = BootstrapPeer::start(4, "/ip4/127.0.0.1/udp/0/quic-v1", plant.profile.network());
    let peer = peer.await;
    plant.set("network.peers", &format!("[{:?}]", peer.address())).await;
    let examined = plant.examine().await;
    assert_eq!(examined.bad(), ["coordinator-link", "udp"]);
    examined.names("udp", &["comes through to peers", "this port only"]);
    plant.restart_link().await;
    plant.examine().await.is_well();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_a_key_and_profiles_that_do_not_read_are_named() {
    let plant = Plant::healthy().await;
    let config = plant.data().join("config.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, "[work]\nparalel = 3\n").unwrap();
    let examined = plant.examine().await;
    examined.names("config", &["work.paralel", "config.toml", "parallel"]);
    std::fs::write(&config, &good).unwrap();

    let key = plant.data().join("identity/vault.key");
    let right = std::fs::read_to_string(&key).unwrap();
    let wrong = "0".repeat(64);
    std::fs::write(&key, &wrong).unwrap();
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["identity"], 2));
    examined.names("identity", &["not that of this vault", "vault.key", "identity restore"]);
    std::fs::write(&key, &right).unwrap();

    // The owner's own program is asked for the passphrase, as at a start.
    let asked = |script: &'static str| {
        let mut command = command(&plant.data());
        command.env("OPENLEDGER_PASSPHRASE_COMMAND", script).args(["--json", "doctor"]);
        async move { Examined::of(&command.output().await.unwrap()) }
    };
    let examined = asked("exit 3").await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["identity"], 2));
    examined.names("identity", &["exit status: 3", "make that command print it"]);
    let examined = asked("echo wrong horse").await;
    examined.names("identity", &["the command in OPENLEDGER_PASSPHRASE_COMMAND", "not that of"]);

    let profile = plant.data().join("networks/test/profile.toml");
    let text = std::fs::read_to_string(&profile).unwrap();
    std::fs::write(&profile, text.replace("31337", "31338")).unwrap();
    let examined = plant.examine().await;
    assert_eq!((examined.bad(), examined.exit_code), (vec!["network"], 2));
    examined.names("network", &["test", "publisher", "rm "]);
    std::fs::write(&profile, &text).unwrap();
    // A network that is not joined yet is looked at without being joined.
    let file = plant.data().parent().unwrap().join("new.toml");
    std::fs::rename(&profile, &file).unwrap();
    let output = plant.openledger(&["--json", "doctor", "--network", file.to_str().unwrap()]).await;
    Examined::of(&output).is_well();
    assert!(!profile.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_is_asked_and_its_own_ports_are_no_fault() {
    let plant = Plant::healthy().await;
    let free = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for key in ["network.peer_port", "network.blob_port", "network.control_port"] {
        plant.set(key, &free().to_string()).await;
    }
    plant.set("network.bind", "127.0.0.1").await;
    let mut node = command(&plant.data())
        .args(["up", "--network", "test", "--accept"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let linked = async {
        loop {
            let examined = plant.examine().await;
            let running = examined.finding("running")["found"].as_str().unwrap();
            if running.contains("and answers")
                && examined.finding("coordinator-link")["found"] == "the running node is connected"
            {
                return examined;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Looking while the node starts does not disturb it.
    let examined = tokio::time::timeout(Duration::from_secs(60), linked).await.unwrap();
    examined.is_well();
    let pid = node.id().unwrap().to_string();
    assert!(examined.finding("running")["found"].as_str().unwrap().contains(&pid));
    assert!(examined.finding("port")["found"].as_str().unwrap().contains("held by this node"));
    assert_eq!(examined.finding("clock")["ok"], true);
    node.kill().await.unwrap();
    // What a killed node left is no fault.
    plant.examine().await.is_well();
}
