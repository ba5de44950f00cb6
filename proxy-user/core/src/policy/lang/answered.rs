//! Requests with what else is known by then: the points that rules gave them, and their response.

use super::facts::Facts;
use super::field::{FlagField, HttpInt, IntField, IpField, TextField};
use super::value::ProtoSet;
use crate::policy::{RequestView, ResponseView};

/// A request, and what is known of it by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'a, 'r> {
    /// The request.
    pub request: &'r RequestView<'a>,
    /// Its response, once it is there.
    pub response: Option<&'r ResponseView<'a>>,
    /// `tidegate.score`
    pub score: u32,
}

impl Facts for Answered<'_, '_> {
    fn ip(&self, field: IpField) -> Option<u128> {
        self.request.ip(field)
    }

    fn int(&self, field: IntField) -> Option<u128> {
        match field {
            IntField::Http(HttpInt::Status) => self.response?.int(field),
            IntField::Http(HttpInt::Score) => Some(self.score.into()),
            other => self.request.int(other),
        }
    }

    fn proto(&self) -> Option<ProtoSet> {
        self.request.proto()
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        self.request.flag(field)
    }

    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match field {
            TextField::ResponseHeader(_) | TextField::ResponseHeaderNames | TextField::ResponseHeaderValues => {
                self.response.is_some_and(|response| response.text(field, test))
            }
            other => self.request.text(other, test),
        }
    }
}
