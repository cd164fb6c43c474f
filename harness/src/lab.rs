//! A page on which a person moves settings and sees at once what they do: its server, on this machine alone.
//!
//! The server keeps nothing of what a page does: each request brings its scenario with it, so that two pages never meet.

mod answer;
mod edit;
mod settings;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use keyquake_idp::Guard;
use keyquake_reports::record::Engine;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use self::answer::Answer;
use self::edit::{Settings, edit};
use crate::plan::Plan;
use crate::scenario::{Document, Scenario, Source};
use crate::simulate;

/// The largest scenario that a page holds, in bytes.
const MAX_SCENARIO: usize = 64 << 10;
/// The largest body of a request: such a scenario with every quote escaped, and settings.
const MAX_BODY: usize = 4 * MAX_SCENARIO;
/// The most simulations at a time. A page has one at work, so a second page need not wait.
const MAX_AT_WORK: usize = 2;
/// The most requests of a simulation that must play each: some seconds of work, which nobody could call off.
const MAX_REQUESTS: f64 = 2e6;
/// The most hours of all caches together of any other.
const MAX_CACHE_HOURS: f64 = 20_000.0;
/// The most caches of a simulation.
const MAX_CACHES: u32 = 4_096;

const PAGE: &str = include_str!("../lab/index.html");
const STYLE: &str = include_str!("../lab/lab.css");
const SCRIPT: &str = include_str!("../lab/lab.js");

/// What every answer tells the browser: the page is its own three files, and asks nobody else for anything.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// A scenario as a page opens it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Opened {
    /// The name of its file.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// One of the lab's own, in which every setting has something to change.
impl Default for Opened {
    fn default() -> Self {
        Self { name: "lab.toml".to_owned(), text: include_str!("../lab/default.toml").to_owned() }
    }
}

impl Opened {
    /// What the lab cannot simulate.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a finished text.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { name, text } = self.clone();
        Order { name, text, settings: Settings::default() }.check().map(drop)
    }
}

/// What the page's requests share.
#[derive(Debug)]
struct Lab {
    opened: Opened,
    guard: Guard,
    at_work: Arc<Semaphore>,
}

/// Serves the page, with this scenario in it, until `shutdown` is ready.
///
/// # Errors
///
/// When the listener fails for good.
pub(crate) async fn serve(
    listener: TcpListener,
    guard: Guard,
    opened: Opened,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let lab = Lab { opened, guard, at_work: Arc::new(Semaphore::new(MAX_AT_WORK)) };
    axum::serve(listener, router(lab)).with_graceful_shutdown(shutdown).await
}

fn router(lab: Lab) -> Router {
    let lab = Arc::new(lab);
    let asset = |kind: &'static str, text: &'static str| get(async move || ([(CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/", asset("text/html; charset=utf-8", PAGE))
        .route("/lab.css", asset("text/css; charset=utf-8", STYLE))
        .route("/lab.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/scenario", get(scenario))
        .route("/simulate", post(simulate))
        .route("/save", post(save))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&lab), guarded))
        .with_state(lab)
}

/// Refuses what another page asks for, and says with every answer what this page may do.
async fn guarded(State(lab): State<Arc<Lab>>, request: Request, next: Next) -> Response {
    let mut response = match lab.guard.refuse(request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    response.headers_mut().extend(HEADERS);
    response
}

/// The scenario that the lab was started with.
async fn scenario(State(lab): State<Arc<Lab>>) -> Json<Opened> {
    Json(lab.opened.clone())
}

/// Settings over a scenario, as a page sends them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// What complaints call the scenario.
    name: String,
    text: String,
    #[serde(default)]
    settings: Settings,
}

type Body = Result<Json<Order>, JsonRejection>;

/// What the settings do.
async fn simulate(State(lab): State<Arc<Lab>>, body: Body) -> Result<Json<Answer>, Refusal> {
    lab.at_work(body, |order| order.simulate().map(Json)).await
}

/// The scenario with the settings written into it.
async fn save(State(lab): State<Arc<Lab>>, body: Body) -> Result<Response, Refusal> {
    let kind = (CONTENT_TYPE, HeaderValue::from_static("application/toml"));
    lab.at_work(body, |order| Ok(([kind], order.check()?.text).into_response())).await
}

impl Lab {
    /// Works on an order, on a thread that may compute, if there is one free.
    async fn at_work<T: Send + 'static>(
        &self,
        body: Body,
        work: impl FnOnce(&Order) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Json(order) = body.map_err(|error| Refusal(error.status(), error.body_text()))?;
        let place = Arc::clone(&self.at_work).try_acquire_owned().map_err(|_| Refusal::busy())?;
        let done = spawn_blocking(move || {
            let outcome = work(&order);
            // Work goes on when its page has gone; until then nobody else has its place.
            drop(place);
            outcome
        });
        done.await.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
    }
}

/// A scenario that can be simulated.
struct Checked {
    text: String,
    scenario: Scenario,
    plan: Plan,
}

impl Order {
    fn simulate(&self) -> Result<Answer, Refusal> {
        let Checked { scenario, plan, .. } = self.check()?;
        let settings = settings::effective(&scenario, &plan);
        let internal = |error: &dyn ToString| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let run = simulate::run(&plan, "").map_err(|error| internal(&error))?;
        Answer::of(run.record(), settings).ok_or_else(|| internal(&"the record is empty"))
    }

    fn check(&self) -> Result<Checked, String> {
        let text = edit(&self.text, &self.settings)?;
        if text.len() > MAX_SCENARIO {
            return Err(format!(
                "error: `{}` is larger than the {} KiB that the lab holds",
                self.name,
                MAX_SCENARIO >> 10
            ));
        }
        let source = Source::new(&self.name, &text, &[])?;
        let document = source.document()?;
        let plan = Plan::of(&document, Engine::Simulated)?;
        check_size(&document, &plan)?;
        let scenario = document.scenario()?;
        Ok(Checked { text, scenario, plan })
    }
}

/// Refuses what a person at a slider would wait for in vain.
fn check_size(source: &Document<'_>, plan: &Plan) -> Result<(), String> {
    if plan.instances() > MAX_CACHES {
        let message = format!("{} caches are more than the lab simulates ({MAX_CACHES})", plan.instances());
        return Err(source.complain("fleet.workers", message, None));
    }
    let hours = plan.duration.saturating_add(plan.warmup).as_secs_f64() / 3_600.0;
    let cache_hours = hours * f64::from(plan.instances());
    if cache_hours > MAX_CACHE_HOURS {
        let message = format!(
            "{cache_hours:.0} hours of caches are more than the lab simulates ({MAX_CACHE_HOURS:.0})"
        );
        return Err(source.complain("duration", message, None));
    }
    let of_stream = |stream: &crate::plan::Stream| {
        let lasting = stream.until.since(stream.from).as_secs_f64() * stream.per_second;
        lasting + stream.burst.map_or(0.0, |(_, count)| f64::from(count))
    };
    let requests: f64 = plan.streams.iter().map(of_stream).sum();
    let Some(reason) = plan.coupled.filter(|_| requests > MAX_REQUESTS) else { return Ok(()) };
    let message =
        format!("{requests:.0} requests are more than the lab plays one by one ({MAX_REQUESTS:.0})");
    let hint = format!("it must play each, because {reason}; `keyquake simulate` takes its time");
    Err(source.complain("traffic.rate", message, Some(hint)))
}

/// Why there is no answer.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn busy() -> Self {
        let message = format!("error: {MAX_AT_WORK} simulations are at work; try again in a moment");
        Self(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// What is wrong with a scenario is said in its own words.
impl From<String> for Refusal {
    fn from(complaint: String) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, complaint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, self.1).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests;
