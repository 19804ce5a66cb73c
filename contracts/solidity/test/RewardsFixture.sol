// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {EpochRewards, Post} from "../src/EpochRewards.sol";
import {OpenToken} from "../src/OpenToken.sol";
import {SumTree} from "../src/lib/SumTree.sol";
import {Base} from "./Base.sol";
import {TreeBuilder} from "./TreeBuilder.sol";

/// @notice An EpochRewards with money in it, over an ERC-20 or over native currency.
abstract contract RewardsFixture is Base {
    using TreeBuilder for TreeBuilder.Tree;

    uint256 internal constant BOND = 1 ether;
    uint64 internal constant WINDOW = 1 hours;
    uint128 internal constant BUDGET = 100 ether;
    uint64 internal constant EPOCH_SECONDS = 1 days;
    uint64 internal constant START = 1_800_000_000;

    OpenToken internal open;
    EpochRewards internal rewards;
    address internal proposer = account("proposer", 0);
    address internal stranger = account("stranger", 0);

    /// @dev Whether the suite runs over native currency.
    function native() internal view virtual returns (bool);

    function setUp() public virtual {
        vm.warp(START);
        open = new OpenToken(address(this));
        rewards = new EpochRewards(config());
        vm.deal(address(this), 1e27);
        vm.deal(proposer, 100 ether);
        open.approve(address(rewards), type(uint256).max);
    }

    function config() internal view returns (EpochRewards.Config memory) {
        return EpochRewards.Config({
            token: native() ? address(0) : address(open),
            proposer: proposer,
            bond: BOND,
            window: WINDOW,
            epochBudget: BUDGET,
            epochSeconds: EPOCH_SECONDS,
            firstEpoch: 1
        });
    }

    function fund(uint256 amount) internal {
        rewards.fund{value: native() ? amount : 0}(amount);
    }

    function addFees(uint256 amount) internal {
        rewards.collectFees{value: native() ? amount : 0}(amount);
    }

    function balance(address who) internal view returns (uint256) {
        return native() ? who.balance : open.balanceOf(who);
    }

    function earner(uint256 i) internal pure returns (address) {
        return address(uint160((i + 1) << 80));
    }

    /// @dev Earners 0, 1, ... with these amounts.
    function treeOf(uint128[] memory amounts) internal pure returns (TreeBuilder.Tree memory) {
        address[] memory earners = new address[](amounts.length);
        for (uint256 i = 0; i < amounts.length; ++i) {
            earners[i] = earner(i);
        }
        return TreeBuilder.withSentinels(earners, amounts);
    }

    function treeOf(uint128 a, uint128 b, uint128 c) internal pure returns (TreeBuilder.Tree memory) {
        uint128[] memory amounts = new uint128[](3);
        (amounts[0], amounts[1], amounts[2]) = (a, b, c);
        return treeOf(amounts);
    }

    function postOf(uint64 epoch, TreeBuilder.Tree memory tree) internal pure returns (Post memory p) {
        p.epoch = epoch;
        p.root = tree.root;
        p.total = tree.total;
        p.size = tree.size;
        p.dataCommitment = keccak256("data");
    }

    /// @dev Posts with the bond that is due.
    function post(uint64 epoch, TreeBuilder.Tree memory tree) internal {
        uint256 due = rewards.bondDue();
        vm.prank(proposer);
        rewards.post{value: due}(postOf(epoch, tree));
    }

    /// @dev Posts and lets the window pass.
    function postGood(uint64 epoch, TreeBuilder.Tree memory tree) internal {
        post(epoch, tree);
        vm.warp(block.timestamp + WINDOW);
    }

    function claim(SumTree.Leaf memory leaf) internal returns (uint128) {
        return rewards.claim(leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums);
    }
}
