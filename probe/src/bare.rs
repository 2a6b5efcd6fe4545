//! What a program has to bring when it has no `std`: an entry, an end, output, memory.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

// The C library only as the way to the two system calls and the process's entry.
#[link(name = "c")]
unsafe extern "C" {
    fn write(file: i32, bytes: *const u8, length: usize) -> isize;
    fn _exit(code: i32) -> !;
}

fn say(text: &str) {
    // SAFETY: the pointer and the length are those of a live string; a short write loses only text.
    unsafe { write(1, text.as_ptr(), text.len()) };
}

fn end(code: i32) -> ! {
    // SAFETY: ends the process; there is nothing to tidy up.
    unsafe { _exit(code) }
}

#[unsafe(no_mangle)]
extern "C" fn main(_: i32, _: *const *const u8) -> i32 {
    match super::steps() {
        Ok(()) => {
            say("probe: ok\n");
            0
        }
        Err(what) => {
            say("probe: this does not hold: ");
            say(what);
            say("\n");
            1
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    say("probe: panicked\n");
    end(101)
}

// The compiled `core` and `alloc` name this for unwinding, which `panic = "abort"` never does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {
    end(102)
}

/// Hands out a fixed piece of memory from front to back and takes nothing back.
struct Bump {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

/// 4 MiB: some hundred times what the steps need.
const SIZE: usize = 4 << 20;

// SAFETY: `used` only grows and is advanced atomically, so no two blocks overlap.
unsafe impl Sync for Bump {}

// SAFETY: blocks are inside `memory`, aligned as asked, and never handed out twice.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get() as usize;
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            let start = (base + used).checked_next_multiple_of(layout.align())? - base;
            start.checked_add(layout.size()).filter(|end| *end <= SIZE)
        });
        match taken {
            Ok(used) => {
                let start = (base + used).next_multiple_of(layout.align()) - base;
                // SAFETY: `start + size <= SIZE` was checked before it was taken.
                unsafe { self.memory.get().cast::<u8>().add(start) }
            }
            Err(_) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };
