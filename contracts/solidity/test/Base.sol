// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// @notice The part of forge's cheat codes that these tests use.
interface Vm {
    function addr(uint256 privateKey) external pure returns (address);
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function deal(address account, uint256 balance) external;
    function etch(address account, bytes calldata code) external;
    function expectEmit() external;
    function expectRevert(bytes calldata data) external;
    function expectRevert(bytes4 selector) external;
    function keyExistsJson(string calldata json, string calldata key) external view returns (bool);
    function parseJsonAddress(string calldata json, string calldata key) external pure returns (address);
    function parseJsonAddressArray(string calldata json, string calldata key)
        external
        pure
        returns (address[] memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function parseJsonBytes32(string calldata json, string calldata key) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata key)
        external
        pure
        returns (bytes32[] memory);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function parseJsonUintArray(string calldata json, string calldata key)
        external
        pure
        returns (uint256[] memory);
    function prank(address caller) external;
    function readFile(string calldata path) external view returns (string memory);
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function toString(uint256 value) external pure returns (string memory);
    function warp(uint256 timestamp) external;
}

/// @notice Assertions and helpers. forge takes a test as failed when it reverts.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error Unequal(string what, uint256 left, uint256 right);
    error UnequalHash(string what, bytes32 left, bytes32 right);
    error Untrue(string what);

    function eq(uint256 left, uint256 right, string memory what) internal pure {
        if (left != right) revert Unequal(what, left, right);
    }

    function eq(address left, address right, string memory what) internal pure {
        eq(uint160(left), uint160(right), what);
    }

    function eqHash(bytes32 left, bytes32 right, string memory what) internal pure {
        if (left != right) revert UnequalHash(what, left, right);
    }

    function yes(bool condition, string memory what) internal pure {
        if (!condition) revert Untrue(what);
    }

    function no(bool condition, string memory what) internal pure {
        yes(!condition, what);
    }

    /// @dev `value` brought into `low..=high`.
    function within(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    /// @dev A deterministic account that is no precompile and has no code.
    function account(string memory name, uint256 number) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(name, number)))));
    }
}
