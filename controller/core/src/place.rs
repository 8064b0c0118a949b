//! Which amphora carries a load balancer.

use krater_amphora_api::AmphoraId;

use crate::query::AmphoraStatus;

/// An amphora that could carry a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which amphora.
    pub amphora: AmphoraId,
    /// Load balancers it carries already.
    pub load: u64,
    /// Whether it is there.
    pub status: AmphoraStatus,
}

/// Chooses among `candidates`: one that serves before one that boots before one that is silent, then the least
/// loaded, then the lowest id so that the choice does not depend on the order they come in. `None` when there are
/// none. A silent one is better than none: it gets the load balancer when it is back.
#[must_use]
pub fn choose(candidates: &[Candidate]) -> Option<AmphoraId> {
    candidates
        .iter()
        .min_by_key(|candidate| {
            (
                reluctance(candidate.status),
                candidate.load,
                candidate.amphora,
            )
        })
        .map(|candidate| candidate.amphora)
}

const fn reluctance(status: AmphoraStatus) -> u8 {
    match status {
        AmphoraStatus::Allocated => 0,
        AmphoraStatus::Booting => 1,
        AmphoraStatus::Error => 2,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn candidate(number: u128, load: u64, status: AmphoraStatus) -> Candidate {
        Candidate {
            amphora: AmphoraId::new(Uuid::from_u128(number)),
            load,
            status,
        }
    }

    fn chosen(candidates: &[Candidate]) -> Option<u128> {
        let chosen = choose(candidates);
        let mut backwards = candidates.to_vec();
        backwards.reverse();
        assert_eq!(choose(&backwards), chosen, "the order does not matter");
        chosen.map(|amphora| amphora.uuid().as_u128())
    }

    #[test]
    fn the_least_loaded_is_chosen_and_the_lowest_id_among_equals() {
        let serves = AmphoraStatus::Allocated;
        assert_eq!(
            chosen(&[candidate(1, 5, serves), candidate(2, 4, serves)]),
            Some(2)
        );
        assert_eq!(
            chosen(&[candidate(2, 4, serves), candidate(1, 4, serves)]),
            Some(1)
        );
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn one_that_serves_is_better_than_an_idle_one_that_does_not() {
        let (booting, silent) = (
            candidate(1, 0, AmphoraStatus::Booting),
            candidate(2, 0, AmphoraStatus::Error),
        );
        assert_eq!(
            chosen(&[booting, silent, candidate(3, 99, AmphoraStatus::Allocated)]),
            Some(3)
        );
        assert_eq!(chosen(&[booting, silent]), Some(1));
        assert_eq!(chosen(&[silent]), Some(2));
    }
}
