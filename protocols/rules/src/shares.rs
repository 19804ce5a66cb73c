//! Division of a budget by weights without losing or inventing a unit.
//!
//! The largest-remainder method (Hamilton): everybody gets the whole part of the exact quota, and
//! the units that are left go one each to the largest remainders. A single weight that rises never
//! lowers its own part.

use alloy_primitives::U256;

/// Splits `budget` in proportion to `weights`, in the order given.
///
/// The parts sum to the budget exactly, or to 0 if no weight is above 0. Equal remainders are
/// served by ascending key, then by position, so with distinct keys the order of the input does
/// not change what a key gets. A weight of 0 gets 0.
#[must_use]
pub fn largest_remainder<K: Ord + Clone>(budget: u128, weights: &[(K, u64)]) -> Vec<(K, u128)> {
    // Fewer than 2^64 weights below 2^64: the sum is below 2^128.
    let sum = weights.iter().fold(0u128, |sum, (_, w)| sum.saturating_add(u128::from(*w)));
    let quotas: Vec<(u128, u128)> =
        weights.iter().map(|(_, weight)| quota(budget, *weight, sum)).collect();
    let mut parts: Vec<(K, u128)> =
        weights.iter().zip(&quotas).map(|((key, _), (whole, _))| (key.clone(), *whole)).collect();
    if sum == 0 {
        return parts;
    }
    let mut order: Vec<(u128, usize)> =
        quotas.iter().enumerate().map(|(at, (_, rest))| (*rest, at)).collect();
    let name = |at: usize| weights.get(at).map(|(key, _)| key);
    order.sort_by(|(a, at), (b, bt)| {
        b.cmp(a).then_with(|| name(*at).cmp(&name(*bt))).then_with(|| at.cmp(bt))
    });
    // Whole parts never exceed the budget; what is left is less than the number of remainders
    // above 0, because the remainders sum to it times `sum` and each is below `sum`.
    let given = parts.iter().fold(0u128, |sum, (_, part)| sum.saturating_add(*part));
    let left = usize::try_from(budget.saturating_sub(given)).unwrap_or(usize::MAX);
    for (_, at) in order.into_iter().take(left) {
        if let Some((_, part)) = parts.get_mut(at) {
            *part = part.saturating_add(1);
        }
    }
    parts
}

/// Whole part and remainder of `budget * weight / sum`; both 0 where `sum` is.
fn quota(budget: u128, weight: u64, sum: u128) -> (u128, u128) {
    // 128 and 64 bits make 192: no overflow in 256.
    let product = U256::from(budget).saturating_mul(U256::from(weight));
    let divisor = U256::from(sum);
    let whole = product.checked_div(divisor).unwrap_or_default();
    let rest = product.checked_rem(divisor).unwrap_or_default();
    // The whole part is at most the budget because weight <= sum; the remainder is below `sum`.
    (whole.saturating_to(), rest.saturating_to())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(budget: u128, weights: &[u64]) -> Vec<u128> {
        let keyed: Vec<(usize, u64)> = weights.iter().copied().enumerate().collect();
        largest_remainder(budget, &keyed).into_iter().map(|(_, part)| part).collect()
    }

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(parts(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(parts(10, &[6, 6, 2]), [4, 4, 2]);
        assert_eq!(parts(1, &[0, 5, 5]), [0, 1, 0]);
        assert_eq!(parts(7, &[0, 0]), [0, 0]);
        assert_eq!(parts(7, &[]), []);
        assert_eq!(parts(0, &[3, 4]), [0, 0]);
        assert_eq!(parts(u128::MAX, &[u64::MAX]), [u128::MAX]);
        assert_eq!(parts(u128::MAX, &[u64::MAX, u64::MAX]), [u128::MAX / 2 + 1, u128::MAX / 2]);
    }

    #[test]
    fn ties_go_by_key_whatever_the_order() {
        let forwards = largest_remainder(1, &[("a", 1), ("b", 1)]);
        let backwards = largest_remainder(1, &[("b", 1), ("a", 1)]);
        assert_eq!(forwards, [("a", 1), ("b", 0)]);
        assert_eq!(backwards, [("b", 0), ("a", 1)]);
    }

    fn weights() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![0..20u64, any::<u64>()], 0..40)
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_budget(budget in any::<u128>(), weights in weights()) {
            let sum = parts(budget, &weights).into_iter().try_fold(0u128, u128::checked_add);
            let any = weights.iter().any(|w| *w > 0);
            prop_assert_eq!(sum, Some(if any { budget } else { 0 }));
        }

        #[test]
        fn a_larger_weight_never_gets_less(budget in any::<u128>(), weights in weights()) {
            let parts = parts(budget, &weights);
            for (a, part_a) in weights.iter().zip(&parts) {
                prop_assert!(*a > 0 || *part_a == 0);
                for (b, part_b) in weights.iter().zip(&parts) {
                    prop_assert!(a <= b || part_a >= part_b);
                    prop_assert!(a != b || part_a.abs_diff(*part_b) <= 1);
                }
            }
        }

        #[test]
        fn raising_a_weight_never_lowers_its_part(
            budget in any::<u128>(),
            (weights, at) in weights()
                .prop_filter("one at least", |w| !w.is_empty())
                .prop_flat_map(|w| { let n = w.len(); (Just(w), 0..n) }),
            more in 1..1_000u64,
        ) {
            let mut raised = weights.clone();
            raised[at] = raised[at].saturating_add(more);
            prop_assert!(parts(budget, &raised)[at] >= parts(budget, &weights)[at]);
        }

        #[test]
        fn the_order_of_the_input_changes_nothing(budget in any::<u128>(), weights in weights()) {
            let mut keyed: Vec<(usize, u64)> = weights.into_iter().enumerate().collect();
            let forwards = largest_remainder(budget, &keyed);
            keyed.reverse();
            let mut backwards = largest_remainder(budget, &keyed);
            backwards.reverse();
            prop_assert_eq!(forwards, backwards);
        }
    }
}
