// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {Asset} from "./lib/Asset.sol";
import {Delays} from "./lib/Delays.sol";
import {SumTree} from "./lib/SumTree.sol";
import {IFeePool} from "./IFeePool.sol";

/// @notice What the proposer says about an epoch. Only `root`, `total` and `size` pay; the rest binds the
/// evidence that the sums were computed from, and is kept by its hash.
struct Post {
    /// The number of the epoch.
    uint64 epoch;
    /// The sum tree of cumulative rewards, its total (10^-18 OPEN) and its leaves with both sentinels.
    bytes32 root;
    uint128 total;
    uint64 size;
    /// Sorted verdict rows; call receipts; attribution: plain trees.
    bytes32 proofsRoot;
    bytes32 callReceiptsRoot;
    bytes32 attributionRoot;
    /// The published bundle in chunks, and its bytes.
    bytes32 dataCommitment;
    uint64 dataSize;
    /// The coordinator's log up to the close.
    bytes32 logHead;
    uint64 logHeight;
    /// The rule set that the epoch was closed by.
    bytes32 ruleSet;
    /// Of the rewards so far, what belongs to accounts without a payout address.
    uint128 unbound;
}

/// @title Rewards by cumulative roots, posted with a bond and open to challenge
/// @notice The proposer posts one root per epoch. It pays after a window in which anybody can show that it is
/// malformed; until then, and whenever a root dies, claims go on from the last good one. Anybody may claim for
/// an earner; only the earner is paid.
///
/// What an unwatched lie can cost is bounded without anybody's word: what was given (the total, and what is
/// earned by accounts without an address) may rise by no more than the budget of the epochs since the last good root plus the fees collected, epochs come no faster than the clock,
/// and claims never exceed the total of the last good root.
/// @dev Challenges so far need the tree alone: `challengeOrder` and `challengeEnd`. Those that make the
/// proposer answer (`challengeOpen`, `challengeData`, `challengeReceipt`, `forceInclude`) and the registered
/// rule sets belong in this contract too; the hash of every post is kept for them.
/// Bonds are native currency and are paid back by withdrawal, so nobody's refusal can hold up a root.
contract EpochRewards is Asset, IFeePool {
    /// @notice What is fixed at deployment.
    struct Config {
        /// The ERC-20 that is paid, or the zero address for native currency.
        address token;
        /// The only account that may post.
        address proposer;
        /// Native currency at stake per post.
        uint256 bond;
        /// Seconds until a root is good.
        uint64 window;
        /// What an epoch may add to the total, without fees.
        uint128 epochBudget;
        /// The shortest epoch in seconds; numbers come no faster.
        uint64 epochSeconds;
        /// The first epoch that can be posted.
        uint64 firstEpoch;
    }

    /// @notice A root as it is kept.
    struct Anchor {
        bytes32 root;
        /// keccak256(abi.encode(Post)).
        bytes32 postHash;
        uint128 total;
        /// Rewards of accounts without an address; with `total` it is all that was ever given.
        uint128 unbound;
        uint64 size;
        uint64 epoch;
        /// Of the rise of what was given, what exceeds the budget and so comes from fees.
        uint128 fees;
        /// When it becomes or became good; 0 only for "no pending root".
        uint64 finalAt;
    }

    address public immutable proposer;
    uint256 public immutable bond;
    uint64 public immutable window;
    uint128 public immutable epochBudget;
    uint64 public immutable epochSeconds;
    uint64 public immutable firstEpoch;
    uint64 public immutable deployedAt;

    /// @notice All that was ever put in, fees included.
    uint256 public funded;
    /// @notice The part of `funded` that came as fees.
    uint256 public feesCollected;
    /// @notice The part of the fees that good roots have handed out.
    uint256 public feesGranted;
    /// @notice All that was ever paid to earners.
    uint256 public totalClaimed;
    /// @notice What an earner was paid so far.
    mapping(address earner => uint128) public claimed;
    /// @notice Native currency that an account can withdraw, or use for its next post. A pending root's bond
    /// is not in it; one whose window has passed is added with the next call that changes anything.
    mapping(address account => uint256) public bondBalance;

    /// @notice The epoch after that of the last stored good root.
    uint64 public nextEpoch;

    Anchor private _good;
    Anchor private _pending;

    event Funded(address indexed from, uint256 amount, uint256 funded);
    event FeesCollected(address indexed from, uint256 amount, uint256 feesCollected);
    event Posted(uint64 indexed epoch, bytes32 indexed root, uint64 finalAt, Post post);
    event Finalised(uint64 indexed epoch, bytes32 indexed root, uint128 total);
    event RootDied(uint64 indexed epoch, bytes32 indexed root, address indexed challenger);
    event Claimed(address indexed earner, uint128 paid, uint128 cumulative, address by);
    event PaymentSkipped(address indexed earner, uint128 amount);
    event BondWithdrawn(address indexed account, uint256 amount);

    error NotProposer(address caller, address proposer);
    error RootPending(uint64 epoch, uint64 finalAt);
    error NoPendingRoot();
    error EpochPast(uint64 epoch, uint64 nextEpoch);
    error EpochTooEarly(uint64 epoch, uint64 latestEpoch);
    error SizeTooSmall(uint64 size);
    error TotalDecreased(uint128 total, uint128 lastTotal);
    error GivenDecreased(uint256 given, uint256 lastGiven);
    error OverBudget(uint256 increase, uint256 allowed);
    error OverFunded(uint256 total, uint256 funded);
    error BondTooSmall(uint256 given, uint256 bond);
    error ProofMismatch(address earner, bytes32 root);
    error NothingToClaim(address earner, uint128 claimed);
    error Overdrawn(uint256 totalClaimed, uint128 total);
    error NotNeighbours(uint64 leftIndex, uint64 rightIndex);
    error LeavesInOrder(address left, address right);
    error EndIsRight(uint64 index);
    error ZeroAmount();
    error ZeroEpochSeconds();

    constructor(Config memory config) Asset(config.token) {
        Delays.check(config.window);
        if (config.epochSeconds == 0) revert ZeroEpochSeconds();
        proposer = config.proposer;
        bond = config.bond;
        window = config.window;
        epochBudget = config.epochBudget;
        epochSeconds = config.epochSeconds;
        firstEpoch = config.firstEpoch;
        deployedAt = uint64(block.timestamp);
        _good.root = SumTree.EMPTY_ROOT;
        _good.size = SumTree.MIN_SIZE;
        nextEpoch = config.firstEpoch;
        _good.finalAt = uint64(block.timestamp);
    }

    // ------------------------------------------------------------------ money in

    /// @notice Puts `amount` into the pool. It cannot be taken out again except by claims.
    function fund(uint256 amount) external payable {
        _take(amount);
    }

    /// @inheritdoc IFeePool
    /// @dev Fees raise what the next roots may hand out; whoever adds them pays for that in full.
    function collectFees(uint256 amount) external payable {
        feesCollected += amount;
        emit FeesCollected(msg.sender, amount, feesCollected);
        _take(amount);
    }

    function _take(uint256 amount) private {
        if (amount == 0) revert ZeroAmount();
        funded += amount;
        emit Funded(msg.sender, amount, funded);
        _pull(amount);
    }

    // -------------------------------------------------------------------- posts

    /// @notice Posts an epoch's root. Takes the bond from the value sent and from the proposer's bond balance.
    function post(Post calldata p) external payable {
        if (msg.sender != proposer) revert NotProposer(msg.sender, proposer);
        _finalise();
        if (_pending.finalAt != 0) revert RootPending(_pending.epoch, _pending.finalAt);
        uint128 fees = _checkTotals(p);
        _lockBond();

        uint64 finalAt = uint64(block.timestamp) + window;
        _pending = Anchor({
            root: p.root,
            postHash: keccak256(abi.encode(p)),
            total: p.total,
            unbound: p.unbound,
            size: p.size,
            epoch: p.epoch,
            fees: fees,
            finalAt: finalAt
        });
        emit Posted(p.epoch, p.root, finalAt, p);
    }

    /// @dev What the post's total takes from fees, if all its figures are allowed.
    function _checkTotals(Post calldata p) private view returns (uint128 fees) {
        Anchor storage good = _good;
        if (p.epoch < nextEpoch) revert EpochPast(p.epoch, nextEpoch);
        if (p.epoch > latestEpoch()) revert EpochTooEarly(p.epoch, latestEpoch());
        if (p.size < SumTree.MIN_SIZE) revert SizeTooSmall(p.size);
        if (p.total < good.total) revert TotalDecreased(p.total, good.total);
        if (p.total > funded) revert OverFunded(p.total, funded);
        // Rewards that were earned without an address move into the total when one is bound; they were
        // counted when they were earned, so only the sum of both is held against the budget.
        uint256 given = uint256(p.total) + p.unbound;
        uint256 givenBefore = uint256(good.total) + good.unbound;
        if (given < givenBefore) revert GivenDecreased(given, givenBefore);
        uint256 increase = given - givenBefore;
        uint256 budget = _budget(p.epoch, nextEpoch);
        uint256 allowed = budget + feesCollected - feesGranted;
        if (increase > allowed) revert OverBudget(increase, allowed);
        // The budget goes first, because it does not keep; fees do.
        // forge-lint: disable-next-line(unsafe-typecast)
        fees = increase > budget ? uint128(increase - budget) : 0;
    }

    /// @dev What the epochs `next..=epoch` may add without fees.
    function _budget(uint64 epoch, uint64 next) private view returns (uint256) {
        return uint256(epochBudget) * (uint256(epoch) + 1 - next);
    }

    function _lockBond() private {
        uint256 given = bondBalance[msg.sender] + msg.value;
        if (given < bond) revert BondTooSmall(given, bond);
        bondBalance[msg.sender] = given - bond;
    }

    /// @notice Makes a pending root good once its window has passed; else does nothing.
    function finalise() external {
        _finalise();
    }

    function _finalise() private {
        uint64 finalAt = _pending.finalAt;
        if (finalAt == 0 || block.timestamp < finalAt) return;
        Anchor memory good = _pending;
        delete _pending;
        _good = good;
        nextEpoch = good.epoch + 1;
        feesGranted += good.fees;
        bondBalance[proposer] += bond;
        emit Finalised(good.epoch, good.root, good.total);
    }

    // --------------------------------------------------------------- challenges

    /// @notice Kills the pending root by two neighbouring leaves that do not ascend: out of order, or twice
    /// the same account. The bond is credited to the caller.
    function challengeOrder(SumTree.Leaf calldata left, SumTree.Leaf calldata right) external {
        Anchor memory bad = _challenged();
        if (left.index + 1 != right.index) revert NotNeighbours(left.index, right.index);
        if (left.earner < right.earner) revert LeavesInOrder(left.earner, right.earner);
        _requireLeaf(bad, left);
        _requireLeaf(bad, right);
        _kill(bad);
    }

    /// @notice Kills the pending root by a first or last leaf that is not the sentinel which belongs there.
    /// The bond is credited to the caller.
    function challengeEnd(SumTree.Leaf calldata end) external {
        Anchor memory bad = _challenged();
        bool isFirst = end.index == 0 && (end.earner != address(0) || end.cumulative != 0);
        bool isLast = end.index == bad.size - 1 && (end.earner != SumTree.LAST || end.cumulative != 0);
        if (!isFirst && !isLast) revert EndIsRight(end.index);
        _requireLeaf(bad, end);
        _kill(bad);
    }

    function _challenged() private returns (Anchor memory) {
        _finalise();
        if (_pending.finalAt == 0) revert NoPendingRoot();
        return _pending;
    }

    function _requireLeaf(Anchor memory anchor, SumTree.Leaf calldata leaf) private pure {
        if (!SumTree.contains(anchor.root, anchor.total, anchor.size, leaf)) {
            revert ProofMismatch(leaf.earner, anchor.root);
        }
    }

    function _kill(Anchor memory bad) private {
        delete _pending;
        bondBalance[msg.sender] += bond;
        emit RootDied(bad.epoch, bad.root, msg.sender);
    }

    // ------------------------------------------------------------------- claims

    /// @notice Pays `earner` what the last good root grants beyond what was paid before.
    /// @param cumulative The earner's amount in the tree, and with `index` and the siblings its place there.
    /// @return paid The amount, always greater than 0.
    function claim(
        address earner,
        uint128 cumulative,
        uint64 index,
        bytes32[] calldata siblingHashes,
        uint128[] calldata siblingSums
    ) external returns (uint128 paid) {
        _finalise();
        Anchor storage good = _good;
        if (!SumTree.contains(
                good.root, good.total, good.size, earner, cumulative, index, siblingHashes, siblingSums
            )) revert ProofMismatch(earner, good.root);
        uint128 before = claimed[earner];
        if (cumulative <= before) revert NothingToClaim(earner, before);
        paid = _book(earner, before, cumulative);
        _push(earner, paid);
    }

    /// @notice Claims for many earners. One who has nothing to claim, or who refuses the payment, is passed
    /// over; a wrong proof refuses the batch.
    /// @return paid The sum that was paid.
    function claimMany(SumTree.Leaf[] calldata leaves) external returns (uint256 paid) {
        _finalise();
        Anchor memory good = _good;
        for (uint256 i = 0; i < leaves.length; ++i) {
            SumTree.Leaf calldata leaf = leaves[i];
            _requireLeaf(good, leaf);
            uint128 before = claimed[leaf.earner];
            if (leaf.cumulative <= before) continue;
            uint128 owed = _book(leaf.earner, before, leaf.cumulative);
            if (_tryPush(leaf.earner, owed)) {
                paid += owed;
            } else {
                // A refused payment has undone all that happened within it, so this undoes the booking.
                claimed[leaf.earner] = before;
                totalClaimed -= owed;
                emit PaymentSkipped(leaf.earner, owed);
            }
        }
    }

    /// @dev Books a payment before it is made, so that a receiver who calls back finds nothing left.
    function _book(address earner, uint128 before, uint128 cumulative) private returns (uint128 owed) {
        owed = cumulative - before;
        uint256 after_ = totalClaimed + owed;
        // Holds whatever a root says, even if it took away from one account and gave to another.
        if (after_ > _good.total) revert Overdrawn(after_, _good.total);
        claimed[earner] = cumulative;
        totalClaimed = after_;
        emit Claimed(earner, owed, cumulative, msg.sender);
    }

    /// @notice Pays the caller its bond balance in native currency.
    function withdrawBond() external returns (uint256 amount) {
        _finalise();
        amount = bondBalance[msg.sender];
        if (amount == 0) revert ZeroAmount();
        bondBalance[msg.sender] = 0;
        emit BondWithdrawn(msg.sender, amount);
        if (!_tryPushNative(msg.sender, amount)) revert PaymentRefused(msg.sender, amount);
    }

    // -------------------------------------------------------------------- views

    /// @notice The root that claims are paid from, counting a pending one whose window has passed. Without a
    /// post so far it is the empty tree, with a zero `postHash`.
    function lastGood() external view returns (Anchor memory) {
        return _isFinal() ? _pending : _good;
    }

    /// @notice The root that can be challenged; all zero when there is none.
    function pending() external view returns (Anchor memory none) {
        return _isFinal() ? none : _pending;
    }

    /// @notice The highest epoch that the clock allows to post.
    function latestEpoch() public view returns (uint64) {
        return firstEpoch + (uint64(block.timestamp) - deployedAt) / epochSeconds;
    }

    /// @notice The highest sum of `total` and `unbound` that a post of `epoch` may have now, if no root is
    /// pending.
    function maxTotal(uint64 epoch) external view returns (uint256 total) {
        bool isFinal = _isFinal();
        Anchor storage good = isFinal ? _pending : _good;
        uint64 next = isFinal ? good.epoch + 1 : nextEpoch;
        total = uint256(good.total) + good.unbound;
        if (epoch < next) return total;
        total += _budget(epoch, next) + feesCollected - feesGranted;
        if (isFinal) total -= good.fees;
        if (total > funded) total = funded;
    }

    /// @notice The value that the proposer must send with the next post, if no root is pending.
    function bondDue() external view returns (uint256) {
        uint256 balance = bondBalance[proposer] + (_isFinal() ? bond : 0);
        return balance < bond ? bond - balance : 0;
    }

    function _isFinal() private view returns (bool) {
        return _pending.finalAt != 0 && block.timestamp >= _pending.finalAt;
    }
}
