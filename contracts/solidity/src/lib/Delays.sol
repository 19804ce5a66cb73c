// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// @title The shortest delays that a sequencer cannot outlast
/// @notice A sequencer that drops a challenge can be bypassed by forced inclusion through L1, 12 hours on the
/// OP Stack. A delay that protects somebody must be at least twice that, except on a chain of one's own machine.
library Delays {
    /// @notice Twice the forced-inclusion delay of the OP Stack.
    uint64 internal constant MIN_SECONDS = 24 hours;

    /// @notice The delay is too short for a chain that others use.
    error DelayTooShort(uint64 delaySeconds, uint64 minSeconds);

    /// @dev Reverts when `delaySeconds` is too short for this chain. Local chains: anvil and hardhat (31337),
    /// geth --dev (1337), the OP Stack's devnet (900 and 901).
    function check(uint64 delaySeconds) internal view {
        uint256 id = block.chainid;
        if (id == 31337 || id == 1337 || id == 900 || id == 901) return;
        if (delaySeconds < MIN_SECONDS) revert DelayTooShort(delaySeconds, MIN_SECONDS);
    }
}
