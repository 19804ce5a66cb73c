// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// @title The Merkle trees of receipts, verdicts and data chunks
/// @notice The walk of the sum tree without sums; the meaning of a leaf depends on the tree.
/// @dev The format and its test vectors are in contracts/vectors.
library PlainTree {
    /// @notice Bytes of a data chunk; only the last one of a tree may be shorter.
    uint256 internal constant CHUNK_BYTES = 8192;

    /// @dev The leaf of a receipt: a proof and the epoch by which it counts.
    function receiptLeaf(bytes32 proofId, uint64 countBy) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), proofId, countBy));
    }

    /// @dev The leaf of a verdict row: 1 accepted, 2 rejected, 3 inconclusive.
    function verdictLeaf(bytes32 proofId, uint8 verdict, uint64 points) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), proofId, verdict, points));
    }

    /// @dev The leaf of a data chunk.
    function chunkLeaf(uint64 index, bytes memory chunk) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), index, chunk));
    }

    /// @dev Whether `leaf` stands at `index` of the tree of this root and size.
    function contains(bytes32 root, uint64 size, bytes32 leaf, uint64 index, bytes32[] memory siblings)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 used = 0;
        for (uint64 nodes = size; nodes > 1; nodes = (nodes >> 1) + (nodes & 1)) {
            if (index + 1 < nodes || nodes & 1 == 0) {
                if (used == siblings.length) return false;
                bytes32 sibling = siblings[used++];
                leaf = index & 1 == 1
                    ? keccak256(abi.encodePacked(uint8(1), sibling, leaf))
                    : keccak256(abi.encodePacked(uint8(1), leaf, sibling));
            }
            index >>= 1;
        }
        return used == siblings.length && keccak256(abi.encodePacked(uint8(2), leaf, size)) == root;
    }
}
