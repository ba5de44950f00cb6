//! One order of a certificate, from the account to the file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use proxy_core::config::{Acme, AcmeChallenge};
use proxy_core::digest::Digest;
use proxy_core::tls::renewal::Issued;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Challenges;
use super::http::Direct;
use crate::store::files::write_private;

/// Asks for a certificate and writes it with its key.
pub(super) async fn obtain(
    settings: &Acme,
    names: &[String],
    directory: &Path,
    file: &Path,
    challenges: &Challenges,
) -> anyhow::Result<()> {
    let account = account(settings, directory).await?;
    let identifiers: Vec<_> = names.iter().map(|name| Identifier::Dns(name.to_ascii_lowercase())).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.with_context(|| {
        let file = account_file(settings, directory);
        format!("the order was not taken (where the server knows the account no more, remove {})", file.display())
    })?;
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => bail!("{}: the authorization is {status:?}", authorization.identifier()),
        }
        let (kind, what) = match settings.challenge {
            AcmeChallenge::Http => (ChallengeType::Http01, "http-01"),
            AcmeChallenge::TlsAlpn => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        };
        let mut challenge =
            authorization.challenge(kind).with_context(|| format!("the server offers no challenge of {what}"))?;
        let proof = challenge.key_authorization();
        match settings.challenge {
            AcmeChallenge::Http => shown.push(challenges.show_page(&challenge.token, proof.as_str())),
            AcmeChallenge::TlsAlpn => {
                let name = challenge.identifier().to_string();
                shown.push(challenges.show_certificate(&name, proof.digest().as_ref())?);
            }
        }
        challenge.set_ready().await.context("the challenge was not taken up")?;
    }
    let status = order.poll_ready(&RetryPolicy::default()).await?;
    ensure!(status == OrderStatus::Ready, "the order is {status:?}: the server could not see the challenge");
    drop(shown);
    let key = order.finalize().await.context("the order was not completed")?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await.context("no certificate came")?;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).context("what came is no certificate")?;
    let issued = Issued::read(&leaf).context("what came is no certificate")?;
    let missing = names.iter().find(|name| !issued.names.contains(&name.to_ascii_lowercase()));
    if let Some(name) = missing {
        bail!("the certificate that came is not for {name}");
    }
    write_private(file, format!("{key}{chain}").as_bytes())
}

/// The account of this directory, made where there is none.
async fn account(settings: &Acme, directory: &Path) -> anyhow::Result<Account> {
    let http = Direct::new(settings.ca.as_deref()).map_err(|fault| anyhow!("/acme/ca: {fault}"))?;
    let builder = Account::builder_with_http(Box::new(http));
    let file = account_file(settings, directory);
    match std::fs::read(&file) {
        Ok(text) => {
            let credentials: AccountCredentials =
                serde_json::from_slice(&text).with_context(|| format!("{} is broken; remove it", file.display()))?;
            builder.from_credentials(credentials).await.context("the ACME server cannot be reached")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let contact: Vec<_> = settings.contact.iter().map(String::as_str).collect();
            let new = NewAccount {
                contact: &contact,
                terms_of_service_agreed: settings.agree_to_terms,
                only_return_existing: false,
            };
            let made = builder.create(&new, settings.directory.clone(), None).await;
            let (account, credentials) = made.context("the ACME server gave no account")?;
            write_private(&file, &serde_json::to_vec(&credentials)?)?;
            Ok(account)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// One for each server.
fn account_file(settings: &Acme, directory: &Path) -> PathBuf {
    directory.join(format!("account-{}.json", Digest::of(settings.directory.as_bytes()).short()))
}
