// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {EpochRewards, Post} from "../src/EpochRewards.sol";
import {Asset} from "../src/lib/Asset.sol";
import {Delays} from "../src/lib/Delays.sol";
import {SumTree} from "../src/lib/SumTree.sol";
import {RewardsFixture} from "./RewardsFixture.sol";
import {TreeBuilder} from "./TreeBuilder.sol";

/// @notice What holds over both assets.
abstract contract EpochRewardsSuite is RewardsFixture {
    using TreeBuilder for TreeBuilder.Tree;

    // ------------------------------------------------------------------- deployment

    function test_aNewContractHasTheEmptyRoot() public {
        EpochRewards.Anchor memory good = rewards.lastGood();
        eqHash(good.root, SumTree.EMPTY_ROOT, "root");
        eq(good.total, 0, "total");
        eq(good.size, 2, "size");
        eq(rewards.pending().finalAt, 0, "nothing pending");
        eq(rewards.maxTotal(1), 0, "nothing funded");
        fund(1);
        eq(rewards.maxTotal(1), 1, "all that is funded");
    }

    function test_aShortWindowIsRefusedOnAChainThatOthersUse() public {
        EpochRewards.Config memory c = config();
        vm.chainId(1612);
        vm.expectRevert(abi.encodeWithSelector(Delays.DelayTooShort.selector, WINDOW, 24 hours));
        new EpochRewards(c);
        c.window = 24 hours;
        new EpochRewards(c);
        uint16[4] memory local = [31337, 1337, 900, 901];
        c.window = 1;
        for (uint256 i = 0; i < local.length; ++i) {
            vm.chainId(local[i]);
            new EpochRewards(c);
        }
    }

    function test_anAddressWithoutCodeIsNoToken() public {
        EpochRewards.Config memory c = config();
        c.token = account("nobody", 0);
        vm.expectRevert(abi.encodeWithSelector(Asset.NotAToken.selector, c.token));
        new EpochRewards(c);
    }

    function test_anEpochHasALength() public {
        EpochRewards.Config memory c = config();
        c.epochSeconds = 0;
        vm.expectRevert(EpochRewards.ZeroEpochSeconds.selector);
        new EpochRewards(c);
    }

    // ------------------------------------------------------------------------ posts

    function test_aRootBecomesGoodWhenItsWindowHasPassed() public {
        fund(1000 ether);
        TreeBuilder.Tree memory tree = treeOf(1, 2, 3);
        post(1, tree);
        eqHash(rewards.pending().root, tree.root, "pending");
        eq(rewards.lastGood().epoch, 0, "not yet good");
        vm.warp(block.timestamp + WINDOW - 1);
        eq(rewards.lastGood().epoch, 0, "a second too early");
        vm.warp(block.timestamp + 1);
        eq(rewards.lastGood().epoch, 1, "good by the clock alone");
        eq(rewards.pending().finalAt, 0, "no longer pending");
        rewards.finalise();
        eq(rewards.lastGood().epoch, 1, "good in storage");
        eqHash(rewards.lastGood().postHash, keccak256(abi.encode(postOf(1, tree))), "post hash");
    }

    function test_onlyTheProposerPosts() public {
        Post memory p = postOf(1, treeOf(0, 0, 0));
        vm.deal(stranger, BOND);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.NotProposer.selector, stranger, proposer));
        rewards.post{value: BOND}(p);
    }

    function refusePost(Post memory p, uint256 value, bytes memory why) internal {
        vm.prank(proposer);
        vm.expectRevert(why);
        rewards.post{value: value}(p);
    }

    function test_oneRootIsPendingAtATime() public {
        TreeBuilder.Tree memory tree = treeOf(0, 0, 0);
        post(1, tree);
        refusePost(
            postOf(2, tree),
            BOND,
            abi.encodeWithSelector(EpochRewards.RootPending.selector, 1, START + WINDOW)
        );
    }

    function test_epochsAscendNoFasterThanTheClock() public {
        TreeBuilder.Tree memory tree = treeOf(0, 0, 0);
        refusePost(postOf(0, tree), BOND, abi.encodeWithSelector(EpochRewards.EpochPast.selector, 0, 1));
        refusePost(postOf(2, tree), BOND, abi.encodeWithSelector(EpochRewards.EpochTooEarly.selector, 2, 1));
        refusePost(
            postOf(type(uint64).max, tree),
            BOND,
            abi.encodeWithSelector(EpochRewards.EpochTooEarly.selector, type(uint64).max, 1)
        );
        vm.warp(START + 5 * EPOCH_SECONDS);
        postGood(6, tree);
        refusePost(postOf(6, tree), BOND, abi.encodeWithSelector(EpochRewards.EpochPast.selector, 6, 7));
    }

    function test_theFirstEpochMayBeZero() public {
        EpochRewards.Config memory c = config();
        c.firstEpoch = 0;
        rewards = new EpochRewards(c);
        open.approve(address(rewards), type(uint256).max);
        fund(10_000 ether);
        eq(rewards.maxTotal(0), BUDGET, "one epoch");
        postGood(0, treeOf(BUDGET, 0, 0));
        eq(rewards.lastGood().total, BUDGET, "good");
        eq(rewards.nextEpoch(), 0, "not yet stored");
        rewards.finalise();
        eq(rewards.nextEpoch(), 1, "stored");
        eq(rewards.maxTotal(0), BUDGET, "nothing more for epoch 0");
        eq(rewards.maxTotal(1), 2 * BUDGET, "one more epoch");
    }

    function test_aRootHasItsSentinels() public {
        Post memory p = postOf(1, treeOf(0, 0, 0));
        p.size = 1;
        refusePost(p, BOND, abi.encodeWithSelector(EpochRewards.SizeTooSmall.selector, 1));
    }

    function test_aTotalNeverFalls() public {
        fund(10);
        postGood(1, treeOf(1, 2, 3));
        vm.warp(START + EPOCH_SECONDS);
        refusePost(
            postOf(2, treeOf(1, 2, 2)), 0, abi.encodeWithSelector(EpochRewards.TotalDecreased.selector, 5, 6)
        );
    }

    function test_aTotalIsFunded() public {
        fund(5);
        refusePost(
            postOf(1, treeOf(1, 2, 3)), BOND, abi.encodeWithSelector(EpochRewards.OverFunded.selector, 6, 5)
        );
        eq(rewards.maxTotal(1), 5, "max total");
    }

    function test_whatWasEarnedWithoutAnAddressIsCountedWhenItIsEarned() public {
        fund(10_000 ether);
        Post memory p = postOf(1, treeOf(0, 0, 0));
        p.unbound = BUDGET + 1;
        refusePost(p, BOND, abi.encodeWithSelector(EpochRewards.OverBudget.selector, BUDGET + 1, BUDGET));
        p.unbound = BUDGET;
        vm.prank(proposer);
        rewards.post{value: BOND}(p);
        vm.warp(START + EPOCH_SECONDS);
        eq(rewards.maxTotal(2), 2 * BUDGET, "all that was given and one budget");
        Post memory gone = postOf(2, treeOf(0, 0, 0));
        refusePost(gone, 0, abi.encodeWithSelector(EpochRewards.GivenDecreased.selector, 0, BUDGET));
        // An address is bound: the first epoch's rewards move into the total beside the second's.
        postGood(2, treeOf(BUDGET, BUDGET, 0));
        eq(rewards.lastGood().total, 2 * BUDGET, "total");
    }

    function test_aTotalRisesByTheBudgetOfItsEpochs() public {
        fund(10_000 ether);
        refusePost(
            postOf(1, treeOf(BUDGET, 1, 0)),
            BOND,
            abi.encodeWithSelector(EpochRewards.OverBudget.selector, BUDGET + 1, BUDGET)
        );
        eq(rewards.maxTotal(1), BUDGET, "one epoch");
        vm.warp(START + 3 * EPOCH_SECONDS);
        eq(rewards.maxTotal(3), 3 * BUDGET, "three epochs");
        postGood(3, treeOf(3 * BUDGET, 0, 0));
        refusePost(
            postOf(4, treeOf(3 * BUDGET, BUDGET, 1)),
            0,
            abi.encodeWithSelector(EpochRewards.OverBudget.selector, BUDGET + 1, BUDGET)
        );
    }

    function test_feesRaiseTheLimitOnceAndKeep() public {
        fund(10_000 ether);
        addFees(7);
        eq(rewards.funded(), 10_000 ether + 7, "fees are funds");
        eq(rewards.maxTotal(1), BUDGET + 7, "budget and fees");
        // Three of seven are used; the budget that is left unused does not keep.
        postGood(1, treeOf(BUDGET, 3, 0));
        vm.warp(START + EPOCH_SECONDS);
        eq(rewards.maxTotal(2), 2 * BUDGET + 7, "four are left, before and after the root is stored");
        rewards.finalise();
        eq(rewards.feesGranted(), 3, "granted");
        eq(rewards.maxTotal(2), 2 * BUDGET + 7, "four are left");
        postGood(2, treeOf(BUDGET, 3, 1));
        vm.warp(START + 2 * EPOCH_SECONDS);
        eq(rewards.maxTotal(3), 2 * BUDGET + 8, "the unused budget is gone, four fees are left");
        refusePost(
            postOf(3, treeOf(2 * BUDGET, 3, 6)),
            0,
            abi.encodeWithSelector(EpochRewards.OverBudget.selector, BUDGET + 5, BUDGET + 4)
        );
        postGood(3, treeOf(2 * BUDGET, 3, 5));
        eq(rewards.maxTotal(3), 2 * BUDGET + 8, "nothing more for a past epoch");
    }

    function test_aDeadRootsFeesComeBack() public {
        fund(10_000 ether);
        addFees(7);
        (TreeBuilder.Tree memory tree, uint64 left) = unordered(BUDGET, 7);
        post(1, tree);
        rewards.challengeOrder(tree.leaf(left), tree.leaf(left + 1));
        eq(rewards.maxTotal(1), BUDGET + 7, "as if it had never been posted");
    }

    // ------------------------------------------------------------------------ bonds

    function test_aPostNeedsItsBond() public {
        refusePost(
            postOf(1, treeOf(0, 0, 0)),
            BOND - 1,
            abi.encodeWithSelector(EpochRewards.BondTooSmall.selector, BOND - 1, BOND)
        );
    }

    function test_theBondComesBackWhenTheRootIsGood() public {
        eq(rewards.bondDue(), BOND, "first post");
        postGood(1, treeOf(0, 0, 0));
        eq(rewards.bondDue(), 0, "the old bond serves again");
        uint256 before = proposer.balance;
        vm.prank(proposer);
        rewards.withdrawBond();
        eq(proposer.balance - before, BOND, "refund");
        vm.prank(proposer);
        vm.expectRevert(EpochRewards.ZeroAmount.selector);
        rewards.withdrawBond();
    }

    function test_theBondStaysWhileTheRootIsPending() public {
        post(1, treeOf(0, 0, 0));
        vm.prank(proposer);
        vm.expectRevert(EpochRewards.ZeroAmount.selector);
        rewards.withdrawBond();
    }

    function test_aBondServesOnePostAfterTheOther() public {
        postGood(1, treeOf(0, 0, 0));
        vm.warp(START + EPOCH_SECONDS);
        uint256 before = proposer.balance;
        postGood(2, treeOf(0, 0, 0));
        eq(proposer.balance, before, "nothing more was sent");
        eq(rewards.bondBalance(proposer), 0, "the bond is locked");
    }

    // ------------------------------------------------------------------- challenges

    /// @dev A tree with two leaves in the wrong order, at `left` and `left + 1`.
    function unordered(uint128 a, uint128 b)
        internal
        pure
        returns (TreeBuilder.Tree memory tree, uint64 left)
    {
        address[] memory earners = new address[](3);
        uint128[] memory amounts = new uint128[](3);
        (earners[0], earners[1], earners[2]) = (earner(5), earner(3), earner(9));
        (amounts[0], amounts[1]) = (a, b);
        return (TreeBuilder.withSentinels(earners, amounts), 1);
    }

    function test_leavesOutOfOrderKillTheRoot() public {
        fund(100);
        (TreeBuilder.Tree memory tree, uint64 left) = unordered(10, 20);
        post(1, tree);
        vm.prank(stranger);
        rewards.challengeOrder(tree.leaf(left), tree.leaf(left + 1));
        eq(rewards.pending().finalAt, 0, "dead");
        eq(rewards.bondBalance(stranger), BOND, "bond to the challenger");
        vm.warp(block.timestamp + WINDOW);
        eq(rewards.lastGood().epoch, 0, "never good");
        SumTree.Leaf memory leaf = tree.leaf(1);
        vm.expectRevert(
            abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, leaf.earner, SumTree.EMPTY_ROOT)
        );
        rewards.claim(leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums);
        // The epoch can be posted anew.
        postGood(1, treeOf(1, 2, 3));
        eq(rewards.lastGood().epoch, 1, "mended");
    }

    function test_theSameEarnerTwiceKillsTheRoot() public {
        fund(100);
        address[] memory earners = new address[](2);
        uint128[] memory amounts = new uint128[](2);
        (earners[0], earners[1]) = (earner(1), earner(1));
        TreeBuilder.Tree memory tree = TreeBuilder.withSentinels(earners, amounts);
        post(1, tree);
        rewards.challengeOrder(tree.leaf(1), tree.leaf(2));
        eq(rewards.pending().finalAt, 0, "dead");
    }

    function test_aGoodOrderCannotBeChallenged() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(1, 2, 3);
        post(1, tree);
        for (uint64 i = 0; i + 1 < tree.size; ++i) {
            SumTree.Leaf memory left = tree.leaf(i);
            SumTree.Leaf memory right = tree.leaf(i + 1);
            vm.expectRevert(
                abi.encodeWithSelector(EpochRewards.LeavesInOrder.selector, left.earner, right.earner)
            );
            rewards.challengeOrder(left, right);
            vm.expectRevert(abi.encodeWithSelector(EpochRewards.NotNeighbours.selector, i + 1, i));
            rewards.challengeOrder(right, left);
        }
        // An invented leaf has no proof.
        SumTree.Leaf memory a = tree.leaf(1);
        SumTree.Leaf memory b = tree.leaf(2);
        a.earner = earner(8);
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, a.earner, tree.root));
        rewards.challengeOrder(a, b);
    }

    function test_aMissingSentinelKillsTheRoot() public {
        fund(100);
        endDies(earner(1), earner(2), SumTree.LAST, 0, 0);
        endDies(address(0), earner(1), earner(2), 0, 2);
        endDies(address(0), earner(1), SumTree.LAST, 5, 0);
        eq(rewards.bondBalance(address(this)), 3 * BOND, "three bonds");
    }

    function endDies(address a, address b, address c, uint128 firstAmount, uint256 end) private {
        address[] memory earners = new address[](3);
        uint128[] memory amounts = new uint128[](3);
        (earners[0], earners[1], earners[2]) = (a, b, c);
        amounts[0] = firstAmount;
        TreeBuilder.Tree memory tree = TreeBuilder.ofLeaves(earners, amounts);
        post(1, tree);
        rewards.challengeEnd(tree.leaf(end));
        eq(rewards.pending().finalAt, 0, "dead");
    }

    function test_goodEndsCannotBeChallenged() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(1, 2, 3);
        post(1, tree);
        for (uint64 i = 0; i < tree.size; ++i) {
            SumTree.Leaf memory leaf = tree.leaf(i);
            vm.expectRevert(abi.encodeWithSelector(EpochRewards.EndIsRight.selector, i));
            rewards.challengeEnd(leaf);
        }
        SumTree.Leaf memory invented = tree.leaf(0);
        invented.cumulative = 1;
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, address(0), tree.root));
        rewards.challengeEnd(invented);
    }

    function test_afterTheWindowNothingCanBeChallenged() public {
        (TreeBuilder.Tree memory tree, uint64 left) = unordered(0, 0);
        SumTree.Leaf memory a = tree.leaf(left);
        SumTree.Leaf memory b = tree.leaf(left + 1);
        vm.expectRevert(EpochRewards.NoPendingRoot.selector);
        rewards.challengeOrder(a, b);
        postGood(1, tree);
        vm.expectRevert(EpochRewards.NoPendingRoot.selector);
        rewards.challengeOrder(a, b);
    }

    // ----------------------------------------------------------------------- claims

    function test_aStrangerClaimsForTheEarner() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(10, 20, 30);
        postGood(1, tree);
        vm.prank(stranger);
        SumTree.Leaf memory leaf = tree.leaf(2);
        eq(rewards.claim(leaf.earner, 20, leaf.index, leaf.siblingHashes, leaf.siblingSums), 20, "paid");
        eq(balance(earner(1)), 20, "to the earner");
        eq(balance(stranger), 0, "not to the caller");
        eq(rewards.claimed(earner(1)), 20, "booked");
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.NothingToClaim.selector, earner(1), 20));
        rewards.claim(leaf.earner, 20, leaf.index, leaf.siblingHashes, leaf.siblingSums);
    }

    function test_aLaterRootPaysTheDifference() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(10, 20, 30);
        postGood(1, tree);
        claim(tree.leaf(1));
        vm.warp(START + EPOCH_SECONDS);
        TreeBuilder.Tree memory next = treeOf(15, 20, 40);
        post(2, next);
        // While it is pending, the old root still pays.
        eq(claim(tree.leaf(2)), 20, "from the last good root");
        vm.warp(block.timestamp + WINDOW);
        eq(claim(next.leaf(1)), 5, "the difference");
        eq(claim(next.leaf(3)), 40, "both epochs at once");
        eq(rewards.totalClaimed(), 75, "total");
    }

    function test_aWrongProofPaysNothing() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(10, 20, 30);
        postGood(1, tree);
        SumTree.Leaf memory leaf = tree.leaf(1);
        bytes memory why = abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, earner(0), tree.root);
        vm.expectRevert(why);
        rewards.claim(leaf.earner, 11, leaf.index, leaf.siblingHashes, leaf.siblingSums);
        vm.expectRevert(why);
        rewards.claim(leaf.earner, 10, leaf.index + 1, leaf.siblingHashes, leaf.siblingSums);
        why = abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, stranger, tree.root);
        vm.expectRevert(why);
        rewards.claim(stranger, 10, leaf.index, leaf.siblingHashes, leaf.siblingSums);
    }

    function test_aBatchPassesOverWhatIsPaid() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(10, 20, 30);
        postGood(1, tree);
        claim(tree.leaf(2));
        SumTree.Leaf[] memory leaves = new SumTree.Leaf[](5);
        for (uint256 i = 0; i < 5; ++i) {
            leaves[i] = tree.leaf(i);
        }
        eq(rewards.claimMany(leaves), 40, "the two that were left");
        eq(rewards.claimMany(leaves), 0, "nothing is left");
        leaves[0].cumulative = 1;
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.ProofMismatch.selector, address(0), tree.root));
        rewards.claimMany(leaves);
    }

    /// @dev A root that moved a paid amount to another account passes if nobody watches; it still cannot
    /// pay more than its total.
    function test_aRootThatTakesAwayCannotOverdraw() public {
        fund(100);
        TreeBuilder.Tree memory tree = treeOf(30, 0, 0);
        postGood(1, tree);
        claim(tree.leaf(1));
        vm.warp(START + EPOCH_SECONDS);
        TreeBuilder.Tree memory thief = treeOf(0, 30, 5);
        postGood(2, thief);
        SumTree.Leaf memory leaf = thief.leaf(2);
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.Overdrawn.selector, 60, 35));
        rewards.claim(leaf.earner, 30, leaf.index, leaf.siblingHashes, leaf.siblingSums);
        eq(claim(thief.leaf(3)), 5, "what is left");
        leaf = thief.leaf(1);
        vm.expectRevert(abi.encodeWithSelector(EpochRewards.NothingToClaim.selector, earner(0), 30));
        rewards.claim(leaf.earner, 0, leaf.index, leaf.siblingHashes, leaf.siblingSums);
    }

    function testFuzz_allOfATreeIsPaidOnce(uint256 seed, uint8 count) public {
        uint256 n = within(count, 1, 24);
        uint128[] memory amounts = new uint128[](n);
        for (uint256 i = 0; i < n; ++i) {
            amounts[i] = uint128(uint256(keccak256(abi.encode(seed, i))) % 4 ether);
        }
        TreeBuilder.Tree memory tree = treeOf(amounts);
        fund(BUDGET);
        postGood(1, tree);
        SumTree.Leaf[] memory leaves = new SumTree.Leaf[](n + 2);
        for (uint256 i = 0; i < n + 2; ++i) {
            leaves[i] = tree.leaf(i);
        }
        eq(rewards.claimMany(leaves), tree.total, "paid");
        for (uint256 i = 0; i < n; ++i) {
            eq(balance(earner(i)), amounts[i], "earner");
        }
        eq(rewards.totalClaimed(), tree.total, "total");
    }

    function test_zeroIsNoFunding() public {
        vm.expectRevert(EpochRewards.ZeroAmount.selector);
        rewards.fund(0);
        vm.expectRevert(EpochRewards.ZeroAmount.selector);
        rewards.collectFees(0);
    }
}

contract EpochRewardsTokenTest is EpochRewardsSuite {
    function native() internal pure override returns (bool) {
        return false;
    }

    function test_valueIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(Asset.WrongValue.selector, 5, 0));
        rewards.fund{value: 5}(5);
    }
}

/// @notice An earner that claims again from within the payment.
contract ReentrantEarner {
    EpochRewards private rewards;
    SumTree.Leaf private leaf;
    bytes4 public refusal;

    function arm(EpochRewards rewards_, SumTree.Leaf calldata leaf_) external {
        rewards = rewards_;
        leaf = leaf_;
    }

    receive() external payable {
        try rewards.claim(leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums) {
            revert("paid twice");
        } catch (bytes memory why) {
            refusal = bytes4(why);
        }
    }
}

/// @notice An earner that takes no payment, in the ways a contract can refuse.
contract RefusingEarner {
    bool public immutable burns;

    constructor(bool burns_) {
        burns = burns_;
    }

    receive() external payable {
        if (burns) {
            while (true) {}
        }
        assembly {
            revert(0, 100000)
        }
    }
}

contract EpochRewardsNativeTest is EpochRewardsSuite {
    using TreeBuilder for TreeBuilder.Tree;

    function native() internal pure override returns (bool) {
        return true;
    }

    receive() external payable {}

    function test_theValueIsTheAmount() public {
        vm.expectRevert(abi.encodeWithSelector(Asset.WrongValue.selector, 4, 5));
        rewards.fund{value: 4}(5);
    }

    /// @dev The tree of one earner and one bystander.
    function treeWith(address special) private pure returns (TreeBuilder.Tree memory) {
        address[] memory earners = new address[](2);
        uint128[] memory amounts = new uint128[](2);
        bool first = special < earner(0);
        (earners[0], earners[1]) = first ? (special, earner(0)) : (earner(0), special);
        (amounts[0], amounts[1]) = (7, 7);
        return TreeBuilder.withSentinels(earners, amounts);
    }

    function leafOf(TreeBuilder.Tree memory tree, address who) private pure returns (SumTree.Leaf memory) {
        return tree.leaf(tree.earners[1] == who ? 1 : 2);
    }

    function test_aReceiverThatCallsBackIsPaidOnce() public {
        fund(100);
        ReentrantEarner thief = new ReentrantEarner();
        TreeBuilder.Tree memory tree = treeWith(address(thief));
        postGood(1, tree);
        thief.arm(rewards, leafOf(tree, address(thief)));
        claim(leafOf(tree, address(thief)));
        eq(address(thief).balance, 7, "once");
        eqHash(thief.refusal(), EpochRewards.NothingToClaim.selector, "refused within");
    }

    function test_aRefusedPaymentStopsNobodyElse() public {
        fund(100);
        for (uint256 i = 0; i < 2; ++i) {
            address refuser = address(new RefusingEarner(i == 0));
            TreeBuilder.Tree memory tree = treeWith(refuser);
            uint256 state = rewards.totalClaimed();
            vm.warp(START + i * EPOCH_SECONDS);
            postGood(uint64(i + 1), tree);
            SumTree.Leaf memory leaf = leafOf(tree, refuser);
            vm.expectRevert(abi.encodeWithSelector(Asset.PaymentRefused.selector, refuser, 7));
            rewards.claim(leaf.earner, 7, leaf.index, leaf.siblingHashes, leaf.siblingSums);
            SumTree.Leaf[] memory leaves = new SumTree.Leaf[](2);
            (leaves[0], leaves[1]) = (leaf, leafOf(tree, earner(0)));
            uint256 gasBefore = gasleft();
            eq(rewards.claimMany(leaves), i == 0 ? 7 : 0, "the bystander, once");
            yes(gasBefore - gasleft() < 400_000, "the refuser burns little");
            eq(rewards.claimed(refuser), 0, "still owed");
            eq(rewards.totalClaimed(), state + (i == 0 ? 7 : 0), "books");
        }
    }

    function test_aBondThatIsRefusedStaysCredited() public {
        EpochRewards.Config memory c = config();
        c.proposer = address(new RefusingEarner(false));
        rewards = new EpochRewards(c);
        vm.deal(c.proposer, BOND);
        vm.prank(c.proposer);
        rewards.post{value: BOND}(postOf(1, treeOf(0, 0, 0)));
        vm.warp(block.timestamp + WINDOW);
        rewards.finalise();
        eq(rewards.lastGood().epoch, 1, "good all the same");
        vm.prank(c.proposer);
        vm.expectRevert(abi.encodeWithSelector(Asset.PaymentRefused.selector, c.proposer, BOND));
        rewards.withdrawBond();
        eq(rewards.bondBalance(c.proposer), BOND, "credited");
    }
}
