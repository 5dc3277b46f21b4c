//! The number of a kernel function that programs may call, from the kernel's own type information.
//!
//! Documentation/bpf/btf.rst: types follow each other, numbered from 1, each a header of twelve bytes and what its kind adds;
//! names lie in a table of strings.

use std::io;

const MAGIC: u16 = 0xeb9f;
const FUNCTION: u32 = 12;

/// The BTF id of a function of this kernel; `None` when it has no such function, or no type information.
pub fn kernel_function(name: &str) -> Option<i32> {
    let data = read().ok()?;
    find(&data, name)
}

fn read() -> io::Result<Vec<u8>> {
    std::fs::read("/sys/kernel/btf/vmlinux")
}

fn find(data: &[u8], name: &str) -> Option<i32> {
    if data.get(..2)? != MAGIC.to_ne_bytes() {
        return None;
    }
    let header = word(data, 4)? as usize;
    let section = |at: usize| {
        let start = header.checked_add(word(data, at)? as usize)?;
        data.get(start..start.checked_add(word(data, at + 4)? as usize)?)
    };
    let (mut types, strings) = (section(8)?, section(16)?);
    let mut id = 0;
    while !types.is_empty() {
        id += 1;
        let (name_at, info) = (word(types, 0)?, word(types, 4)?);
        let kind = info >> 24 & 0x1f;
        if kind == FUNCTION && string(strings, name_at)? == name.as_bytes() {
            return Some(id);
        }
        types = types.get(12 + more(kind, info as usize & 0xffff)?..)?;
    }
    None
}

/// Bytes behind the header of a type, by kind and number of members.
fn more(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => members * 12,
        6 | 13 => members * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(at as usize..)?.split(|b| *b == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let strings = b"\0int\0wanted\0other\0";
        let types: Vec<u32> = [
            &[1, 1 << 24, 4, 32][..],
            &[0, 13 << 24 | 2, 1, 0, 1, 0, 1],
            &[12, FUNCTION << 24, 2],
            &[5, FUNCTION << 24, 2],
        ]
        .concat();
        let types_len = types.len() as u32 * 4;
        let head = [24, 0, types_len, types_len, strings.len() as u32];
        let words = head.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        data.extend(words);
        data.extend(strings);
        data
    }

    #[test]
    fn a_function_is_found_by_its_number_and_a_type_of_that_name_is_not() {
        assert_eq!(find(&sample(), "wanted"), Some(4));
        assert_eq!(find(&sample(), "int"), None);
    }

    #[test]
    fn damaged_type_information_gives_nothing() {
        let sample = sample();
        for len in 0..sample.len() {
            assert_eq!(find(&sample[..len], "wanted"), None, "{len}");
        }
        let mut odd = sample;
        odd[24 + 7] = 31;
        assert_eq!(find(&odd, "wanted"), None);
    }

    #[test]
    fn this_kernel_has_functions_for_receive_metadata() {
        let Ok(data) = read() else {
            return println!("a kernel without type information: nothing was checked");
        };
        assert!(find(&data, "vfs_read").is_some());
        assert_eq!(find(&data, "no_such_function"), None);
    }
}
