//! eBPF: a small assembler, and the `bpf(2)` calls that load and attach what it makes.
//!
//! Takes: instructions as data. Gives: [`Program`]s, [`Map`]s and [`Link`]s as owned descriptors. Holds: what is attached
//! through a [`Link`] is detached when the link is dropped, and by the kernel when the process ends in whatever way; the
//! error of a refused program holds the verifier's last words.
//!
//! The programs are a few dozen instructions, so they are assembled here rather than compiled: no LLVM at build time, no
//! object file to parse, and ports and addresses are constants of the program and not lookups for each packet.

mod assembler;
mod btf;
mod object;

pub use assembler::{Assembler, Condition, Instruction, Label, Reg, Size, Unplaced};
pub use btf::kernel_function;
pub use object::{Attach, Error, Kind, Link, Load, Map, MapKind, Program};
