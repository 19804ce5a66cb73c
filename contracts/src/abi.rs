//! The contracts' interfaces and bytecode, generated from the committed artifacts.
//!
//! `contracts/solidity/ci.sh` proves that the artifacts are what the sources compile to. Nothing
//! here leaves the crate: callers see the types of [`crate::types`].

pub(crate) mod generated {
    alloy::sol!(
        #[derive(Debug)]
        OpenToken,
        "artifacts/OpenToken.json"
    );
    alloy::sol!(
        #[derive(Debug)]
        EpochRewards,
        "artifacts/EpochRewards.json"
    );
    alloy::sol!(
        #[derive(Debug)]
        CallEscrow,
        "artifacts/CallEscrow.json"
    );
}

pub(crate) use generated::{CallEscrow, EpochRewards, OpenToken, SumTree};
