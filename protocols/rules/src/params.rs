//! Rule sets: the released, frozen parameters of the swarm, and what a network starts from.
//!
//! A rule set is named and hashed; every epoch names the hash. How the figures hang together: a
//! cheat gains at most the pending points of `vest_accepted` tasks before a check at the floor
//! rate `a` finds it with 99 % probability, because `vest_accepted >= ln 0.01 / ln(1 - a)`, and a
//! find forfeits all of them. The devnet's set is shorter in every time and count, and says so in
//! its name.
//!
//! A released set never changes. What later sets add is an `Option` that older ones leave out of
//! their encoding, so that their hashes and the bundles made under them stand.

use openledger_wire::eip712::Domain;
use openledger_wire::profile::{BeaconSource, Profile};
use openledger_wire::task::TaskKind;
use openledger_wire::{
    EncodeError, List, NetworkId, NodeId, Open, Points, RuleSetId, Text, UnixMs, encode,
    tagged_hash,
};
use serde::{Deserialize, Serialize};

use crate::tolerance::{JudgedClass, Tolerance};

/// Parameters of a rule set. Times in milliseconds, shares in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// Its name.
    pub name: Text<128>,
    /// Length of a round.
    pub round_ms: u64,
    /// Length of an epoch.
    pub epoch_ms: u64,
    /// A lease must be answered by a commitment within this time.
    pub lease_ms: u64,
    /// A commitment must be opened within this time after its set was closed.
    pub reveal_ms: u64,
    /// Leases that a node may hold at once.
    pub leases_per_node: u32,
    /// Commitments that a task may collect over all waves.
    pub replicas_max: u8,
    /// Nobody is checked more rarely than this.
    pub check_floor_permille: u32,
    /// Valid results in a row before checks get rarer; doubles with each catch.
    pub trust_required: u32,
    /// Points vest this many epochs after the one in which they were awarded...
    pub vest_epochs: u64,
    /// ...and after this many later accepted tasks of the account.
    pub vest_accepted: u64,
    /// Receipts count at the latest this many epochs later.
    pub count_by_epochs: u64,
    /// OPEN given away per epoch.
    pub epoch_budget: Open,
    /// Points of an accepted `fetch` of value 1000.
    pub points_fetch: Points,
    /// Points of an accepted `refine` of value 1000.
    pub points_refine: Points,
    /// Points of an accepted audit of value 1000.
    pub points_audit: Points,
    /// Weight of a node that just joined, in thousandths.
    pub weight_start_milli: u32,
    /// Weight that an accepted task adds.
    pub weight_step_milli: u32,
    /// Weight never rises above this.
    pub weight_max_milli: u32,
    /// Below this weight a node is asked nothing until it says hello again.
    pub weight_min_milli: u32,
    /// Accepted tasks after which a node counts as vetted.
    pub vetting_accepted: u64,
    /// A payout address may be changed without the former one's signature after this time.
    pub rebind_ms: u64,
    /// Finished tasks stay in memory for this many epochs: the dispute time.
    pub keep_epochs: u64,
    /// Processing profile of refine tasks made from accepted pages.
    #[serde(with = "openledger_wire::ids::bytes")]
    pub refine_profile: [u8; 32],
    /// How `infer` tasks are judged and paid; a set without it assigns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer: Option<InferRules>,
}

/// How `infer` tasks are judged and paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferRules {
    /// Points of an accepted `infer` of value 1000.
    pub points: Points,
    /// Points of an accepted check of one: it is the same work.
    pub points_audit: Points,
    /// Two outputs may differ by this much at each token's natural log-probability, in millionths.
    pub logprob_tolerance_micro: u32,
    /// Backend classes that are the same bits everywhere; outputs are compared, each with its own
    /// kind. Outputs of two classes never agree, so where several are listed a task's class is that
    /// of its first sound output, and whoever redoes it is told the class
    /// ([`State::check_asked`](crate::state::State::check_asked)).
    pub backends: List<Text<32>, BACKENDS_MAX>,
    /// Tokens that a task may ask for.
    pub tokens_max: u32,
    /// Backend classes that are not: their answers are run again by whoever checks them, and their
    /// fingerprints judged. In a set that names any, every output brings its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<List<JudgedClass, BACKENDS_MAX>>,
}

/// Backend classes of one rule set: as many as there are processor families worth a class.
const BACKENDS_MAX: usize = 16;

impl InferRules {
    /// The first: one backend class, the CPU reference. Its machines compute the same sums in the
    /// same order, so the tolerance of 0.02 nats is room for compilers, not for other models.
    #[must_use]
    pub fn v1() -> Self {
        Self {
            points: Points(60),
            points_audit: Points(60),
            logprob_tolerance_micro: 20_000,
            backends: List::new([Text::clipped("cpu-reference-1")]).unwrap_or_default(),
            tokens_max: 1_024,
            judged: None,
        }
    }

    /// The second: the fast CPU class beside the reference. Either gives the same bits on every
    /// processor, so the tolerance stays.
    #[must_use]
    pub fn v2() -> Self {
        let backends = ["cpu-int12-1", "cpu-reference-1"].map(Text::clipped);
        Self { backends: List::new(backends).unwrap_or_default(), ..Self::v1() }
    }

    /// The third: a faster CPU class beside the two, and fingerprints, which let graphics
    /// processors and ONNX Runtime answer and be checked on any processor.
    #[must_use]
    pub fn v3() -> Self {
        let backends = ["cpu-int12-2", "cpu-int12-1", "cpu-reference-1"].map(Text::clipped);
        let judged = ["wgpu-1", "onnx-1"].map(|class| JudgedClass {
            class: Text::clipped(class),
            // The most precise of the fast ones: it keeps 12 bits of all activations.
            checked_in: Text::clipped("cpu-int12-1"),
            tolerance: Tolerance::ROUNDED,
        });
        Self {
            backends: List::new(backends).unwrap_or_default(),
            judged: List::new(judged).ok(),
            ..Self::v2()
        }
    }
}

impl RuleSet {
    /// All released sets, the newest of each line first: what a profile's rule set is looked up
    /// in.
    #[must_use]
    pub fn released(refine_profile: [u8; 32]) -> [Self; 8] {
        [
            Self::main_v4(refine_profile),
            Self::devnet_v4(refine_profile),
            Self::main_v3(refine_profile),
            Self::devnet_v3(refine_profile),
            Self::main_v2(refine_profile),
            Self::devnet_v2(refine_profile),
            Self::main_v1(refine_profile),
            Self::devnet_v1(refine_profile),
        ]
    }

    /// The rule set for new networks: the third one, with fingerprints.
    #[must_use]
    pub fn main_v4(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("main-4"),
            infer: Some(InferRules::v3()),
            ..Self::main_v3(refine_profile)
        }
    }

    /// The rule set for new devnets: the third one, with fingerprints.
    #[must_use]
    pub fn devnet_v4(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("devnet-4"),
            infer: Some(InferRules::v3()),
            ..Self::devnet_v3(refine_profile)
        }
    }

    /// The third rule set for real networks: the second one, with the fast CPU class.
    #[must_use]
    pub fn main_v3(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("main-3"),
            infer: Some(InferRules::v2()),
            ..Self::main_v2(refine_profile)
        }
    }

    /// The devnets' third: the second one, with the fast CPU class.
    #[must_use]
    pub fn devnet_v3(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("devnet-3"),
            infer: Some(InferRules::v2()),
            ..Self::devnet_v2(refine_profile)
        }
    }

    /// The second rule set for real networks: the first one, and `infer` tasks.
    #[must_use]
    pub fn main_v2(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("main-2"),
            infer: Some(InferRules::v1()),
            ..Self::main_v1(refine_profile)
        }
    }

    /// The devnets' second: the first one, and `infer` tasks.
    #[must_use]
    pub fn devnet_v2(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("devnet-2"),
            infer: Some(InferRules::v1()),
            ..Self::devnet_v1(refine_profile)
        }
    }

    /// The first rule set for real networks.
    #[must_use]
    pub fn main_v1(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("main-1"),
            round_ms: 300_000,
            epoch_ms: 86_400_000,
            lease_ms: 240_000,
            reveal_ms: 600_000,
            leases_per_node: 64,
            replicas_max: 5,
            check_floor_permille: 50,
            trust_required: 10,
            vest_epochs: 7,
            vest_accepted: 90,
            count_by_epochs: 1,
            epoch_budget: Open(100_000 * Open::ONE.0),
            points_fetch: Points(100),
            points_refine: Points(40),
            points_audit: Points(40),
            weight_start_milli: 1_000,
            weight_step_milli: 10,
            weight_max_milli: 8_000,
            weight_min_milli: 60,
            vetting_accepted: 100,
            rebind_ms: 7 * 86_400_000,
            keep_epochs: 2,
            refine_profile,
            infer: None,
        }
    }

    /// The devnet's: everything that takes days there takes seconds here.
    #[must_use]
    pub fn devnet_v1(refine_profile: [u8; 32]) -> Self {
        Self {
            name: Text::clipped("devnet-1"),
            round_ms: 5_000,
            epoch_ms: 60_000,
            lease_ms: 20_000,
            reveal_ms: 20_000,
            leases_per_node: 8,
            vest_epochs: 1,
            vest_accepted: 5,
            epoch_budget: Open(1_000 * Open::ONE.0),
            rebind_ms: 60_000,
            keep_epochs: 4,
            ..Self::main_v1(refine_profile)
        }
    }

    /// Whether a draw for a task that was finished after its round was sealed gives no leases.
    /// Before main-3 and devnet-3 it gave them, and nobody ever closed them: each took one of a
    /// node's `leases_per_node` for good. Those sets stay as they were released, so that their logs
    /// replay; what came with the third tells them apart.
    #[must_use]
    pub fn leases_open_tasks_only(&self) -> bool {
        self.infer.as_ref().is_some_and(InferRules::lists_several)
    }

    /// The hash that epochs name.
    pub fn id(&self) -> Result<RuleSetId, EncodeError> {
        Ok(RuleSetId(tagged_hash("openledger rule set v1", &[&encode(self)?])))
    }

    /// Whether a kind has one assignee, whose output others redo if a beacon drawn after the
    /// commitment says so, and always until the node has shown enough valid work. The other kinds
    /// are done by several nodes at once.
    #[must_use]
    pub fn is_rechecked(&self, kind: TaskKind) -> bool {
        match kind {
            TaskKind::Refine => true,
            TaskKind::Infer => self.infer.is_some(),
            _ => false,
        }
    }

    /// Points of an accepted task of a kind, by its value in thousandths.
    #[must_use]
    pub fn points(&self, kind: TaskKind, audit: bool, value_permille: u32) -> Points {
        let base = match (kind, &self.infer) {
            (TaskKind::Infer, Some(infer)) if audit => infer.points_audit,
            (TaskKind::Infer, Some(infer)) => infer.points,
            _ if audit => self.points_audit,
            (TaskKind::Fetch, _) => self.points_fetch,
            (TaskKind::Refine, _) => self.points_refine,
            _ => Points::ZERO,
        };
        Points(base.0.saturating_mul(u64::from(value_permille)) / 1_000)
    }
}

/// What a network starts from: the part of its profile that the rules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The network.
    pub network: NetworkId,
    /// The rule set.
    pub rules: RuleSet,
    /// Start of round 0 and epoch 1.
    pub genesis: UnixMs,
    /// Nodes that count as vetted from the start.
    pub founding: Vec<NodeId>,
    /// Where public randomness comes from.
    pub beacon: BeaconSource,
    /// The settlement chain.
    pub chain_id: u64,
    /// EIP-712 domain of what contracts may judge.
    pub domain: Domain,
}

impl Setup {
    /// From a profile and the rule set that it names.
    #[must_use]
    pub fn of(profile: &Profile, rules: RuleSet) -> Self {
        Self {
            network: profile.network(),
            rules,
            genesis: profile.genesis,
            founding: profile.founding.to_vec(),
            beacon: profile.beacon.clone(),
            chain_id: profile.chain.chain_id,
            domain: profile.domain(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::decode;

    #[test]
    fn released_sets_keep_their_hashes() {
        let golden = [
            ("main-4", "9c00f8a970175c973d1bcb0945447b9ad78113ac3f85c62cbb4e08294a925050"),
            ("devnet-4", "88bc24f1571d041283397a70be64e4d84280eda880a6c7ff589366ce5f11daf7"),
            ("main-3", "55c89159e4bd44835387de6ec2e5d5089f86ae97edf9569b8b9ac93378e8906c"),
            ("devnet-3", "c33f1b2b50f7e6854172fa22391a61cdfb829cebd0c97ad0ee642965841d7ab9"),
            ("main-2", "4cc9f81115c3884f54ed1ca938b55c41fc45e670b69efe4aa3ad3bcb436c0427"),
            ("devnet-2", "37ae7c22b588e671a5231016d17fc721b62037451881cad7569c71a9b2e507fe"),
            ("main-1", "cb404ae600bcced3401c25251c6d1560631db745d7cbec0a2692ea92d3a7d442"),
            ("devnet-1", "ef710b008c91e8abc3c99c0de0312338613e61dfd31a58ed1112e9bbe97197fc"),
        ];
        for (set, (name, id)) in RuleSet::released([0; 32]).iter().zip(golden) {
            assert_eq!((&*set.name, hex::encode(set.id().unwrap().0)), (name, id.to_owned()));
        }
    }

    #[test]
    fn sets_decode_as_they_were_encoded_and_differ_in_their_names_and_infer_alone() {
        for set in RuleSet::released([7; 32]) {
            let bytes = encode(&set).unwrap();
            assert_eq!(decode::<RuleSet>(&bytes, 4_096).unwrap(), set);
        }
        let [main_4, devnet_4, main_3, devnet_3, main_2, devnet_2, main_1, devnet_1] =
            RuleSet::released([7; 32]);
        for (new, old) in [
            (&main_2, main_1),
            (&main_3, main_2.clone()),
            (&main_4, main_3.clone()),
            (&devnet_2, devnet_1),
            (&devnet_3, devnet_2.clone()),
            (&devnet_4, devnet_3.clone()),
        ] {
            let (name, infer) = (old.name.clone(), old.infer.clone());
            assert_eq!(RuleSet { name, infer, ..new.clone() }, old);
        }
    }

    #[test]
    fn a_set_without_infer_rules_pays_nothing_for_it() {
        let (old, new) = (RuleSet::main_v1([0; 32]), RuleSet::main_v2([0; 32]));
        assert_eq!(old.points(TaskKind::Infer, false, 1_000), Points::ZERO);
        assert_eq!(new.points(TaskKind::Infer, false, 500), Points(30));
        assert_eq!(new.points(TaskKind::Infer, true, 1_000), Points(60));
        for kind in [TaskKind::Fetch, TaskKind::Refine] {
            assert_eq!(old.points(kind, false, 1_000), new.points(kind, false, 1_000));
        }
        assert!(!old.is_rechecked(TaskKind::Infer) && new.is_rechecked(TaskKind::Infer));
    }
}
