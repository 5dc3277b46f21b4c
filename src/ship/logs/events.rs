//! The lines of a file, with their time and their interface.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use crate::record::{Columns, Field};
use crate::ship::aws::{Failure, Kind};
use crate::ship::logs::batch::{Event, MOST_BYTES, OVERHEAD};

const CHUNK: usize = 128 * 1024;
/// The longest message that fits into a request.
const LONGEST: usize = MOST_BYTES - OVERHEAD;

/// What comes next.
pub(super) enum Next {
    /// A line, and the interface that it is of.
    Event { interface: String, event: Event },
    /// A line that no request could hold.
    TooLarge,
    /// Nothing.
    End,
}

/// A file of records, read line by line.
pub(super) struct Events {
    input: BufReader<MultiGzDecoder<BufReader<File>>>,
    name: String,
    /// Milliseconds since 1970 for a line that tells no time.
    otherwise: u64,
    time: Option<usize>,
    interface: Option<usize>,
    line: Vec<u8>,
}

impl Events {
    /// Opens a file, and reads its header line.
    pub(super) fn open(file: File, name: &str, otherwise: u64) -> Result<Self, Failure> {
        let packed = MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file));
        let mut events = Self {
            input: BufReader::with_capacity(CHUNK, packed),
            name: name.to_owned(),
            otherwise,
            time: None,
            interface: None,
            line: Vec::new(),
        };
        events.header()?;
        Ok(events)
    }

    /// A record may lack its start, or even its end, if whoever chose the format left them out.
    fn header(&mut self) -> Result<(), Failure> {
        self.read_line()?;
        let header = String::from_utf8_lossy(&self.line);
        let Some(columns) = Columns::of_header(&header) else {
            let reason = format!("{} has no header line that names its columns", self.name);
            return Err(Failure::new(Kind::Refused, reason));
        };
        let start = columns.place(Field::Start);
        self.time = start.or_else(|| columns.place(Field::End));
        self.interface = columns.place(Field::InterfaceId);
        Ok(())
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> Result<Next, Failure> {
        loop {
            match self.read_line()? {
                Line::End => return Ok(Next::End),
                Line::TooLong => return Ok(Next::TooLarge),
                Line::There if self.line.is_empty() => {}
                Line::There => return Ok(self.event()),
            }
        }
    }

    fn event(&self) -> Next {
        let message = String::from_utf8_lossy(&self.line).into_owned();
        // a byte that is no text becomes three
        if message.len() > LONGEST {
            return Next::TooLarge;
        }
        let word = |place: Option<usize>| message.split_ascii_whitespace().nth(place?);
        let seconds = word(self.time).and_then(|word| word.parse::<u64>().ok());
        let milliseconds = seconds.and_then(|seconds| seconds.checked_mul(1000));
        Next::Event {
            interface: word(self.interface).unwrap_or("-").to_owned(),
            event: Event {
                timestamp: milliseconds.unwrap_or(self.otherwise),
                message,
            },
        }
    }

    fn read_line(&mut self) -> Result<Line, Failure> {
        let name = &self.name;
        read_line(&mut self.input, &mut self.line).map_err(|error| {
            let kind = match error.kind() {
                // it is damaged, and stays so
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                    Kind::Refused
                }
                _ => Kind::Local,
            };
            Failure::new(kind, format!("cannot read {name}: {error}"))
        })
    }
}

enum Line {
    There,
    TooLong,
    End,
}

/// A line without its line feed. One that is too long is read to its end, and memory stays bounded.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let most = LONGEST as u64 + 1;
    if input.by_ref().take(most).read_until(b'\n', line)? == 0 {
        return Ok(Line::End);
    }
    let ended = line.pop_if(|last| *last == b'\n').is_some();
    if ended || line.len() <= LONGEST {
        return Ok(Line::There);
    }
    input.skip_until(b'\n')?;
    Ok(Line::TooLong)
}
