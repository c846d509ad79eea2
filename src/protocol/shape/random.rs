//! Well-formed requests of random content, from the same table that guards against malformed ones: for property tests
//! and as seeds for fuzzing.

use super::{Field, Kind, shape_of};
use crate::protocol::records::put_unsigned_varint;

/// What numbers and texts a random request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Any numbers, but such that encoding what was decoded gives the same bytes: what fills one byte is 1.
    Any,
    /// Numbers at the edges of what handlers expect, and names from a short list.
    Edges,
}

/// A request's body.
#[derive(Debug)]
pub struct RandomRequest {
    /// The bytes behind the header.
    pub body: Vec<u8>,
    /// Where counts and lengths stand in it, and how many bytes each has.
    pub counts: Vec<(usize, usize)>,
}

/// Writes a request of `key` and `version`, deciding by what `next` gives. `None` if the key is unknown.
pub fn random_request(
    key: i16,
    version: i16,
    content: Content,
    next: &mut dyn FnMut() -> u64,
) -> Option<RandomRequest> {
    let shape = shape_of(key)?;
    let request = RandomRequest { body: Vec::new(), counts: Vec::new() };
    let mut writer = Writer { next, version, flexible: version >= shape.flexible, content, request };
    writer.fields(shape.fields);
    Some(writer.request)
}

const NAMES: [&str; 6] = ["topic", "other", "group", "", "PLAINTEXT", "5sE70Q4ERBm5cytzUjvVRQ"];
const NUMBERS: [i64; 8] = [0, 1, -1, 2, 7, 1_000, i64::MAX, i64::MIN];
/// How many unknown tagged fields a struct may have, and the number of the first.
const UNKNOWN_TAGS: (usize, u32) = (2, 200);

struct Writer<'a> {
    next: &'a mut dyn FnMut() -> u64,
    version: i16,
    flexible: bool,
    content: Content,
    request: RandomRequest,
}

impl Writer<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next)() % bound as u64).unwrap_or(0)
    }

    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            if field.is_in(self.version) && field.tag.is_none() {
                self.value(&field.kind);
            }
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &[Field]) {
        let version = self.version;
        let known: Vec<_> = fields.iter().filter(|field| field.tag.is_some() && field.is_in(version)).collect();
        let unknown = self.below(UNKNOWN_TAGS.0 + 1);
        self.varint(known.len() + unknown);
        for field in known {
            // Written apart first, as its length goes before it.
            let outer = std::mem::replace(&mut self.request, RandomRequest { body: Vec::new(), counts: Vec::new() });
            self.value(&field.kind);
            let inner = std::mem::replace(&mut self.request, outer);
            self.varint(field.tag.unwrap_or(0) as usize);
            self.varint(inner.body.len());
            self.request.body.extend_from_slice(&inner.body);
        }
        for tag in 0..unknown {
            self.varint(UNKNOWN_TAGS.1 as usize + tag);
            self.varint(2);
            self.request.body.extend_from_slice(&[1, 2]);
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Fixed(len) => self.number(*len),
            Kind::Text => {
                let text = match self.content {
                    Content::Any => &"text"[..self.below(5)],
                    Content::Edges => NAMES[self.below(NAMES.len())],
                };
                self.len(text.len(), 2);
                self.request.body.extend_from_slice(text.as_bytes());
            }
            Kind::Blob => {
                let len = self.below(5);
                self.len(len, 4);
                self.request.body.extend_from_slice(&[0xfe; 4][..len]);
            }
            Kind::Structs(fields) => {
                for _ in 0..self.count() {
                    self.fields(fields);
                }
            }
            Kind::List(element) => {
                for _ in 0..self.count() {
                    self.value(element);
                }
            }
            Kind::Nested(fields) => self.fields(fields),
        }
    }

    fn number(&mut self, len: usize) {
        if self.content == Content::Any && len == 1 {
            return self.request.body.push(1);
        }
        let number = match self.content {
            Content::Any => (self.next)(),
            Content::Edges => NUMBERS[self.below(NUMBERS.len())].cast_unsigned(),
        };
        // The largest and smallest of the narrow types are those of the widest, cut at the right end.
        let wide = [number.to_be_bytes(), (self.next)().to_be_bytes()].concat();
        let is_edge = number == i64::MAX.cast_unsigned() || number == i64::MIN.cast_unsigned();
        let from = if is_edge || len > 8 { 0 } else { 8 - len };
        self.request.body.extend_from_slice(&wide[from..from + len]);
    }

    fn count(&mut self) -> usize {
        let count = self.below(4);
        self.len(count, 4);
        count
    }

    fn len(&mut self, len: usize, width: usize) {
        let at = self.request.body.len();
        if self.flexible {
            self.varint(len + 1);
        } else {
            self.request.body.extend_from_slice(&(len as u64).to_be_bytes()[8 - width..]);
        }
        self.request.counts.push((at, self.request.body.len() - at));
    }

    fn varint(&mut self, value: usize) {
        put_unsigned_varint(&mut self.request.body, u32::try_from(value).unwrap_or(u32::MAX));
    }
}
