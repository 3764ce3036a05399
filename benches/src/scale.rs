//! A world of clients, nodes and store shards under virtual time: what `scale_sim` measures in.
//!
//! - [`agenda`]: what happens when. [`chance`]: randomness from a seed.
//! - [`habits`]: what clients do; [`plant`]: what there is to serve them, and what it can carry.
//! - [`station`]: a first-come queue whose waits are bounded, as the engine's are.
//! - [`world`]: the events themselves; [`tally`]: what is counted of them.
//! - [`forms`]: what needs no simulation: fan-out, memory, log, disk.
//! - [`needs`]: how many machines a day takes.
//!
//! A world of N sessions is simulated by n of them, the *sample*. Every capacity is divided by
//! N/n; times stay as they are: a queue that is bounded to two seconds of work is that in both. Rates and
//! backlogs of the sample times N/n are those of the world. What does not scale are waits of the
//! length of single services, which the sample makes N/n times longer than they are:
//! [`forms::mean_wait`] says those.

pub mod agenda;
pub mod chance;
pub mod forms;
pub mod habits;
pub mod needs;
pub mod plant;
pub mod station;
pub mod tally;
pub mod world;
