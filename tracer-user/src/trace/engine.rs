//! Probes or looks: what follows a family of processes, whichever of the two there is. For its owner both are the same.

use super::scanned::Scanner;
use super::{Command, Ending, Happened, Notice, Settings, StartError, Targets, TraceError, Tracer, Way};
use crate::go::BuildInfo;
use crate::probes::ProbeError;
use crate::report::{Report, Selection};

/// What follows processes.
pub enum Engine {
    /// By probes.
    Traced(Box<Tracer>),
    /// By looks into their memory.
    Scanned(Scanner),
}

impl Engine {
    /// Begins to follow what is wanted, in the way that is wanted: see [`Way`]. All but a family of processes have probes.
    ///
    /// # Errors
    /// Those of [`Tracer::start`], where there is no other way.
    pub async fn start(settings: Settings) -> Result<Engine, StartError> {
        let Targets::Family { root, program, children, .. } = settings.targets.clone() else {
            return Ok(Engine::Traced(Box::new(Tracer::start(settings).await?)));
        };
        let (interval, patterns) = (settings.interval, settings.patterns.clone());
        let why = match settings.way {
            Way::Scanned => None,
            way => match Tracer::start(settings).await {
                Ok(tracer) => return Ok(Engine::Traced(Box::new(tracer))),
                Err(start) if way == Way::Auto && is_refused(&start.error) => Some(start.error.to_string()),
                Err(start) => return Err(start),
            },
        };
        let mut scanner = Scanner::start(root, &program, children, patterns, interval)?;
        if let Some(why) = why {
            scanner.say(Notice::NoProbes { why });
        }
        Ok(Engine::Scanned(scanner))
    }

    /// See [`Tracer::next`].
    ///
    /// # Errors
    /// Those of [`Tracer::next`].
    pub async fn next(&mut self) -> Result<Happened, TraceError> {
        match self {
            Engine::Traced(tracer) => tracer.next().await,
            Engine::Scanned(scanner) => Ok(scanner.next().await),
        }
    }

    /// See [`Tracer::take_notices`].
    pub fn take_notices(&mut self) -> Vec<Notice> {
        match self {
            Engine::Traced(tracer) => tracer.take_notices(),
            Engine::Scanned(scanner) => scanner.take_notices(),
        }
    }

    /// See [`Tracer::command`].
    pub fn command(&mut self, command: Command) {
        match self {
            Engine::Traced(tracer) => tracer.command(command),
            Engine::Scanned(scanner) => scanner.command(command),
        }
    }

    /// See [`Tracer::report`].
    pub fn report(&mut self, selection: &Selection) -> Report {
        match self {
            Engine::Traced(tracer) => tracer.report(selection),
            Engine::Scanned(scanner) => scanner.report(selection),
        }
    }

    /// See [`Tracer::stop`].
    ///
    /// # Errors
    /// Those of [`Tracer::stop`].
    pub async fn stop(self, selection: &Selection) -> Result<Ending, TraceError> {
        match self {
            Engine::Traced(tracer) => tracer.stop(selection).await,
            Engine::Scanned(scanner) => Ok(scanner.stop(selection)),
        }
    }

    /// How many processes are followed now.
    pub fn process_count(&self) -> usize {
        match self {
            Engine::Traced(tracer) => tracer.process_count(),
            Engine::Scanned(scanner) => scanner.process_count(),
        }
    }

    /// The build info of each binary that is followed.
    pub fn builds(&self) -> Vec<BuildInfo> {
        match self {
            Engine::Traced(tracer) => tracer.builds(),
            Engine::Scanned(scanner) => scanner.builds(),
        }
    }

    /// Hits of the probes since the start.
    pub fn hits(&self) -> u64 {
        match self {
            Engine::Traced(tracer) => tracer.hits(),
            Engine::Scanned(_) => 0,
        }
    }

    /// Records of goroutines that were lost since the start.
    pub fn dropped(&self) -> u64 {
        match self {
            Engine::Traced(tracer) => tracer.dropped(),
            Engine::Scanned(_) => 0,
        }
    }
}

/// Whether the kernel refuses probes, or golife cannot use them where it is, so that looks are all that there is.
fn is_refused(error: &TraceError) -> bool {
    matches!(
        error,
        TraceError::Namespace
            | TraceError::Probes(
                ProbeError::Permission { .. }
                    | ProbeError::Unsupported { .. }
                    | ProbeError::Tracepoint { .. }
            )
    )
}
