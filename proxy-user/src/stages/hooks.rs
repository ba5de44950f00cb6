//! The hooks of a request's journey, and who asked for them. At each load every stage says, for each route, where it wants
//! to be called; a request then calls just these. What nobody asked for is an empty list.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use proxy_core::config::{self, Config, Route};
use proxy_core::diagnostic::hint;
use proxy_core::policy::PolicySet;
use serde::de::DeserializeOwned;

use super::exchange::{Exchange, Summary};
use super::filter::BodyFilter;
use super::{Flow, Stage, Stages};
use crate::http::head::ResponseHead;

type OnRequest = Box<dyn Fn(&mut Exchange) -> Flow + Send + Sync>;
type OnResponse = Box<dyn Fn(&mut Exchange, &mut ResponseHead) + Send + Sync>;
type OnRequestBody = Box<dyn Fn(&mut Exchange) -> Option<Box<dyn BodyFilter>> + Send + Sync>;
type OnResponseBody = Box<dyn Fn(&mut Exchange, &mut ResponseHead) -> Option<Box<dyn BodyFilter>> + Send + Sync>;
type OnLog = Box<dyn Fn(&Exchange, &Summary) + Send + Sync>;

/// Who is called when, for the requests of one route. Methods stand in the order of the journey; requests pass the stages
/// in their order, responses backwards.
#[derive(Default)]
pub struct Hooks {
    pub(super) entry: Vec<OnRequest>,
    /// Behind so many hooks of `entry` the beginning of the body is waited for.
    pub(super) inspect: Option<usize>,
    pub(super) request: Vec<OnRequest>,
    pub(super) upstream_request: Vec<OnRequest>,
    pub(super) request_body: Vec<OnRequestBody>,
    pub(super) upstream_response: Vec<OnResponse>,
    pub(super) response: Vec<OnResponse>,
    pub(super) response_body: Vec<OnResponseBody>,
    pub(super) log: Vec<OnLog>,
    pages: Vec<(RangeInclusive<u16>, Page)>,
    /// Whether any of the pages is for origins' answers.
    intercepts: bool,
}

/// What a client is shown instead of Tidegate's own text.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its text.
    pub body: Bytes,
    /// `Content-Type`.
    pub content_type: HeaderValue,
    /// Whether it is also shown in place of an origin's answer.
    pub intercept: bool,
}

impl Hooks {
    /// Every request, before its route is known. Only heard where [`Site::route`] is `None`.
    pub fn entry(&mut self, hook: impl Fn(&mut Exchange) -> Flow + Send + Sync + 'static) {
        self.entry.push(Box::new(hook));
    }

    /// Behind the hooks of [`Hooks::entry`] so far, policies are asked about the beginning of the body.
    pub(super) fn inspect(&mut self) {
        self.inspect = Some(self.entry.len());
    }

    /// The route is known. The request goes on, or is answered here.
    pub fn request(&mut self, hook: impl Fn(&mut Exchange) -> Flow + Send + Sync + 'static) {
        self.request.push(Box::new(hook));
    }

    /// Nothing else has answered, and the request goes to an origin.
    pub fn upstream_request(&mut self, hook: impl Fn(&mut Exchange) -> Flow + Send + Sync + 'static) {
        self.upstream_request.push(Box::new(hook));
    }

    /// The request has a body that goes to an origin: the stage may give it a filter.
    pub fn request_body(
        &mut self,
        hook: impl Fn(&mut Exchange) -> Option<Box<dyn BodyFilter>> + Send + Sync + 'static,
    ) {
        self.request_body.push(Box::new(hook));
    }

    /// An origin has answered; before anything is stored or changed for this one client.
    pub fn upstream_response(&mut self, hook: impl Fn(&mut Exchange, &mut ResponseHead) + Send + Sync + 'static) {
        self.upstream_response.push(Box::new(hook));
    }

    /// Before the response header is sent, whoever made it.
    pub fn response(&mut self, hook: impl Fn(&mut Exchange, &mut ResponseHead) + Send + Sync + 'static) {
        self.response.push(Box::new(hook));
    }

    /// After [`Hooks::response`]: the stage may give the response's body a filter, whoever made it.
    pub fn response_body(
        &mut self,
        hook: impl Fn(&mut Exchange, &mut ResponseHead) -> Option<Box<dyn BodyFilter>> + Send + Sync + 'static,
    ) {
        self.response_body.push(Box::new(hook));
    }

    /// Shows `page` for errors of Tidegate's own with these statuses, and for those of origins where it says so; of several
    /// pages for a status the first.
    pub fn error_page(&mut self, statuses: RangeInclusive<u16>, page: Page) {
        self.intercepts |= page.intercept;
        self.pages.push((statuses, page));
    }

    /// The page for an error, if there is one.
    pub(super) fn page(&self, status: StatusCode) -> Option<&Page> {
        self.pages.iter().find(|(statuses, _)| statuses.contains(&status.as_u16())).map(|(_, page)| page)
    }

    /// The page that is shown in place of an origin's answer, if there is one.
    pub(super) fn in_place_of(&self, status: StatusCode) -> Option<&Page> {
        if !self.intercepts {
            return None;
        }
        self.page(status).filter(|page| page.intercept)
    }

    /// After the last byte of the response, or when it broke off. Once for each request.
    pub fn log(&mut self, hook: impl Fn(&Exchange, &Summary) + Send + Sync + 'static) {
        self.log.push(Box::new(hook));
    }
}

/// What a stage is asked to join: a route, or what stands before and beside all routes.
pub struct Site<'a> {
    /// The config that is being loaded.
    pub config: &'a Config,
    /// Directory that relative paths in it start at.
    pub base: &'a Path,
    /// The policies that are being loaded.
    pub policies: &'a PolicySet,
    /// A route with its index; `None` for requests whose route is not known, be it not yet or not at all.
    pub route: Option<(usize, &'a Route)>,
    name: &'a str,
    asked: Cell<bool>,
}

impl Site<'_> {
    /// The stage's settings: `stages.NAME` of the route, or that of the config where the route has none. Without a route
    /// the config's alone.
    ///
    /// # Errors
    /// They are not of this form; [`super::Stage::join`] hands the error on.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<Option<T>, Fault> {
        self.asked.set(true);
        let (pointer, value) = match self.route.and_then(|(index, route)| Some((index, route.stages.get(self.name)?))) {
            Some((index, value)) => (format!("/routes/{index}/stages/{}", self.name), value),
            None => match self.config.stages.get(self.name) {
                Some(value) => (format!("/stages/{}", self.name), value),
                None => return Ok(None),
            },
        };
        config::settings(value, &pointer).map(Some)
    }

    /// A fault of the stage's settings here, for [`super::Stage::join`].
    pub fn fault(&self, message: impl Into<String>) -> Fault {
        let pointer = match self.route {
            Some((index, route)) if route.stages.contains_key(self.name) => {
                format!("/routes/{index}/stages/{}", self.name)
            }
            _ => format!("/stages/{}", self.name),
        };
        (pointer, message.into())
    }
}

/// JSON pointer into the config, and what is wrong there.
pub type Fault = (String, String);

/// The hooks of one snapshot.
#[derive(Default)]
pub struct Compiled {
    unrouted: Hooks,
    routes: Vec<Hooks>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Compiled {
    /// Asks every stage what it wants of each route.
    ///
    /// # Errors
    /// All faults that the stages find in their settings, and settings for no stage.
    pub fn new(stages: &Stages, config: &Config, base: &Path, policies: &PolicySet) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut hooks_of = |route| {
            let mut hooks = Hooks::default();
            for stage in stages.iter() {
                let site = Site { config, base, policies, route, name: stage.name(), asked: Cell::new(false) };
                let joined = stage.join(&site, &mut hooks);
                // Settings that a stage does not look at are a mistake, too.
                let given = route.map_or(&config.stages, |(_, route)| &route.stages).contains_key(stage.name());
                if let Err(fault) = joined {
                    faults.push(fault);
                } else if given && !site.asked.get() {
                    faults.push(site.fault(format!("the stage `{}` takes no settings here", stage.name())));
                }
            }
            if route.is_some() {
                hooks.entry.clear();
            }
            hooks
        };
        let unrouted = hooks_of(None);
        let routes = config.routes.iter().enumerate().map(|route| hooks_of(Some(route))).collect();
        let tables = config.routes.iter().enumerate().map(|(index, route)| (format!("/routes/{index}"), &route.stages));
        for (pointer, table) in tables.chain([(String::new(), &config.stages)]) {
            for name in table.keys().filter(|name| !stages.iter().any(|stage| stage.name() == name.as_str())) {
                let near = hint(name, stages.iter().map(Stage::name));
                faults.push((format!("{pointer}/stages/{name}"), format!("there is no stage `{name}`{near}")));
            }
        }
        faults.dedup();
        if faults.is_empty() { Ok(Self { unrouted, routes }) } else { Err(faults) }
    }

    /// Those of every request before its route is known, in two parts, between which policies are asked about the beginning of the body; the first one alone where
    /// none asks.
    pub(super) fn entry_parts(&self) -> (&[OnRequest], Option<&[OnRequest]>) {
        let inspect = self.unrouted.inspect.and_then(|at| self.unrouted.entry.split_at_checked(at));
        inspect.map_or((&self.unrouted.entry, None), |(before, behind)| (before, Some(behind)))
    }

    /// Those of a route's requests, or of requests without one.
    pub(super) fn of(&self, route: Option<usize>) -> &Hooks {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.unrouted)
    }
}

#[cfg(test)]
mod tests;
