// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {CallEscrow, Voucher} from "../src/CallEscrow.sol";
import {Post} from "../src/EpochRewards.sol";
import {SumTree} from "../src/lib/SumTree.sol";
import {RewardsFixture} from "./RewardsFixture.sol";
import {TreeBuilder} from "./TreeBuilder.sol";

/// @notice One call each, everything else in `setUp`: the figures that .gas-snapshot keeps. Over the ERC-20
/// and with 1,000 earners, so a path has ten siblings.
contract GasTest is RewardsFixture {
    using TreeBuilder for TreeBuilder.Tree;

    Post private first;
    Post private second;
    Post private firstUnordered;
    SumTree.Leaf private leaf;
    SumTree.Leaf private leafLater;
    SumTree.Leaf private left;
    SumTree.Leaf private right;
    SumTree.Leaf[] private batch;
    CallEscrow private escrow;
    Voucher private voucher;
    bytes private signature;

    function native() internal pure override returns (bool) {
        return false;
    }

    function setUp() public override {
        super.setUp();
        fund(1000 ether);
        uint128[] memory amounts = new uint128[](1000);
        for (uint256 i = 0; i < 1000; ++i) {
            amounts[i] = 1e15;
        }
        TreeBuilder.Tree memory tree = treeOf(amounts);
        first = postOf(1, tree);
        leaf = tree.leaf(500);
        for (uint256 i = 0; i < 10; ++i) {
            batch.push(tree.leaf(700 + i));
        }
        for (uint256 i = 0; i < 1000; ++i) {
            amounts[i] += 1e15;
        }
        tree = treeOf(amounts);
        second = postOf(2, tree);
        leafLater = tree.leaf(500);
        (tree.earners[9], tree.earners[10]) = (tree.earners[10], tree.earners[9]);
        tree = TreeBuilder.ofLeaves(tree.earners, tree.amounts);
        firstUnordered = postOf(1, tree);
        left = tree.leaf(9);
        right = tree.leaf(10);
        setUpEscrow();
    }

    function setUpEscrow() private {
        escrow = new CallEscrow(
            CallEscrow.Config(address(open), address(rewards), account("treasury", 0), 6000, 500, 1 days)
        );
        address payer = vm.addr(1);
        open.transfer(payer, 1 ether);
        vm.prank(payer);
        open.approve(address(escrow), 1 ether);
        vm.prank(payer);
        escrow.deposit(account("payee", 0), 1 ether);
        voucher = Voucher(payer, account("payee", 0), keccak256("model"), 0.5 ether, keccak256("r"));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(1, escrow.hashVoucher(voucher));
        signature = abi.encodePacked(r, s, v);
    }

    function doPost(Post memory p, uint256 value) private {
        vm.prank(proposer);
        rewards.post{value: value}(p);
    }

    function test_gas_a_postFirst() public {
        doPost(first, BOND);
    }

    function test_gas_b_postAndClaimFirst() public {
        doPost(first, BOND);
        vm.warp(START + WINDOW);
        claim(leaf);
    }

    function test_gas_c_postAndClaimTen() public {
        doPost(first, BOND);
        vm.warp(START + WINDOW);
        rewards.claimMany(batch);
    }

    function test_gas_d_postAndClaimTwice() public {
        doPost(first, BOND);
        vm.warp(START + WINDOW);
        claim(leaf);
        vm.warp(START + EPOCH_SECONDS);
        doPost(second, 0);
        vm.warp(START + EPOCH_SECONDS + WINDOW);
        claim(leafLater);
    }

    function test_gas_e_postAndChallengeOrder() public {
        doPost(firstUnordered, BOND);
        rewards.challengeOrder(left, right);
    }

    function test_gas_f_collectFirst() public {
        escrow.collect(voucher, signature);
    }
}
