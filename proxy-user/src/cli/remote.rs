//! Commands that ask the running daemon: `--socket`, `--json`, and the call itself.

use std::io::Write as _;
use std::path::PathBuf;

use http::Method;
use proxy_user::control::client::Client;
pub(super) use proxy_user::control::client::Lines;
use proxy_user::control::wire::Done;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DEFAULT_SOCKET, output};

/// Where the daemon is reached.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// Admin socket of the running daemon
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// In which form the answer is printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// Print JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// What a command that asks the daemon takes beside its own arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Ask {
    #[command(flatten)]
    pub(super) socket: Socket,
    #[command(flatten)]
    pub(super) form: Form,
}

impl Form {
    /// Prints what a command did.
    pub(super) fn told(self, done: &Done) -> anyhow::Result<()> {
        if self.json {
            return output::json(done);
        }
        Ok(writeln!(output::stdout(), "{}", done.done)?)
    }
}

impl Socket {
    /// Reads something.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, Vec::new())
    }

    /// Asks for a change; `body` is sent as JSON.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.call(Method::POST, path, serde_json::to_vec(body)?)
    }

    /// Removes something.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::DELETE, path, Vec::new())
    }

    /// Asks for a stream of lines; to be called inside [`runtime`].
    pub(super) async fn lines(&self, path: &str) -> anyhow::Result<Lines> {
        Ok(Client::new(&self.socket).lines(path).await?)
    }

    /// One call; to be made inside [`runtime`].
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        Ok(Client::new(&self.socket).call(method, path, body).await?)
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
        runtime()?.block_on(self.ask(method, path, body))
    }
}

/// What the commands' calls run on.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
