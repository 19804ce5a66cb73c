//! Whose promises a file holds: one node's in one network, and nobody else goes on with them.
//!
//! Running numbers and the double-sign guard are worth something only while they are counted in one
//! place per node and network.

use openledger_tables::Store;
use openledger_wire::{NetworkId, NodeId};

use crate::check::Judge;
use crate::outbox::OutboxError;
use crate::rows::OWNER;

/// Checks that the records are of this node in this network, and writes so into a file that does
/// not say it yet.
///
/// # Errors
/// [`OutboxError::OtherOwner`], and the store's errors.
pub(crate) fn check(store: &Store, judge: &Judge) -> Result<(), OutboxError> {
    let (network, node) = ("network".to_owned(), "node".to_owned());
    let found = store
        .read::<_, OutboxError>(|txn| Ok((txn.get(OWNER, &network)?, txn.get(OWNER, &node)?)))?;
    match found {
        (Some(of_network), Some(of_node)) => {
            let (found_network, found_node) = (NetworkId(id(&of_network)), NodeId(id(&of_node)));
            if found_network == judge.network && found_node == judge.node {
                return Ok(());
            }
            Err(OutboxError::OtherOwner { network: found_network, node: found_node })
        }
        _ => store.write(|txn| {
            txn.insert(OWNER, &network, &judge.network.0.to_vec())?;
            txn.insert(OWNER, &node, &judge.node.0.to_vec())?;
            Ok(())
        }),
    }
}

/// An id as it is stored; of other bytes, one that nobody has.
fn id(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Outbox;
    use openledger_wire::EvmAddress;
    use openledger_wire::eip712::Domain;

    #[test]
    fn a_file_belongs_to_one_node_in_one_network() {
        let store = Store::in_memory(Outbox::options()).unwrap();
        let judge = |network, node| Judge {
            network: NetworkId([network; 32]),
            domain: Domain { chain_id: 1, contract: EvmAddress([1; 20]) },
            coordinator: EvmAddress([1; 20]),
            node: NodeId([node; 32]),
        };
        check(&store, &judge(1, 2)).unwrap();
        check(&store, &judge(1, 2)).unwrap();
        for other in [judge(2, 2), judge(1, 3)] {
            let error = check(&store, &other).unwrap_err();
            assert!(matches!(error, OutboxError::OtherOwner { .. }), "{error}");
            assert!(error.to_string().contains("folder of its own"), "{error}");
        }
    }
}
