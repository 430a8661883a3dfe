//! RESP requests: arrays of bulk strings, made from templates whose digits are overwritten.

/// Appends a decimal number.
pub(in crate::load) fn put_decimal(out: &mut Vec<u8>, number: i64) {
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(number).as_bytes());
}

/// Appends the header of an array (`*`) or bulk string (`$`).
pub(in crate::load) fn put_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    put_decimal(out, i64::try_from(count).unwrap_or(i64::MAX));
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
pub(in crate::load) fn put_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    put_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a command.
pub(in crate::load) fn put_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    put_header(out, b'*', arguments.len());
    arguments.iter().for_each(|argument| put_bulk(out, argument));
}

/// Digits of a key: what ten thousand million keys need, and all keys are equally long.
const KEY_DIGITS: usize = 12;

/// `prefix` + 12 digits, ready to be copied with what stands around it.
#[derive(Clone, Debug)]
pub(in crate::load) struct KeyTemplate {
    bytes: Vec<u8>,
    digits_at: usize,
}

impl KeyTemplate {
    /// A template of `before`, the key's digits, and `after`.
    pub(in crate::load) fn new(before: &[u8], after: &[u8]) -> Self {
        let mut bytes = before.to_vec();
        bytes.extend_from_slice(&[b'0'; KEY_DIGITS]);
        bytes.extend_from_slice(after);
        Self { bytes, digits_at: before.len() }
    }
    /// A template of a command up to its key, which is `prefix` and the digits, and `after`.
    pub(in crate::load) fn of_command(arguments: usize, name: &[u8], prefix: &[u8], after: &[u8]) -> Self {
        let mut before = Vec::new();
        put_header(&mut before, b'*', arguments);
        put_bulk(&mut before, name);
        put_header(&mut before, b'$', prefix.len() + KEY_DIGITS);
        before.extend_from_slice(prefix);
        let mut tail = b"\r\n".to_vec();
        tail.extend_from_slice(after);
        Self::new(&before, &tail)
    }
    /// How many bytes it is.
    pub(in crate::load) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }
    /// Writes the digits of `number` into a copy of it, as [`KeyTemplate::put`] does.
    #[inline]
    pub(in crate::load) fn write_key(&self, copy: &mut [u8], number: u64) {
        if let Some(digits) = copy.get_mut(self.digits_at..self.digits_at + KEY_DIGITS) {
            write_digits(digits, number);
        }
    }
    /// Appends it with the digits of `number`, of which the lowest 12 are kept.
    #[inline]
    pub(in crate::load) fn put(&self, out: &mut Vec<u8>, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        self.write_key(&mut out[start..], number);
    }
}

/// Two digits at a time.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let (mut tens, mut index) = (b'0', 0);
    while tens <= b'9' {
        let mut ones = b'0';
        while ones <= b'9' {
            pairs[index] = [tens, ones];
            index += 1;
            ones += 1;
        }
        tens += 1;
    }
    pairs
};

/// Half of the digits of a key.
const HALF: u64 = 1_000_000;

fn write_digits(digits: &mut [u8], number: u64) {
    // In two halves, which the processor works on at the same time.
    let (high, low) = digits.split_at_mut(KEY_DIGITS / 2);
    for (half, mut number) in [(high, number / HALF % HALF), (low, number % HALF)] {
        for pair in half.rchunks_exact_mut(2) {
            let index = usize::try_from(number % 100).unwrap_or(0);
            pair.copy_from_slice(&PAIRS[index]);
            number /= 100;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        // Inline commands would break on the first value with a space.
        let mut out = Vec::new();
        put_command(&mut out, &[b"SET", b"k", b"a b"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na b\r\n");
    }

    #[test]
    fn templates_make_the_same_bytes_as_the_plain_way() {
        // A key that differs between writing and reading is never found.
        let template = KeyTemplate::of_command(2, b"GET", b"key:", b"");
        for number in [0, 7, 1_234_567_890, 999_999_999_999] {
            let (mut fast, mut plain) = (Vec::new(), Vec::new());
            template.put(&mut fast, number);
            put_command(&mut plain, &[b"GET", format!("key:{number:012}").as_bytes()]);
            assert_eq!(fast, plain);
        }
    }
}
