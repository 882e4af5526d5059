//! What ranks cost and bring on this machine: the all-reduce of a flat gradient, and the training step
//! of one, two and more ranks on one batch, as a JSON line each. Ranks are processes: on a CPU of one
//! thread each and through Gloo, on GPUs of one GPU each and through NCCL.
//!
//! `cargo bench -p benches --profile dev --bench ranks -- [--device cpu|cuda] [--size NAME]
//! [--precision f32|bf16] [--batch N]`
//!
//! N sequences a step, of all ranks; without a size, three on a CPU and `large` on GPUs.

use benches::{argument, precision};
use forgetting_laws::engine::torch::{self, Collectives, Network, Trainer, cuda, windows};
use forgetting_laws::engine::{Comm, Signals, Solo};
use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Shape};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use forgetting_laws::{Error, Result};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store, has_nccl};

const PATIENCE: Duration = Duration::from_secs(300);

/// A rank whose gradients go through a group.
struct Rank(Place, Group);

impl Comm for Rank {
    fn rank(&self) -> usize {
        self.0.rank
    }
    fn world(&self) -> usize {
        self.0.world
    }
    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
    fn agree(&self, mine: Signals) -> Result<Signals> {
        Ok(mine)
    }
}

impl Collectives for Rank {
    fn all_reduce_sum(&self, flat: &mut Tensor) -> Result<()> {
        self.1.all_reduce_sum(flat).map_err(|error| Error::RankLost(error.to_string()))
    }
    fn broadcast(&self, flat: &mut Tensor) -> Result<()> {
        self.1.broadcast(flat, None).map_err(|error| Error::RankLost(error.to_string()))
    }
}

fn main() {
    match Place::from_env().expect("started below") {
        Some(place) => as_rank(place),
        None => as_launcher(),
    }
}

fn as_launcher() {
    let device = argument("--device", "cpu");
    let (worlds, sizes): (Vec<usize>, Vec<&str>) = match device.as_str() {
        "cpu" => (vec![1, 2, 4], vec!["nano-small", "nano-medium", "nano-large"]),
        _ => {
            torch::device(&device).unwrap_or_else(|error| panic!("{error}"));
            let there = |world: &usize| *world <= cuda::count();
            ([1, 2, 4, 8].into_iter().filter(there).collect(), vec!["large"])
        }
    };
    for floats in ["65536", "1048576", "16777216", "268435456"] {
        // The last is a gradient of a GPU's models.
        if device == "cpu" && floats.len() > 8 {
            continue;
        }
        for &world in worlds.iter().filter(|&&world| world > 1) {
            let seconds = seconds(world, &["--floats", floats]);
            // Each rank sends and receives 2 (W − 1) / W of the buffer in a ring.
            let bytes = 4.0 * floats.parse::<f64>().expect("a number");
            let rate = bytes * 2.0 * (world as f64 - 1.0) / world as f64 / seconds / 1e9;
            println!(
                "{{\"all_reduce_floats\": {floats}, \"ranks\": {world}, \
                 \"milliseconds\": {:.3}, \"bus_gb_per_s\": {rate:.2}}}",
                1e3 * seconds
            );
        }
    }
    let asked = argument("--size", "");
    for size in if asked.is_empty() { sizes } else { vec![asked.as_str()] } {
        let alone = seconds(1, &["--size", size]);
        for &world in &worlds {
            let seconds = if world == 1 { alone } else { seconds(world, &["--size", size]) };
            println!(
                "{{\"size\": \"{size}\", \"ranks\": {world}, \"step_milliseconds\": {:.2}, \
                 \"efficiency\": {:.2}}}",
                1e3 * seconds,
                alone / seconds / world as f64
            );
        }
    }
}

/// What so many processes of this program say that they take.
fn seconds(world: usize, work: &[&str]) -> f64 {
    let store = Store::serve(0).expect("a free port");
    // One alone has no place: it is told by its work.
    let place = |rank| Place::local(rank, world.max(2), store.port());
    let program = std::env::current_exe().expect("this program");
    let start = |rank| {
        let mut call = Command::new(&program);
        call.args(work).args(["--ranks", &world.to_string()]).args(std::env::args().skip(1));
        call.envs(place(rank).variables()).stdout(Stdio::piped()).stdin(Stdio::null());
        call.spawn().expect("this program can be started")
    };
    let processes: Vec<_> = (0..world).map(start).collect();
    let outputs = processes.into_iter().map(|process| process.wait_with_output().expect("ends"));
    let outputs: Vec<_> = outputs.collect();
    assert!(outputs.iter().all(|output| output.status.success()), "a rank failed");
    let said = String::from_utf8_lossy(&outputs[0].stdout).trim().to_string();
    said.parse().expect("the first rank says its seconds")
}

fn as_rank(place: Place) {
    let device = match argument("--device", "cpu").as_str() {
        "cpu" => Device::Cpu,
        _ => torch::device(&format!("cuda:{}", place.local_rank))
            .unwrap_or_else(|error| panic!("{error}")),
    };
    let backend = match device {
        Device::Cuda(_) if has_nccl() => Backend::Nccl,
        _ => Backend::Gloo,
    };
    let first = place.rank == 0;
    let alone = argument("--ranks", "1") == "1";
    let rank = (!alone).then(|| {
        let store = place.meet(PATIENCE).expect("all ranks are started");
        let group = Group::open(&store, &place, "gradients", backend, PATIENCE);
        (Rank(place, group.expect("the ranks have met")), store)
    });
    let comm: &dyn Collectives = rank.as_ref().map_or(&Solo, |(rank, _)| rank);
    let floats = argument("--floats", "");
    let seconds = if floats.is_empty() {
        step(&argument("--size", ""), device, comm)
    } else {
        all_reduce(floats.parse().expect("a number"), device, comm)
    };
    if first {
        println!("{seconds}");
    }
}

/// Median seconds of an operation that all ranks repeat equally often; each time what it returns is
/// read, which waits for a GPU.
fn median(mut work: impl FnMut() -> Tensor) -> f64 {
    let mut seconds: Vec<f64> = (0..18)
        .map(|_| {
            let begun = Instant::now();
            let _ = work().double_value(&[]);
            begun.elapsed().as_secs_f64()
        })
        // The first ones fetch libraries and memory.
        .skip(3)
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn all_reduce(floats: i64, device: Device, comm: &dyn Collectives) -> f64 {
    let mut flat = Tensor::zeros([floats], (Kind::Float, device));
    median(|| {
        comm.all_reduce_sum(&mut flat).expect("no rank is lost");
        flat.get(0)
    })
}

fn step(size: &str, device: Device, comm: &dyn Collectives) -> f64 {
    tch::set_num_threads(1);
    let (vocab, context, batch, usual) = if size.starts_with("nano") {
        (512, 128, "32", "f32")
    } else {
        (PAPER_VOCAB, PAPER_CONTEXT, "64", "bf16")
    };
    let batch: usize = argument("--batch", batch).parse().expect("--batch takes a number");
    let shape = Shape::named(size, vocab, context).unwrap_or_else(|error| panic!("{error}"));
    let network = Network::new(shape, Key::new(0), device).expect("a valid shape");
    let network = network.in_precision(precision(usual)).expect("enough memory");
    let mut trainer = Trainer::new(network, AdamW::default(), 5.0).expect("valid settings");
    let width = context + 1;
    let token = |i| Key::new(comm.rank() as u64).below(i, vocab as u64) as u32;
    let tokens: Vec<u32> = (0..(batch / comm.world() * width) as u64).map(token).collect();
    let rows: Vec<&[u32]> = tokens.chunks(width).collect();
    // As the presets cut a rank's sequences into passes.
    let pass = if size.starts_with("nano") { 64 } else { 16 };
    median(|| {
        let passes = rows.chunks(pass).map(|rows| windows(rows, device));
        let positions = (batch * context) as u64;
        let step = Step { t: 1, lr: 1e-4, multiplier: 1.0 };
        trainer.step(passes, positions, step, comm).expect("no rank is lost")
    })
}
