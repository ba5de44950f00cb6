//! `tidegate policy keygen`, `bundle`, `sign` and `verify`: signed policies, made and checked on files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use proxy_core::policy;
use proxy_core::store::bundle::{Bundle, KEY_BYTES, Payload, PublicKey, SecretKey};
use proxy_user::daemon::load;
use proxy_user::daemon::policies::Sources;
use serde_json::json;

use super::{counted, read};
use crate::cli::output::{self, GOOD, WARN};
use crate::cli::remote::Form;
use crate::cli::{DEFAULT_CONFIG, check};

/// Mode of a secret key's file.
const SECRET_MODE: u32 = 0o600;

/// Make a key that signs bundles; its public half goes into `trusted_keys` of the config
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy keygen --out release.key")]
pub(super) struct KeygenArgs {
    /// File for the secret key; must not exist yet
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    form: Form,
}

pub(super) fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let mut seed = [0; KEY_BYTES];
    getrandom::fill(&mut seed).context("the system gives no randomness")?;
    let key = SecretKey::new(seed).map_err(anyhow::Error::msg)?;
    let open = File::options().write(true).create_new(true).mode(SECRET_MODE).open(&args.out);
    let mut file = open.with_context(|| format!("making {}", args.out.display()))?;
    writeln!(file, "{}", key.text()).with_context(|| format!("writing {}", args.out.display()))?;
    if args.form.json {
        return output::json(&json!({ "secret_key": args.out, "public_key": key.public() }));
    }
    let mut out = output::stdout();
    writeln!(out, "secret key {}: keep it off the servers", args.out.display())?;
    Ok(writeln!(out, "public key {}", key.public())?)
}

/// Put policies and their lists into one file with a revision; with --key it is signed at once
///
/// The policies are checked and their tests run first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy bundle new/*.json --revision 42 --key release.key --out edge.bundle.json
  tidegate policy bundle new/*.json --revision 42 --out edge.bundle.json   and `policy sign` elsewhere")]
pub(super) struct BundleArgs {
    /// Policy files, in the order in which they are asked
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Number of this bundle; a daemon refuses one that is lower than what it had
    #[arg(long, short, value_name = "N")]
    revision: u64,
    /// Secret key that signs
    #[arg(long, short, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File for the bundle
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    form: Form,
}

pub(super) fn bundle(args: &BundleArgs) -> anyhow::Result<()> {
    let texts = read(&args.files)?;
    let sources = Sources::unsigned(texts.clone());
    let options = policy::Options { lists: sources.lists(), ..policy::Options::new(check::now()) };
    if let Err(faults) = policy::compile(&texts.files, &options) {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        bail!("these policies have faults, and no bundle was made:\n{}", lines.join("\n"));
    }
    let mut bundle = Bundle::new(&Payload { revision: args.revision, created: check::now(), policies: texts });
    if let Some(key) = &args.key {
        bundle.sign(&secret(key)?);
    }
    write(&args.out, &bundle)?;
    told(args.form, &args.out, &bundle, args.key.is_some())
}

/// Sign a bundle
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy sign edge.bundle.json --key release.key
  tidegate policy sign edge.bundle.json --key release.key --out signed.bundle.json")]
pub(super) struct SignArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Secret key that signs
    #[arg(long, short, value_name = "FILE")]
    key: PathBuf,
    /// File for the signed bundle; the same unless given
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn sign(args: &SignArgs) -> anyhow::Result<()> {
    let mut bundle = open(&args.bundle)?;
    bundle.sign(&secret(&args.key)?);
    let out = args.out.as_ref().unwrap_or(&args.bundle);
    write(out, &bundle)?;
    told(args.form, out, &bundle, true)
}

/// Check a bundle's signature and show what it holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate policy verify edge.bundle.json                by the config's trusted_keys
  tidegate policy verify edge.bundle.json --trust d75a980182b10ab7…")]
pub(super) struct VerifyArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Public key that is trusted; those of the config unless given
    #[arg(long, value_name = "KEY")]
    trust: Vec<PublicKey>,
    /// Config that names the trusted keys
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    form: Form,
}

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let trusted = if args.trust.is_empty() {
        load::read_config(&args.config).map_err(anyhow::Error::msg)?.0.trusted_keys
    } else {
        args.trust.clone()
    };
    let bundle = open(&args.bundle)?;
    let named = |error: String| anyhow!("{}: {error}", args.bundle.display());
    let key = bundle.verify(&trusted).map_err(named)?.ok_or_else(|| named("nobody has signed it".to_owned()))?;
    let payload = bundle.payload().map_err(named)?;
    if args.form.json {
        let files: Vec<&str> = payload.policies.files.iter().map(|(name, _)| name.as_str()).collect();
        let (revision, created) = (payload.revision, payload.created);
        return output::json(&json!({ "key": key, "revision": revision, "created": created, "files": files }));
    }
    let mut out = output::stdout();
    writeln!(out, "{GOOD}signed{GOOD:#} by {key}")?;
    writeln!(out, "revision {}, made {:.0}", payload.revision, payload.created)?;
    for (name, _) in &payload.policies.files {
        writeln!(out, "  {name}")?;
    }
    Ok(())
}

fn secret(path: &Path) -> anyhow::Result<SecretKey> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    SecretKey::read(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn open(path: &Path) -> anyhow::Result<Bundle> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let bundle =
        Bundle::read(&text).unwrap_or_else(|| Err("this is no bundle; `tidegate policy bundle` makes one".into()));
    bundle.map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Whole or not at all.
fn write(path: &Path, bundle: &Bundle) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = fs::write(&new, bundle.text() + "\n").and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("writing {}", path.display()))
}

fn told(form: Form, path: &Path, bundle: &Bundle, signed: bool) -> anyhow::Result<()> {
    let payload = bundle.payload().map_err(anyhow::Error::msg)?;
    let revision = payload.revision;
    if form.json {
        return output::json(&json!({ "bundle": path, "revision": revision, "signed": signed }));
    }
    let mut out = output::stdout();
    let policies = payload.policies.files.len();
    let count = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
    let lists = counted(payload.policies.lists.len(), "list file");
    writeln!(out, "{}: revision {revision}, {count}, {lists}", path.display())?;
    if !signed {
        writeln!(out, "{WARN}not signed yet{WARN:#}: `tidegate policy sign {} --key FILE`", path.display())?;
    }
    Ok(())
}
