// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {SumTree} from "../src/lib/SumTree.sol";

/// @notice Builds sum trees for tests, valid ones or not: it takes the leaves as they are given.
library TreeBuilder {
    struct Tree {
        address[] earners;
        uint128[] amounts;
        bytes32[][] hashes;
        uint128[][] sums;
        bytes32 root;
        uint128 total;
        uint64 size;
    }

    /// @dev The tree of these earners, which must ascend, between its sentinels.
    function withSentinels(address[] memory earners, uint128[] memory amounts)
        internal
        pure
        returns (Tree memory)
    {
        address[] memory all = new address[](earners.length + 2);
        uint128[] memory sums = new uint128[](earners.length + 2);
        for (uint256 i = 0; i < earners.length; ++i) {
            all[i + 1] = earners[i];
            sums[i + 1] = amounts[i];
        }
        all[all.length - 1] = SumTree.LAST;
        return ofLeaves(all, sums);
    }

    /// @dev The tree of exactly these leaves.
    function ofLeaves(address[] memory earners, uint128[] memory amounts)
        internal
        pure
        returns (Tree memory tree)
    {
        tree.earners = earners;
        tree.amounts = amounts;
        tree.size = uint64(earners.length);
        uint256 levels = 1;
        for (uint256 n = earners.length; n > 1; n = (n + 1) / 2) {
            ++levels;
        }
        tree.hashes = new bytes32[][](levels);
        tree.sums = new uint128[][](levels);
        tree.hashes[0] = new bytes32[](earners.length);
        tree.sums[0] = amounts;
        for (uint256 i = 0; i < earners.length; ++i) {
            tree.hashes[0][i] = keccak256(abi.encodePacked(uint8(0), earners[i], amounts[i]));
        }
        for (uint256 level = 1; level < levels; ++level) {
            _raise(tree, level);
        }
        tree.total = tree.sums[levels - 1][0];
        tree.root = keccak256(abi.encodePacked(uint8(2), tree.hashes[levels - 1][0], tree.total, tree.size));
    }

    function _raise(Tree memory tree, uint256 level) private pure {
        bytes32[] memory hashes = tree.hashes[level - 1];
        uint128[] memory sums = tree.sums[level - 1];
        uint256 count = (hashes.length + 1) / 2;
        tree.hashes[level] = new bytes32[](count);
        tree.sums[level] = new uint128[](count);
        for (uint256 i = 0; i < count; ++i) {
            if (2 * i + 1 == hashes.length) {
                tree.hashes[level][i] = hashes[2 * i];
                tree.sums[level][i] = sums[2 * i];
            } else {
                tree.hashes[level][i] = keccak256(
                    abi.encodePacked(uint8(1), hashes[2 * i], sums[2 * i], hashes[2 * i + 1], sums[2 * i + 1])
                );
                tree.sums[level][i] = sums[2 * i] + sums[2 * i + 1];
            }
        }
    }

    /// @dev The leaf at `index` (counting sentinels) with its path.
    function leaf(Tree memory tree, uint256 index) internal pure returns (SumTree.Leaf memory proof) {
        proof.earner = tree.earners[index];
        proof.cumulative = tree.amounts[index];
        proof.index = uint64(index);
        uint256 used = 0;
        uint256 at = index;
        for (uint256 level = 0; level + 1 < tree.hashes.length; ++level) {
            if (at ^ 1 < tree.hashes[level].length) ++used;
            at /= 2;
        }
        proof.siblingHashes = new bytes32[](used);
        proof.siblingSums = new uint128[](used);
        used = 0;
        at = index;
        for (uint256 level = 0; level + 1 < tree.hashes.length; ++level) {
            if (at ^ 1 < tree.hashes[level].length) {
                proof.siblingHashes[used] = tree.hashes[level][at ^ 1];
                proof.siblingSums[used++] = tree.sums[level][at ^ 1];
            }
            at /= 2;
        }
    }
}
