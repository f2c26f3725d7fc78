//! The CPU architectures that kernels are tested on, and what differs between them outside of golife.

/// One of them, as an emulated machine.
pub struct Architecture {
    /// Its name as people call it.
    pub name: &'static str,
    /// Its name as Go and Debian call it.
    pub debian: &'static str,
    /// The target that golife is compiled for. It is statically linked, by Rust's own linker, so that no C compiler is
    /// needed.
    pub target: &'static str,
    /// The emulator.
    pub qemu: &'static str,
    /// The emulator's package.
    pub qemu_package: &'static str,
    /// Other packages that hold what the emulator reads.
    pub qemu_data: &'static [&'static str],
    /// The emulated machine.
    pub machine: &'static [&'static str],
    /// Its serial port.
    pub console: &'static str,
    /// What position-independent Go programs name as their interpreter, although they use no library.
    pub loader: &'static str,
    /// The directory of this interpreter and of shared libraries in Debian's packages.
    pub libraries: &'static str,
    /// The suite with Linux 5.10. It differs because not every architecture got security updates to the end.
    pub suite_5_10: &'static str,
}

/// The architecture of most servers.
pub const X86_64: Architecture = Architecture {
    name: "x86-64",
    debian: "amd64",
    target: "x86_64-unknown-linux-musl",
    qemu: "qemu-system-x86_64",
    qemu_package: "qemu-system-x86",
    qemu_data: &["qemu-system-common", "qemu-system-data", "seabios"],
    machine: &[],
    console: "ttyS0",
    loader: "lib64/ld-linux-x86-64.so.2",
    libraries: "lib/x86_64-linux-gnu",
    suite_5_10: "bullseye-security",
};

/// AArch64. Its machine has no pointer authentication by the usual algorithm, with which booting takes the emulator
/// three times as long.
pub const ARM64: Architecture = Architecture {
    name: "arm64",
    debian: "arm64",
    target: "aarch64-unknown-linux-musl",
    qemu: "qemu-system-aarch64",
    qemu_package: "qemu-system-arm",
    qemu_data: &["qemu-system-common", "qemu-system-data"],
    machine: &["-M", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    loader: "lib/ld-linux-aarch64.so.1",
    libraries: "lib/aarch64-linux-gnu",
    suite_5_10: "bullseye",
};

/// All architectures.
pub const ALL: [&Architecture; 2] = [&X86_64, &ARM64];

/// The architecture with this name, as people or as Debian call it.
pub fn named(name: &str) -> Result<&'static Architecture, String> {
    let found = ALL.into_iter().find(|architecture| [architecture.name, architecture.debian].contains(&name));
    found.ok_or_else(|| format!("there are {}", ALL.map(|architecture| architecture.name).join(" and ")))
}
