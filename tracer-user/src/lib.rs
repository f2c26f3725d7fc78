//! golife watches every goroutine of every Go process on a Linux host: where it was created, when it ended, and
//! which ones never will.
//!
//! The modules are floors: each uses only those before it, as the table "Floors" in ARCHITECTURE.md says. On the ground
//! stand [`human`], [`stats`], [`host`] and [`go`]; [`report`] is the result as plain data, [`event`] what the kernel tells,
//! [`inspect`] a live process's memory. [`verdict`] judges, [`probes`] are put into the kernel, [`tracker`] keeps the
//! goroutine table, [`targets`] knows whom to trace. [`look`] and [`assemble`] make of that what a report shows,
//! [`trace`] is the engine, [`output`] writes, [`store`] keeps what many hosts know, and [`commands`] is what a person runs.

pub mod assemble;
pub mod commands;
pub mod event;
pub mod go;
pub mod host;
pub mod human;
pub mod inspect;
pub mod look;
pub mod output;
pub mod probes;
pub mod report;
pub mod stats;
pub mod store;
pub mod targets;
pub mod trace;
pub mod tracker;
pub mod verdict;
