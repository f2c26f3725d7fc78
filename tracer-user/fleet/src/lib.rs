//! golife-fleet asks what many hosts have written: which `go` statements leak anywhere, since when, and what it costs.
//!
//! The modules are floors, each of which uses only those below it: [`commands`] is what a person runs, [`queries`]
//! reads what [`findings`] and [`capacity`] judge, [`session`] answers SQL with DataFusion, [`rollup`] knows hours of all hosts together,
//! [`listing`] knows the files, [`store`] reaches them, [`waiting`] says that they take long, and [`output`] shows answers.

pub mod alerts;
pub mod arguments;
pub mod capacity;
pub mod commands;
pub mod findings;
pub mod listing;
pub mod output;
pub mod owners;
pub mod queries;
pub mod rollup;
pub mod session;
pub mod store;
pub mod waiting;
pub mod written;
