//! Programs that were made to take time: a real one with tables of its own replaced.

use super::*;
use crate::go::functions::pclntab::Function;
use crate::go::runtime::versions;

/// A program whose largest function of package runtime has an inline tree with a call for each of its bytes, where each
/// call was inlined into the one of the last byte; `newproc1` is among them.
fn tangled(program: &Program) -> (Vec<u8>, usize) {
    let (binary, mut data) = (program.binary(), std::fs::read(&program.path).unwrap());
    let table = binary.table();
    let at = |vaddr: u64| binary.vaddr_to_file_offset(vaddr).unwrap() as usize;
    let header = Header::find(binary.image()).unwrap();
    let start = at(header.vaddr);
    let functions = start + header.functions as usize;
    let word = |data: &[u8], at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let record =
        |data: &[u8], function: &Function| functions + word(data, functions + 8 * function.index + 4);
    let newproc1 = table.functions_named("runtime.newproc1").remove(0);
    let all = (0..table.count()).filter_map(|index| table.function(index));
    let is_other = |function: &Function| {
        let tree = table.record(function.index).is_some_and(|record| record.funcdata(3).is_some());
        tree && function.name.starts_with("runtime.") && !function.name.starts_with("runtime.newproc1")
    };
    let large = all.filter(is_other).max_by_key(Function::size).unwrap();
    // It swallows the functions behind it, so that it has as many bytes as its tree is to have calls.
    let calls = ((header.functions - header.pcvalues) / 20) as usize;
    let end = (large.entry + calls as u64 - table.module.text.start) as u32;
    for index in large.index + 1..table.count() {
        let row = functions + 8 * index;
        if word(&data, row) >= end as usize {
            break;
        }
        data[row..row + 4].copy_from_slice(&end.to_le_bytes());
    }
    // A run for each byte, in place of the numbers of other functions: the value and the address both grow by 1. Behind
    // them is the tree.
    let numbers = header.pcvalues as usize + 16;
    let (runs, tree) = (start + numbers, start + numbers + 2 * calls);
    data[runs..runs + 2 * calls].copy_from_slice(&[2, 1].repeat(calls));
    let name = |data: &[u8], function: &Function| word(data, record(data, function) + 4) as u32;
    let (wanted, other) = (name(&data, &newproc1), name(&data, &large));
    for call in 0..calls {
        let (name, parent) = if call == 0 { (wanted, 0) } else { (other, calls as u32 - 1) };
        for (field, value) in [0, name, parent, 0].into_iter().enumerate() {
            let field = tree + 16 * call + 4 * field;
            data[field..field + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    // The record's list of tables comes behind its fixed part and the list of numbers.
    let record = record(&data, &large);
    let lists = word(&data, record + 28);
    data[record + 44 + 8..][..4].copy_from_slice(&16u32.to_le_bytes());
    let tree = header.vaddr + (numbers + 2 * calls) as u64;
    // All trees are found from one address, which becomes that of this tree.
    let gofunc = at(table.module.vaddr) + versions::module_data_offsets(binary.version()).gofunc;
    data[gofunc..gofunc + 8].copy_from_slice(&tree.to_le_bytes());
    data[record + 44 + 4 * (lists + 3)..][..4].copy_from_slice(&0u32.to_le_bytes());
    (data, calls)
}

#[test]
fn an_inline_tree_of_any_shape_takes_linear_time() {
    let program = Program::build(super::super::testing::NEWEST, STRIPPED);
    let (data, calls) = tangled(&program);
    assert!(calls > 10_000, "{calls}");
    let binary = Binary::from_image(Image::from_bytes(&data, "tangled".as_ref()).unwrap()).unwrap();
    let start = Instant::now();
    let copies = binary.inlined_into("runtime.newproc1").unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{calls} calls took {:?}", start.elapsed());
    let bytes: u64 = copies.iter().flat_map(|copy| &copy.ranges).map(|range| range.end - range.start).sum();
    assert!(bytes > 0, "the tree was read");
}
