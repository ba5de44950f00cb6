//! Files below a directory, as they are: the `files` of a route. What a request gets is decided in `proxy_core::files`;
//! here files are opened, never outside of the root (`openat2` with `RESOLVE_BENEATH`: symbolic links may lead
//! anywhere below it). Opening and reading is done by the worker itself, piece by piece.

pub mod body;
mod open;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION,
    VARY,
};
use http::{HeaderValue, Method, Response, StatusCode};
use proxy_core::config::Files;
use proxy_core::files::{Coding, Reply, Validators, decide, local, preferred};
use proxy_core::route::{PathMatch, normalized};

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage, path};
use crate::http::fault::{Fault, Kind};
use crate::http::reply::Payload;
use body::FileBody;
use open::{Found, Opened};

pub(super) struct Serve;

impl Stage for Serve {
    fn name(&self) -> &'static str {
        "files"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let Some((index, route)) = site.route else { return Ok(()) };
        let Some(files) = &route.files else { return Ok(()) };
        let at = |key: &str| format!("/routes/{index}/{key}");
        let root = site.base.join(&files.root);
        open::root(&root).map_err(|error| (at("files/root"), format!("{}: {error}", root.display())))?;
        let form = PathMatch::parse(&route.path).map_err(|what| (at("path"), what))?;
        let tree = Tree { root, files: files.clone(), form };
        hooks.request(move |exchange| match tree.serve(exchange) {
            Ok(answer) => Flow::Send(Box::new(answer)),
            Err(fault) => {
                let mut answer = exchange.fail(fault);
                if fault.kind == Kind::NotAllowed {
                    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                }
                Flow::Respond(answer)
            }
        });
        Ok(())
    }
}

const MISSING: Fault = Fault::internal(Kind::NotFound, "there is no such file");
const BROKEN: Fault = Fault::internal(Kind::FileBroken, "the file cannot be opened");

/// A file that is not there, or may not be seen, is missing; what else fails is ours.
fn fault(name: &str, error: &io::Error) -> Fault {
    use io::ErrorKind::{CrossesDevices, InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | NotADirectory | PermissionDenied | CrossesDevices | InvalidFilename => MISSING,
        _ if error.raw_os_error() == Some(libc::ELOOP) => MISSING,
        _ => {
            tracing::warn!(name, %error, "a file cannot be opened");
            BROKEN
        }
    }
}

/// What a route serves.
struct Tree {
    root: PathBuf,
    files: Files,
    form: PathMatch,
}

impl Tree {
    fn serve(&self, exchange: &Exchange) -> Result<Response<Payload>, Fault> {
        let method = &exchange.request.method;
        if method != Method::GET && method != Method::HEAD {
            return Err(Fault::downstream(Kind::NotAllowed, "files are read with GET and HEAD"));
        }
        let path = normalized(path(&exchange.request));
        let mut name = local(self.below(&path), self.files.hidden).ok_or(MISSING)?;
        if name.directory && !path.ends_with('/') && matches!(self.form, PathMatch::Prefix(_)) {
            return with_slash(&path, exchange.request.uri.query());
        }
        let root = open::root(&self.root).map_err(|error| {
            tracing::warn!(root = %self.root.display(), %error, "the root of files cannot be opened");
            BROKEN
        })?;
        let found = if name.directory {
            let mut inside = self
                .files
                .index
                .iter()
                .map(|index| if name.file.is_empty() { index.clone() } else { format!("{}/{index}", name.file) });
            let found = inside.find_map(|file| match root.open(&file) {
                Ok(Found::File(opened)) => Some((file, opened)),
                Ok(Found::Directory) | Err(_) => None,
            });
            let (file, opened) = found.ok_or(MISSING)?;
            name.file = file;
            opened
        } else {
            match root.open(&name.file).map_err(|error| fault(&name.file, &error))? {
                Found::File(opened) => opened,
                Found::Directory => return with_slash(&path, exchange.request.uri.query()),
            }
        };
        let mut coding = None;
        let mut opened = found;
        if self.files.precompressed {
            let beside = preferred(&exchange.request.headers).find_map(|coding| {
                match root.open(&format!("{}{}", name.file, coding.suffix())) {
                    Ok(Found::File(opened)) => Some((coding, opened)),
                    Ok(Found::Directory) | Err(_) => None,
                }
            });
            if let Some((of, beside)) = beside {
                (coding, opened) = (Some(of), beside);
            }
        }
        answer(exchange, &name.file, opened, coding, self.files.precompressed)
    }

    /// What follows the route's prefix, or what its pattern captures as `rest`; else the whole path.
    fn below<'p>(&self, path: &'p str) -> &'p str {
        let place = self.form.names().iter().position(|name| *name == "rest");
        let captures = place.and_then(|place| self.form.captures(path)?.get(place).cloned());
        captures.and_then(|rest| path.get(rest)).unwrap_or(path)
    }
}

/// A directory is asked for with a slash at its end, so that what it refers to is found below it.
fn with_slash(path: &str, query: Option<&str>) -> Result<Response<Payload>, Fault> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("/{}/{query}", path.trim_start_matches(['/', '\\']));
    let location = HeaderValue::from_maybe_shared(Bytes::from(location))
        .map_err(|_| Fault::bad_request("the path cannot be part of a redirect"))?;
    let mut answer = Response::new(Payload::Empty);
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

fn answer(
    exchange: &Exchange,
    name: &str,
    opened: Opened,
    coding: Option<Coding>,
    varies: bool,
) -> Result<Response<Payload>, Fault> {
    let size = opened.size;
    let validators = Validators::new(opened.modified, size);
    let (method, sent) = (&exchange.request.method, &exchange.request.headers);
    let kind = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    let kind = HeaderValue::from_static(kind);
    let reply = decide(method, sent, &validators, size);

    let mut response = Response::new(Payload::Empty);
    let headers = response.headers_mut();
    headers.insert(ETAG, text(validators.tag()));
    headers.insert(LAST_MODIFIED, text(&validators.last_modified()));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    if varies {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    let (status, body) = match reply {
        Reply::NotModified => {
            headers.remove(CONTENT_ENCODING);
            (StatusCode::NOT_MODIFIED, None)
        }
        Reply::PreconditionFailed => {
            return Err(Fault::downstream(Kind::Precondition, "the file is not in the state that the request names"));
        }
        Reply::NotSatisfiable => {
            // What is answered is not the file.
            headers.clear();
            headers.insert(CONTENT_RANGE, text(&format!("bytes */{size}")));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
        Reply::Whole => {
            headers.insert(CONTENT_TYPE, kind);
            (StatusCode::OK, Some(FileBody::whole(opened)))
        }
        Reply::Part(span) => {
            headers.insert(CONTENT_TYPE, kind);
            headers.insert(CONTENT_RANGE, text(&format!("bytes {}-{}/{size}", span.first, span.last)));
            (StatusCode::PARTIAL_CONTENT, Some(FileBody::part(opened, span)))
        }
        Reply::Parts(spans) => {
            let boundary = exchange.id.to_str().unwrap_or("tidegate-boundary");
            headers.insert(CONTENT_TYPE, text(&format!("multipart/byteranges; boundary={boundary}")));
            (StatusCode::PARTIAL_CONTENT, Some(FileBody::parts(opened, &spans, boundary, &kind)))
        }
    };
    if let Some(body) = body {
        headers.insert(CONTENT_LENGTH, body.left().into());
        if method == Method::GET {
            *response.body_mut() = Payload::File(Box::new(body));
        }
    }
    *response.status_mut() = status;
    Ok(response)
}

/// Of digits, quotes and names that are plain ASCII.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
