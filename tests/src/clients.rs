//! Foreign clients: curl for HTTP/1.1 and 2, aioquic for HTTP/3, h2load for load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::netns::Netns;
use crate::process::{self, Finished};
use crate::tools;

/// How long one client run may take.
const CLIENT_TIME: Duration = Duration::from_secs(60);

/// Where a client runs and what it dials.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    /// The namespace that it runs in; the current one where there is none.
    pub netns: Option<&'a Netns>,
    /// The edge's address that it dials, whatever the URL says.
    pub edge: String,
    /// The authority that it trusts.
    pub ca: PathBuf,
}

/// Which HTTP a curl speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    H1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in clear.
    H2,
}

/// An answer as curl saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status, 0 for none.
    pub status: u16,
    /// `1.1`, `2`.
    pub version: String,
    /// Header lines, and trailer lines after them, as they came; names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, taken as UTF-8.
    pub body: String,
    /// Seconds until it was over.
    pub seconds: f64,
}

impl Answer {
    /// The first value of a header or trailer field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// An answer as the HTTP/3 client saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct H3Answer {
    /// Status; none when there was no answer.
    pub status: Option<u16>,
    /// Why there was no whole answer.
    pub error: Option<String>,
    /// Header fields, pseudo-headers included.
    pub headers: Vec<(String, String)>,
    /// Trailer fields.
    #[serde(default)]
    pub trailers: std::collections::BTreeMap<String, String>,
    /// Bytes of the body.
    pub bytes: u64,
    /// SHA-256 of the body.
    #[serde(default)]
    pub sha256: String,
    /// The body's first 4 KiB.
    pub text: String,
    /// When pieces of the body came, in milliseconds after the request.
    #[serde(default)]
    pub arrivals_ms: Vec<u64>,
}

impl Client<'_> {
    /// A command where this client runs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        match self.netns {
            Some(netns) => netns.command(program),
            None => Ok(Command::new(program)),
        }
    }

    /// A curl that dials the edge for any host; without a URL.
    pub fn curl(&self, version: Version, url: &str) -> Result<Command> {
        let mut curl = self.command(tools::find("curl")?)?;
        curl.env_remove("http_proxy").env_remove("https_proxy").env_remove("all_proxy");
        curl.args(["-q", "-sS", "--noproxy", "*", "--max-time", "30", "--cacert"]).arg(&self.ca);
        curl.args(match (version, url.starts_with("https:")) {
            (Version::H1, _) => ["--http1.1"],
            (Version::H2, true) => ["--http2"],
            (Version::H2, false) => ["--http2-prior-knowledge"],
        });
        // Any host, any port: the edge, and the same port.
        curl.args(["--connect-to", &format!("::{}:", bracketed(&self.edge))]);
        Ok(curl)
    }

    /// One request. `more` goes to curl as it is.
    pub fn get(&self, version: Version, url: &str, more: &[&str]) -> Result<Answer> {
        let mut curl = self.curl(version, url)?;
        curl.args(["-D", "/dev/stderr", "-w", "\n%{http_code} %{http_version} %{time_total}"]).args(more).arg(url);
        let Finished { status, stdout, stderr } = process::run(&mut curl, CLIENT_TIME)?;
        ensure!(status.success(), "curl {url}: {}", stderr.lines().last().unwrap_or("no message"));
        let (body, summary) = stdout.rsplit_once('\n').context("curl wrote no summary")?;
        let mut words = summary.split(' ');
        let (Some(code), Some(version), Some(seconds)) = (words.next(), words.next(), words.next()) else {
            bail!("curl's summary was `{summary}`");
        };
        let fields = stderr
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = body.to_owned();
        Ok(Answer { status: code.parse()?, version: version.to_owned(), fields, body, seconds: seconds.parse()? })
    }

    /// Starts an HTTP/3 client; `more` are options of `tests/clients/h3.py`.
    pub fn h3_command(&self, url: &str, more: &[&str]) -> Result<Command> {
        let mut h3 = self.command(tools::python()?)?;
        h3.arg(tools::client("h3.py")).arg("--ca").arg(&self.ca).args(["--connect", &self.edge]).args(more).arg(url);
        Ok(h3)
    }

    /// Requests over HTTP/3.
    pub fn h3(&self, url: &str, more: &[&str]) -> Result<Vec<H3Answer>> {
        #[derive(Deserialize)]
        struct Report {
            answers: Vec<H3Answer>,
        }
        let output = process::run(&mut self.h3_command(url, more)?, CLIENT_TIME)?.ok().context("h3.py")?;
        let report: Report = serde_json::from_str(&output).context("h3.py's report")?;
        ensure!(!report.answers.is_empty(), "h3.py asked nothing");
        Ok(report.answers)
    }

    /// Asks for a page and expects 200 and the origin's body.
    pub fn expect_origin(&self, version: Version, url: &str) -> Result<Answer> {
        let answer = self.get(version, url, &[])?;
        ensure!(answer.status == 200, "status {} from {url}: {}", answer.status, answer.body);
        ensure!(answer.body == crate::origin::BODY, "another body from {url}: {}", answer.body);
        Ok(answer)
    }

    /// Load by h2load, over HTTP/2 unless `more` says `--h1`.
    pub fn h2load(&self, url: &str, more: &[&str]) -> Result<Command> {
        let mut h2load = self.command(tools::find("h2load")?)?;
        let (scheme, rest) = url.split_once("://").with_context(|| format!("{url} is no URL"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        let port = authority.rsplit_once(':').map_or(if scheme == "https" { "443" } else { "80" }, |(_, port)| port);
        h2load.arg(format!("--connect-to={}:{port}", bracketed(&self.edge))).args(more).arg(url);
        Ok(h2load)
    }
}

/// What h2load counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Answered with 2xx or 3xx.
    pub succeeded: u64,
    /// Not answered so: failed, errored or timed out, or another status.
    pub failed: u64,
}

impl Load {
    /// Reads h2load's report.
    pub fn parse(report: &str) -> Result<Self> {
        // "requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout"
        let line = report.lines().find(|line| line.starts_with("requests:")).context("h2load printed no count")?;
        let count = |word: &str| -> Result<u64> {
            let part = line.split([',', ':']).find(|part| part.trim().ends_with(word));
            let number = part.and_then(|part| part.split_whitespace().next()).context("h2load's count")?;
            Ok(number.parse()?)
        };
        // What errored counts as failed too.
        Ok(Self { succeeded: count("succeeded")?, failed: count("failed")? + count("timeout")? })
    }
}

/// An address as URLs write it.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A client in a namespace.
pub fn client_in<'a>(netns: &'a Netns, edge: &str, ca: &Path) -> Client<'a> {
    Client { netns: Some(netns), edge: edge.to_owned(), ca: ca.to_owned() }
}
