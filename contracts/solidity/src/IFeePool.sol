// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {IAsset} from "./lib/Asset.sol";

/// @title The pool that pays everybody whom a call's receipt names
interface IFeePool is IAsset {
    /// @notice Adds fees to the pool: with the call's value, or from the caller's approved ERC-20.
    function collectFees(uint256 amount) external payable;
}
