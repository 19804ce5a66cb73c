//! Starting everything in the order in which the parts need each other, and ending it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::api::{Api, Campaign, Infer};
use crate::chain::{Contracts, LocalChain, Terms};
use crate::child::{Child, Spawn};
use crate::corpus::{self, Slice};
use crate::disk;
use crate::limits;
use crate::models::{self, Models};
use crate::nodes::{self, Member, cast, json};
use crate::profile::{self, CoordinatorKeys, Parts, Ports, Rules};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::seeds;
use crate::sites::Sites;
use crate::traps::{self, Traps};

/// How large a network.
#[derive(Clone, Debug)]
pub struct Size {
    /// Honest nodes.
    pub nodes: usize,
    /// Pages.
    pub pages: usize,
    /// Folders to serve pages from; empty for those of the packages.
    pub site_roots: Vec<PathBuf>,
    /// Folders of somebody's own, each served whole as one more host.
    pub sites: Vec<PathBuf>,
    /// Pages of web servers that run on this machine.
    pub seed_urls: Vec<String>,
    /// The base model; nodes serve none without it.
    pub model: Option<PathBuf>,
    /// Whether an honest node gets a small disk of its own.
    pub small_disk: bool,
}

impl Size {
    /// Hosts with their pages: the user's own folders first, so that they are done first.
    fn slices(&self) -> anyhow::Result<Vec<Slice>> {
        let mut slices = corpus::sites(&self.sites)?;
        if self.pages > 0 || (self.sites.is_empty() && self.seed_urls.is_empty()) {
            slices.extend(corpus::deal(&corpus::roots(&self.site_roots)?, self.pages)?);
        }
        Ok(slices)
    }
}

/// A running network.
#[derive(Debug)]
pub struct Network {
    /// The binaries.
    pub programs: Programs,
    /// The folder with everything.
    pub folder: PathBuf,
    /// The signed profile.
    pub profile: PathBuf,
    /// The chain.
    pub chain: LocalChain,
    /// The contracts.
    pub contracts: Contracts,
    /// The web sites.
    pub sites: Sites,
    /// The site with pages that nobody should get.
    pub traps: Traps,
    /// The coordinator's API.
    pub api: Api,
    /// All nodes.
    pub members: Vec<Member>,
    /// URLs of the campaign.
    pub urls: Vec<String>,
    /// What nodes serve, if they serve anything.
    pub models: Option<Models>,
    /// The node with a small disk, as it stands among the members.
    pub small_disk: Option<usize>,
    children: Vec<Child>,
}

impl Network {
    /// Starts a network and funds its campaign.
    ///
    /// # Errors
    /// The first part that does not start; what was started is ended by then.
    pub async fn start(
        programs: Programs,
        folder: &Path,
        size: &Size,
        progress: &mut Progress,
    ) -> anyhow::Result<Self> {
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let slices = size.slices()?;
        let seeds = seeds::find(&size.seed_urls).await?;
        let mut urls: Vec<String> = seeds.iter().map(|seed| seed.url.clone()).collect();
        urls.extend(corpus::urls(&slices));
        let (sites, traps) = (Sites::start(&slices).await?, Traps::start().await?);
        let mut addresses = sites.addresses.clone();
        addresses.insert(format!("{}:80", traps::HOST), traps.address);
        addresses.extend(seeds.into_iter().map(|seed| (seed.host, seed.address)));
        progress.step("starting the chain, making keys, deploying contracts");
        let coordinator = folder.join("coordinator");
        let keys = coordinator_keys(&programs, &coordinator).await?;
        let rules = rules(&programs).await?;
        let terms = Terms {
            epoch_budget: rules.epoch_budget,
            epoch: Duration::from_millis(rules.epoch_ms),
            proposer: keys.address()?,
        };
        let chain_ready = async {
            // The first account deploys; each node's claims are paid by one of the others.
            let chain = LocalChain::start(&programs, &logs, size.nodes + 1).await?;
            let contracts = chain.deploy(terms).await?;
            Ok::<_, anyhow::Error>((chain, contracts))
        };
        // The last honest node has its link cut; the one before it has nothing else odd.
        let small_disk = size.small_disk.then(|| size.nodes.saturating_sub(2));
        if let Some((name, _)) = small_disk.and_then(|n| cast(size.nodes).into_iter().nth(n)) {
            disk::mount(&nodes::folder(folder, &name)).await?;
        }
        let identities = identities(&programs, folder, size.nodes);
        let ((chain, contracts), mut members) = tokio::try_join!(chain_ready, identities)?;
        let models = match &size.model {
            None => {
                progress.step("no base model is named, so nodes serve none; see --model");
                None
            }
            Some(model) => {
                progress.step("making adapters, giving models to nodes");
                Some(models::plant(&programs, folder, model, &mut members).await?)
            }
        };
        progress.step("starting the coordinator");
        let ports = Ports::free(std::net::Ipv4Addr::LOCALHOST).context("find free ports")?;
        let honest = members.iter().filter(|member| member.part.is_honest());
        let text = profile::text(Parts {
            rules: &rules,
            keys: &keys,
            ports,
            chain: contracts.contact.clone(),
            founding: honest.map(|member| member.identity.node).collect(),
            sites: &addresses,
        })?;
        let profile = sign(&programs, &coordinator, &text).await?;
        let started = start_coordinator(&programs, &coordinator, ports, &logs).await?;
        let api = Api::new(&format!("http://{}", ports.http), coordinator.join("operator.token"))?;
        let mut network = Self {
            programs,
            folder: folder.to_owned(),
            profile,
            chain,
            contracts,
            sites,
            traps,
            api,
            members,
            urls,
            models,
            small_disk,
            children: vec![started],
        };
        if let Err(error) = network.populate(&logs, progress).await {
            network.stop().await;
            return Err(error);
        }
        Ok(network)
    }

    async fn populate(&mut self, logs: &Path, progress: &mut Progress) -> anyhow::Result<()> {
        progress.step(&format!("starting {} nodes", self.members.len()));
        let mut starting = JoinSet::new();
        for member in self.members.clone() {
            let (programs, profile) = (self.programs.clone(), self.profile.clone());
            let logs = logs.to_owned();
            starting.spawn(async move { member.start(&programs, &profile, &logs).await });
        }
        // Those that did start are ended with the rest, whatever became of the others.
        let mut failure = None;
        while let Some(started) = starting.join_next().await {
            match started.context("start a node")? {
                Ok(child) => self.children.push(child),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        progress.step("waiting until all nodes are connected");
        let wanted = self.members.len() as u64;
        let deadline = tokio::time::Instant::now() + limits::READY_TIME_MAX;
        while self.api.status().await?.connected < wanted {
            self.check()?;
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "start the nodes: only {} of {wanted} reach the coordinator; see {}",
                self.api.status().await?.connected,
                logs.display()
            );
            tokio::time::sleep(limits::LOOK_PAUSE / 4).await;
        }
        self.fund("manuals", self.urls.clone()).await?;
        self.fund("traps", traps::urls()).await?;
        match &self.models {
            None => Ok(()),
            Some(models) => self.fund_all("answers", Vec::new(), models.work()).await,
        }
    }

    /// Funds a campaign for pages.
    ///
    /// # Errors
    /// The coordinator's reason.
    pub async fn fund(&self, name: &str, urls: Vec<String>) -> anyhow::Result<()> {
        self.fund_all(name, urls, Vec::new()).await
    }

    /// Funds a campaign for pages and answers.
    ///
    /// # Errors
    /// The coordinator's reason.
    pub async fn fund_all(
        &self,
        name: &str,
        urls: Vec<String>,
        infer: Vec<Infer>,
    ) -> anyhow::Result<()> {
        let campaign = Campaign {
            name: name.to_owned(),
            contact: "operator@devnet.invalid".to_owned(),
            terms: "documentation under free licences".to_owned(),
            budget: limits::CAMPAIGN_POINTS,
            replicas: 2,
            urls,
            infer,
        };
        self.api.fund(&campaign).await
    }

    /// The process of a node or of the coordinator.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn child_mut(&mut self, name: &str) -> anyhow::Result<&mut Child> {
        let child = self.children.iter_mut().find(|child| child.name() == name);
        child.with_context(|| format!("find the process of {name}"))
    }

    /// Fails if a process has ended that is not named.
    ///
    /// # Errors
    /// Its last words.
    pub fn check_all_but(&mut self, down: &[&str]) -> anyhow::Result<()> {
        let chain = std::iter::once(&mut self.chain.child);
        let mut up = chain.chain(&mut self.children).filter(|child| !down.contains(&child.name()));
        up.try_for_each(Child::check)
    }

    /// Fails if a process has ended.
    ///
    /// # Errors
    /// Its last words.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.check_all_but(&[])
    }

    /// Ends all processes: first all but the chain at once, then the chain.
    pub async fn stop(self) {
        let Self { chain, mut children, members, small_disk, .. } = self;
        children.iter_mut().for_each(Child::release);
        let mut ending: JoinSet<()> = children.into_iter().map(Child::reap).collect();
        while ending.join_next().await.is_some() {}
        chain.child.reap().await;
        if let Some(member) = small_disk.and_then(|n| members.get(n)) {
            disk::unmount(&member.data).await;
        }
    }
}

async fn coordinator_keys(programs: &Programs, folder: &Path) -> anyhow::Result<CoordinatorKeys> {
    let init = Spawn::new("create the coordinator's keys", &programs.coordinator);
    let init = init.args(["init", "--json", "--dir"]).arg(folder.as_os_str());
    json(&init.output().await?)
}

async fn rules(programs: &Programs) -> anyhow::Result<Rules> {
    let rules = Spawn::new("list rule sets", &programs.coordinator).args(["rules", "--json"]);
    Rules::devnet(&rules.output().await?)
}

async fn identities(
    programs: &Programs,
    folder: &Path,
    honest: usize,
) -> anyhow::Result<Vec<Member>> {
    let mut making = JoinSet::new();
    for ((name, part), number) in cast(honest).into_iter().zip(10u8..) {
        let (programs, folder) = (programs.clone(), folder.to_owned());
        making.spawn(async move { Member::create(&programs, &folder, name, part, number).await });
    }
    let mut members = Vec::new();
    while let Some(member) = making.join_next().await {
        members.push(member.context("create an identity")??);
    }
    members.sort_by_key(|member| member.ip);
    Ok(members)
}

/// Lets the coordinator sign the profile, beside its configuration and for the nodes.
async fn sign(programs: &Programs, folder: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let (draft, signed) = (folder.join("profile.draft.toml"), folder.join("network.toml"));
    std::fs::write(&draft, text).with_context(|| format!("write {}", draft.display()))?;
    Spawn::new("sign the network profile", &programs.coordinator)
        .args(["profile", "sign"])
        .arg(draft.as_os_str())
        .arg("--vault")
        .arg(folder.join("keys.vault").as_os_str())
        .arg("--out")
        .arg(signed.as_os_str())
        .output()
        .await?;
    Ok(signed)
}

async fn start_coordinator(
    programs: &Programs,
    folder: &Path,
    ports: Ports,
    logs: &Path,
) -> anyhow::Result<Child> {
    let config = folder.join("coordinator.toml");
    std::fs::write(&config, profile::coordinator_config(ports))
        .with_context(|| format!("write {}", config.display()))?;
    let mut child = Spawn::new("coordinator", &programs.coordinator)
        .args(["run", "--json", "--exit-with-parent", "--config"])
        .arg(config.as_os_str())
        .start(logs)?;
    child.wait_for(|line| line.contains("\"ready\"").then_some(())).await?;
    Ok(child)
}
