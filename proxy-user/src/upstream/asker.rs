//! For whom a connection is made and a request sent: a client's request on its journey, or a copy of one that nobody waits
//! for. What connecting and sending need to know of it, and no more.

use std::rc::Rc;
use std::time::Duration;

use super::connect::OnBehalf;
use crate::http::body::Progress;
use crate::stages::exchange::Exchange;
use crate::worker::Worker;

/// See above.
pub(crate) trait Asker {
    /// The worker whose connections these are.
    fn worker(&self) -> &Worker;
    /// Whom a connection is made for.
    fn behalf(&self) -> OnBehalf;
    /// How long connecting may take.
    fn connect_timeout(&self) -> Duration;
    /// How far a body has come that is still being sent to us.
    fn progress(&self) -> Option<&Progress>;
}

impl Asker for Exchange {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn behalf(&self) -> OnBehalf {
        (self.connection.client, self.connection.local).into()
    }

    fn connect_timeout(&self) -> Duration {
        Self::connect_timeout(self)
    }

    fn progress(&self) -> Option<&Progress> {
        self.body.as_deref()
    }
}

/// What a copy keeps of the request that it was made of.
pub(crate) struct Terms {
    worker: Rc<Worker>,
    behalf: OnBehalf,
    connect: Duration,
    /// How long the response header may take.
    pub(super) response: Duration,
}

impl Terms {
    /// Those of a request.
    pub(crate) fn of(exchange: &Exchange) -> Self {
        Self {
            worker: Rc::clone(&exchange.worker),
            behalf: exchange.behalf(),
            connect: exchange.connect_timeout(),
            response: exchange.response_timeout(),
        }
    }
}

impl Asker for Terms {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn behalf(&self) -> OnBehalf {
        self.behalf
    }

    fn connect_timeout(&self) -> Duration {
        self.connect
    }

    fn progress(&self) -> Option<&Progress> {
        None
    }
}
