//! What ranks cost and bring on this machine's CPU: the all-reduce of a flat gradient through Gloo,
//! and the training step of one, two and four ranks of one thread each on one batch, as a JSON line
//! each. Ranks are threads here, with connections of their own, as processes have.
//!
//! `cargo bench -p benches --profile dev --bench ranks`

use forgetting_laws::engine::{Comm, Network, Signals, Solo, Trainer, windows};
use forgetting_laws::model::Shape;
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::AdamW;
use forgetting_laws::{Error, Result};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store};

const BATCH: usize = 32;
const CONTEXT: usize = 128;
const PATIENCE: Duration = Duration::from_secs(120);

/// A rank whose gradients go through Gloo.
struct Rank(Place, Group);

impl Comm for Rank {
    fn rank(&self) -> usize {
        self.0.rank
    }
    fn world(&self) -> usize {
        self.0.world
    }
    fn all_reduce_sum(&self, flat: &mut Tensor) -> Result<()> {
        self.1.all_reduce_sum(flat).map_err(|error| Error::RankLost(error.to_string()))
    }
    fn broadcast(&self, flat: &mut Tensor) -> Result<()> {
        self.1.broadcast(flat, None).map_err(|error| Error::RankLost(error.to_string()))
    }
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
    fn agree(&self, mine: Signals) -> Result<Signals> {
        Ok(mine)
    }
}

fn main() {
    for floats in [1 << 16, 1 << 20, 1 << 24] {
        for world in [2, 4] {
            let seconds = ranks(world, |rank| all_reduce(rank, floats));
            // Each rank sends and receives 2 (W − 1) / W of the buffer in a ring.
            let bytes = 4.0 * floats as f64 * 2.0 * (world as f64 - 1.0) / world as f64;
            let rate = bytes / seconds / 1e9;
            println!(
                "{{\"all_reduce_floats\": {floats}, \"ranks\": {world}, \
                 \"milliseconds\": {:.3}, \"bus_gb_per_s\": {rate:.2}}}",
                1e3 * seconds
            );
        }
    }
    for size in ["nano-small", "nano-medium", "nano-large"] {
        let alone = step(size, &Solo);
        for world in [1, 2, 4] {
            let seconds = match world {
                1 => alone,
                _ => ranks(world, |rank| step(size, rank)),
            };
            println!(
                "{{\"size\": \"{size}\", \"ranks\": {world}, \"step_milliseconds\": {:.2}, \
                 \"efficiency\": {:.2}}}",
                1e3 * seconds,
                alone / seconds / world as f64
            );
        }
    }
}

/// What the first rank returns.
fn ranks(world: usize, work: impl Fn(&Rank) -> f64 + Sync) -> f64 {
    let store = Store::serve(0).expect("a free port");
    let port = store.port();
    let rank = |rank| {
        let host = "127.0.0.1".to_string();
        let place = Place { rank, local_rank: rank, world, host, port, serves: false, attempt: 0 };
        let store = place.meet(PATIENCE).expect("all ranks are threads of this process");
        let group = Group::open(&store, &place, "gradients", Backend::Gloo, PATIENCE);
        work(&Rank(place, group.expect("the ranks have met")))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..world).map(|r| scope.spawn(move || rank(r))).collect();
        let seconds = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        seconds.collect::<Vec<f64>>()[0]
    })
}

/// Median seconds of an operation that all ranks repeat equally often.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..15)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn all_reduce(rank: &Rank, floats: i64) -> f64 {
    let mut flat = Tensor::zeros([floats], (Kind::Float, Device::Cpu));
    median(|| rank.all_reduce_sum(&mut flat).expect("no rank is lost"))
}

fn step(size: &str, comm: &dyn Comm) -> f64 {
    tch::set_num_threads(1);
    let shape = Shape::named(size, 512, CONTEXT).expect("a known size");
    let network = Network::new(shape, Key::new(0), Device::Cpu).expect("a valid shape");
    let mut trainer = Trainer::new(network, AdamW::default(), 5.0).expect("valid settings");
    let mine = BATCH / comm.world();
    let width = CONTEXT + 1;
    let token = |i| Key::new(comm.rank() as u64).below(i, 512) as u32;
    let tokens: Vec<u32> = (0..(mine * width) as u64).map(token).collect();
    let rows: Vec<&[u32]> = tokens.chunks(width).collect();
    median(|| {
        let positions = (BATCH * CONTEXT) as u64;
        let windows = windows(&rows, Device::Cpu);
        let step = trainer.step(&[windows], positions, 1e-4, 1.0, comm);
        let _ = step.expect("no rank is lost").double_value(&[]);
    })
}
