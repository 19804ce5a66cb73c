// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {CallEscrow, Voucher} from "../src/CallEscrow.sol";
import {EpochRewards} from "../src/EpochRewards.sol";
import {OpenToken} from "../src/OpenToken.sol";
import {Base} from "./Base.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @notice Two payers, two payees and two models in any order of deposits, vouchers and withdrawals.
contract EscrowActor is Base {
    CallEscrow private immutable escrow;
    OpenToken private immutable open;
    bool private immutable isNative;

    uint256[2] private keys = [uint256(0xA11CE), 0xB0B];
    address[2] private payers;
    mapping(bytes32 lane => uint128) private largestSigned;
    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public paid;
    uint256 public faults;

    constructor(CallEscrow escrow_, OpenToken open_, bool isNative_) {
        (escrow, open, isNative) = (escrow_, open_, isNative_);
        payers = [vm.addr(keys[0]), vm.addr(keys[1])];
    }

    function payer(uint256 i) public view returns (address) {
        return payers[i % 2];
    }

    function payee(uint256 i) public pure returns (address) {
        return account("payee", i % 2);
    }

    function model(uint256 i) public pure returns (bytes32) {
        return keccak256(abi.encode("model", i % 2));
    }

    function deposit(uint8 from, uint8 to, uint64 amount) external {
        uint128 value = uint128(amount) + 1;
        address who = payer(from);
        if (isNative) {
            vm.deal(who, value);
        } else {
            open.transfer(who, value);
            vm.prank(who);
            open.approve(address(escrow), value);
        }
        vm.prank(who);
        escrow.deposit{value: isNative ? value : 0}(payee(to), value);
        deposited += value;
    }

    function wait(uint32 secs) external {
        vm.warp(block.timestamp + within(secs, 1, 3 days));
    }

    function thaw(uint8 from, uint8 to, uint128 amount) external {
        uint128 value = uint128(within(amount, 0, escrow.laneOf(payer(from), payee(to)).balance));
        vm.prank(payer(from));
        escrow.thaw(payee(to), value);
    }

    function withdraw(uint8 from, uint8 to) external {
        CallEscrow.Lane memory lane = escrow.laneOf(payer(from), payee(to));
        vm.prank(payer(from));
        try escrow.withdraw(payee(to)) returns (uint128 amount) {
            withdrawn += amount;
            if (block.timestamp < lane.thawedAt || amount > lane.thawing) ++faults;
        } catch {
            if (block.timestamp >= lane.thawedAt && lane.thawing != 0 && lane.balance != 0) ++faults;
        }
    }

    function collect(uint8 from, uint8 to, uint8 which, uint64 value) external {
        Voucher memory voucher = Voucher(payer(from), payee(to), model(which), value, keccak256("receipts"));
        bytes32 lane = keccak256(abi.encode(voucher.payer, voucher.payee, voucher.model));
        if (value > largestSigned[lane]) largestSigned[lane] = value;
        uint128 before = escrow.collected(voucher.payer, voucher.payee, voucher.model);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[from % 2], escrow.hashVoucher(voucher));
        try escrow.collect(voucher, abi.encodePacked(r, s, v)) returns (uint128 amount) {
            paid += amount;
        } catch {}
        uint128 after_ = escrow.collected(voucher.payer, voucher.payee, voucher.model);
        if (after_ < before || after_ > largestSigned[lane]) ++faults;
    }

    function lanesSum() external view returns (uint256 sum) {
        for (uint256 i = 0; i < 4; ++i) {
            sum += escrow.laneOf(payer(i / 2), payee(i)).balance;
        }
    }
}

abstract contract EscrowInvariants is RewardsFixture {
    CallEscrow internal escrow;
    EscrowActor internal actor;
    address internal treasury = account("treasury", 0);

    function setUp() public override {
        super.setUp();
        escrow = new CallEscrow(
            CallEscrow.Config({
                token: rewards.token(),
                pool: address(rewards),
                treasury: treasury,
                operatorBps: 5555,
                protocolBps: 333,
                thawSeconds: 2 days
            })
        );
        actor = new EscrowActor(escrow, open, native());
        if (!native()) open.transfer(address(actor), 1e27);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function invariant_theEscrowHoldsTheSumOfItsLanes() public view {
        eq(balance(address(escrow)), actor.lanesSum(), "balance");
        eq(actor.deposited(), actor.lanesSum() + actor.paid() + actor.withdrawn(), "nothing is lost");
    }

    function invariant_thePartsMakeTheWhole() public view {
        uint256 parts =
            balance(actor.payee(0)) + balance(actor.payee(1)) + balance(treasury) + rewards.feesCollected();
        eq(parts, actor.paid(), "parts");
        eq(balance(address(rewards)), rewards.feesCollected(), "the pool has its part");
    }

    function invariant_vouchersAreMonotoneAndThawsAreKept() public view {
        eq(actor.faults(), 0, "faults");
    }
}

contract EscrowTokenInvariants is EscrowInvariants {
    function native() internal pure override returns (bool) {
        return false;
    }
}

contract EscrowNativeInvariants is EscrowInvariants {
    function native() internal pure override returns (bool) {
        return true;
    }
}
