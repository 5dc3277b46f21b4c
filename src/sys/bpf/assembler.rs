//! Instructions with labels.
//!
//! Takes: instructions, one call each, in program order. Gives: what `PROG_LOAD` takes, with every jump resolved. Holds:
//! a jump to a label that was never placed, or too far away, is an error and never a wrong offset. The encoding is that of
//! the kernel's Documentation/bpf/standardization/instruction-set.rst.

/// One instruction as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register. R0 is what a call gives; R1 to R5 are its arguments and lost by it; R6 to R9 stay; R10 is the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the numbers are their names")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much a load or store moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Size {
    /// 1 byte.
    Byte = 0x10,
    /// 2 bytes.
    Half = 0x08,
    /// 4 bytes.
    Word = 0x00,
    /// 8 bytes.
    Double = 0x18,
}

/// When to jump; comparisons are unsigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Condition {
    /// Equal.
    Equal = 0x10,
    /// Not equal.
    NotEqual = 0x50,
    /// Greater.
    Above = 0x20,
    /// Less.
    Below = 0xa0,
}

/// A place in the program to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// A label was used and never placed, or lies too far from a jump to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("instruction {0} jumps to a label that has no place within reach")]
pub struct Unplaced(pub usize);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    /// Jumps to be resolved: the instruction, and the label it goes to.
    jumps: Vec<(usize, Label)>,
}

const LOAD_IMMEDIATE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const ATOMIC: u8 = 0xc3;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
/// The second operand is a register.
const REGISTER: u8 = 0x08;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
const PSEUDO_KFUNC: u8 = 2;

impl Assembler {
    /// Without instructions.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label with no place yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Gives a label its place: before the next instruction.
    pub fn place(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        // two bit fields, whose order follows that of the bytes
        let registers = if cfg!(target_endian = "little") {
            src << 4 | dst
        } else {
            dst << 4 | src
        };
        self.code.push(Instruction {
            code,
            registers,
            offset,
            immediate,
        });
    }

    fn alu(&mut self, operation: u8, dst: Reg, value: i32) {
        self.push(ALU64 | operation, dst as u8, 0, 0, value);
    }

    /// `dst = src`
    pub fn copy(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | REGISTER | 0xb0, dst as u8, src as u8, 0, 0);
    }

    /// `dst = value`, sign-extended
    pub fn set(&mut self, dst: Reg, value: i32) {
        self.alu(0xb0, dst, value);
    }

    /// `dst += value`
    pub fn add(&mut self, dst: Reg, value: i32) {
        self.alu(0x00, dst, value);
    }

    /// `dst += src`
    pub fn add_register(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | REGISTER, dst as u8, src as u8, 0, 0);
    }

    /// `dst &= value`
    pub fn and(&mut self, dst: Reg, value: i32) {
        self.alu(0x50, dst, value);
    }

    /// `dst <<= bits`
    pub fn shift_left(&mut self, dst: Reg, bits: i32) {
        self.alu(0x60, dst, bits);
    }

    /// `dst = *(src + offset)`, in the machine's byte order
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, offset: i16) {
        self.push(LOAD | size as u8, dst as u8, src as u8, offset, 0);
    }

    /// `*(dst + offset) = src`
    pub fn store(&mut self, size: Size, dst: Reg, offset: i16, src: Reg) {
        self.push(STORE | size as u8, dst as u8, src as u8, offset, 0);
    }

    /// `*(dst + offset) += src` of 8 bytes, atomically
    pub fn atomic_add(&mut self, dst: Reg, offset: i16, src: Reg) {
        let code = ATOMIC | Size::Double as u8;
        self.push(code, dst as u8, src as u8, offset, 0);
    }

    /// `dst = the map`, to be handed to a helper
    pub fn map(&mut self, dst: Reg, map: i32) {
        self.push(LOAD_IMMEDIATE, dst as u8, PSEUDO_MAP_FD, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    /// `dst = address of the only value of an array map`
    pub fn map_value(&mut self, dst: Reg, map: i32) {
        self.push(LOAD_IMMEDIATE, dst as u8, PSEUDO_MAP_VALUE, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JUMP, 0, 0, 0, 0);
    }

    /// Jumps if `left` (its low 32 bits) and `right` are so.
    pub fn jump_if(&mut self, left: Reg, condition: Condition, right: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        let code = JUMP32 | condition as u8;
        self.push(code, left as u8, 0, 0, right.cast_signed());
    }

    /// Jumps if two registers (all 64 bits) are so.
    pub fn jump_if_registers(&mut self, left: Reg, condition: Condition, right: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        let code = JUMP | REGISTER | condition as u8;
        self.push(code, left as u8, right as u8, 0, 0);
    }

    /// Calls a helper by its number (linux/bpf.h, `__BPF_FUNC_MAPPER`).
    pub fn call(&mut self, helper: i32) {
        self.push(JUMP | 0x80, 0, 0, 0, helper);
    }

    /// Calls a function of the kernel by its BTF id.
    pub fn call_kernel(&mut self, id: i32) {
        self.push(JUMP | 0x80, 0, PSEUDO_KFUNC, 0, id);
    }

    /// Ends the program with R0 as its verdict.
    pub fn exit(&mut self) {
        self.push(JUMP | 0x90, 0, 0, 0, 0);
    }

    /// The program, with its jumps resolved.
    ///
    /// # Errors
    /// A jump leads nowhere.
    pub fn finish(mut self) -> Result<Vec<Instruction>, Unplaced> {
        for (at, label) in self.jumps {
            let place = self.labels.get(label.0).copied().flatten();
            // an offset counts from the instruction behind the jump
            let distance = place.and_then(|to| i16::try_from(to as i64 - at as i64 - 1).ok());
            let (Some(distance), Some(jump)) = (distance, self.code.get_mut(at)) else {
                return Err(Unplaced(at));
            };
            jump.offset = distance;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instruction as the bytes that the kernel reads.
    fn bytes(i: Instruction) -> [u8; 8] {
        let [o0, o1] = i.offset.to_le_bytes();
        let [i0, i1, i2, i3] = i.immediate.to_le_bytes();
        [i.code, i.registers, o0, o1, i0, i1, i2, i3]
    }

    /// Encodings by the tables of instruction-set.rst, as `llvm-mc -arch=bpfel` writes them too.
    #[test]
    fn instructions_are_encoded_as_the_standard_says() {
        let mut a = Assembler::new();
        a.copy(Reg::R6, Reg::R1);
        a.set(Reg::R0, -1);
        a.add(Reg::R4, 14);
        a.add_register(Reg::R1, Reg::R0);
        a.and(Reg::R5, 0xff);
        a.shift_left(Reg::R0, 6);
        a.load(Size::Half, Reg::R5, Reg::R2, 12);
        a.store(Size::Double, Reg::R10, -8, Reg::R0);
        a.atomic_add(Reg::R1, 0, Reg::R2);
        a.map(Reg::R1, 7);
        a.call(51);
        a.call_kernel(1234);
        a.exit();
        let code: Vec<_> = a.finish().unwrap().into_iter().map(bytes).collect();
        let expected: [[u8; 8]; 14] = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x07, 0x04, 0, 0, 14, 0, 0, 0],
            [0x0f, 0x01, 0, 0, 0, 0, 0, 0],
            [0x57, 0x05, 0, 0, 0xff, 0, 0, 0],
            [0x67, 0x00, 0, 0, 6, 0, 0, 0],
            [0x69, 0x25, 12, 0, 0, 0, 0, 0],
            [0x7b, 0x0a, 0xf8, 0xff, 0, 0, 0, 0],
            [0xdb, 0x21, 0, 0, 0, 0, 0, 0],
            [0x18, 0x11, 0, 0, 7, 0, 0, 0],
            [0; 8],
            [0x85, 0x00, 0, 0, 51, 0, 0, 0],
            [0x85, 0x20, 0, 0, 0xd2, 0x04, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(code, expected);
    }

    #[test]
    fn jumps_go_forward_and_back_to_their_labels() {
        let mut a = Assembler::new();
        let (start, end) = (a.label(), a.label());
        a.place(start);
        a.jump_if(Reg::R5, Condition::NotEqual, 17, end);
        a.jump_if_registers(Reg::R4, Condition::Above, Reg::R3, end);
        a.jump(start);
        a.place(end);
        a.exit();
        let code: Vec<_> = a.finish().unwrap().into_iter().map(bytes).collect();
        assert_eq!(code[0], [0x56, 0x05, 2, 0, 17, 0, 0, 0]);
        assert_eq!(code[1], [0x2d, 0x34, 1, 0, 0, 0, 0, 0]);
        assert_eq!(code[2], [0x05, 0, 0xfd, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn a_jump_to_nowhere_or_too_far_is_an_error() {
        let mut a = Assembler::new();
        let nowhere = a.label();
        a.exit();
        a.jump(nowhere);
        assert_eq!(a.finish(), Err(Unplaced(1)));
        let mut a = Assembler::new();
        let far = a.label();
        a.jump(far);
        (0..40_000).for_each(|_| a.exit());
        a.place(far);
        a.exit();
        assert_eq!(a.finish(), Err(Unplaced(0)));
    }
}
