//! Does nothing: without a build script Cargo would leave out the build dependencies, and with them
//! the union of features of what macros and build scripts use.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
