//! Why a call is not carried out, in words.

use http::StatusCode;

use crate::control::api::Refusal;
use crate::control::serve::BodyError;
use crate::shared::Shared;

/// The body did not come as it should.
pub(super) fn body_refusal(error: BodyError, most: usize) -> Refusal {
    match error {
        BodyError::TooLarge => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {most} bytes"),
            "send less at once; /v1/verdicts/load takes many sources",
        ),
        BodyError::TooSlow => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time", "send it at once")
        }
        BodyError::Broken => Refusal::new(
            StatusCode::BAD_REQUEST,
            "the body broke off",
            "send as many bytes as Content-Length says, or well-formed chunks",
        ),
    }
}

/// A list is not known, or an edit of it is faulty.
pub(super) fn no_list(error: String) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, "nothing was changed; `tidegate list show` shows the lists")
}

/// What was asked for is not among what is kept.
pub(super) fn not_kept(error: String) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        error,
        "`tidegate policy history` shows what is kept; see `state_dir` in the config",
    )
}

/// Something went wrong here.
pub(super) fn internal(error: &str) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error, "the daemon's log says more; please report it")
}

/// The workers are not such that it could be done.
pub(super) fn refused_by_supervisor(error: String) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, error, "`tidegate worker list` shows the workers")
}

/// It needs the kernel half, of which there is none.
pub(super) fn no_kernel(shared: &Shared) -> Refusal {
    let why = shared.kernel_missing.as_deref().unwrap_or("it is not enabled");
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the kernel half is not loaded: {why}"),
        "verdicts, packet counters and events need it; see `gate` in the config, and run as root or with CAP_BPF and CAP_NET_ADMIN",
    )
}

/// The maps could not be read: nothing that the client could do otherwise.
pub(super) fn unreadable(error: &anyhow::Error) -> Refusal {
    internal(&format!("{error:#}"))
}

/// The kernel half would not: a prefix of another length, a full table. Its error names the setting.
pub(super) fn not_done(error: &anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"), "nothing was changed")
}
