//! The command-line client: `vx11-operator tail`, `publish`, `token`, `streams`, `end` and the
//! others, as people and scripts run them.

mod acting_as;
mod control;
mod issuing;
mod page;
mod publishing;
mod repeating;
mod resuming;
mod statistics;
mod tailing;
mod topics;
mod watching;
mod wrong_servers;
