use super::*;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

fn rules(balance: Balance, weights: &[u32]) -> Rules {
    let servers = (1..).zip(weights).map(|(id, weight)| (id, *weight)).collect();
    Rules { balance, servers, ..Rules::default() }
}

/// The same numbers in every run.
fn numbers() -> impl Iterator<Item = u64> {
    (0..).map(|n| proxy_common::siphash::siphash24(1, 2, n))
}

/// How often each server was preferred in `count` requests that end at once.
fn shares(balancer: &mut Balancer, count: usize, now: u64) -> Vec<usize> {
    let mut shares = vec![0; balancer.servers.len()];
    for random in numbers().take(count) {
        if let Some(server) = balancer.order(now, random, random).first() {
            shares[*server] += 1;
        }
    }
    shares
}

#[test]
fn round_robin_takes_turns_and_heeds_weights() {
    let mut plain = Balancer::new(rules(Balance::RoundRobin, &[1, 1, 1]));
    let firsts: Vec<Order> = (0..4).map(|_| plain.order(0, 0, 0)).collect();
    assert_eq!(
        firsts.iter().map(|order| order.to_vec()).collect::<Vec<_>>(),
        [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
    );
    assert!(!plain.is_told());

    let mut weighted = Balancer::new(rules(Balance::RoundRobin, &[5, 1, 1]));
    let run: Vec<usize> = (0..7).map(|_| weighted.order(0, 0, 0)[0]).collect();
    assert_eq!(run, [0, 0, 1, 0, 2, 0, 0], "smooth: the heavy one does not come five times in a row");
    assert_eq!(shares(&mut weighted, 700, 0), [500, 100, 100]);
}

#[test]
fn weight_0_is_a_spare() {
    let mut balancer = Balancer::new(rules(Balance::RoundRobin, &[1, 0]));
    assert_eq!(shares(&mut balancer, 10, 0), [10, 0]);
    balancer.unreachable(0, 0, Duration::from_secs(2));
    assert_eq!(balancer.order(SECOND, 0, 0).to_vec(), [0, 1], "the spare is behind, and there");
}

#[test]
fn least_requests_go_where_fewest_are_open() {
    let mut balancer = Balancer::new(rules(Balance::LeastRequests, &[1, 1, 2]));
    let mut given = Vec::new();
    for _ in 0..40 {
        let server = balancer.order(0, 0, 0)[0];
        given.extend(balancer.began(server, 0));
    }
    assert_eq!(balancer.servers.iter().map(|server| server.active).collect::<Vec<_>>(), [10, 10, 20]);
    given.into_iter().filter(|given| given.server() == 1).take(5).for_each(|given| balancer.ended(given));
    assert_eq!(balancer.order(0, 0, 0)[0], 1);
}

#[test]
fn peak_ewma_prefers_the_quick_and_forgives() {
    let mut balancer = Balancer::new(rules(Balance::PeakEwma, &[1, 1]));
    balancer.answered(0, 0, Duration::from_millis(1), true);
    balancer.answered(1, 0, Duration::from_millis(100), true);
    assert_eq!(shares(&mut balancer, 100, 0), [100, 0]);
    // A peak counts at once.
    balancer.answered(0, MILLI, Duration::from_secs(1), true);
    assert_eq!(shares(&mut balancer, 100, MILLI), [0, 100]);
    // Without news it fades, while the other one goes on as it was.
    balancer.answered(1, 60 * SECOND, Duration::from_millis(100), true);
    assert_eq!(shares(&mut balancer, 100, 60 * SECOND), [100, 0]);
    // What is open counts, too.
    assert!((0..1_000).all(|_| balancer.began(0, 60 * SECOND).is_some()));
    assert_eq!(shares(&mut balancer, 100, 60 * SECOND), [0, 100]);
}

#[test]
fn a_hash_stays_with_its_server() {
    let mut balancer = Balancer::new(rules(Balance::Hash, &[1, 1, 1, 1]));
    let chosen = |balancer: &mut Balancer, now| -> Vec<usize> {
        numbers().take(1_000).map(|hash| balancer.order(now, 0, hash)[0]).collect()
    };
    let before = chosen(&mut balancer, 0);
    assert_eq!(before, chosen(&mut balancer, 0));
    balancer.unreachable(2, 0, Duration::from_secs(2));
    let without = chosen(&mut balancer, SECOND);
    for (before, after) in before.iter().zip(&without) {
        assert!(if *before == 2 { *after != 2 } else { before == after }, "a key moved without need");
    }
    let moved: std::collections::BTreeSet<_> =
        before.iter().zip(&without).filter(|(before, _)| **before == 2).map(|(_, after)| *after).collect();
    assert_eq!(moved.len(), 3, "its keys are spread over all others");
    assert_eq!(before, chosen(&mut balancer, 3 * SECOND));
}

fn breaker(servers: usize) -> Balancer {
    let ejection = Ejection { failures: 3, time: Duration::from_secs(10), max_percent: 50 };
    Balancer::new(Rules { ejection: Some(ejection), ..rules(Balance::RoundRobin, &vec![1; servers]) })
}

#[test]
fn failures_in_a_row_open_the_circuit_and_a_trial_closes_it() {
    let mut balancer = breaker(2);
    for well in [false, false, true, false, false] {
        balancer.answered(0, 0, Duration::ZERO, well);
    }
    assert_eq!(balancer.standing(0, 0), Standing::Well, "not three in a row");
    balancer.failed(0, 0);
    assert_eq!(balancer.standing(0, 9 * SECOND), Standing::Ejected);
    assert_eq!(shares(&mut balancer, 4, 9 * SECOND), [0, 4]);

    // The time is over: one request tries it, the others stay away until there is news.
    let tried = 10 * SECOND;
    assert_eq!(balancer.standing(0, tried), Standing::Well);
    let trial = balancer.began(0, tried).unwrap();
    assert_eq!(shares(&mut balancer, 4, tried), [0, 4]);
    balancer.answered(0, tried, Duration::ZERO, false);
    balancer.ended(trial);
    assert_eq!(balancer.standing(0, 29 * SECOND), Standing::Ejected, "twice as long, for one failure");
    let trial = balancer.began(0, 30 * SECOND).unwrap();
    balancer.answered(0, 30 * SECOND, Duration::ZERO, true);
    balancer.ended(trial);
    assert_eq!(shares(&mut balancer, 4, 30 * SECOND), [2, 2]);
    (0..3).for_each(|_| balancer.failed(0, 31 * SECOND));
    assert_eq!(balancer.standing(0, 40 * SECOND), Standing::Ejected);
    assert_eq!(balancer.standing(0, 41 * SECOND), Standing::Well, "the first round again");
}

#[test]
fn responses_that_break_off_are_failures_in_a_row_too() {
    let mut balancer = breaker(2);
    for whole in [false, false, true, false, false] {
        let ended = balancer.answered(0, 0, Duration::ZERO, true);
        if !whole {
            balancer.broke_off(0, 0, ended);
        }
    }
    assert_eq!(balancer.standing(0, 0), Standing::Well, "not three in a row");
    // Two at a time on one server: what the first has ended, the other's end does not bring back twice.
    let (one, other) = (balancer.answered(0, 0, Duration::ZERO, true), balancer.answered(0, 0, Duration::ZERO, true));
    assert_eq!((one, other), (2, 0));
    balancer.broke_off(0, 0, other);
    assert_eq!(balancer.standing(0, 0), Standing::Well);
    balancer.broke_off(0, 0, one);
    assert_eq!(balancer.standing(0, 0), Standing::Ejected);
}

#[test]
fn a_trial_without_news_is_followed_by_another() {
    let mut balancer = breaker(2);
    // From before it was left alone.
    let old = balancer.began(0, 0).unwrap();
    (0..3).for_each(|_| balancer.failed(0, 0));
    let trial = balancer.began(0, 10 * SECOND).unwrap();
    assert_eq!(balancer.standing(0, 10 * SECOND), Standing::Ejected);
    balancer.ended(old);
    assert_eq!(balancer.standing(0, 10 * SECOND), Standing::Ejected, "the end of another request is no news");
    balancer.ended(trial);
    assert_eq!(balancer.standing(0, 10 * SECOND), Standing::Well);
}

#[test]
fn never_more_are_left_alone_than_the_rules_say() {
    let mut balancer = breaker(4);
    for server in 0..4 {
        (0..3).for_each(|_| balancer.failed(server, 0));
    }
    let ejected = (0..4).filter(|server| balancer.standing(*server, 0) == Standing::Ejected).count();
    assert_eq!(ejected, 2);
    let mut all = breaker(1);
    (0..9).for_each(|_| all.failed(0, 0));
    assert_eq!(all.standing(0, 0), Standing::Well);
    // Nobody is well: the last resort is all of them.
    (0..4).for_each(|server| balancer.unreachable(server, 0, Duration::from_secs(2)));
    assert_eq!(balancer.order(0, 0, 0).len(), 4);
}

#[test]
fn who_comes_back_starts_slowly() {
    let mut balancer =
        Balancer::new(Rules { slow_start: Duration::from_secs(10), ..rules(Balance::LeastRequests, &[1, 1]) });
    balancer.unreachable(0, 0, Duration::from_secs(2));
    balancer.answered(0, 5 * SECOND, Duration::ZERO, true);
    let weight = |balancer: &Balancer, now| balancer.weight(0, now);
    assert_eq!(weight(&balancer, 5 * SECOND), 10);
    assert_eq!(weight(&balancer, 10 * SECOND), 50);
    assert_eq!(weight(&balancer, 15 * SECOND), 100);
}

#[test]
fn probes_take_a_server_out_and_bring_it_back() {
    let mut balancer = Balancer::new(rules(Balance::RoundRobin, &[1, 1]));
    let mut probe = |well, at| {
        balancer.probed(0, at, well, 2, 3);
        balancer.standing(0, at)
    };
    assert_eq!([probe(false, 0), probe(false, 1), probe(true, 2)], [Standing::Well; 3]);
    assert_eq!([probe(false, 3), probe(false, 4)], [Standing::Well; 2]);
    assert_eq!([probe(false, 5), probe(true, 6), probe(false, 7)], [Standing::Unhealthy; 3]);
    assert_eq!([probe(true, 8), probe(true, 9)], [Standing::Unhealthy, Standing::Well]);
}

#[test]
fn a_server_has_no_more_requests_than_it_may() {
    let mut balancer = Balancer::new(Rules { max_requests: Some(2), ..rules(Balance::RoundRobin, &[1, 1]) });
    let given: Vec<Given> = [0, 0, 1].into_iter().map(|server| balancer.began(server, 0).unwrap()).collect();
    assert_eq!(balancer.began(0, 0), None, "whatever order it was found in");
    assert_eq!(balancer.order(0, 0, 0).to_vec(), [1]);
    assert!(balancer.began(1, 0).is_some());
    assert!(balancer.order(0, 0, 0).is_empty());
    balancer.ended(given[0]);
    assert_eq!(balancer.order(0, 0, 0).to_vec(), [0]);
}
