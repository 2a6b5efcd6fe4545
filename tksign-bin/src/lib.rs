//! The signer as a library; `main` is a thin shell over it.
