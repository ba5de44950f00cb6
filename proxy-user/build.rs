//! Puts the compiled kernel programs where `include_bytes_aligned!` finds them: `OUT_DIR/tidegate.bpf.o` and
//! `OUT_DIR/tidegate-same-host.bpf.o`.
//!
//! `cargo xtask build` builds them and names the first one's file in `TIDEGATE_BPF_OBJECT`; the other lies beside it. A plain `cargo build` takes what the
//! last such run left, or an empty file: that binary says at start that it has no kernel half.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The programs for servers on the same host.
const SAME_HOST: &str = "tidegate-same-host-bpf";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TIDEGATE_BPF_OBJECT");
    let object =
        env::var_os("TIDEGATE_BPF_OBJECT").filter(|path| !path.is_empty()).map_or_else(last_built, PathBuf::from);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    embed(&object, &out.join("tidegate.bpf.o"))?;
    embed(&object.with_file_name(SAME_HOST), &out.join("tidegate-same-host.bpf.o"))
}

/// Copies an object; an empty file where there is none.
fn embed(object: &Path, destination: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // A missing file makes cargo look again at the next build.
    println!("cargo:rerun-if-changed={}", object.display());
    let bytes = match fs::read(object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("cargo:warning=no kernel programs are embedded: build with `cargo xtask build`");
            Vec::new()
        }
        Err(error) => return Err(format!("{}: {error}", object.display()).into()),
    };
    // Written only when it differs, so that nothing is compiled again for the same bytes.
    if fs::read(destination).ok().as_deref() != Some(bytes.as_slice()) {
        fs::write(destination, bytes)?;
    }
    Ok(())
}

/// Where `cargo xtask build` leaves the object, unless the target directory was moved.
fn last_built() -> PathBuf {
    let endian = if env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big") { "bpfeb" } else { "bpfel" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/bpf/{endian}-unknown-none/bpf/tidegate-bpf"))
}
