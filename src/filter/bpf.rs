//! Classic BPF: what pcap-filter expressions are compiled to, and a small machine that runs it.
//!
//! Takes: a program as numbers. Gives: [`Program`]. Holds: a program is checked once, so that running
//! it can't fail and always ends: jumps go forward only and stay inside, and the last instruction returns.
//! A load outside of the frame ends the program with 0, which rejects the packet, as BPF says.

/// Words of scratch memory that a program has.
const SCRATCH: usize = 16;

/// The longest program accepted, as in libpcap and the kernel.
const LONGEST: usize = 4096;

/// What is wrong with a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Something that is no number.
    #[error("it holds something that is not a number of at most 32 bits")]
    NotNumbers,
    /// Not four numbers per instruction.
    #[error("its {0} numbers are not a count and four numbers for each instruction")]
    Shape(usize),
    /// Empty or too long.
    #[error("it has {0} instructions, and 1 to {LONGEST} are possible")]
    Length(usize),
    /// An unknown operation.
    #[error("instruction {at}: unknown operation {code:#x}")]
    Operation {
        /// Which instruction.
        at: usize,
        /// Its operation code.
        code: u32,
    },
    /// A jump behind the end.
    #[error("instruction {0}: the jump leaves the program")]
    Jump(usize),
    /// A scratch memory index that is too large.
    #[error("instruction {0}: there are only {SCRATCH} words of memory")]
    Memory(usize),
    /// A division by the constant zero.
    #[error("instruction {0}: division by zero")]
    Division(usize),
    /// A load from where only the Linux kernel has something.
    #[error("instruction {0}: it uses an extension of the Linux kernel")]
    Extension(usize),
    /// No return at the end.
    #[error("its last instruction does not return")]
    NoReturn,
}

/// A classic BPF program that has been checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(std::sync::Arc<[Insn]>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    Word,
    Half,
    Byte,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    K(u32),
    X,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Shl,
    Shr,
    Mod,
    Xor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// One instruction, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Insn {
    Load(Size, u32),
    LoadBehindX(Size, u32),
    LoadConst(u32),
    LoadMem(u8),
    LoadLen,
    XConst(u32),
    XMem(u8),
    XLen,
    XHeaderLen(u32),
    Store(u8),
    StoreX(u8),
    Alu(Alu, Value),
    Negate,
    Jump(u32),
    Branch(Test, Value, u8, u8),
    Return(u32),
    ReturnA,
    ToX,
    FromX,
}

/// An instruction as it is written: `code jt jf k`.
#[derive(Clone, Copy)]
struct Raw {
    at: usize,
    code: u32,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Program {
    /// From the text of `tcpdump -ddd`, or of anything else that lists the same numbers.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::from_numbers(&numbers(text)?)
    }

    /// From the numbers that `tcpdump -ddd` prints: four for each instruction (code, jt, jf, k), and
    /// how many instructions there are before them, which may be missing.
    pub fn from_numbers(numbers: &[u32]) -> Result<Self, Invalid> {
        let code = match numbers {
            [count, code @ ..] if Some(code.len()) == (*count as usize).checked_mul(4) => code,
            all => all,
        };
        let (raw, rest) = code.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Invalid::Shape(numbers.len()));
        }
        if raw.is_empty() || raw.len() > LONGEST {
            return Err(Invalid::Length(raw.len()));
        }
        let insns = raw.iter().enumerate().map(|(at, insn)| {
            let insn = Raw::new(at, *insn)?.decode()?;
            check_jumps(at, insn, raw.len())?;
            Ok(insn)
        });
        let insns = insns.collect::<Result<std::sync::Arc<[Insn]>, Invalid>>()?;
        match insns.last() {
            Some(Insn::Return(_) | Insn::ReturnA) => Ok(Self(insns)),
            _ => Err(Invalid::NoReturn),
        }
    }

    /// Whether the program accepts a frame that was `wire_len` bytes long on the wire.
    pub fn accepts(&self, frame: &[u8], wire_len: u32) -> bool {
        self.run(frame, wire_len).unwrap_or(0) != 0
    }

    /// What the program returns; `None` where it looked outside of the frame or divided by zero.
    fn run(&self, frame: &[u8], wire_len: u32) -> Option<u32> {
        let (mut a, mut x) = (0_u32, 0_u32);
        let mut memory = [0_u32; SCRATCH];
        let mut pc = 0_usize;
        loop {
            let insn = *self.0.get(pc)?;
            pc += 1;
            match insn {
                Insn::Load(size, at) => a = load(frame, size, u64::from(at))?,
                Insn::Branch(test, value, jt, jf) => {
                    let jump = if test.holds(a, value.get(x)) { jt } else { jf };
                    pc += usize::from(jump);
                }
                Insn::Return(value) => return Some(value),
                Insn::LoadBehindX(size, k) => {
                    a = load(frame, size, u64::from(x) + u64::from(k))?;
                }
                Insn::XHeaderLen(at) => x = (load(frame, Size::Byte, u64::from(at))? & 0xf) << 2,
                Insn::LoadConst(k) => a = k,
                Insn::LoadMem(slot) => a = *memory.get(usize::from(slot))?,
                Insn::LoadLen => a = wire_len,
                Insn::XConst(k) => x = k,
                Insn::XMem(slot) => x = *memory.get(usize::from(slot))?,
                Insn::XLen => x = wire_len,
                Insn::Store(slot) => *memory.get_mut(usize::from(slot))? = a,
                Insn::StoreX(slot) => *memory.get_mut(usize::from(slot))? = x,
                Insn::Alu(op, value) => a = op.apply(a, value.get(x))?,
                Insn::Negate => a = a.wrapping_neg(),
                Insn::Jump(k) => pc += k as usize,
                Insn::ReturnA => return Some(a),
                Insn::ToX => x = a,
                Insn::FromX => a = x,
            }
        }
    }
}

/// The numbers of a text, whatever stands between them.
pub(super) fn numbers(text: &str) -> Result<Vec<u32>, Invalid> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let words = words.filter(|word| !word.is_empty());
    let numbers = words.map(|word| word.parse().map_err(|_| Invalid::NotNumbers));
    numbers.collect()
}

#[inline]
fn load(frame: &[u8], size: Size, at: u64) -> Option<u32> {
    let rest = frame.get(usize::try_from(at).ok()?..)?;
    match size {
        Size::Word => rest.first_chunk().map(|b| u32::from_be_bytes(*b)),
        Size::Half => rest.first_chunk().map(|b| u16::from_be_bytes(*b).into()),
        Size::Byte => rest.first().map(|b| u32::from(*b)),
    }
}

impl Value {
    #[inline]
    fn get(self, x: u32) -> u32 {
        match self {
            Self::K(k) => k,
            Self::X => x,
        }
    }
}

impl Test {
    #[inline]
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::AnyBit => a & b != 0,
        }
    }
}

impl Alu {
    /// `None` divides by zero. Shifting out every bit leaves 0.
    fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => return a.checked_div(b),
            Self::Mod => return a.checked_rem(b),
            Self::Or => a | b,
            Self::And => a & b,
            Self::Xor => a ^ b,
            Self::Shl => a.checked_shl(b).unwrap_or(0),
            Self::Shr => a.checked_shr(b).unwrap_or(0),
        })
    }
}

/// Jumps count from the next instruction and can only go forward, so every program ends.
fn check_jumps(at: usize, insn: Insn, len: usize) -> Result<(), Invalid> {
    let furthest = match insn {
        Insn::Jump(k) => k as usize,
        Insn::Branch(_, _, jt, jf) => usize::from(jt.max(jf)),
        _ => return Ok(()),
    };
    if furthest < len - at - 1 {
        Ok(())
    } else {
        Err(Invalid::Jump(at))
    }
}

impl Raw {
    fn new(at: usize, [code, jt, jf, k]: [u32; 4]) -> Result<Self, Invalid> {
        let (Ok(jt), Ok(jf)) = (u8::try_from(jt), u8::try_from(jf)) else {
            return Err(Invalid::Jump(at));
        };
        Ok(Self {
            at,
            code,
            jt,
            jf,
            k,
        })
    }

    fn decode(self) -> Result<Insn, Invalid> {
        let Self { code, k, .. } = self;
        let plain = match code {
            0x20 => Insn::Load(Size::Word, self.offset()?),
            0x28 => Insn::Load(Size::Half, self.offset()?),
            0x30 => Insn::Load(Size::Byte, self.offset()?),
            0x40 => Insn::LoadBehindX(Size::Word, k),
            0x48 => Insn::LoadBehindX(Size::Half, k),
            0x50 => Insn::LoadBehindX(Size::Byte, k),
            0x80 => Insn::LoadLen,
            0x81 => Insn::XLen,
            0x00 => Insn::LoadConst(k),
            0x01 => Insn::XConst(k),
            0x60 => Insn::LoadMem(self.slot()?),
            0x61 => Insn::XMem(self.slot()?),
            0xb1 => Insn::XHeaderLen(self.offset()?),
            0x02 => Insn::Store(self.slot()?),
            0x03 => Insn::StoreX(self.slot()?),
            0x84 => Insn::Negate,
            0x05 => Insn::Jump(k),
            0x06 => Insn::Return(k),
            0x16 => Insn::ReturnA,
            0x07 => Insn::ToX,
            0x87 => Insn::FromX,
            _ => self.arithmetic()?,
        };
        Ok(plain)
    }

    /// Operations on A with a constant or X.
    fn arithmetic(self) -> Result<Insn, Invalid> {
        let op = match self.code & !8 {
            0x04 => Alu::Add,
            0x14 => Alu::Sub,
            0x24 => Alu::Mul,
            0x34 => Alu::Div,
            0x44 => Alu::Or,
            0x54 => Alu::And,
            0x64 => Alu::Shl,
            0x74 => Alu::Shr,
            0x94 => Alu::Mod,
            0xa4 => Alu::Xor,
            _ => return self.branch(),
        };
        match (op, self.value()) {
            (Alu::Div | Alu::Mod, Value::K(0)) => Err(Invalid::Division(self.at)),
            (op, value) => Ok(Insn::Alu(op, value)),
        }
    }

    fn branch(self) -> Result<Insn, Invalid> {
        let test = match self.code & !8 {
            0x15 => Test::Equal,
            0x25 => Test::Greater,
            0x35 => Test::GreaterOrEqual,
            0x45 => Test::AnyBit,
            _ => return Err(self.unknown()),
        };
        Ok(Insn::Branch(test, self.value(), self.jt, self.jf))
    }

    fn value(self) -> Value {
        match self.code & 8 {
            0 => Value::K(self.k),
            _ => Value::X,
        }
    }

    /// An offset into the frame. The kernel keeps what is not in the frame at negative ones.
    fn offset(self) -> Result<u32, Invalid> {
        match i32::try_from(self.k) {
            Ok(_) => Ok(self.k),
            Err(_) => Err(Invalid::Extension(self.at)),
        }
    }

    fn slot(self) -> Result<u8, Invalid> {
        match u8::try_from(self.k) {
            Ok(slot) if usize::from(slot) < SCRATCH => Ok(slot),
            _ => Err(Invalid::Memory(self.at)),
        }
    }

    fn unknown(self) -> Invalid {
        let Self { at, code, .. } = self;
        Invalid::Operation { at, code }
    }
}
