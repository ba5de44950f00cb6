//! Asks the supervisor and the kernel half.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;

use super::refusals::{internal, no_kernel};
use crate::control::api::Refusal;
use crate::kernel::Kernel;
use crate::shared::{Command, Shared};

/// The supervisor must have answered a command by then.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a command to the supervisor and waits for its reply.
pub(super) async fn command<T>(
    shared: &Shared,
    make: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        shared.commands.send(make(reply)).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(COMMAND_TIMEOUT, exchange).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is shutting down",
            "wait until it runs again",
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the supervisor has not answered within {} s", COMMAND_TIMEOUT.as_secs()),
            "it may still carry the command out: look at `tidegate status` and the daemon's log",
        )),
    }
}

/// Runs map work on a thread of its own: a full verdict table takes a while to read, and signals shall not wait.
pub(super) async fn with_kernel<T: Send + 'static>(
    shared: &Shared,
    refusal: fn(&anyhow::Error) -> Refusal,
    work: impl FnOnce(&Kernel) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let kernel = shared.kernel.clone().ok_or_else(|| no_kernel(shared))?;
    match tokio::task::spawn_blocking(move || work(&kernel)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(refusal(&error)),
        Err(error) => Err(internal(&format!("the work on the maps was broken off: {error}"))),
    }
}
