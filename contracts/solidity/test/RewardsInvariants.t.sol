// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {EpochRewards} from "../src/EpochRewards.sol";
import {OpenToken} from "../src/OpenToken.sol";
import {SumTree} from "../src/lib/SumTree.sol";
import {RewardsFixture} from "./RewardsFixture.sol";
import {TreeBuilder} from "./TreeBuilder.sol";

/// @notice Does anything that anybody may do, honest and dishonest, in any order.
contract RewardsActor is RewardsFixture {
    using TreeBuilder for TreeBuilder.Tree;

    uint256 private constant EARNERS = 5;

    bool private immutable isNative;

    /// What the test believes: the tree that pays, the one that waits, and whether that one is malformed.
    TreeBuilder.Tree private good;
    TreeBuilder.Tree private waiting;
    bool private waitingIsBad;
    mapping(address => uint128) private highest;
    mapping(bytes32 root => bool) private dead;
    uint256 public paidFromDead;
    uint256 public decreased;
    uint256 public claims;

    constructor(bool isNative_) {
        isNative = isNative_;
    }

    receive() external payable {}

    function native() internal view override returns (bool) {
        return isNative;
    }

    function setUp() public override {}

    function start(EpochRewards rewards_, OpenToken open_) external {
        rewards = rewards_;
        open = open_;
        open_.approve(address(rewards_), type(uint256).max);
        good = treeOf(new uint128[](0));
    }

    function addFunds(uint64 amount) external {
        fund(uint256(amount) + 1);
    }

    function addTheFees(uint64 amount) external {
        addFees(uint256(amount) + 1);
    }

    function wait(uint32 secs) external {
        vm.warp(block.timestamp + within(secs, 1, 2 days));
        settle();
    }

    /// @dev Moves the test's belief along with the clock.
    function settle() private {
        if (waiting.size != 0 && rewards.pending().finalAt == 0) {
            good = waiting;
            delete waiting;
        }
    }

    /// @dev Posts a tree over the same earners: honest ones only raise amounts, malformed ones are unordered,
    /// and some take from one earner what they give to another.
    function postSome(uint256 seed, uint8 kind) external {
        settle();
        EpochRewards.Anchor memory last = rewards.lastGood();
        if (waiting.size != 0 || rewards.latestEpoch() <= last.epoch) return;
        uint64 epoch = last.epoch + 1;
        TreeBuilder.Tree memory tree = nextTree(seed, kind % 4, rewards.maxTotal(epoch) - last.total);
        if (tree.total < last.total) return;
        uint256 due = rewards.bondDue();
        vm.deal(proposer, due);
        vm.prank(proposer);
        rewards.post{value: due}(postOf(epoch, tree));
        waiting = tree;
        waitingIsBad = kind % 4 == 1;
    }

    function nextTree(uint256 seed, uint256 kind, uint256 room)
        private
        view
        returns (TreeBuilder.Tree memory)
    {
        address[] memory earners = new address[](EARNERS);
        uint128[] memory amounts = new uint128[](EARNERS);
        for (uint256 i = 0; i < EARNERS; ++i) {
            earners[i] = earner(i);
            amounts[i] = good.size == EARNERS + 2 ? good.amounts[i + 1] : 0;
        }
        for (uint256 i = 0; i < EARNERS; ++i) {
            uint256 share = uint256(keccak256(abi.encode(seed, i))) % (room / EARNERS + 1);
            amounts[i] += uint128(share);
        }
        if (kind == 1) (earners[1], earners[2]) = (earners[2], earners[1]);
        if (kind == 2) (amounts[0], amounts[3]) = (0, amounts[3] + amounts[0]);
        return TreeBuilder.withSentinels(earners, amounts);
    }

    function challenge() external {
        settle();
        if (waiting.size == 0 || !waitingIsBad) return;
        dead[waiting.root] = true;
        rewards.challengeOrder(waiting.leaf(2), waiting.leaf(3));
        delete waiting;
    }

    function claimOne(uint8 which) external {
        settle();
        if (good.size != EARNERS + 2) return;
        SumTree.Leaf memory leaf = good.leaf(within(which, 1, EARNERS));
        bytes32 root = rewards.lastGood().root;
        try rewards.claim(leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums) {
            ++claims;
            if (dead[root]) ++paidFromDead;
        } catch (bytes memory why) {
            bytes4 code = bytes4(why);
            yes(
                code == EpochRewards.NothingToClaim.selector || code == EpochRewards.Overdrawn.selector,
                "no other refusal of a good proof"
            );
        }
        note();
    }

    function claimAll() external {
        settle();
        if (good.size != EARNERS + 2) return;
        SumTree.Leaf[] memory leaves = new SumTree.Leaf[](EARNERS);
        for (uint256 i = 0; i < EARNERS; ++i) {
            leaves[i] = good.leaf(i + 1);
        }
        try rewards.claimMany(leaves) {
            ++claims;
        } catch (bytes memory why) {
            eqHash(bytes4(why), EpochRewards.Overdrawn.selector, "only an overdraw stops a batch");
        }
        note();
    }

    function claimTheWaiting(uint8 which) external {
        settle();
        if (waiting.size == 0) return;
        SumTree.Leaf memory leaf = waiting.leaf(within(which, 1, EARNERS));
        try rewards.claim(leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums) {
            // The same tree may be posted twice in a row; only another one must not pay.
            if (waiting.root != good.root) ++paidFromDead;
        } catch {}
        note();
    }

    function note() private {
        for (uint256 i = 0; i < EARNERS; ++i) {
            uint128 now_ = rewards.claimed(earner(i));
            if (now_ < highest[earner(i)]) ++decreased;
            highest[earner(i)] = now_;
        }
    }

    function sumClaimed() external view returns (uint256 sum) {
        for (uint256 i = 0; i < EARNERS; ++i) {
            sum += rewards.claimed(earner(i));
        }
    }
}

/// @notice What holds after anything.
abstract contract RewardsInvariants is RewardsFixture {
    RewardsActor internal actor;

    function setUp() public override {
        super.setUp();
        actor = new RewardsActor(native());
        if (native()) vm.deal(address(actor), 1e27);
        else open.transfer(address(actor), 1e27);
        actor.start(rewards, open);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory selectors) {
        selectors = new FuzzSelector[](1);
        selectors[0].addr = address(actor);
        selectors[0].selectors = new bytes4[](8);
        selectors[0].selectors[0] = RewardsActor.addFunds.selector;
        selectors[0].selectors[1] = RewardsActor.addTheFees.selector;
        selectors[0].selectors[2] = RewardsActor.wait.selector;
        selectors[0].selectors[3] = RewardsActor.postSome.selector;
        selectors[0].selectors[4] = RewardsActor.challenge.selector;
        selectors[0].selectors[5] = RewardsActor.claimOne.selector;
        selectors[0].selectors[6] = RewardsActor.claimAll.selector;
        selectors[0].selectors[7] = RewardsActor.claimTheWaiting.selector;
    }

    function invariant_claimsNeverExceedTheTotalNorTheFunds() public view {
        uint256 claimed = rewards.totalClaimed();
        eq(actor.sumClaimed(), claimed, "sum of the earners");
        yes(claimed <= rewards.lastGood().total, "claimed <= total of the last good root");
        yes(rewards.lastGood().total <= rewards.funded(), "total <= funded");
        yes(rewards.feesGranted() <= rewards.feesCollected(), "granted fees were collected");
        yes(rewards.feesCollected() <= rewards.funded(), "fees are funds");
    }

    function invariant_theContractHoldsWhatItOwes() public view {
        uint256 bonds = rewards.bondBalance(proposer) + rewards.bondBalance(address(actor));
        if (rewards.pending().finalAt != 0 || rewards.bondDue() < BOND - rewards.bondBalance(proposer)) {
            bonds += BOND;
        }
        uint256 pool = rewards.funded() - rewards.totalClaimed();
        if (native()) {
            eq(address(rewards).balance, pool + bonds, "native balance");
        } else {
            eq(open.balanceOf(address(rewards)), pool, "token balance");
            eq(address(rewards).balance, bonds, "bonds");
        }
    }

    function invariant_claimedNeverFallsAndDeadRootsNeverPay() public view {
        eq(actor.decreased(), 0, "claimed is monotone");
        eq(actor.paidFromDead(), 0, "a dead or waiting root paid");
    }
}

contract RewardsTokenInvariants is RewardsInvariants {
    function native() internal pure override returns (bool) {
        return false;
    }
}

contract RewardsNativeInvariants is RewardsInvariants {
    function native() internal pure override returns (bool) {
        return true;
    }
}
