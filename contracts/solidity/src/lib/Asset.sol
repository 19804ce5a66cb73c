// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title A contract that holds one asset
interface IAsset {
    /// @notice The ERC-20 that is held, or the zero address for native currency.
    function token() external view returns (address);
}

/// @title What a contract holds and pays: an ERC-20, or the chain's native currency
/// @notice OPEN is the gas token on its own chain and an ERC-20 elsewhere; which one is fixed at deployment.
/// @dev Tokens that take a fee on transfer or rebase are not supported. Amounts are counted by the
/// inheriting contract, never read from balances, so value forced upon it changes nothing.
abstract contract Asset is IAsset {
    using SafeERC20 for IERC20;

    /// @dev Gas for a receiver of native currency: enough for a smart account, too little to burn a batch.
    uint256 internal constant RECEIVER_GAS = 100_000;

    /// @inheritdoc IAsset
    address public immutable override token;

    /// @notice The value sent with the call is not the one that it needs.
    error WrongValue(uint256 sent, uint256 expected);
    /// @notice `to` did not accept the payment.
    error PaymentRefused(address to, uint256 amount);
    /// @notice There is no contract at the given token address.
    error NotAToken(address token);

    constructor(address token_) {
        if (token_ != address(0) && token_.code.length == 0) revert NotAToken(token_);
        token = token_;
    }

    /// @dev Takes `amount` from the caller: the value sent, or an approved ERC-20 amount.
    function _pull(uint256 amount) internal {
        if (token == address(0)) {
            if (msg.value != amount) revert WrongValue(msg.value, amount);
        } else {
            if (msg.value != 0) revert WrongValue(msg.value, 0);
            IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        }
    }

    /// @dev Pays `to`, or reverts. Callers update their books first.
    function _push(address to, uint256 amount) internal {
        if (!_tryPush(to, amount)) revert PaymentRefused(to, amount);
    }

    /// @dev Pays `to` and tells whether it was accepted; nothing has moved if not.
    function _tryPush(address to, uint256 amount) internal returns (bool) {
        if (token == address(0)) return _tryPushNative(to, amount);
        return IERC20(token).trySafeTransfer(to, amount);
    }

    /// @dev As `_tryPush`, in native currency. Return data is ignored, so it cannot cost the caller gas.
    function _tryPushNative(address to, uint256 amount) internal returns (bool accepted) {
        assembly ("memory-safe") {
            accepted := call(RECEIVER_GAS, to, amount, 0, 0, 0, 0)
        }
    }
}
