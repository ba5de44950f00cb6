//! A Tidegate of one's own: all of the standard one, and a stage that lets nobody without a token into the routes that
//! ask for one: `"stages": {"token": {"header": "x-token", "value": "s3cret"}}` in the config or in a route.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use proxy_user::stages::hooks::{Fault, Hooks, Site};
use proxy_user::stages::{Flow, Metric, Stage, Stages};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    header: String,
    value: String,
}

/// Counts whom it refused.
#[derive(Default)]
pub struct Token {
    refused: Arc<AtomicU64>,
}

impl Stage for Token {
    fn name(&self) -> &'static str {
        "token"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), Fault> {
        let Some(Settings { header, value }) = site.settings()? else { return Ok(()) };
        let refused = Arc::clone(&self.refused);
        hooks.request(move |exchange| match exchange.request.headers.get(&header) {
            Some(sent) if sent == value.as_str() => Flow::Continue,
            _ => {
                refused.fetch_add(1, Ordering::Relaxed);
                Flow::Respond(exchange.answer(StatusCode::UNAUTHORIZED, "a token is needed"))
            }
        });
        Ok(())
    }

    fn metrics(&self, tell: &mut dyn FnMut(Metric)) {
        let value = self.refused.load(Ordering::Relaxed);
        tell(Metric { name: "refused", help: "Requests without the token", counter: true, value });
    }
}

/// As `tidegate`, with all its commands.
///
/// # Errors
/// None that a start can run into: the names of stages are fixed.
pub fn main() -> anyhow::Result<ExitCode> {
    Stages::standard().after("policy", Token::default())?.install()?;
    Ok(proxy_user::cli::main())
}
