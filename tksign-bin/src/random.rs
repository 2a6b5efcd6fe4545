//! Random secrets come from the operating system and from nowhere else.

use zeroize::Zeroizing;

/// Fills `bytes`, or stops the program: a signer without randomness must not go on, and no
/// caller could do anything better than forget to check.
pub(crate) fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        stop("the operating system gives no random bytes");
    }
}

/// Ends the process where going on would weaken or lose something. Not a panic: a panic can be
/// caught, and a half-made secret used.
pub(crate) fn stop(why: &str) -> ! {
    eprintln!("tksign: {why}; stopping");
    std::process::abort();
}

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// 32 random bytes that are wiped when they are dropped.
pub(crate) fn secret() -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    fill(&mut *secret);
    secret
}
