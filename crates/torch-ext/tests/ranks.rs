//! Ranks as threads: each with a connection to the store and groups of its own, as processes have.

use std::net::TcpListener;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, Error, Group, Place, Result, Store};

const PATIENCE: Duration = Duration::from_secs(60);

/// What each rank returns.
fn ranks<T: Send>(
    world: usize,
    timeout: Duration,
    work: impl Fn(&Place, Group) -> T + Sync,
) -> Vec<T> {
    let store = Store::serve(0).unwrap();
    let port = store.port();
    let rank = |rank| {
        let place = Place::local(rank, world, port);
        let store = place.meet(PATIENCE).unwrap();
        work(&place, Group::open(&store, &place, "group", Backend::Gloo, timeout).unwrap())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..world).map(|r| scope.spawn(move || rank(r))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor).unwrap()
}

#[test]
fn collectives_give_every_rank_the_same() {
    for world in [2, 4] {
        let sums = ranks(world, PATIENCE, |place, group| {
            // More elements than ranks, and no multiple of them.
            let base = Tensor::arange(1_003, (Kind::Float, Device::Cpu)) + 0.1;
            let mine = &base / (place.rank as f64 + 1.0);
            let mut sum = mine.copy();
            group.all_reduce_sum(&mut sum).unwrap();
            let mut largest = Tensor::from_slice(&[place.rank as i64, -(place.rank as i64)]);
            group.all_reduce_max(&mut largest, Some(PATIENCE)).unwrap();
            assert_eq!(Vec::<i64>::try_from(largest).unwrap(), [world as i64 - 1, 0]);
            let mut first = mine.copy();
            group.broadcast(&mut first, None).unwrap();
            assert_eq!(values(&first), values(&base));
            group.barrier().unwrap();
            values(&sum)
        });
        let factor: f64 = (1..=world).map(|r| 1.0 / r as f64).sum();
        for (i, sum) in sums[0].iter().enumerate() {
            let expected = (i as f64 + 0.1) * factor;
            assert!((f64::from(*sum) - expected).abs() <= 1e-5 * expected, "{i}: {sum}");
        }
        // Not only close: a step that all take must keep them equal.
        let bits = |sum: &[f32]| sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(sums.iter().all(|sum| bits(sum) == bits(&sums[0])));
    }
}

#[test]
fn a_rank_that_is_gone_ends_the_others_in_one_line() {
    let results = ranks(4, PATIENCE, |place, group| {
        let mut flat = Tensor::zeros([1 << 16], (Kind::Float, Device::Cpu));
        group.all_reduce_sum(&mut flat).unwrap();
        if place.rank == 2 {
            return None;
        }
        let begun = Instant::now();
        let error = (0..3).find_map(|_| group.all_reduce_sum(&mut flat).err());
        Some((error.expect("a rank is gone").to_string(), begun.elapsed()))
    });
    for (message, after) in results.into_iter().flatten() {
        assert!(message.starts_with("another rank ended or did not answer in time"), "{message}");
        assert!(!message.contains('\n'), "{message}");
        assert!(after < PATIENCE, "{after:?}");
    }
}

#[test]
fn a_rank_that_hangs_ends_the_others_after_the_time_out() {
    let timeout = Duration::from_millis(500);
    let results = ranks(2, timeout, |place, group| {
        if place.rank == 1 {
            std::thread::sleep(4 * timeout);
            return None;
        }
        let begun = Instant::now();
        let error = group.barrier().expect_err("nobody else is there");
        Some((error.to_string(), begun.elapsed()))
    });
    let (message, after) = results[0].as_ref().unwrap();
    assert!(message.contains("did not answer in time"), "{message}");
    assert!(*after >= timeout, "{after:?}");
}

/// The errors of places that meet at one store, each in a thread.
fn meetings(places: Vec<Place>, timeout: Duration) -> Vec<Result<()>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            places.iter().map(|place| scope.spawn(move || place.meet(timeout).map(drop))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn message(result: &Result<()>) -> String {
    match result {
        Err(error @ Error::Meeting(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn those_who_do_not_fit_together_are_told() {
    let store = Store::serve(0).unwrap();
    let at = |rank, world, attempt| Place { attempt, ..Place::local(rank, world, store.port()) };
    let short = Duration::from_secs(1);
    let results = meetings(vec![at(0, 2, 1), at(1, 4, 1)], short);
    assert_eq!(
        message(&results[0]),
        "1 of 2 ranks connected within 1 s: were all started, with the same WORLD_SIZE?"
    );
    assert_eq!(message(&results[1]), "WORLD_SIZE is 4 for rank 1 and 2 for rank 0");
    let results = meetings(vec![at(0, 3, 2), at(1, 3, 2)], short);
    for result in &results {
        assert!(message(result).starts_with("2 of 3 ranks connected within 1 s"));
    }
    let results = meetings(vec![at(1, 2, 3), at(1, 2, 3)], short);
    let messages = [message(&results[0]), message(&results[1])];
    assert!(messages.contains(&"two processes have rank 1".to_string()), "{messages:?}");
    assert!(messages.contains(&"rank 0 did not answer within 1 s".to_string()), "{messages:?}");
    // A later attempt meets none of the earlier ones' keys.
    for result in meetings(vec![at(0, 2, 4), at(1, 2, 4)], PATIENCE) {
        result.unwrap();
    }
}

#[test]
fn a_master_that_is_not_there_is_one_line() {
    torch_ext::quiet();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begun = Instant::now();
    let result = Place::local(1, 2, free).meet(Duration::from_secs(2)).map(drop);
    let text = message(&result);
    assert!(
        text.starts_with("rank 1 found no rank 0 at MASTER_ADDR=127.0.0.1, MASTER_PORT="),
        "{text}"
    );
    assert!(!text.contains('\n'), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Place { serves: true, ..Place::local(0, 2, taken.local_addr().unwrap().port()) };
    let result = server.meet(Duration::from_secs(2)).map(drop);
    let text = message(&result);
    assert!(text.starts_with("rank 0 cannot listen at 127.0.0.1:"), "{text}");
}
