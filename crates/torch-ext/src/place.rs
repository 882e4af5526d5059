//! Which of how many processes this one is, and where they meet.

use crate::{Error, Result, Store};
use std::env;
use std::time::{Duration, Instant};

/// This process among the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// Its number on its machine, which chooses the GPU.
    pub local_rank: usize,
    /// Number of processes.
    pub world: usize,
    /// The machine where they meet.
    pub host: String,
    /// The port on that machine.
    pub port: u16,
    /// Whether rank 0 serves the store; otherwise the launcher does.
    pub serves: bool,
    /// The attempt, where the launcher starts the processes anew.
    pub attempt: u64,
}

/// Says that the launcher serves the store: torchrun's variable.
const AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";

impl Place {
    /// From torchrun's variables RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without
    /// RANK from those of srun, if MASTER_ADDR says that a meeting is wanted. None for a process
    /// alone: without both, or with a WORLD_SIZE of 1.
    ///
    /// # Errors
    /// If a variable is missing beside the others, or none that can be.
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_variables(variable)
    }

    /// The variables that [`Self::from_env`] takes the rank, the rank on its machine and the number of
    /// processes from; None where none of them places a process.
    pub fn names_in_env() -> Option<[&'static str; 3]> {
        Self::names(variable)
    }

    fn names(get: impl Fn(&str) -> Option<String>) -> Option<[&'static str; 3]> {
        match (get("RANK"), get("MASTER_ADDR"), get("SLURM_PROCID")) {
            (Some(_), _, _) => Some(["RANK", "LOCAL_RANK", "WORLD_SIZE"]),
            (None, Some(_), Some(_)) => Some(["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"]),
            _ => None,
        }
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(names) = Self::names(&get) else { return Ok(None) };
        let text = |name: &'static str| {
            get(name).ok_or_else(|| {
                let requirement = format!(
                    "is needed together with {0}; to run one process alone, unset {0}",
                    names[0]
                );
                Error::Variable { name, value: String::new(), requirement }
            })
        };
        let number = |name: &'static str| {
            let value = text(name)?;
            value.parse::<usize>().map_err(|_| {
                let requirement = "must be a whole number from 0 on".to_string();
                Error::Variable { name, value, requirement }
            })
        };
        let (rank, world) = (number(names[0])?, number(names[2])?);
        if rank >= world {
            let requirement = format!("must be below {}={world}", names[2]);
            return Err(Error::Variable { name: names[0], value: rank.to_string(), requirement });
        }
        if world == 1 {
            return Ok(None);
        }
        let local_rank = match get(names[1]) {
            Some(_) => number(names[1])?,
            None => rank,
        };
        let port = text("MASTER_PORT")?;
        let port = port.parse().map_err(|_| {
            let requirement = "must be a port, 1 to 65535".to_string();
            Error::Variable { name: "MASTER_PORT", value: port.clone(), requirement }
        })?;
        let attempt = get("TORCHELASTIC_RESTART_COUNT").and_then(|count| count.parse().ok());
        Ok(Some(Self {
            rank,
            local_rank,
            world,
            host: text("MASTER_ADDR")?,
            port,
            serves: get(AGENT_STORE).as_deref() != Some("True"),
            attempt: attempt.unwrap_or(0),
        }))
    }

    /// One of the processes that a launcher on this machine starts, which serves the store at `port`.
    pub fn local(rank: usize, world: usize, port: u16) -> Self {
        let host = "127.0.0.1".into();
        Self { rank, local_rank: rank, world, host, port, serves: false, attempt: 0 }
    }

    /// The variables that place a process, for one that is to be started.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let agent = if self.serves { "False" } else { "True" };
        vec![
            ("RANK", self.rank.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("WORLD_SIZE", self.world.to_string()),
            ("MASTER_ADDR", self.host.clone()),
            ("MASTER_PORT", self.port.to_string()),
            (AGENT_STORE, agent.to_string()),
            ("TORCHELASTIC_RESTART_COUNT", self.attempt.to_string()),
        ]
    }

    /// Whether all ranks are on the machine where they meet.
    pub fn is_local(&self) -> bool {
        ["localhost", "127.0.0.1", "::1"].contains(&self.host.as_str())
    }

    /// Meets the other ranks; returns once all have come.
    ///
    /// # Errors
    /// If the store cannot be reached in this time, not all ranks come, two have one number, or they
    /// differ in how many they are.
    pub fn meet(&self, timeout: Duration) -> Result<Store> {
        let begun = Instant::now();
        let serve = self.serves && self.rank == 0;
        let prefix = format!("forgetting-laws/{}/", self.attempt);
        let (host, port) = (&self.host, self.port);
        let store = Store::open(host, port, serve, timeout, prefix).map_err(|error| {
            let said = match error {
                Error::C10d { said, .. } => said,
                other => other.to_string(),
            };
            let seconds = timeout.as_secs();
            Error::Meeting(if serve {
                format!("rank 0 cannot listen at {host}:{port} ({said})")
            } else {
                format!(
                    "rank {} found no rank 0 at MASTER_ADDR={host}, MASTER_PORT={port} within \
                     {seconds} s: was it started? ({said})",
                    self.rank
                )
            })
        })?;
        if store.add(&format!("rank/{}", self.rank), 1)? > 1 {
            let rank = self.rank;
            return Err(Error::Meeting(format!("two processes have rank {rank}")));
        }
        // All say how many they think they are, before they wait for so many.
        if self.rank == 0 {
            store.set("world", &self.world.to_string())?;
        }
        let left = |begun: Instant| timeout.saturating_sub(begun.elapsed());
        let world = store.get("world", left(begun)).map_err(|_| {
            let seconds = timeout.as_secs();
            Error::Meeting(format!("rank 0 did not answer within {seconds} s"))
        })?;
        if world != self.world.to_string() {
            return Err(Error::Meeting(format!(
                "WORLD_SIZE is {} for rank {} and {world} for rank 0",
                self.world, self.rank
            )));
        }
        store.add("arrived", 1)?;
        loop {
            let arrived = store.add("arrived", 0)?;
            if arrived >= self.world as i64 {
                return Ok(store);
            }
            if left(begun).is_zero() {
                return Err(Error::Meeting(format!(
                    "{arrived} of {} ranks connected within {} s: were all started, with the same \
                     WORLD_SIZE?",
                    self.world,
                    timeout.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A variable of this process; None where it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn place(variables: &[(&str, &str)]) -> Result<Option<Place>> {
        let map: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Place::from_variables(|name| map.get(name).map(ToString::to_string))
    }

    const TORCHRUN: [(&str, &str); 5] = [
        ("RANK", "3"),
        ("LOCAL_RANK", "1"),
        ("WORLD_SIZE", "4"),
        ("MASTER_ADDR", "node0"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn torchrun_and_srun_place_a_process() {
        let found = place(&TORCHRUN).unwrap().unwrap();
        let expected = Place {
            rank: 3,
            local_rank: 1,
            world: 4,
            host: "node0".into(),
            port: 29500,
            serves: true,
            attempt: 0,
        };
        assert_eq!(found, expected);
        let mut agent = TORCHRUN.to_vec();
        agent.extend([(AGENT_STORE, "True"), ("TORCHELASTIC_RESTART_COUNT", "2")]);
        let found = place(&agent).unwrap().unwrap();
        assert_eq!(found, Place { serves: false, attempt: 2, ..expected.clone() });
        let srun = [
            ("SLURM_PROCID", "3"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_NTASKS", "4"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "29500"),
        ];
        assert_eq!(place(&srun).unwrap().unwrap(), expected);
        // In an allocation without a meeting, and alone.
        assert_eq!(place(&srun[..3]).unwrap(), None);
        assert_eq!(place(&[]).unwrap(), None);
        assert_eq!(place(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
    }

    #[test]
    fn the_variables_of_a_place_make_it_again() {
        for serves in [false, true] {
            let place =
                Place { serves, attempt: 3, ..super::tests::place(&TORCHRUN).unwrap().unwrap() };
            let variables: BTreeMap<&str, String> = place.variables().into_iter().collect();
            let again = Place::from_variables(|name| variables.get(name).cloned());
            assert_eq!(again.unwrap().unwrap(), place);
        }
    }

    #[test]
    fn variables_that_cannot_be_are_named() {
        let without = |name: &str| TORCHRUN.into_iter().filter(|(n, _)| *n != name).collect();
        let with = |name: &'static str, value: &'static str| {
            let mut variables: Vec<(&str, &str)> = without(name);
            variables.push((name, value));
            variables
        };
        let cases: [(Vec<(&str, &str)>, &str); 6] = [
            (with("RANK", "4"), "RANK=4 must be below WORLD_SIZE=4"),
            (with("RANK", "-1"), "RANK=-1 must be a whole number"),
            (with("MASTER_PORT", "99999"), "MASTER_PORT=99999 must be a port"),
            (without("WORLD_SIZE"), "WORLD_SIZE= is needed together with RANK"),
            (without("MASTER_ADDR"), "MASTER_ADDR= is needed together with RANK"),
            (without("MASTER_PORT"), "MASTER_PORT= is needed together with RANK"),
        ];
        for (variables, expected) in cases {
            let message = place(&variables).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
