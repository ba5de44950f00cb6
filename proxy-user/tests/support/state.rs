//! A daemon's shared state without a kernel half.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use proxy_core::config::Config;
use proxy_core::policy::PolicySet;
use proxy_user::shared::{Command, Shared, Snapshot};
use proxy_user::stages::Stages;
use proxy_user::stages::hooks::Compiled;
use proxy_user::stats::WorkerStats;
use proxy_user::upstream::origin::Origin;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::Scratch;

/// Why the kernel half is missing in these tests.
pub const MISSING: &str = "these tests run without it";

/// Shared state of a daemon with two workers, and the supervisor's end of its commands.
pub fn shared(scratch: &Scratch) -> (Arc<Shared>, mpsc::Receiver<Command>) {
    let config: Config = serde_json::from_value(json!({
        "listeners": [{"name": "web", "address": "127.0.0.1:8443", "protocol": "https", "http3": true}],
        "routes": [{"upstream": "app"}],
        "upstreams": {"app": {"servers": ["http://127.0.0.1:9000"]}},
        "policies": ["policies/*.json"],
        "admin": {"socket": scratch.path().join("admin.sock"), "metrics": "127.0.0.1:0"},
    }))
    .unwrap();
    let origins = Origin::all(&config, scratch.path()).unwrap();
    let policies = Arc::new(PolicySet::default());
    let stages = Compiled::new(Stages::installed(), &config, scratch.path(), &policies).unwrap();
    let snapshot = Snapshot::new(Arc::new(config), policies, stages, origins, 7);
    let (commands, receiver) = mpsc::channel(4);
    let shared = Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        kernel: None,
        tls: None,
        kernel_missing: Some(MISSING.to_owned()),
        sources: proxy_core::abuse::sources::Sources::new(1),
        stats: (0..2).map(|_| Arc::new(WorkerStats::default())).collect(),
        kept: ArcSwap::default(),
        commands,
        list_files: proxy_user::shared::ListFileCounts::default(),
        started: Instant::now(),
    };
    (Arc::new(shared), receiver)
}
