// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Asset} from "./lib/Asset.sol";
import {Delays} from "./lib/Delays.sol";
import {IFeePool} from "./IFeePool.sol";

/// @notice A payer's word that a payee has earned `valueAggregate` (10^-18 OPEN) with a model so far. Only the
/// newest one matters: it contains all before it.
struct Voucher {
    address payer;
    address payee;
    bytes32 model;
    uint128 valueAggregate;
    bytes32 receiptsRoot;
}

/// @title Pays for calls by cumulative vouchers
/// @notice A payer keeps a lane per payee, so the same OPEN is never promised to two. The payee collects what
/// its newest voucher adds, in exactly three parts: operator (the payee), protocol, and the pool that pays
/// everybody else whom the receipts name. Money leaves a lane for the payer only after a delay, during which
/// vouchers are still paid first.
/// @dev The split is fixed at deployment. A split per model, from its registered snapshot, and the rule that a
/// payee must be a staked operator belong to the registries.
contract CallEscrow is Asset, EIP712 {
    using SafeERC20 for IERC20;

    /// @notice What is fixed at deployment.
    struct Config {
        /// The ERC-20 that is paid, or the zero address for native currency; must be the pool's.
        address token;
        /// Receives the attribution part as fees.
        address pool;
        /// Receives the protocol's part.
        address treasury;
        /// Hundredths of a per cent; the rest of 10,000 goes to the pool.
        uint16 operatorBps;
        uint16 protocolBps;
        /// Seconds between asking for money back and taking it.
        uint64 thawSeconds;
    }

    /// @notice The money of one payer for one payee. A payee relies on `balance - thawing` only.
    struct Lane {
        uint128 balance;
        /// Part of the balance that the payer has asked back, and when it may take it.
        uint128 thawing;
        uint64 thawedAt;
    }

    bytes32 private constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(address payer,address payee,bytes32 model,uint128 valueAggregate,bytes32 receiptsRoot)"
    );
    uint256 private constant BPS = 10_000;
    uint64 private constant FOREVER = type(uint64).max;

    IFeePool public immutable pool;
    address public immutable treasury;
    uint16 public immutable operatorBps;
    uint16 public immutable protocolBps;
    uint64 public immutable thawSeconds;

    mapping(address payer => mapping(address payee => Lane)) private _lanes;
    /// @notice What was collected so far of the vouchers for a payer, a payee and a model.
    mapping(address payer => mapping(address payee => mapping(bytes32 model => uint128))) public collected;
    /// @notice Until when a signer speaks for a payer; 0 never, 2^64 - 1 until revoked.
    mapping(address payer => mapping(address signer => uint64)) public signerUntil;

    event Deposited(address indexed payer, address indexed payee, uint128 amount, uint128 balance);
    event SignerAuthorised(address indexed payer, address indexed signer);
    event SignerRevoked(address indexed payer, address indexed signer, uint64 until);
    event ThawStarted(address indexed payer, address indexed payee, uint128 amount, uint64 thawedAt);
    event Withdrawn(address indexed payer, address indexed payee, uint128 amount);
    event Collected(
        address indexed payer,
        address indexed payee,
        bytes32 indexed model,
        uint128 operatorPart,
        uint128 protocolPart,
        uint128 poolPart,
        bytes32 receiptsRoot
    );

    error SplitTooLarge(uint256 bps);
    error PoolTokenDiffers(address poolToken, address token);
    error ZeroAmount();
    error NotASigner(address payer, address signer);
    error NothingToCollect(uint128 valueAggregate, uint128 collected, uint128 balance);
    error ThawTooLarge(uint128 amount, uint128 balance);
    error NothingThawing();
    error StillThawing(uint64 thawedAt);

    constructor(Config memory config) Asset(config.token) EIP712("OpenLedger", "1") {
        Delays.check(config.thawSeconds);
        uint256 parts = uint256(config.operatorBps) + config.protocolBps;
        if (parts > BPS) revert SplitTooLarge(parts);
        pool = IFeePool(config.pool);
        address poolToken = pool.token();
        if (poolToken != config.token) revert PoolTokenDiffers(poolToken, config.token);
        treasury = config.treasury;
        operatorBps = config.operatorBps;
        protocolBps = config.protocolBps;
        thawSeconds = config.thawSeconds;
    }

    // ------------------------------------------------------------------ the payer

    /// @notice Adds `amount` to the caller's lane for `payee`.
    function deposit(address payee, uint128 amount) external payable {
        if (amount == 0) revert ZeroAmount();
        Lane storage lane = _lanes[msg.sender][payee];
        lane.balance += amount;
        emit Deposited(msg.sender, payee, amount, lane.balance);
        _pull(amount);
    }

    /// @notice Lets `signer` sign vouchers for the caller, who may always sign itself.
    function authoriseSigner(address signer) external {
        signerUntil[msg.sender][signer] = FOREVER;
        emit SignerAuthorised(msg.sender, signer);
    }

    /// @notice Ends a signer's right after the thawing time, so that vouchers already given can be collected.
    function revokeSigner(address signer) external {
        if (signerUntil[msg.sender][signer] != FOREVER) revert NotASigner(msg.sender, signer);
        uint64 until = uint64(block.timestamp) + thawSeconds;
        signerUntil[msg.sender][signer] = until;
        emit SignerRevoked(msg.sender, signer, until);
    }

    /// @notice Asks for `amount` of a lane back. Replaces an earlier request and starts its time anew; 0 ends it.
    function thaw(address payee, uint128 amount) external {
        Lane storage lane = _lanes[msg.sender][payee];
        if (amount > lane.balance) revert ThawTooLarge(amount, lane.balance);
        lane.thawing = amount;
        lane.thawedAt = uint64(block.timestamp) + thawSeconds;
        emit ThawStarted(msg.sender, payee, amount, lane.thawedAt);
    }

    /// @notice Pays the caller what it asked back, or what vouchers have left of it.
    function withdraw(address payee) external returns (uint128 amount) {
        Lane storage lane = _lanes[msg.sender][payee];
        amount = lane.thawing < lane.balance ? lane.thawing : lane.balance;
        if (amount == 0) revert NothingThawing();
        if (block.timestamp < lane.thawedAt) revert StillThawing(lane.thawedAt);
        lane.thawing = 0;
        lane.balance -= amount;
        emit Withdrawn(msg.sender, payee, amount);
        _push(msg.sender, amount);
    }

    // ------------------------------------------------------------------ the payee

    /// @notice Pays what the voucher adds to what was collected, as far as the lane reaches. Anybody may call.
    /// @param signature 65 bytes of the payer or a signer that it authorised.
    /// @return paid The sum of the three parts.
    function collect(Voucher calldata voucher, bytes calldata signature) external returns (uint128 paid) {
        address signer = ECDSA.recoverCalldata(hashVoucher(voucher), signature);
        if (signer != voucher.payer && block.timestamp >= signerUntil[voucher.payer][signer]) {
            revert NotASigner(voucher.payer, signer);
        }
        paid = _take(voucher);
        // A part of `paid` fits where `paid` does, because the shares are at most the whole.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 operatorPart = uint128(uint256(paid) * operatorBps / BPS);
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 protocolPart = uint128(uint256(paid) * protocolBps / BPS);
        // What rounding leaves goes to the pool, so the parts always make the whole.
        uint128 poolPart = paid - operatorPart - protocolPart;
        emit Collected(
            voucher.payer,
            voucher.payee,
            voucher.model,
            operatorPart,
            protocolPart,
            poolPart,
            voucher.receiptsRoot
        );
        if (operatorPart != 0) _push(voucher.payee, operatorPart);
        if (protocolPart != 0) _push(treasury, protocolPart);
        if (poolPart != 0) _pushFees(poolPart);
    }

    /// @dev Books what can be collected of a voucher before anything is paid.
    function _take(Voucher calldata voucher) private returns (uint128 amount) {
        Lane storage lane = _lanes[voucher.payer][voucher.payee];
        uint128 before = collected[voucher.payer][voucher.payee][voucher.model];
        if (voucher.valueAggregate > before) amount = voucher.valueAggregate - before;
        if (amount > lane.balance) amount = lane.balance;
        if (amount == 0) revert NothingToCollect(voucher.valueAggregate, before, lane.balance);
        collected[voucher.payer][voucher.payee][voucher.model] = before + amount;
        lane.balance -= amount;
    }

    function _pushFees(uint128 amount) private {
        if (token == address(0)) {
            pool.collectFees{value: amount}(amount);
        } else {
            IERC20(token).forceApprove(address(pool), amount);
            pool.collectFees(amount);
        }
    }

    // ---------------------------------------------------------------------- views

    /// @notice The money of `payer` for `payee`.
    function laneOf(address payer, address payee) external view returns (Lane memory) {
        return _lanes[payer][payee];
    }

    /// @notice The EIP-712 digest that a voucher's signer signs.
    function hashVoucher(Voucher calldata voucher) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    VOUCHER_TYPEHASH,
                    voucher.payer,
                    voucher.payee,
                    voucher.model,
                    voucher.valueAggregate,
                    voucher.receiptsRoot
                )
            )
        );
    }
}
