//! What probes must know on kernels without attach cookies (before Linux 5.15): a few programs that each read their
//! cookie from an array, instead of one program that the kernel hands a cookie to. Probes with equal cookies share one,
//! and there are as many different ones as there are pairs of Go layout and register on a host.

use aya::maps::{Array, Map, MapData};
use tracer_ebpf::{Cookie, SLOTS};

/// Which program stands for which cookie.
pub struct Slots {
    cookies: Array<MapData, u64>,
    taken: Vec<u64>,
}

impl Slots {
    /// With the array of the object.
    pub fn new(map: Map) -> Result<Slots, aya::maps::MapError> {
        Ok(Slots { cookies: Array::try_from(map)?, taken: Vec::new() })
    }

    /// The name of the program for this cookie; why not, where all are taken.
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
