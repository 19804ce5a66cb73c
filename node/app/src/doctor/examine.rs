//! What is looked at, in which order it is told.

use std::sync::Arc;

use openledger_web::doctor::{Check, Finding, Report, examine};

use super::machine::Machine;
use super::running::{self, Running};
use super::{
    disk, engine, identity, memory, models, networks, outside, permissions, ports, settings,
};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::limits;
use crate::worker::Program;

/// Looks for what is wrong with a node.
#[derive(Clone, Debug)]
pub struct Doctor {
    data: DataDir,
    network: Option<String>,
    machine: Machine,
    program: Option<Program>,
}

/// What checks are about.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) data: DataDir,
    /// The configuration; the default one where it does not read.
    pub(super) config: Config,
    /// The node that runs with this folder, if one does and answers.
    pub(super) running: Option<Running>,
    pub(super) machine: Machine,
    /// What looks for devices.
    pub(super) program: Option<Program>,
}

async fn engine_of(patient: Arc<Patient>) -> Vec<Finding> {
    engine::findings(&patient).await
}

impl Doctor {
    /// One for the node of this folder. `network` is a profile file or the name of a network
    /// joined before; without it, all networks joined are looked at.
    #[must_use]
    pub fn new(data: DataDir, network: Option<String>) -> Self {
        Self { data, network, machine: Machine::default(), program: None }
    }

    /// The same with a program whose workers look for devices.
    #[must_use]
    pub fn with(self, program: Program) -> Self {
        Self { program: Some(program), ..self }
    }

    /// The same, on a machine that tells about itself elsewhere.
    #[must_use]
    pub fn on(self, machine: Machine) -> Self {
        Self { machine, ..self }
    }

    /// Looks at everything; takes at most eight seconds, and changes nothing.
    pub async fn examine(self) -> Report {
        let Self { data, network, machine, program } = self;
        let (config, of_config) = settings::config(&data);
        let (running, of_running) = running::ask(&data, &machine).await;
        let (joined, of_networks) = networks::joined(&data, network.as_deref());
        let patient = Arc::new(Patient { data, config, running, machine, program });

        let time_max = limits::DOCTOR_CHECK_TIME_MAX;
        let known = |code, findings: Vec<Finding>| Check::new(code, time_max, async { findings });
        let look = |code, at: fn(&Patient) -> Vec<Finding>| {
            let patient = Arc::clone(&patient);
            Check::blocking(code, time_max, move || at(&patient))
        };
        let mut checks = vec![
            known("running", vec![of_running]),
            known("config", vec![of_config]),
            look("permissions", permissions::findings),
            look("disk", disk::findings),
            look("memory", memory::findings),
            look("open-files", |_| vec![settings::open_files()]),
            look("port", ports::findings),
            look("identity", identity::findings),
            look("model", models::findings),
            Check::new("engine", limits::DOCTOR_OUTSIDE_TIME_MAX, engine_of(Arc::clone(&patient))),
            known("network", of_networks),
        ];
        for network in joined {
            let (name, network) = (network.name().to_owned(), Arc::new(network));
            let (near, far) = (Arc::clone(&patient), Arc::clone(&patient));
            let at = Arc::clone(&network);
            let delegation = move || identity::delegation(&near, &at);
            checks.push(Check::blocking("delegation", time_max, delegation).of_network(&name));
            let outside = outside::findings(far, network);
            let time_max = limits::DOCTOR_OUTSIDE_TIME_MAX;
            checks.push(Check::new("coordinator-link", time_max, outside).of_network(&name));
        }
        examine(checks).await
    }
}
