// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {CallEscrow, Voucher} from "../src/CallEscrow.sol";
import {Delays} from "../src/lib/Delays.sol";
import {RewardsFixture} from "./RewardsFixture.sol";

/// @notice What holds over both assets.
abstract contract CallEscrowSuite is RewardsFixture {
    uint256 internal constant PAYER_KEY = 0xA11CE;
    uint64 internal constant THAW = 2 days;
    bytes32 internal constant MODEL = keccak256("model");

    CallEscrow internal escrow;
    address internal payer = vm.addr(PAYER_KEY);
    address internal payee = account("payee", 0);
    address internal treasury = account("treasury", 0);

    function setUp() public override {
        super.setUp();
        escrow = new CallEscrow(escrowConfig());
        vm.deal(payer, 1e24);
        open.transfer(payer, 1e24);
        vm.prank(payer);
        open.approve(address(escrow), type(uint256).max);
    }

    function escrowConfig() internal view returns (CallEscrow.Config memory) {
        return CallEscrow.Config({
            token: rewards.token(),
            pool: address(rewards),
            treasury: treasury,
            operatorBps: 6000,
            protocolBps: 500,
            thawSeconds: THAW
        });
    }

    function deposit(uint128 amount) internal {
        vm.prank(payer);
        escrow.deposit{value: native() ? amount : 0}(payee, amount);
    }

    function voucherOf(uint128 value) internal view returns (Voucher memory) {
        return Voucher(payer, payee, MODEL, value, keccak256("receipts"));
    }

    function signed(uint256 key, Voucher memory voucher) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, escrow.hashVoucher(voucher));
        return abi.encodePacked(r, s, v);
    }

    function collect(uint128 value) internal returns (uint128) {
        Voucher memory voucher = voucherOf(value);
        return escrow.collect(voucher, signed(PAYER_KEY, voucher));
    }

    // ------------------------------------------------------------------- deployment

    function test_theSplitIsAtMostTheWhole() public {
        CallEscrow.Config memory c = escrowConfig();
        c.protocolBps = 4001;
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.SplitTooLarge.selector, 10_001));
        new CallEscrow(c);
    }

    function test_aShortThawIsRefusedOnAChainThatOthersUse() public {
        CallEscrow.Config memory c = escrowConfig();
        c.thawSeconds = 1 hours;
        vm.chainId(1612);
        vm.expectRevert(abi.encodeWithSelector(Delays.DelayTooShort.selector, 1 hours, 24 hours));
        new CallEscrow(c);
    }

    function test_escrowAndPoolHoldTheSame() public {
        CallEscrow.Config memory c = escrowConfig();
        c.token = native() ? address(open) : address(0);
        vm.expectRevert(
            abi.encodeWithSelector(CallEscrow.PoolTokenDiffers.selector, rewards.token(), c.token)
        );
        new CallEscrow(c);
    }

    // ---------------------------------------------------------------------- collect

    function test_aVoucherPaysThreeParts() public {
        deposit(1000);
        vm.prank(stranger);
        eq(collect(101), 101, "paid");
        eq(balance(payee), 60, "operator");
        eq(balance(treasury), 5, "protocol");
        eq(rewards.feesCollected(), 36, "pool, with what rounding leaves");
        eq(balance(address(rewards)), 36, "held by the pool");
        eq(escrow.laneOf(payer, payee).balance, 899, "lane");
        eq(escrow.collected(payer, payee, MODEL), 101, "collected");
    }

    function testFuzz_thePartsMakeTheWhole(uint128 value, uint16 operatorBps, uint16 protocolBps) public {
        CallEscrow.Config memory c = escrowConfig();
        c.operatorBps = uint16(within(operatorBps, 0, 10_000));
        c.protocolBps = uint16(within(protocolBps, 0, 10_000 - c.operatorBps));
        escrow = new CallEscrow(c);
        vm.prank(payer);
        open.approve(address(escrow), type(uint256).max);
        value = uint128(within(value, 1, 1e24));
        deposit(value);
        collect(value);
        eq(balance(payee) + balance(treasury) + balance(address(rewards)), value, "sum");
        eq(balance(payee), uint256(value) * c.operatorBps / 10_000, "operator");
        eq(rewards.feesCollected(), balance(address(rewards)), "fees");
        eq(balance(address(escrow)), 0, "nothing stays");
    }

    function test_vouchersAreCumulative() public {
        deposit(1000);
        collect(100);
        eq(collect(150), 50, "what it adds");
        Voucher memory old = voucherOf(100);
        bytes memory signature = signed(PAYER_KEY, old);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NothingToCollect.selector, 100, 150, 850));
        escrow.collect(old, signature);
    }

    function test_modelsOfALaneAreCountedApart() public {
        deposit(1000);
        collect(100);
        Voucher memory other = voucherOf(70);
        other.model = keccak256("another");
        eq(escrow.collect(other, signed(PAYER_KEY, other)), 70, "its own aggregate");
        eq(escrow.laneOf(payer, payee).balance, 830, "one lane");
    }

    function test_aLanePaysAsFarAsItReaches() public {
        deposit(100);
        eq(collect(150), 100, "all there is");
        Voucher memory voucher = voucherOf(150);
        bytes memory signature = signed(PAYER_KEY, voucher);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NothingToCollect.selector, 150, 100, 0));
        escrow.collect(voucher, signature);
        deposit(100);
        eq(collect(150), 50, "the rest later");
    }

    function test_onlyThePayersWordCounts() public {
        deposit(1000);
        Voucher memory voucher = voucherOf(100);
        bytes memory signature = signed(0xB0B, voucher);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NotASigner.selector, payer, vm.addr(0xB0B)));
        escrow.collect(voucher, signature);
    }

    function test_anAuthorisedSignerSpeaksUntilItsRevocationThaws() public {
        deposit(1000);
        address signer = vm.addr(0xB0B);
        vm.prank(payer);
        escrow.authoriseSigner(signer);
        Voucher memory voucher = voucherOf(100);
        escrow.collect(voucher, signed(0xB0B, voucher));
        vm.prank(payer);
        escrow.revokeSigner(signer);
        vm.warp(block.timestamp + THAW - 1);
        voucher = voucherOf(150);
        escrow.collect(voucher, signed(0xB0B, voucher));
        vm.warp(block.timestamp + 1);
        voucher = voucherOf(200);
        bytes memory signature = signed(0xB0B, voucher);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NotASigner.selector, payer, signer));
        escrow.collect(voucher, signature);
    }

    function test_aSignerIsRevokedOnce() public {
        address signer = vm.addr(0xB0B);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NotASigner.selector, payer, signer));
        escrow.revokeSigner(signer);
        vm.prank(payer);
        escrow.authoriseSigner(signer);
        vm.prank(payer);
        escrow.revokeSigner(signer);
        // A second revocation must not lengthen the signer's time.
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.NotASigner.selector, payer, signer));
        escrow.revokeSigner(signer);
    }

    function test_aVoucherOfAnotherChainIsWorthNothing() public {
        deposit(1000);
        Voucher memory voucher = voucherOf(100);
        bytes memory signature = signed(PAYER_KEY, voucher);
        vm.chainId(901);
        try escrow.collect(voucher, signature) {
            revert Untrue("collected");
        } catch (bytes memory why) {
            eqHash(bytes4(why), CallEscrow.NotASigner.selector, "another signer");
        }
    }

    // --------------------------------------------------------------------- withdraw

    function thaw(uint128 amount) internal {
        vm.prank(payer);
        escrow.thaw(payee, amount);
    }

    function test_moneyGoesBackAfterTheThaw() public {
        deposit(1000);
        thaw(400);
        uint256 before = balance(payer);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.StillThawing.selector, START + THAW));
        escrow.withdraw(payee);
        vm.warp(START + THAW);
        vm.prank(payer);
        escrow.withdraw(payee);
        eq(balance(payer) - before, 400, "withdrawn");
        eq(escrow.laneOf(payer, payee).balance, 600, "left");
        vm.prank(payer);
        vm.expectRevert(CallEscrow.NothingThawing.selector);
        escrow.withdraw(payee);
    }

    function test_vouchersComeBeforeTheThaw() public {
        deposit(1000);
        thaw(1000);
        vm.warp(START + THAW);
        eq(collect(700), 700, "collected to the last moment");
        vm.prank(payer);
        eq(escrow.withdraw(payee), 300, "what is left");
        eq(escrow.laneOf(payer, payee).balance, 0, "empty");
    }

    function test_aNewRequestStartsAnew() public {
        deposit(1000);
        thaw(400);
        vm.warp(START + THAW);
        thaw(500);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.StillThawing.selector, START + 2 * THAW));
        escrow.withdraw(payee);
        thaw(0);
        vm.prank(payer);
        vm.expectRevert(CallEscrow.NothingThawing.selector);
        escrow.withdraw(payee);
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(CallEscrow.ThawTooLarge.selector, 1001, 1000));
        escrow.thaw(payee, 1001);
    }

    function test_aDepositIsNotZero() public {
        vm.expectRevert(CallEscrow.ZeroAmount.selector);
        escrow.deposit(payee, 0);
    }
}

contract CallEscrowTokenTest is CallEscrowSuite {
    function native() internal pure override returns (bool) {
        return false;
    }
}

contract CallEscrowNativeTest is CallEscrowSuite {
    function native() internal pure override returns (bool) {
        return true;
    }
}
