//! Prints the tables of docs/scaling.md: `cargo run -p scaling-example` in the folder `examples`.

fn main() {
    print!("{}", scaling::report());
}
