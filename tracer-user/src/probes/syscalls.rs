//! The system calls that aya does not offer: uprobe-multi links, maps of which only golife knows the size, and perf events
//! for programs that golife has loaded itself.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use aya_obj::generated::bpf_insn;

// These numbers, and the structs below, are those of
// <https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/bpf.h>.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_MAP_FREEZE: libc::c_long = 22;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// Programs can only read the map.
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// golife can have the map in its own memory.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The part of `union bpf_attr` that makes a map.
#[repr(C)]
#[derive(Default)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// Makes an array of values of so many bytes.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn create_array(value_size: u32, max_entries: u32, map_flags: u32) -> io::Result<OwnedFd> {
    let map_type = BPF_MAP_TYPE_ARRAY;
    let attributes =
        CreateMap { map_type, key_size: 4, value_size, max_entries, map_flags, ..CreateMap::default() };
    // SAFETY: the kernel reads the attributes alone, and returns a new descriptor.
    unsafe { new_fd(bpf(BPF_MAP_CREATE, &attributes)) }
}

/// Makes an array of maps like this one.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn create_array_of_maps(like: BorrowedFd<'_>, max_entries: u32) -> io::Result<OwnedFd> {
    let attributes = CreateMap {
        map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries,
        inner_map_fd: like.as_raw_fd() as u32,
        ..CreateMap::default()
    };
    // SAFETY: as above.
    unsafe { new_fd(bpf(BPF_MAP_CREATE, &attributes)) }
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Writes an entry of a map. `value` is as long as the map's values.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let attributes = Element {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: value.as_ptr() as u64,
        ..Element::default()
    };
    // SAFETY: the kernel reads the key of 4 bytes and the value, and both outlive the call.
    done(unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attributes) })
}

/// From now on nobody can write to the map, so that the verifier takes what is in it as known.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Element { map_fd: map.as_raw_fd() as u32, ..Element::default() };
    // SAFETY: the kernel reads the attributes alone.
    done(unsafe { bpf(BPF_MAP_FREEZE, &attributes.map_fd) })
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Loads a program for uprobes, which [`attach_multi`] can attach if `for_multi`, else [`PerfEvent`]. Where `log` is not empty,
/// the verifier writes there what it thinks.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn load_program(
    name: &str,
    license: &CStr,
    instructions: &[bpf_insn],
    for_multi: bool,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut attributes = LoadProgram {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: if for_multi { BPF_TRACE_UPROBE_MULTI } else { 0 },
        ..LoadProgram::default()
    };
    for (to, from) in attributes.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    if !log.is_empty() {
        attributes.log_level = 1;
        attributes.log_size = log.len() as u32;
        attributes.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: what the pointers lead to outlives the call, and the log is writable and as long as it says. The kernel
    // returns a new descriptor.
    unsafe { new_fd(bpf(BPF_PROG_LOAD, &attributes)) }
}

/// The part of `union bpf_attr` that creates a uprobe-multi link.
#[repr(C)]
#[derive(Default)]
struct CreateLink {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    link_flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    flags: u32,
    pid: u32,
    pad: u32,
}

/// Attaches a program at many file offsets of one binary by one link, for one process or for all (`pid` 0). The kernel has such
/// links since Linux 6.6 ([`crate::host::kernel::MULTI_SINCE`] says since when they can be used). They are attached and
/// detached at once, and need only CAP_BPF and CAP_PERFMON.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn attach_multi(program: BorrowedFd<'_>, path: &CStr, offsets: &[u64], pid: u32) -> io::Result<OwnedFd> {
    let attributes = CreateLink {
        prog_fd: program.as_raw_fd() as u32,
        attach_type: BPF_TRACE_UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cnt: offsets.len() as u32,
        pid,
        ..CreateLink::default()
    };
    // SAFETY: the kernel reads the path and the offsets, which outlive the call, and returns a new descriptor.
    unsafe { new_fd(bpf(BPF_LINK_CREATE, &attributes)) }
}

// These numbers, and the struct below, are those of
// <https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/perf_event.h>.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// `struct perf_event_attr` as far as a uprobe needs it.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    event_type: u32,
    size: u32,
    unused: [u64; 6],
    path: u64,
    offset: u64,
}

/// Attaches a program at one file offset of a binary by a perf event, for one process or for all (`pid` `None`). This needs
/// CAP_SYS_ADMIN. `event_type` is the number of the kernel's event source for uprobes.
///
/// # Errors
/// The kernel's answer, if it refuses.
pub fn attach_perf(
    event_type: u32,
    program: BorrowedFd<'_>,
    path: &CStr,
    offset: u64,
    pid: Option<u32>,
) -> io::Result<OwnedFd> {
    let attributes = PerfEvent {
        event_type,
        size: size_of::<PerfEvent>() as u32,
        path: path.as_ptr() as u64,
        offset,
        ..PerfEvent::default()
    };
    // An event of all processes must name a CPU. The probe is hit on the others, too.
    let (pid, cpu) = pid.map_or((-1, 0), |pid| (pid as libc::pid_t, -1));
    let group: RawFd = -1;
    // SAFETY: the kernel reads the attributes and the path, which outlive the call, and returns a new descriptor.
    let event = unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            pid,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        );
        new_fd(fd)
    }?;
    // SAFETY: both requests take a number.
    unsafe {
        done(libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()).into())?;
        done(libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0).into())?;
    }
    Ok(event)
}

/// # Safety
/// `attributes` are those of the command, and what they point to is as the command needs it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> libc::c_long {
    // SAFETY: the caller sees to it.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) }
}

fn done(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// If it is not negative, what a system call has returned is a new descriptor.
unsafe fn new_fd(returned: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(returned) {
        // SAFETY: nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
