//! The last batches of a log with their places, so that a fetch near the end finds its position without a system call.

use std::collections::VecDeque;

use crate::base::ids::Offset;

/// How many batches are remembered.
const REMEMBERED: usize = 32;

/// Where a batch lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The batch's base offset.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Bytes from the start of the segment.
    pub position: u64,
    /// Bytes of the batch.
    pub size: u32,
}

/// The last batches of the active segment, oldest first, without gaps between them.
#[derive(Debug, Default)]
pub struct Tail {
    places: VecDeque<Place>,
}

impl Tail {
    /// Remembers a batch that was appended behind the last one.
    pub fn push(&mut self, place: Place) {
        if self.places.len() == REMEMBERED {
            self.places.pop_front();
        }
        self.places.push_back(place);
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        self.places = VecDeque::new();
    }

    /// The first batch whose last offset is not below `offset`, if that is known here.
    pub fn find(&self, offset: Offset) -> Option<Place> {
        if self.places.front()?.base_offset > offset {
            return None;
        }
        let at = self.places.partition_point(|place| place.last_offset < offset);
        self.places.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_last_batches() {
        let mut tail = Tail::default();
        assert_eq!(tail.find(Offset(0)), None);
        for n in 0..40 {
            let base = Offset(n * 10);
            tail.push(Place { base_offset: base, last_offset: base.plus(9), position: n as u64 * 100, size: 100 });
        }
        assert_eq!(tail.find(Offset(79)), None);
        assert_eq!(tail.find(Offset(80)).map(|p| p.position), Some(800));
        assert_eq!(tail.find(Offset(399)).map(|p| p.position), Some(3900));
        assert_eq!(tail.find(Offset(400)), None);
    }
}
