//! The origins behind the edge: nginx over HTTP and HTTPS, and a small one for what nginx cannot be asked.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::certs::Authority;
use crate::netns::Netns;
use crate::process::{Daemon, eventually};
use crate::tools;

/// Where the origins listen.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// nginx, plain.
    pub http: u16,
    /// nginx, TLS.
    pub https: u16,
    /// `tests/clients/origin.py`.
    pub app: u16,
}

/// Ports for a namespace of their own.
pub const PORTS: Ports = Ports { http: 8080, https: 8443, app: 8090 };
/// The name in the HTTPS origin's certificate.
pub const TLS_NAME: &str = "origin.test";
/// Where nginx puts what it writes: below the directory that it is started for.
pub const NGINX_FILES: &str = "  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
";
/// What nginx answers at `/`.
pub const BODY: &str = "the origin\n";
/// How long an origin may take to listen.
const START_TIME: Duration = Duration::from_secs(15);

/// Running origins.
#[derive(Debug)]
pub struct Origin {
    address: String,
    ports: Ports,
    ca: PathBuf,
    /// Held for their end.
    _daemons: [Daemon; 2],
}

impl Origin {
    /// Starts them at `address`, inside `netns` if given.
    pub fn start(
        netns: Option<&Netns>,
        address: &str,
        ports: Ports,
        authority: &Authority,
        dir: &Path,
    ) -> Result<Self> {
        let dir = dir.join("origin");
        std::fs::create_dir_all(dir.join("files"))?;
        // nginx drops root for its workers, which read the files.
        let leaf = authority.leaf("origin", &[TLS_NAME], 1)?;
        std::fs::write(dir.join("nginx.conf"), config(address, ports, &leaf.cert, &leaf.key))?;
        let start = |program: &Path| match netns {
            Some(netns) => netns.command(program),
            None => Ok(Command::new(program)),
        };
        let mut nginx = start(&tools::find("nginx")?)?;
        nginx.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(&dir);
        let mut app = start(&tools::python()?)?;
        app.arg(tools::client("origin.py")).args([address, &ports.app.to_string()]);
        let daemons = [Daemon::spawn(nginx, &dir.join("nginx.log"))?, Daemon::spawn(app, &dir.join("app.log"))?];
        for (port, daemon) in [(ports.http, &daemons[0]), (ports.https, &daemons[0]), (ports.app, &daemons[1])] {
            let target: SocketAddr = format!("{address}:{port}").parse()?;
            let knock = || TcpStream::connect_timeout(&target, Duration::from_secs(1));
            eventually("the origin's start", START_TIME, || match netns {
                Some(netns) => Ok(netns.enter(knock)?.map(drop)?),
                None => Ok(knock().map(drop)?),
            })
            .with_context(|| daemon.log_tail())?;
        }
        Ok(Self { address: address.to_owned(), ports, ca: authority.pem(), _daemons: daemons })
    }

    /// The `upstreams` of a config that names them: `nginx`, `nginx-tls`, `app`.
    pub fn upstreams(&self) -> Value {
        let (address, Ports { http, https, app }) = (&self.address, self.ports);
        json!({
            "nginx": { "servers": [format!("http://{address}:{http}")] },
            "nginx-tls": {
                "servers": [format!("https://{address}:{https}")],
                "ca": self.ca,
                "server_name": TLS_NAME,
            },
            "app": { "servers": [format!("http://{address}:{app}")] },
        })
    }
}

fn config(address: &str, ports: Ports, cert: &Path, key: &Path) -> String {
    let Ports { http, https, .. } = ports;
    let (cert, key) = (cert.display(), key.display());
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{NGINX_FILES}  keepalive_requests 1000000;
  default_type text/plain;
  server {{
    listen {address}:{http} backlog=4096;
    listen {address}:{https} ssl;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location = / {{ return 200 \"{}\\n\"; }}
    location = /page {{ root files; }}
    location = /scheme {{ return 200 \"$scheme $ssl_server_name $http_host\\n\"; }}
    location / {{ return 404 \"not here\\n\"; }}
  }}
}}
",
        BODY.trim_end()
    )
}
