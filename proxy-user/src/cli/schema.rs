//! `tidegate schema`: the JSON Schemas of what people write, for editors and for checks elsewhere.

use clap::ValueEnum;
use proxy_core::{config, policy};
use proxy_user::control::openapi;

use super::output;

/// Print the JSON Schema of the config or of a policy file, or describe the admin API
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate schema config > tidegate.schema.json\n  tidegate schema policy > policy.schema.json\n  tidegate schema admin > admin.openapi.json"
)]
pub(super) struct Args {
    /// Which schema
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// The config, /etc/tidegate/tidegate.json
    Config,
    /// A policy file
    Policy,
    /// The admin API, as an `OpenAPI` document
    Admin,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    output::json(&match args.what {
        What::Config => config::schema(),
        What::Policy => policy::schema(),
        What::Admin => openapi::document(),
    })
}
