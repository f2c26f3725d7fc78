//! golife watches every goroutine of every Go process on a Linux host: where it was created, when it ended, and
//! which ones never will.
//!
//! The modules are the stages of one flow, in this order: [`probes`] deliver bytes, [`event`] makes
//! events of them, [`tracker`] keeps the goroutine table, its sites the aggregates, [`verdict`] judges, [`report`]
//! freezes the result, [`output`] shows it. [`host`], [`go`] and [`inspect`] find out what is traced, and
//! [`pipeline`] is the one place where all of it is wired.

pub mod cli;
pub mod commands;
pub mod creation_stacks;
pub mod doctor;
pub mod dump;
pub mod event;
pub mod go;
pub mod host;
pub mod human;
pub mod inspect;
pub mod library;
pub mod look;
pub mod output;
pub mod pipeline;
pub mod probes;
pub mod progress;
pub mod report;
pub mod session;
pub mod stats;
pub mod subject;
pub mod sweep;
pub mod targets;
pub mod tracker;
pub mod verdict;
