//! An emulated machine: the emulator, the boot, and what the serial port says.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    architecture::Architecture,
    debian::Suite,
    programs::{RELEASE, VERDICT},
};
use crate::machine::{self, Guard, output, say};

/// How long one kernel may take, boot included.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// The first version of QEMU that is fit for this. 7.2 spoils x86's flags register now and then, and Linux 6.12 crashes
/// in it.
const FIT: u32 = 10;
/// The suite that has such a QEMU, for machines whose own release is older.
const FIT_SUITE: &str = "bookworm-backports";

/// An emulator of one architecture.
pub struct Emulator {
    program: PathBuf,
    /// The directories with its firmware, if that is not where it was built to look.
    data: Vec<PathBuf>,
}

impl Emulator {
    /// Returns this machine's emulator if it is new enough. Otherwise, it unpacks a newer one beside it, which uses the
    /// libraries of this machine's emulator.
    pub fn ensure(architecture: &Architecture, directory: &Path) -> Result<Emulator> {
        let Architecture { qemu, qemu_package, qemu_data, .. } = architecture;
        machine::apt_install(&[qemu_package])?;
        let said = output(Command::new(qemu).arg("--version"))?;
        if major(&said).is_some_and(|version| version >= FIT) {
            return Ok(Emulator { program: qemu.into(), data: Vec::new() });
        }
        let host = output(Command::new("dpkg").arg("--print-architecture"))?;
        let place = directory.join("qemu");
        let root = place.join(qemu_package);
        let packages: Vec<&str> = std::iter::once(qemu_package).chain(*qemu_data).copied().collect();
        Suite { name: FIT_SUITE, architecture: &host, place: &place }.unpack(&packages, &root)?;
        let data = ["usr/share/qemu", "usr/share/seabios"].map(|data| root.join(data)).into();
        Ok(Emulator { program: root.join("usr/bin").join(qemu), data })
    }

    fn command(&self) -> Command {
        let mut qemu = Command::new(&self.program);
        for data in &self.data {
            qemu.arg("-L").arg(data);
        }
        qemu
    }
}

/// The major version in what the emulator says: `QEMU emulator version 7.2.22 (Debian …)`.
fn major(said: &str) -> Option<u32> {
    said.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

/// How the tests in a guest came out.
pub struct Outcome {
    /// The kernel's release, as `uname -r` prints it there.
    pub release: Option<String>,
    /// What the tests said at their end, or why they did not get there.
    pub verdict: Result<String, String>,
    /// The time from power-on to the end.
    pub took: Duration,
}

/// Boots a kernel and waits for its tests. Everything that the guest says goes into `log`.
pub fn boot(
    architecture: &Architecture,
    emulator: &Emulator,
    image: &Path,
    initramfs: &Path,
    log: &Path,
) -> Result<Outcome> {
    say(format!("booting {} in emulation (log: {})", image.display(), log.display()));
    let mut qemu = emulator.command();
    qemu.args(architecture.machine)
        .args(["-accel", "tcg,thread=multi", "-smp", "4", "-m", "3072"])
        .args(["-nographic", "-no-reboot", "-net", "none", "-append"])
        .arg(format!("console={} panic=-1 quiet preempt=full", architecture.console))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let start = Instant::now();
    let child = qemu.spawn().with_context(|| format!("cannot run {}", emulator.program.display()))?;
    let mut guest = Guard(child);
    let serial = guest.0.stdout.take().context("no pipe")?;
    let (lines, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            // This fails when the verdict is known, since the reader is gone then.
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let fail = || format!("cannot write {}", log.display());
    let mut written = fs::File::create(log).with_context(fail)?;
    let (mut result, mut release) = (String::new(), None);
    let verdict = loop {
        match said.recv_timeout((start + PATIENCE).saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(written, "{line}").with_context(fail)?;
                // Firmware leaves the cursor in the middle of a line.
                if let Some((_, uname)) = line.split_once(RELEASE) {
                    release = Some(uname.to_owned());
                } else if let Some(counts) = line.strip_prefix("test result: ") {
                    result = counts.to_owned();
                } else if line.contains("Oops:") || line.contains("Kernel panic") {
                    break Err(format!("the kernel crashed: {line}"));
                } else if let Some(code) = line.strip_prefix(VERDICT) {
                    break if code == "0" { Ok(result) } else { Err(result) };
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                break Err(format!("no end after {} s", PATIENCE.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Err("the guest ended without a verdict".into());
            }
        }
    };
    Ok(Outcome { release, verdict, took: start.elapsed() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_emulator_says_its_version() {
        assert_eq!(super::major("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n"), Some(7));
        assert_eq!(super::major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(super::major("something else"), None);
    }
}
