//! The maps that keep creators' stacks, fitted to this machine. The kernel refuses maps whose stacks may have more calls
//! than it walks, `kernel.perf_event_max_stack` (`stack_map_alloc` in
//! <https://github.com/torvalds/linux/blob/v6.6/kernel/bpf/stackmap.c>), and the compiled probes ask for the usual
//! number of them.

use std::{fs, ops::Range};

use object::{Object, ObjectSection, ObjectSymbol};
use tracer_ebpf::{MORE_STACKS, STACKS};

/// The kernel does not get from the system stack, on which goroutines are created, to the creator's. On arm64 it follows
/// frame pointers towards higher addresses alone (`perf_callchain_user` and what it calls in
/// <https://github.com/torvalds/linux/blob/master/arch/arm64/kernel/perf_callchain.c>, since 6.12 `stacktrace.c`), and the
/// system stack of a program's first thread is above all others.
pub const LOST: bool = cfg!(target_arch = "aarch64");

/// How many calls of a stack the kernel walks: 127 unless somebody changed it.
pub fn longest() -> u32 {
    let setting = fs::read_to_string("/proc/sys/kernel/perf_event_max_stack").ok();
    setting.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
}

/// What the kernel has without being told.
pub const USUAL: u32 = 127;

/// Makes the compiled probes ask for room for `calls` in each stack. An object that is not understood stays as it is:
/// loading it says what is wrong.
pub fn shorten(object: &mut [u8], calls: u32) {
    for map in [STACKS, MORE_STACKS] {
        if let Some(range) = value_size(object, map)
            && let Some(bytes) = object.get_mut(range)
        {
            bytes.copy_from_slice(&(8 * calls).to_le_bytes());
        }
    }
}

/// Where the object says how large the values of a map are: the third word of its definition.
fn value_size(object: &[u8], map: &str) -> Option<Range<usize>> {
    let file = object::File::parse(object).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(map))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let start =
        usize::try_from(section.file_range()?.0.checked_add(symbol.address())?).ok()?.checked_add(8)?;
    Some(start..start.checked_add(4)?)
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::OBJECT;

    use super::*;

    fn sizes(object: &[u8]) -> Vec<(String, u32)> {
        let parsed = aya_obj::Object::parse(object).unwrap();
        let mut sizes: Vec<_> =
            parsed.maps.iter().map(|(name, map)| (name.clone(), map.value_size())).collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn only_the_maps_of_stacks_change() {
        let mut object = OBJECT.to_vec();
        shorten(&mut object, 64);
        for ((name, before), (_, after)) in sizes(OBJECT).into_iter().zip(sizes(&object)) {
            let is_of_stacks = [STACKS, MORE_STACKS].contains(&name.as_str());
            assert_eq!((before, after), if is_of_stacks { (8 * USUAL, 8 * 64) } else { (before, before) });
        }
        shorten(&mut object, USUAL);
        assert_eq!(object, OBJECT);
    }

    #[test]
    fn a_broken_object_stays_as_it_is() {
        for end in [0, 1, 64, OBJECT.len() / 2, OBJECT.len() - 1] {
            let mut object = OBJECT[..end].to_vec();
            shorten(&mut object, 64);
            assert_eq!(object.len(), end);
        }
    }
}
