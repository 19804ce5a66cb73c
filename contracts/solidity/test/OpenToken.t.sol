// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {OpenToken} from "../src/OpenToken.sol";
import {Base} from "./Base.sol";

contract OpenTokenTest is Base {
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    OpenToken private token;

    function setUp() public {
        token = new OpenToken(address(this));
    }

    function permitDigest(address owner, uint256 value, uint256 deadline) private view returns (bytes32) {
        bytes32 message =
            keccak256(abi.encode(PERMIT, owner, address(this), value, token.nonces(owner), deadline));
        return keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), message));
    }

    function test_theSupplyIsABillionAndGoesToOne() public view {
        eq(token.totalSupply(), 1e27, "supply");
        eq(token.balanceOf(address(this)), 1e27, "recipient");
        eq(token.decimals(), 18, "decimals");
    }

    function testFuzz_aPermitApproves(uint256 key, uint256 value) public {
        key = within(key, 1, type(uint128).max);
        address owner = vm.addr(key);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, permitDigest(owner, value, block.timestamp));
        token.permit(owner, address(this), value, block.timestamp, v, r, s);
        eq(token.allowance(owner, address(this)), value, "allowance");
        eq(token.nonces(owner), 1, "nonce");
    }

    function test_anExpiredPermitIsRefused() public {
        address owner = vm.addr(7);
        vm.warp(1000);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(7, permitDigest(owner, 1, 999));
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, 999));
        token.permit(owner, address(this), 1, 999, v, r, s);
    }

    function test_aForeignPermitIsRefused() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(7, permitDigest(address(1), 1, 999));
        vm.expectRevert(
            abi.encodeWithSelector(ERC20Permit.ERC2612InvalidSigner.selector, vm.addr(7), address(1))
        );
        token.permit(address(1), address(this), 1, 999, v, r, s);
    }
}
