//! What can go wrong with a request: where, what kind, and whether it may be tried again. Answers, logs and
//! metrics all read this one type. Pure.

use http::StatusCode;

use crate::stats::HttpVersion;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client.
    Downstream,
    /// The origin.
    Upstream,
    /// Tidegate or its config.
    Internal,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request breaks HTTP.
    BadRequest,
    /// The message is malformed as HTTP/2 and 3 have it (RFC 9113 section 8.1.1, RFC 9114 section 4.1.2): its stream is reset.
    Malformed,
    /// A transfer coding or method that is not served.
    NotImplemented,
    /// More header fields than allowed.
    HeaderTooLarge,
    /// The request body is longer than allowed.
    BodyTooLarge,
    /// Memory runs short.
    Overloaded,
    /// The client stopped sending its body.
    BodyTimeout,
    /// The client went away.
    ClientGone,
    /// A stage refuses the request.
    Refused,
    /// The connection is not good for this host.
    Misdirected,
    /// It came in early data and is not safe to be played again (RFC 8470).
    TooEarly,
    /// The method is not for this resource.
    NotAllowed,
    /// The resource is not in the state that the request names.
    Precondition,
    /// There is no such file.
    NotFound,
    /// A file could not be read to its end.
    FileBroken,
    /// No route for host and path.
    NoRoute,
    /// No server of the upstream could be reached.
    Connect,
    /// All servers of the upstream have as many requests as they may.
    Busy,
    /// Connecting took too long.
    ConnectTimeout,
    /// No response header in time.
    ResponseTimeout,
    /// The response body stalled.
    ReadTimeout,
    /// The origin closed the connection early.
    Closed,
    /// The origin broke HTTP.
    Protocol,
}

/// A failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault it is.
    pub source: Source,
    /// What happened.
    pub kind: Kind,
    /// One sentence for the client and the log; names nothing internal.
    pub detail: &'static str,
    /// Whether the same request may be sent again: nothing of it can have reached an origin.
    pub retryable: bool,
}

/// Status in the log of a request whose client went away before the response (nginx's number for it).
pub const STATUS_CLIENT_GONE: u16 = 499;

impl Fault {
    /// The client's fault.
    pub const fn downstream(kind: Kind, detail: &'static str) -> Self {
        Self { source: Source::Downstream, kind, detail, retryable: false }
    }

    /// The origin's fault.
    pub const fn upstream(kind: Kind, detail: &'static str) -> Self {
        Self { source: Source::Upstream, kind, detail, retryable: matches!(kind, Kind::Connect | Kind::ConnectTimeout) }
    }

    /// Tidegate's or its config's fault.
    pub const fn internal(kind: Kind, detail: &'static str) -> Self {
        Self { source: Source::Internal, kind, detail, retryable: false }
    }

    /// 400, the request breaks HTTP.
    pub const fn bad_request(detail: &'static str) -> Self {
        Self::downstream(Kind::BadRequest, detail)
    }

    /// The message is malformed: 400 in HTTP/1, an error of the stream in HTTP/2 and 3.
    pub fn malformed(version: HttpVersion, detail: &'static str) -> Self {
        let kind = if version == HttpVersion::H1 { Kind::BadRequest } else { Kind::Malformed };
        Self::downstream(kind, detail)
    }

    /// The status that the client gets.
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            Kind::BadRequest | Kind::Malformed | Kind::ClientGone => StatusCode::BAD_REQUEST,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Kind::Refused => StatusCode::FORBIDDEN,
            Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Kind::TooEarly => StatusCode::TOO_EARLY,
            Kind::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Precondition => StatusCode::PRECONDITION_FAILED,
            Kind::FileBroken => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::NoRoute | Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Connect | Kind::Busy | Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Kind::ConnectTimeout | Kind::ResponseTimeout | Kind::ReadTimeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Closed | Kind::Protocol => StatusCode::BAD_GATEWAY,
        }
    }

    /// `upstream.connect` and so on, for logs.
    pub const fn label(&self) -> &'static str {
        match (self.source, self.kind) {
            (_, Kind::BadRequest) => "downstream.bad_request",
            (_, Kind::Malformed) => "downstream.malformed",
            (_, Kind::NotImplemented) => "downstream.not_implemented",
            (_, Kind::HeaderTooLarge) => "downstream.header_too_large",
            (_, Kind::BodyTooLarge) => "downstream.body_too_large",
            (_, Kind::Overloaded) => "internal.overloaded",
            (_, Kind::BodyTimeout) => "downstream.body_timeout",
            (_, Kind::ClientGone) => "downstream.gone",
            (_, Kind::Refused) => "downstream.refused",
            (_, Kind::Misdirected) => "downstream.misdirected",
            (_, Kind::TooEarly) => "downstream.too_early",
            (_, Kind::NotAllowed) => "downstream.not_allowed",
            (_, Kind::Precondition) => "downstream.precondition",
            (_, Kind::NotFound) => "internal.not_found",
            (_, Kind::FileBroken) => "internal.file",
            (_, Kind::NoRoute) => "internal.no_route",
            (_, Kind::Busy) => "upstream.busy",
            (_, Kind::Connect) => "upstream.connect",
            (_, Kind::ConnectTimeout) => "upstream.connect_timeout",
            (_, Kind::ResponseTimeout) => "upstream.response_timeout",
            (_, Kind::ReadTimeout) => "upstream.read_timeout",
            (Source::Upstream, Kind::Closed) => "upstream.closed",
            (_, Kind::Closed) => "internal.closed",
            (_, Kind::Protocol) => "upstream.protocol",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.detail)
    }
}

impl std::error::Error for Fault {}
