//! What hostile requests may cost: whatever the bytes of a request say, decoding it takes memory in proportion to them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use barnabas::protocol::every_request::{KEYS, decode_and_encode};
use barnabas::protocol::frame::{decode_assignment, decode_subscription};
use barnabas::protocol::shape::decoded_limit;
use bytes::Bytes;
use proptest::prelude::*;

/// The system's allocator, counting what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().wrapping_add(layout.size());
        HELD.set(held);
        PEAK.set(PEAK.get().max(held));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that `work` held at once, in bytes.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    PEAK.get().saturating_sub(before)
}

/// Decodes `body` as every key and version, and as what consumers tell their group.
fn decode_as_everything(body: &Bytes) {
    // Decoding, and the encoding that the check adds.
    let limit = decoded_limit(body.len()) + 8 * body.len() + 64 * 1024;
    for (key, newest) in KEYS {
        for version in 0..=*newest {
            let peak = peak_of(|| drop(decode_and_encode(*key, version, body.clone())));
            assert!(peak <= limit, "key {key} version {version}: {} bytes took {peak}", body.len());
        }
    }
    let peak = peak_of(|| {
        drop(decode_subscription(body.clone()));
        drop(decode_assignment(body.clone()));
    });
    assert!(peak <= limit, "{} bytes of a member's blob took {peak}", body.len());
}

#[test]
fn absurd_counts_cost_nothing() {
    decode_as_everything(&Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]));
    decode_as_everything(&Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]));
    for word in [0_u32, 1, 2, 3, 0x100, 0x1_0000, 0x0100_0000, 0x7fff_ffff, u32::MAX] {
        for shift in 0..4 {
            let body: Vec<u8> = word.to_be_bytes().into_iter().cycle().skip(shift).take(4_096).collect();
            decode_as_everything(&body.into());
        }
    }
    for byte in 0..=u8::MAX {
        decode_as_everything(&vec![byte; 3_000].into());
    }
}

#[test]
fn many_small_things_cost_little() {
    for byte in [0, 1, 2, 3] {
        decode_as_everything(&vec![byte; 1_000_000].into());
        let mut counted = vec![byte; 1_000_000];
        counted[..4].copy_from_slice(&200_000_u32.to_be_bytes());
        decode_as_everything(&counted.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_bytes_cost_little(
        start in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 0..64),
        repeats in 1_usize..200,
    ) {
        decode_as_everything(&start.repeat(repeats).into());
    }
}
