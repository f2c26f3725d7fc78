//! Probes that are in place, how they got there, and how they are taken off.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use super::error::ProbeError;
use super::syscalls;
use super::witness::Witness;
use crate::host::kernel;

/// How probes are attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a uprobe-multi link for all probes with the same program.
    Multi,
    /// By a perf event for each probe, on older kernels. Its type is the number of the kernel's event source for uprobes.
    Perf(u32),
}

impl Way {
    /// The way of the running kernel.
    ///
    /// # Errors
    /// [`ProbeError::Unsupported`]: it has no uprobes.
    pub(super) fn of_kernel() -> Result<Way, ProbeError> {
        if kernel::running() >= kernel::MULTI_SINCE {
            return Ok(Way::Multi);
        }
        let number = fs::read_to_string(kernel::UPROBES).ok().and_then(|text| text.trim().parse().ok());
        number.map(Way::Perf).ok_or_else(|| ProbeError::Unsupported {
            release: kernel::release(),
            what: "uprobes (CONFIG_UPROBE_EVENTS)",
        })
    }

    /// Attaches a program at all of these places of the file to which `target` leads, for one process or for all.
    ///
    /// # Errors
    /// The kernel's answer, if it refuses one; then none is in place.
    pub(super) fn attach(
        self,
        program: BorrowedFd<'_>,
        file: &File,
        target: &CStr,
        offsets: &[u64],
        pid: Option<u32>,
    ) -> io::Result<Vec<Link>> {
        let perf = |event_type, offset: &u64| {
            let fd = syscalls::attach_perf(event_type, program, target, *offset, pid)?;
            Ok(Link { _fd: fd, witness: None })
        };
        match (self, offsets) {
            (Way::Perf(event_type), _) => offsets.iter().map(|offset| perf(event_type, offset)).collect(),
            (Way::Multi, [.., last]) => {
                let witness = pid.is_none().then(|| Witness::new(file, *last)).flatten();
                let fd = syscalls::attach_multi(program, target, offsets, pid.unwrap_or(0))?;
                Ok(vec![Link { _fd: fd, witness: witness.filter(Witness::sees_probe) }])
            }
            (Way::Multi, []) => Ok(Vec::new()),
        }
    }
}

/// The probes that are in place on one binary. Dropping this takes them off.
pub struct Attachment {
    pub(super) links: Vec<Link>,
}

/// What holds probes in place, and takes them off when it is dropped: a uprobe-multi link, or a perf event.
pub(super) struct Link {
    _fd: OwnedFd,
    /// Shows when the last of its probes is off, where one link holds several for everyone.
    witness: Option<Witness>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        close_all(self.links.drain(..));
    }
}

/// Takes the probes of many attachments off, all at the same time.
pub fn detach_all(attachments: impl Iterator<Item = Attachment>) {
    close_all(attachments.flat_map(|mut attachment| std::mem::take(&mut attachment.links)));
}

/// Takes the probes of many attachments off, and calls `off` as soon as nobody has them any more or can get them. The
/// kernel may need longer, and this returns after that.
pub fn detach_all_then(attachments: Vec<Attachment>, off: impl FnOnce()) {
    let links = attachments.into_iter().flat_map(|mut attachment| std::mem::take(&mut attachment.links));
    let (links, witnesses): (Vec<Link>, Vec<Option<Witness>>) =
        links.map(|link| (Link { witness: None, ..link }, link.witness)).unzip();
    thread::scope(|scope| {
        let closing = scope.spawn(move || close_all(links.into_iter()));
        let has_probes = |witness: &Option<Witness>| witness.as_ref().is_none_or(Witness::sees_probe);
        while witnesses.iter().any(has_probes) && !closing.is_finished() {
            thread::sleep(Duration::from_micros(500));
        }
        off();
    });
}

/// Closes links side by side. Each of them waits for a grace period of the kernel (50 to 100 ms), and so they wait for
/// the same one.
fn close_all(links: impl Iterator<Item = Link>) {
    thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}
