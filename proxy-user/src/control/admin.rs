//! The admin API: what each [`Call`] reads or asks of the supervisor, and its answer. Paths and bodies are `api`'s.

mod asking;
mod refusals;
mod status;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use proxy_common::parse::LOOPBACK;
use proxy_core::explain::Snapshot;
use proxy_core::store::Who;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};

use super::api::{Call, EditedList, Policies, Refusal, max_body};
use super::openapi;
use super::serve::{self, ACCEPT_PAUSE, Answer};
use super::wire::{Done, Fault, LogFilter, PoliciesApplied, Reloaded, Rules, Workers};
use crate::events::ask::Ask;
use crate::events::hub::{Hub, MAX_READERS, SubscribeError};
use crate::kernel::Kernel;
use crate::logging;
use crate::shared::{Command, ListChange, Proposal, Shared};
use crate::stages::policy::seen::{MAX_SEEN, SAMPLE};
use asking::{command, with_kernel};
use refusals::{body_refusal, internal, no_kernel, no_list, not_done, not_kept, refused_by_supervisor, unreadable};
use status::{count, list, status, workers};

/// Type of a stream of JSON objects, one a line.
const JSON_LINES: &str = "application/x-ndjson";
/// Type of every other answer.
const JSON: &str = "application/json";

/// Accepts connections on the admin socket until the task is aborted.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let places = serve::places();
    let hub = Arc::new(Hub::new(Arc::clone(&shared)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                let hub = Arc::clone(&hub);
                let peer = asker(&stream);
                serve::spawn(stream, place, move |request| {
                    answer(Arc::clone(&shared), Arc::clone(&hub), peer, request)
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin socket could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who asks, for the log of changes.
fn asker(stream: &UnixStream) -> Who {
    let credentials = stream.peer_cred().ok();
    Who { uid: credentials.map(|c| c.uid()), pid: credentials.and_then(|c| c.pid()) }
}

async fn answer(shared: Arc<Shared>, hub: Arc<Hub>, peer: Who, request: Request<Incoming>) -> Answer {
    handle(&shared, &hub, peer, request).await.unwrap_or_else(refuse)
}

fn refuse(refusal: Refusal) -> Answer {
    let fault = Fault { error: refusal.error, hint: refusal.hint };
    let body = serde_json::to_vec(&fault).unwrap_or_default();
    let mut answer = serve::answer(refusal.status, JSON, body);
    if let Some(allow) = refusal.allow {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    answer
}

async fn handle(
    shared: &Arc<Shared>,
    hub: &Arc<Hub>,
    peer: Who,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let most = max_body(head.uri.path());
    let body = serve::read_body(body, most).await.map_err(|error| body_refusal(error, most))?;
    let call = Call::parse(&head.method, head.uri.path(), head.uri.query(), &body)?;
    let whole = |body: Vec<u8>| serve::answer(StatusCode::OK, JSON, body);
    if let Call::Events(ask) = call {
        return events(shared, hub, ask);
    }
    if !call.changes() {
        return read(shared, call).await.map(whole);
    }
    let asked = format!("{call:?}");
    let outcome = change(shared, peer, call).await;
    let Who { uid, pid } = peer;
    match &outcome {
        Ok(_) => tracing::info!(target: "tidegate::audit", uid, pid, call = asked, "carried out"),
        Err(refusal) => {
            tracing::warn!(target: "tidegate::audit", uid, pid, call = asked, error = refusal.error, "refused");
        }
    }
    outcome.map(whole)
}

/// Lines until the client leaves.
fn events(shared: &Shared, hub: &Hub, ask: Ask) -> Result<Answer, Refusal> {
    let kernel = shared.kernel.as_ref().ok_or_else(|| no_kernel(shared))?;
    match hub.subscribe(kernel, ask) {
        Ok(queue) => Ok(serve::lines(JSON_LINES, queue)),
        Err(error @ SubscribeError::TooMany) => Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            error.to_string(),
            format!("end one of them; at most {MAX_READERS} are served, so that following cannot slow the daemon down"),
        )),
        Err(error) => Err(internal(&error.to_string())),
    }
}

async fn read(shared: &Arc<Shared>, call: Call) -> Result<Vec<u8>, Refusal> {
    match call {
        Call::Verdicts { limit } => json(&with_kernel(shared, unreadable, move |kernel| list(kernel, limit)).await?),
        Call::Explain { packet, length, interface } => {
            let named = interface.as_deref().map(index).transpose()?;
            let explain = move |kernel: &Kernel| {
                let interface = named.or_else(|| kernel.first_interface()).unwrap_or(LOOPBACK);
                kernel.explain(&Snapshot { bytes: &packet, length, interface })
            };
            json(&with_kernel(shared, unreadable, explain).await?)
        }
        Call::Request(id) => {
            let now = shared.snapshot.load_full();
            let found = shared.stats.iter().find_map(|stats| stats.seen.explain(&id, &now));
            json(&found.ok_or_else(|| {
                let hint = format!(
                    "the last {MAX_SEEN} of each worker are kept: those that a policy refused, and one in {SAMPLE} others"
                );
                Refusal::new(StatusCode::NOT_FOUND, format!("no request {id} is kept"), hint)
            })?)
        }
        Call::Rules => json(&Rules { rules: shared.snapshot.load().policies.rule_counts() }),
        Call::Lists(name) => json(&command(shared, |reply| Command::Lists(name, reply)).await?.map_err(no_list)?),
        Call::Revisions => json(&command(shared, Command::History).await?.map_err(not_kept)?),
        Call::Revision(number) => {
            json(&command(shared, |reply| Command::Texts(number, reply)).await?.map_err(not_kept)?)
        }
        Call::Counters => json(&with_kernel(shared, unreadable, count).await?),
        Call::OpenApi => json(&openapi::document()),
        Call::Log => json(&log_filter()?),
        Call::Workers => json(&Workers { workers: workers(shared) }),
        _ => json(&status(shared).await?),
    }
}

/// Index of an interface of this host.
fn index(name: &str) -> Result<u32, Refusal> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|_| Refusal::bad(format!("this host has no interface `{name}`"), "`ip link` shows those that it has"))
}

async fn change(shared: &Arc<Shared>, who: Who, call: Call) -> Result<Vec<u8>, Refusal> {
    match call {
        Call::AddVerdict { source, ttl } => {
            let name = source.clone();
            if with_kernel(shared, not_done, move |kernel| kernel.add_verdict(&source, ttl)).await? {
                return done(format!("{name} is dropped for {}s", ttl.as_secs_f64()));
            }
            Err(Refusal::new(
                StatusCode::CONFLICT,
                format!("an allow rule covers {name}: it never gets a verdict"),
                "take it out of the policies' allow lists first, then `tidegate reload`",
            ))
        }
        Call::LoadVerdicts { sources, ttl } => {
            json(&with_kernel(shared, not_done, move |kernel| kernel.add_verdicts(&sources.0, ttl)).await?)
        }
        Call::RemoveVerdict { source } => {
            let name = source.clone();
            if with_kernel(shared, not_done, move |kernel| kernel.remove_verdict(&source)).await? {
                return done(format!("{name} is let in again"));
            }
            Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("no verdict stands against {name}"),
                "`tidegate verdict list` shows those that stand; name a prefix where a prefix stands",
            ))
        }
        Call::StopWorker(number) => {
            command(shared, |reply| Command::StopWorker(number, reply)).await?.map_err(refused_by_supervisor)?;
            done(format!("worker {number} takes no more connections"))
        }
        Call::StartWorker(number) => {
            command(shared, |reply| Command::StartWorker(number, reply)).await?.map_err(refused_by_supervisor)?;
            done(format!("worker {number} takes connections"))
        }
        Call::ApplyPolicies(policies) => {
            let proposal = policies.map_or(Proposal::Config, |Policies(texts)| Proposal::Texts(texts));
            apply(shared, who, proposal).await
        }
        Call::EditList(EditedList { list, add, remove, ttl }) => {
            let change = ListChange { list, add, remove, ttl };
            json(&command(shared, |reply| Command::EditList(who, change, reply)).await?.map_err(no_list)?)
        }
        Call::SetLog { filter, time } => set_log(&filter, time),
        Call::Rollback(number) => apply(shared, who, Proposal::Revision(number)).await,
        _ => {
            let reloaded = command(shared, |reply| Command::Reload(who, reply)).await?.map_err(|error| {
                Refusal::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    error,
                    "nothing was changed; `tidegate check` shows every fault, then reload again",
                )
            })?;
            json(&Reloaded::from(reloaded))
        }
    }
}

async fn apply(shared: &Arc<Shared>, who: Who, proposal: Proposal) -> Result<Vec<u8>, Refusal> {
    let applied = command(shared, |reply| Command::Apply(who, proposal, reply)).await?.map_err(|error| {
        let hint =
            "nothing was changed: the policies that were in force stay; `tidegate policy check` shows every fault";
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint)
    })?;
    json(&PoliciesApplied::from(applied))
}

fn log_filter() -> Result<LogFilter, Refusal> {
    let filter = logging::filter().ok_or_else(|| internal("this process writes no log of its own"))?;
    Ok(LogFilter { filter })
}

/// Sets the log's filter, and after `time` the one that was there before, unless somebody has set another meanwhile.
fn set_log(filter: &str, time: Option<Duration>) -> Result<Vec<u8>, Refusal> {
    let before = log_filter()?.filter;
    let hint = "nothing was changed; write a level such as `debug`, or `info,proxy_user::tls=debug`";
    logging::set_filter(filter).map_err(|error| Refusal::bad(format!("{error:#}"), hint))?;
    let now = log_filter()?;
    if let Some(time) = time {
        let ours = now.filter.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if logging::filter().is_some_and(|filter| filter == ours)
                && let Err(error) = logging::set_filter(&before)
            {
                tracing::error!(%error, "the log's filter was not set back");
            }
        });
    }
    json(&now)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|e| internal(&format!("the answer could not be written: {e}")))
}

fn done(sentence: String) -> Result<Vec<u8>, Refusal> {
    json(&Done { done: sentence })
}
