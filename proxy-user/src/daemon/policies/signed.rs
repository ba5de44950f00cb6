//! Signatures of policies: a bundle that somebody trusted has signed, or files that nobody has to sign.

use proxy_core::config::Config;
use proxy_core::store::Texts;
use proxy_core::store::bundle::{Bundle, Mark, PublicKey};

/// A bundle whose signature is good.
pub(super) struct Signed {
    pub(super) inside: Texts,
    pub(super) mark: Mark,
    pub(super) signer: PublicKey,
}

/// No files are nobody's: where the config requires a signature, taking all policies away needs one too.
pub(super) fn some_signed(files: &[(String, String)], config: &Config) -> Result<(), String> {
    if config.require_signature && files.is_empty() {
        return Err(
            "no policies, which nobody has signed, and the config requires a signature (`require_signature`); a \
                    signed bundle of a policy without effect takes others away"
                .to_owned(),
        );
    }
    Ok(())
}

/// What a signed bundle holds, where the files are one. A bundle stands alone; one that nobody signed is refused.
pub(super) fn bundled(files: &[(String, String)], config: &Config) -> Result<Option<Signed>, String> {
    let found = files.iter().find_map(|(name, text)| Bundle::read(text).map(|bundle| (name, bundle)));
    let Some((name, bundle)) = found else {
        return match files.first() {
            Some((name, _)) if config.require_signature => Err(format!(
                "{name}: not signed, which the config requires (`require_signature`); `tidegate policy bundle --key` makes a \
                 signed bundle"
            )),
            _ => Ok(None),
        };
    };
    let named = |error: String| format!("{name}: {error}");
    if files.len() > 1 {
        return Err(named(format!("a bundle holds a whole set, and stands here among {} files", files.len())));
    }
    let bundle = bundle.map_err(named)?;
    let (verified, payload) = (bundle.verify(&config.trusted_keys).map_err(named)?, bundle.payload().map_err(named)?);
    match verified {
        Some(signer) => Ok(Some(Signed { inside: payload.policies, mark: bundle.mark().map_err(named)?, signer })),
        None => Err(named("nobody has signed this bundle yet: `tidegate policy sign` does".to_owned())),
    }
}

/// What a set's texts hold: those inside, where they are a bundle, whoever signed it.
pub fn unpacked(texts: Texts) -> Texts {
    let bundle = texts.files.first().and_then(|(_, text)| Bundle::read(text)?.ok()?.payload().ok());
    bundle.map_or(texts, |payload| payload.policies)
}
