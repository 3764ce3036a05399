//! Bytes of rows: what is written, and read back with care.

use std::borrow::Cow;

use doorward_core::error::StoreError;
use doorward_core::store::StoreResult;

/// What stands in a row is not what any version wrote.
pub(super) fn damaged(what: &str) -> StoreError {
    StoreError(format!("{what} is not what any version of Doorward wrote"))
}

/// Bytes in the making.
#[derive(Default)]
pub(super) struct Packer(pub(super) Vec<u8>);

impl Packer {
    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.raw(&[byte])
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn i64(&mut self, number: i64) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    /// Seven bits a byte, the low ones first.
    pub(super) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.byte(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0])
    }

    /// Short where it is near to zero, on either side.
    pub(super) fn signed(&mut self, number: i64) -> &mut Self {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.raw(bytes)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A byte that says whether there is one, and the text.
    pub(super) fn perhaps(&mut self, text: Option<&str>) -> &mut Self {
        self.byte(text.is_some().into());
        if let Some(text) = text {
            self.text(text);
        }
        self
    }
}

/// Bytes of a row that are read from the front.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Reader { rest, what }
    }

    pub(super) fn damaged(&self) -> StoreError {
        damaged(self.what)
    }

    pub(super) fn raw(&mut self, count: usize) -> StoreResult<&'a [u8]> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> StoreResult<[u8; N]> {
        let bytes = self.raw(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }

    pub(super) fn byte(&mut self) -> StoreResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn i64(&mut self) -> StoreResult<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn number(&mut self) -> StoreResult<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            if shift > 63 {
                return Err(self.damaged());
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    pub(super) fn signed(&mut self) -> StoreResult<i64> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(super) fn bytes(&mut self) -> StoreResult<&'a [u8]> {
        let count = usize::try_from(self.number()?).map_err(|_| self.damaged())?;
        self.raw(count)
    }

    pub(super) fn text(&mut self) -> StoreResult<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged())
    }

    pub(super) fn perhaps<T: From<&'a str>>(&mut self) -> StoreResult<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            _ => Ok(Some(self.text()?.into())),
        }
    }

    pub(super) fn owned(&mut self) -> StoreResult<Option<Cow<'static, str>>> {
        let text: Option<String> = self.perhaps()?;
        Ok(text.map(Cow::Owned))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for number in [0, 1, -1, 63, 64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut packer = Packer::default();
            packer
                .signed(number)
                .number(number.cast_unsigned())
                .i64(number);
            let mut reader = Reader::new(&packer.0, "it");
            assert_eq!(reader.signed().unwrap(), number);
            assert_eq!(reader.number().unwrap(), number.cast_unsigned());
            assert_eq!(reader.i64().unwrap(), number);
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn what_is_cut_off_or_endless_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 11], &[5, b'a']] {
            assert!(Reader::new(bytes, "it").text().is_err());
        }
    }
}
