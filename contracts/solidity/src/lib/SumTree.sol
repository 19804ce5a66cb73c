// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// @title The Merkle-sum tree of cumulative rewards
/// @notice Every node carries the sum of the leaves below it, so a root cannot promise more than its total.
/// Leaves ascend by address between two sentinels, address 0 and address 2^160 - 1, both with amount 0.
/// @dev The format and its test vectors are in contracts/vectors.
library SumTree {
    /// @notice A leaf and its path: the siblings bottom up, none where a node is promoted.
    struct Leaf {
        address earner;
        uint128 cumulative;
        uint64 index;
        bytes32[] siblingHashes;
        uint128[] siblingSums;
    }

    /// @notice The root of a tree without earners: two sentinels, total 0, size 2.
    bytes32 internal constant EMPTY_ROOT = 0x05afae5e43d4953cd67f8b9139fd713c6b1f5153cac39f9f89aa3de81887a073;
    /// @notice The leaves of an empty tree.
    uint64 internal constant MIN_SIZE = 2;
    /// @notice The last sentinel.
    address internal constant LAST = address(type(uint160).max);

    /// @dev Whether the leaf with this path is in the tree of this root, total and size.
    function contains(bytes32 root, uint128 total, uint64 size, Leaf calldata leaf)
        internal
        pure
        returns (bool)
    {
        return contains(
            root, total, size, leaf.earner, leaf.cumulative, leaf.index, leaf.siblingHashes, leaf.siblingSums
        );
    }

    /// @dev The same with the leaf's parts apart.
    function contains(
        bytes32 root,
        uint128 total,
        uint64 size,
        address earner,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata siblingHashes,
        uint128[] calldata siblingSums
    ) internal pure returns (bool) {
        if (index >= size || siblingHashes.length != siblingSums.length) {
            return false;
        }
        bytes32 hash = keccak256(abi.encodePacked(uint8(0), earner, cumulative));
        // Wider than an amount, so that too large a sum is seen; it fits 128 bits whenever it is hashed.
        uint256 sum = cumulative;
        uint256 used = 0;
        for (uint64 nodes = size; nodes > 1; nodes = (nodes >> 1) + (nodes & 1)) {
            // The last node of an odd level moves up as it is.
            if (index + 1 < nodes || nodes & 1 == 0) {
                if (used == siblingHashes.length) return false;
                // forge-lint: disable-next-line(unsafe-typecast)
                hash = _parent(hash, uint128(sum), siblingHashes[used], siblingSums[used], index & 1 == 1);
                sum += siblingSums[used];
                if (sum > type(uint128).max) return false;
                ++used;
            }
            index >>= 1;
        }
        return used == siblingHashes.length && sum == total
            && keccak256(abi.encodePacked(uint8(2), hash, total, size)) == root;
    }

    function _parent(bytes32 hash, uint128 sum, bytes32 siblingHash, uint128 siblingSum, bool siblingIsLeft)
        private
        pure
        returns (bytes32)
    {
        if (siblingIsLeft) return keccak256(abi.encodePacked(uint8(1), siblingHash, siblingSum, hash, sum));
        return keccak256(abi.encodePacked(uint8(1), hash, sum, siblingHash, siblingSum));
    }
}
