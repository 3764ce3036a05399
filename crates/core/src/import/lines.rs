//! Lines of the input, one at a time and of bounded length.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use csv_core::{ReadRecordResult, Reader};

use super::record::{Columns, Record};
use super::{Fault, Format, ImportError};

/// The longest line, in bytes. A record of CSV may span several, and is no longer than that either.
pub const MAX_LINE: usize = 64 * 1024;
const MAX_COLUMNS: usize = 256;
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A line, or what is wrong with it, and where it begins.
pub(super) type Line = (u64, Result<Record, Fault>);

/// The lines of an input.
pub(super) struct Lines<R> {
    source: Source<R>,
    kind: Kind,
}

enum Kind {
    Csv(Box<Csv>, Columns),
    Json,
}

impl<R: Read> Lines<R> {
    /// Reads the columns where the first line names them.
    pub(super) fn open(
        input: R,
        format: Format,
        passwords: bool,
        ignore_others: bool,
    ) -> Result<Self, ImportError> {
        let mut source = Source::new(input)?;
        let kind = match format {
            Format::JsonLines => Kind::Json,
            Format::Csv => {
                let mut csv = Box::new(Csv::new());
                let names = csv.header(&mut source)?;
                let columns = Columns::of(&names, passwords, ignore_others);
                Kind::Csv(csv, columns.map_err(ImportError::Input)?)
            }
        };
        Ok(Lines { source, kind })
    }

    /// How many bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.source.bytes
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        match &mut self.kind {
            Kind::Json => json(&mut self.source),
            Kind::Csv(csv, columns) => csv.next(&mut self.source, columns),
        }
    }
}

fn json<R: Read>(source: &mut Source<R>) -> io::Result<Option<Line>> {
    loop {
        let number = source.line;
        let Some(line) = source.line()? else {
            return Ok(None);
        };
        match line {
            Ok(line) if line.trim_ascii().is_empty() => {}
            Ok(line) => return Ok(Some((number, Record::of_json(&line)))),
            Err(fault) => return Ok(Some((number, Err(fault)))),
        }
    }
}

fn too_long() -> Fault {
    Fault::new(
        "line_too_long",
        "longer than 64 KiB; in CSV: is a quote not closed?",
    )
}

/// The bytes, and where they are.
struct Source<R> {
    input: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    bytes: u64,
    /// The number of the line that comes next.
    line: u64,
}

impl<R: Read> Source<R> {
    /// Without a byte order mark.
    fn new(mut input: R) -> Result<Self, ImportError> {
        let mut begin = Vec::new();
        input.by_ref().take(3).read_to_end(&mut begin)?;
        if begin.starts_with(&[0xff, 0xfe]) || begin.starts_with(&[0xfe, 0xff]) {
            let words = "the input is UTF-16: save it as UTF-8";
            return Err(ImportError::Input(words.into()));
        }
        if begin == BOM {
            begin.clear();
        }
        Ok(Source {
            input: BufReader::with_capacity(MAX_LINE, Cursor::new(begin).chain(input)),
            bytes: 0,
            line: 1,
        })
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.bytes += count as u64;
    }

    /// A line without its end; one that is too long is read to its end.
    fn line(&mut self) -> io::Result<Option<Result<Vec<u8>, Fault>>> {
        let (mut line, mut fits, mut any) = (Vec::new(), true, false);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            fits = fits && line.len() + part.len() <= MAX_LINE;
            if fits {
                line.extend_from_slice(part);
            }
            let count = part.len() + usize::from(end.is_some());
            self.consume(count);
            if end.is_some() {
                break;
            }
        }
        self.line += 1;
        Ok(any.then(|| if fits { Ok(line) } else { Err(too_long()) }))
    }
}

/// Records of CSV, in a buffer that does not grow.
struct Csv {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// What stands between two ends of a record: its fields are in [`Csv`].
struct Raw {
    line: u64,
    fields: usize,
    fault: Option<Fault>,
}

impl Csv {
    fn new() -> Self {
        Csv {
            reader: Reader::new(),
            text: vec![0; MAX_LINE],
            ends: vec![0; MAX_COLUMNS],
        }
    }

    fn header<R: Read>(&mut self, source: &mut Source<R>) -> Result<Vec<String>, ImportError> {
        let wrong = |words: &str| ImportError::Input(words.into());
        let raw = self.record(source)?;
        let raw =
            raw.ok_or_else(|| wrong("the input is empty: its first line names the columns"))?;
        if let Some(fault) = raw.fault {
            return Err(ImportError::Input(
                format!("the first line names the columns: {}", fault.words).into(),
            ));
        }
        let names = self
            .fields(raw.fields)
            .map(|field| field.map(str::to_owned));
        let names: Option<Vec<_>> = names.collect();
        names.ok_or_else(|| wrong("the first line is not UTF-8"))
    }

    fn next<R: Read>(
        &mut self,
        source: &mut Source<R>,
        columns: &Columns,
    ) -> io::Result<Option<Line>> {
        let Some(raw) = self.record(source)? else {
            return Ok(None);
        };
        let record = match raw.fault {
            Some(fault) => Err(fault),
            None => columns.record(self.fields(raw.fields)),
        };
        Ok(Some((raw.line, record)))
    }

    /// The fields of the record that was read last; `None` in place of one that is not UTF-8.
    fn fields(&self, count: usize) -> impl ExactSizeIterator<Item = Option<&str>> {
        (0..count).map(|at| {
            let begin = if at == 0 { 0 } else { self.ends[at - 1] };
            std::str::from_utf8(&self.text[begin..self.ends[at]]).ok()
        })
    }

    fn record<R: Read>(&mut self, source: &mut Source<R>) -> io::Result<Option<Raw>> {
        skip_empty(source)?;
        let mut raw = Raw {
            line: source.line,
            fields: 0,
            fault: None,
        };
        let (mut length, mut quotes, mut at_end) = (0, 0, false);
        loop {
            let input = source.input.fill_buf()?;
            at_end = at_end || input.is_empty();
            let (text, ends) = (&mut self.text[length..], &mut self.ends[raw.fields..]);
            let (result, read, wrote, ended) = self.reader.read_record(input, text, ends);
            let lines = count(&input[..read], b'\n');
            quotes += count(&input[..read], b'"');
            source.consume(read);
            source.line += lines;
            (length, raw.fields) = (length + wrote, raw.fields + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (length, raw.fields) = (0, 0);
                    raw.fault = Some(too_long());
                }
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        if at_end && quotes % 2 == 1 && raw.fault.is_none() {
            raw.fault = Some(quote_open());
        }
        Ok(Some(raw))
    }
}

fn quote_open() -> Fault {
    let words = "the input ends within quotes: is it cut short?";
    Fault::new("quote_open", words)
}

fn count(bytes: &[u8], wanted: u8) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == wanted)).sum()
}

/// Empty lines are no records, and the reader would count them to the one that follows.
fn skip_empty<R: Read>(source: &mut Source<R>) -> io::Result<()> {
    loop {
        let input = source.input.fill_buf()?;
        let ends = |byte: &&u8| matches!(byte, b'\n' | b'\r');
        let (count, more) = (input.iter().take_while(ends).count(), !input.is_empty());
        let lines = self::count(&input[..count], b'\n');
        let all = count == input.len();
        source.consume(count);
        source.line += lines;
        if !(all && more) {
            return Ok(());
        }
    }
}
