//! What replaces attach cookies on kernels without them (before Linux 5.15). Instead of one program that the kernel
//! hands a cookie to, there are a few programs, each of which reads its cookie from its own slot of an array. Probes
//! with equal cookies share a program. A host needs as many as it has pairs of a Go layout and a register.

use aya::maps::{Array, Map, MapData};
use tracer_ebpf::{Cookie, SLOTS};

/// The cookies that have a program, in the order of the programs.
pub struct Slots {
    cookies: Array<MapData, u64>,
    taken: Vec<u64>,
}

impl Slots {
    /// No cookie has a program yet. `map` is the array that the programs read.
    ///
    /// # Errors
    /// The map is no such array.
    pub fn new(map: Map) -> Result<Slots, aya::maps::MapError> {
        Ok(Slots { cookies: Array::try_from(map)?, taken: Vec::new() })
    }

    /// The name of the program for this cookie.
    ///
    /// # Errors
    /// Why there is none: other cookies have all programs already, or the array cannot be written.
    pub fn program(&mut self, cookie: Cookie) -> Result<String, String> {
        let bits = cookie.pack();
        if let Some(slot) = self.taken.iter().position(|taken| *taken == bits) {
            return Ok(name(slot));
        }
        let slot = self.taken.len();
        if slot == SLOTS {
            return Err(format!(
                "this kernel has no attach cookies (Linux 5.15), and without them golife can trace {SLOTS} kinds of Go \
                 binaries at a time: trace fewer at once"
            ));
        }
        self.cookies.set(slot as u32, bits, 0).map_err(|error| error.to_string())?;
        self.taken.push(bits);
        Ok(name(slot))
    }
}

fn name(slot: usize) -> String {
    format!("goroutine_{slot}")
}
