// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title OPEN as an ERC-20 with permits (ERC-2612)
/// @notice A fixed supply of one billion, minted once. Nobody can mint, burn for others, pause or upgrade.
contract OpenToken is ERC20, ERC20Permit {
    /// @notice The whole supply, in units of 10^-18 OPEN.
    uint256 public constant SUPPLY = 1_000_000_000 ether;

    /// @param recipient Receives the whole supply.
    constructor(address recipient) ERC20("OpenLedger", "OPEN") ERC20Permit("OpenLedger") {
        _mint(recipient, SUPPLY);
    }
}
