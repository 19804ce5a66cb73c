// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {CallEscrow, Voucher} from "../src/CallEscrow.sol";
import {EpochRewards, Post} from "../src/EpochRewards.sol";
import {PlainTree} from "../src/lib/PlainTree.sol";
import {SumTree} from "../src/lib/SumTree.sol";
import {Base} from "./Base.sol";
import {TreeBuilder} from "./TreeBuilder.sol";

/// @notice Gives the library functions the calldata that they take.
contract SumTreeCaller {
    function contains(bytes32 root, uint128 total, uint64 size, SumTree.Leaf calldata leaf)
        external
        pure
        returns (bool)
    {
        return SumTree.contains(root, total, size, leaf);
    }
}

/// @notice The contracts agree with the vectors that the Rust crates are tested against.
contract VectorsTest is Base {
    using TreeBuilder for TreeBuilder.Tree;

    string private json;
    SumTreeCaller private sumTree;

    function setUp() public {
        json = vm.readFile("../vectors/settlement.json");
        sumTree = new SumTreeCaller();
    }

    function at(string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(".", list, "[", vm.toString(index), "]");
    }

    function num(string memory path, string memory key) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(path, ".", key));
    }

    function hash(string memory path, string memory key) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(path, ".", key));
    }

    function hashes(string memory path, string memory key) private view returns (bytes32[] memory) {
        return vm.parseJsonBytes32Array(json, string.concat(path, ".", key));
    }

    function amounts(string memory path, string memory key) private view returns (uint128[] memory list) {
        uint256[] memory wide = vm.parseJsonUintArray(json, string.concat(path, ".", key));
        list = new uint128[](wide.length);
        for (uint256 i = 0; i < wide.length; ++i) {
            yes(wide[i] <= type(uint128).max, "an amount fits 128 bits");
            list[i] = uint128(wide[i]);
        }
    }

    function test_sumTreesHaveTheirRootsAndProofs() public view {
        uint256 trees = 0;
        for (; vm.keyExistsJson(json, at("sumTrees", trees)); ++trees) {
            string memory path = at("sumTrees", trees);
            address[] memory earners = vm.parseJsonAddressArray(json, string.concat(path, ".earners"));
            TreeBuilder.Tree memory tree = TreeBuilder.withSentinels(earners, amounts(path, "cumulatives"));
            eqHash(tree.root, hash(path, "root"), path);
            eq(tree.total, num(path, "total"), path);
            eq(tree.size, num(path, "size"), path);
            checkProofs(path, tree);
        }
        eq(trees, 8, "number of sum trees");
        eqHash(hash(at("sumTrees", 0), "root"), SumTree.EMPTY_ROOT, "empty root");
    }

    function checkProofs(string memory path, TreeBuilder.Tree memory tree) private view {
        uint256 proofs = 0;
        for (;; ++proofs) {
            string memory proof = string.concat(path, ".proofs[", vm.toString(proofs), "]");
            if (!vm.keyExistsJson(json, proof)) break;
            SumTree.Leaf memory leaf = SumTree.Leaf({
                earner: vm.parseJsonAddress(json, string.concat(proof, ".earner")),
                cumulative: uint128(num(proof, "cumulative")),
                index: uint64(num(proof, "index")),
                siblingHashes: hashes(proof, "siblingHashes"),
                siblingSums: amounts(proof, "siblingSums")
            });
            yes(sumTree.contains(tree.root, tree.total, tree.size, leaf), proof);
            refuseChanged(tree, leaf);
        }
        yes(proofs > 0, "a tree has proofs");
    }

    /// @dev No part of a proof can be changed.
    function refuseChanged(TreeBuilder.Tree memory tree, SumTree.Leaf memory leaf) private view {
        no(sumTree.contains(tree.root, tree.total, tree.size + 1, leaf), "size");
        no(sumTree.contains(tree.root, tree.total ^ 1, tree.size, leaf), "total");
        leaf.cumulative ^= 1;
        no(sumTree.contains(tree.root, tree.total, tree.size, leaf), "amount");
        leaf.cumulative ^= 1;
        leaf.index ^= 1;
        no(sumTree.contains(tree.root, tree.total, tree.size, leaf), "index");
        leaf.index = tree.size;
        no(sumTree.contains(tree.root, tree.total, tree.size, leaf), "index past the end");
    }

    function test_plainTreesHaveTheirRootsAndProofs() public view {
        string[2] memory lists = ["receiptTrees", "proofsTrees"];
        for (uint256 list = 0; list < 2; ++list) {
            uint256 trees = 0;
            for (; vm.keyExistsJson(json, at(lists[list], trees)); ++trees) {
                string memory path = at(lists[list], trees);
                bytes32[] memory leaves = hashes(path, "leaves");
                for (uint256 i = 0; i < leaves.length; ++i) {
                    eqHash(leaves[i], list == 0 ? receipt(path, i) : verdict(path, i), path);
                }
                checkPlain(path, leaves);
            }
            eq(trees, list == 0 ? 6 : 4, lists[list]);
        }
    }

    function receipt(string memory path, uint256 i) private view returns (bytes32) {
        string memory row = string.concat(path, ".receipts[", vm.toString(i), "]");
        return PlainTree.receiptLeaf(hash(row, "proofId"), uint64(num(row, "countBy")));
    }

    function verdict(string memory path, uint256 i) private view returns (bytes32) {
        string memory row = string.concat(path, ".rows[", vm.toString(i), "]");
        return
            PlainTree.verdictLeaf(
                hash(row, "proofId"), uint8(num(row, "verdict")), uint64(num(row, "points"))
            );
    }

    function checkPlain(string memory path, bytes32[] memory leaves) private view {
        bytes32 root = hash(path, "root");
        uint64 size = uint64(num(path, "size"));
        eq(size, leaves.length, "size");
        if (size == 0) {
            eqHash(root, keccak256(abi.encodePacked(uint8(2), bytes32(0), uint64(0))), "empty root");
        }
        for (uint256 i = 0; i < leaves.length; ++i) {
            string memory proof = string.concat(path, ".proofs[", vm.toString(i), "]");
            bytes32[] memory siblings = hashes(proof, "siblingHashes");
            yes(PlainTree.contains(root, size, leaves[i], uint64(i), siblings), proof);
            no(PlainTree.contains(root, size, leaves[i], uint64(i) ^ 1, siblings), proof);
            no(PlainTree.contains(root, size + 1, leaves[i], uint64(i), siblings), proof);
            no(PlainTree.contains(root, size, ~leaves[i], uint64(i), siblings), proof);
        }
    }

    function test_dataCommitments() public view {
        uint256 trees = 0;
        for (; vm.keyExistsJson(json, at("dataCommitments", trees)); ++trees) {
            string memory path = at("dataCommitments", trees);
            uint256 left = num(path, "dataSize");
            bytes32[] memory leaves = hashes(path, "leaves");
            for (uint256 i = 0; i < leaves.length; ++i) {
                uint256 length = left < PlainTree.CHUNK_BYTES ? left : PlainTree.CHUNK_BYTES;
                eqHash(leaves[i], PlainTree.chunkLeaf(uint64(i), pattern(i, length)), path);
                left -= length;
            }
            eq(left, 0, "all data is in a chunk");
            checkPlain(path, leaves);
        }
        eq(trees, 7, "number of data commitments");
    }

    function pattern(uint256 chunk, uint256 length) private pure returns (bytes memory data) {
        data = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            data[i] = bytes1(uint8((31 * (chunk * PlainTree.CHUNK_BYTES + i) + 7) % 251));
        }
    }

    function test_messagesAreSignedAsEip712Says() public view {
        uint256 messages = 0;
        for (; vm.keyExistsJson(json, at("messages", messages)); ++messages) {
            string memory path = at("messages", messages);
            bytes32 separator = keccak256(
                abi.encode(
                    keccak256(
                        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                    ),
                    keccak256("OpenLedger"),
                    keccak256("1"),
                    num(".domain", "chainId"),
                    vm.parseJsonAddress(json, string.concat(path, ".verifyingContract"))
                )
            );
            eqHash(separator, hash(path, "domainSeparator"), path);
            bytes32 digest = keccak256(abi.encodePacked("\x19\x01", separator, hash(path, "structHash")));
            eqHash(digest, hash(path, "digest"), path);
            checkSignature(path, digest);
        }
        eq(messages, 5, "number of messages");
    }

    function checkSignature(string memory path, bytes32 digest) private view {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(uint256(hash(path, "privateKey")), digest);
        bytes memory signature = vm.parseJsonBytes(json, string.concat(path, ".signature"));
        eqHash(keccak256(abi.encodePacked(r, s, v)), keccak256(signature), path);
        eq(ecrecover(digest, v, r, s), vm.parseJsonAddress(json, string.concat(path, ".signer")), path);
    }

    function test_escrowHashesTheVoucher() public {
        string memory path = at("messages", 4);
        string memory message = string.concat(path, ".message");
        CallEscrow escrow = deployEscrow(vm.parseJsonAddress(json, ".domain.escrow"));
        Voucher memory voucher = Voucher({
            payer: vm.parseJsonAddress(json, string.concat(message, ".payer")),
            payee: vm.parseJsonAddress(json, string.concat(message, ".payee")),
            model: hash(message, "model"),
            valueAggregate: uint128(num(message, "valueAggregate")),
            receiptsRoot: hash(message, "receiptsRoot")
        });
        eqHash(escrow.hashVoucher(voucher), hash(path, "digest"), "voucher digest");
    }

    /// @dev The escrow's code at the address that the vectors name; it builds its domain from where it runs.
    function deployEscrow(address where) private returns (CallEscrow) {
        EpochRewards rewards = deployRewards();
        CallEscrow escrow = new CallEscrow(
            CallEscrow.Config({
                token: address(0),
                pool: address(rewards),
                treasury: account("treasury", 0),
                operatorBps: 5000,
                protocolBps: 500,
                thawSeconds: 60
            })
        );
        vm.etch(where, address(escrow).code);
        return CallEscrow(where);
    }

    function deployRewards() private returns (EpochRewards) {
        return new EpochRewards(
            EpochRewards.Config({
                token: address(0),
                proposer: address(this),
                bond: 0,
                window: 60,
                epochBudget: type(uint128).max,
                epochSeconds: 1,
                firstEpoch: uint64(num(".post", "epoch"))
            })
        );
    }

    function test_rewardsKeepThePostsHash() public {
        string memory p = ".post";
        EpochRewards rewards = deployRewards();
        uint128 total = uint128(num(p, "total"));
        vm.deal(address(this), total);
        rewards.fund{value: total}(total);
        Post memory post;
        post.epoch = uint64(num(p, "epoch"));
        post.root = hash(p, "root");
        post.total = total;
        post.size = uint64(num(p, "size"));
        post.proofsRoot = hash(p, "proofsRoot");
        post.callReceiptsRoot = hash(p, "callReceiptsRoot");
        post.attributionRoot = hash(p, "attributionRoot");
        post.dataCommitment = hash(p, "dataCommitment");
        post.dataSize = uint64(num(p, "dataSize"));
        post.logHead = hash(p, "logHead");
        post.logHeight = uint64(num(p, "logHeight"));
        post.ruleSet = hash(p, "ruleSet");
        post.unbound = uint128(num(p, "unbound"));
        rewards.post(post);
        eqHash(rewards.pending().postHash, hash(p, "hash"), "post hash");
    }

    /// @dev Every proof of a built tree holds, whatever the number of leaves; see the vectors for the bytes.
    function testFuzz_everyLeafOfATreeIsProven(uint256 seed, uint8 count) public view {
        uint256 n = within(count, 0, 40);
        address[] memory earners = new address[](n);
        uint128[] memory list = new uint128[](n);
        for (uint256 i = 0; i < n; ++i) {
            earners[i] = address(uint160((i + 1) << 100));
            list[i] = uint128(uint256(keccak256(abi.encode(seed, i))) >> 140);
        }
        TreeBuilder.Tree memory tree = TreeBuilder.withSentinels(earners, list);
        for (uint256 i = 0; i < n + 2; ++i) {
            yes(sumTree.contains(tree.root, tree.total, tree.size, tree.leaf(i)), "leaf");
        }
    }

    function test_aSumThatDoesNotFitIsRefusedNotReverted() public view {
        SumTree.Leaf memory leaf;
        leaf.cumulative = type(uint128).max;
        leaf.siblingHashes = new bytes32[](1);
        leaf.siblingSums = new uint128[](1);
        leaf.siblingSums[0] = 1;
        no(sumTree.contains(bytes32(0), 0, 2, leaf), "overflow");
        leaf.siblingSums = new uint128[](0);
        no(sumTree.contains(bytes32(0), 0, 2, leaf), "fewer sums than hashes");
    }
}
