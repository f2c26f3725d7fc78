//! Where the fields of the runtime's structs are: what golife needs to read goroutines in a process's memory.

/// Offsets in bytes of the fields of `runtime.g`, and of the few of `runtime.m`, `runtime.sudog`, `runtime.hchan` and
/// `runtime.pollDesc` that golife reads. Go's own definitions:
/// <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `g.stack.lo`: the lowest address of its stack.
    pub stack_lo: u16,
    /// `g.stack.hi`: the address after its stack.
    pub stack_hi: u16,
    /// `g.m`: the thread that it runs on, if any.
    pub m: u16,
    /// `g.sched.sp`: its stack pointer while it does not run.
    pub sched_sp: u16,
    /// `g.sched.pc`: where it will go on.
    pub sched_pc: u16,
    /// `g.sched.lr`: the value of the link register while it does not run. 0 where the function that it is in has put the
    /// return address on the stack, and on CPUs that have no such register.
    pub sched_lr: u16,
    /// `g.sched.bp`: its frame pointer while it does not run, and while its thread is on the system stack.
    pub sched_bp: u16,
    /// `g.syscallsp`: its stack pointer in a system call, else 0.
    pub syscallsp: u16,
    /// `g.syscallpc`: its program counter in a system call.
    pub syscallpc: u16,
    /// `g.atomicstatus`, 32 bits: see [`super::status`].
    pub atomicstatus: u16,
    /// `g.goid`: its number, which no other goroutine of the process ever has.
    pub goid: u16,
    /// `g.waitsince`: since when it waits, in nanoseconds of the runtime's clock. The garbage collector sets it when it
    /// first sees it wait; 0 before.
    pub waitsince: u16,
    /// `g.waitreason`, 8 bits: see [`super::wait_reason::WaitReason`].
    pub waitreason: u16,
    /// `g.trackingSeq`, 8 bits: counts how often it stopped running.
    pub tracking_seq: u16,
    /// `g.lockedm`: the thread that it is locked to, if any.
    pub lockedm: u16,
    /// `g.parentGoid`: the number of the goroutine that created it, from Go 1.21 on.
    pub parent: Option<u16>,
    /// `g.gopc`: the return address of the `go` statement.
    pub gopc: u16,
    /// `g.startpc`: the entry of its function.
    pub startpc: u16,
    /// `g.waiting`: the list of `runtime.sudog` that it waits on.
    pub waiting: u16,
    /// `g.ancestors`: a pointer to what is known of its creators, 0 unless `GODEBUG` has `tracebackancestors`.
    pub ancestors: u16,
    /// `g.labels`: a pointer to its profiler labels, 0 where it has none.
    pub labels: u16,
    /// Size of `runtime.g` in bytes.
    pub g_size: u16,
    /// `m.procid`: the thread id that the kernel knows.
    pub procid: u16,
    /// `m.curg`: the goroutine that runs on the thread.
    pub curg: u16,
    /// `sudog.elem`: what is sent, or where to put what is received.
    pub sudog_elem: u16,
    /// `sudog.isSelect`: whether it stands for a case of a `select`.
    pub sudog_is_select: u16,
    /// `sudog.waitlink`: the next one of the list `g.waiting`.
    pub sudog_waitlink: u16,
    /// `sudog.c`: the channel, 0 where it waits for a semaphore.
    pub sudog_c: u16,
    /// `hchan.qcount`: how many elements are in the buffer.
    pub hchan_qcount: u16,
    /// `hchan.dataqsiz`: how many elements the buffer has room for.
    pub hchan_dataqsiz: u16,
    /// `hchan.closed`, 32 bits: not 0 where the channel is closed.
    pub hchan_closed: u16,
    /// `hchan.recvq`: the first and the last `runtime.sudog` of those that receive. `hchan.sendq` follows it, which is
    /// the same of those that send.
    pub hchan_recvq: u16,
    /// `pollDesc.fd`: the file descriptor.
    pub poll_fd: u16,
    /// `pollDesc.rg`: the `runtime.g` that waits until it can read, if any.
    pub poll_rg: u16,
    /// `pollDesc.wg`: the `runtime.g` that waits until it can write, if any.
    pub poll_wg: u16,
    /// `pollDesc.rd`: the deadline for reading, in nanoseconds of the runtime's clock; 0 without one, -1 when it has passed.
    pub poll_rd: u16,
    /// `pollDesc.wd`: the same for writing.
    pub poll_wd: u16,
    /// `pollDesc.self`: its own address.
    pub poll_self: u16,
}

impl Layout {
    /// Makes a layout from the answers of `offset`, which is asked for each field by the names of its struct and of the
    /// field in it (`stack.lo` for a field of a field), and for the size of a struct by an empty name.
    ///
    /// # Errors
    /// The names of a struct and of a field that `offset` knows nothing of.
    pub(crate) fn from_structs(
        offset: impl Fn(&str, &str) -> Option<u16>,
    ) -> Result<Layout, (&'static str, &'static str)> {
        let need = |of: &'static str, path: &'static str| offset(of, path).ok_or((of, path));
        Ok(Layout {
            stack_lo: need("runtime.g", "stack.lo")?,
            stack_hi: need("runtime.g", "stack.hi")?,
            m: need("runtime.g", "m")?,
            sched_sp: need("runtime.g", "sched.sp")?,
            sched_pc: need("runtime.g", "sched.pc")?,
            sched_lr: need("runtime.g", "sched.lr")?,
            sched_bp: need("runtime.g", "sched.bp")?,
            syscallsp: need("runtime.g", "syscallsp")?,
            syscallpc: need("runtime.g", "syscallpc")?,
            atomicstatus: need("runtime.g", "atomicstatus")?,
            goid: need("runtime.g", "goid")?,
            waitsince: need("runtime.g", "waitsince")?,
            waitreason: need("runtime.g", "waitreason")?,
            tracking_seq: need("runtime.g", "trackingSeq")?,
            lockedm: need("runtime.g", "lockedm")?,
            parent: offset("runtime.g", "parentGoid"),
            gopc: need("runtime.g", "gopc")?,
            startpc: need("runtime.g", "startpc")?,
            waiting: need("runtime.g", "waiting")?,
            ancestors: need("runtime.g", "ancestors")?,
            labels: need("runtime.g", "labels")?,
            g_size: need("runtime.g", "")?,
            procid: need("runtime.m", "procid")?,
            curg: need("runtime.m", "curg")?,
            sudog_elem: need("runtime.sudog", "elem")?,
            sudog_is_select: need("runtime.sudog", "isSelect")?,
            sudog_waitlink: need("runtime.sudog", "waitlink")?,
            sudog_c: need("runtime.sudog", "c")?,
            hchan_qcount: need("runtime.hchan", "qcount")?,
            hchan_dataqsiz: need("runtime.hchan", "dataqsiz")?,
            hchan_closed: need("runtime.hchan", "closed")?,
            hchan_recvq: need("runtime.hchan", "recvq")?,
            poll_fd: need("runtime.pollDesc", "fd")?,
            poll_rg: need("runtime.pollDesc", "rg")?,
            poll_wg: need("runtime.pollDesc", "wg")?,
            poll_rd: need("runtime.pollDesc", "rd")?,
            poll_wd: need("runtime.pollDesc", "wd")?,
            poll_self: need("runtime.pollDesc", "self")?,
        })
    }
}
