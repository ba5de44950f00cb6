//! Puts the compiled kernel programs where `include_bytes_aligned!` finds them: `OUT_DIR/tidegate.bpf.o`.
//!
//! `cargo xtask build` builds them and names the file in `TIDEGATE_BPF_OBJECT`. A plain `cargo build` takes what the
//! last such run left, or an empty file: that binary says at start that it has no kernel half.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TIDEGATE_BPF_OBJECT");
    let destination = PathBuf::from(env::var("OUT_DIR")?).join("tidegate.bpf.o");
    let object =
        env::var_os("TIDEGATE_BPF_OBJECT").filter(|path| !path.is_empty()).map_or_else(last_built, PathBuf::from);
    // A missing file makes cargo look again at the next build.
    println!("cargo:rerun-if-changed={}", object.display());
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("cargo:warning=no kernel programs are embedded: build with `cargo xtask build`");
            Vec::new()
        }
        Err(error) => return Err(format!("{}: {error}", object.display()).into()),
    };
    // Written only when it differs, so that nothing is compiled again for the same bytes.
    if fs::read(&destination).ok().as_deref() != Some(bytes.as_slice()) {
        fs::write(&destination, bytes)?;
    }
    Ok(())
}

/// Where `cargo xtask build` leaves the object, unless the target directory was moved.
fn last_built() -> PathBuf {
    let endian = if env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big") { "bpfeb" } else { "bpfel" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/bpf/{endian}-unknown-none/bpf/tidegate-bpf"))
}
