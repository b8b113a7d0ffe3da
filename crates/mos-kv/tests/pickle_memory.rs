//! What reading upstream's pickles allocates, counted. A binary of its own, since the counter serves the whole process.
#![allow(clippy::unwrap_used, reason = "tests stop at the first thing that fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use mos_kv::read_upstream_items;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory that is handed out.
#[allow(unsafe_code, reason = "allocations can be counted in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from `alloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the most bytes that reading a file had allocated at a time, and whether it was accepted.
fn reading(bytes: &[u8]) -> (usize, bool) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let accepted = read_upstream_items(bytes).is_ok();
    (MOST.load(Ordering::Relaxed) - before, accepted)
}

fn pickles(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "pickle"));
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// One test, since tests of one binary would count each other's allocations.
#[test]
fn memory_is_in_proportion_to_the_file() {
    // Twice the budget, which collections that grow by doubling may take, and as much again while they move.
    let limit = |len: usize| 4 * ((1 << 20) + 16 * len);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle");

    let example = std::fs::read(folder.join("mem_cube_2_activation_memory.pickle")).unwrap();
    let (most, accepted) = reading(&example);
    assert!(accepted && most < example.len() / 2, "{most} bytes for tensors that need not be copied");

    let hostile = pickles(&folder.join("hostile"));
    assert!(!hostile.is_empty());
    for (name, bytes) in hostile {
        let (most, accepted) = reading(&bytes);
        assert!(!accepted && most < limit(bytes.len()), "{name}: {most} bytes");
    }

    // Every instruction, over and over: alone, remembered each time, and with operands of small and large value.
    for opcode in 0..=255_u8 {
        for unit in [vec![opcode], vec![opcode, 0x94], vec![opcode, 1], vec![opcode, 0xff, 0xff, 0xff, 0x7f]] {
            for start in [&b"\x80\x04"[..], b"\x80\x04]\x94N\x94(", b"\x80\x04N\x940}"] {
                let bytes: Vec<u8> = start.iter().copied().chain(unit.iter().copied().cycle().take(20_000)).collect();
                let (most, _) = reading(&bytes);
                assert!(most < limit(bytes.len()), "{unit:?} after {start:?}: {most} bytes");
            }
        }
    }
}
