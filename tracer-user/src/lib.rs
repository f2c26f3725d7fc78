//! golife watches every goroutine of every Go process on a Linux host: where it was created, when it ended, and
//! which ones never will.
//!
//! The modules are the stages of one flow, in this order: [`kernel`] and [`ring`] deliver bytes, [`event`] makes
//! events of them, [`tracker`] keeps the goroutine table, [`sites`] the aggregates, [`verdict`] judges, [`report`]
//! freezes the result, [`output`] shows it. [`process`], [`go`] and [`inspect`] find out what is traced, and
//! [`pipeline`] is the one place where all of it is wired.

pub mod cli;
pub mod commands;
pub mod container;
pub mod creation_stacks;
pub mod doctor;
pub mod dump;
pub mod event;
pub mod go;
pub mod human;
pub mod inspect;
pub mod kernel;
pub mod launch;
pub mod library;
pub mod look;
pub mod mapped;
pub mod neighbour;
pub mod output;
pub mod pipeline;
pub mod process;
pub mod progress;
pub mod report;
pub mod ring;
pub mod selftest;
pub mod session;
pub mod sites;
pub mod stats;
pub mod subject;
pub mod sweep;
pub mod targets;
pub mod tracker;
pub mod usage;
pub mod verdict;
