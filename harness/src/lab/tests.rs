//! The server over loopback, as a browser and as other pages meet it.

use std::net::Ipv4Addr;

use axum::http::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use keyquake_reports::record::{Metric, Record};
use keyquake_reports::worst;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Value, json};

use super::*;

/// Little traffic, and something for every panel.
const SCENARIO: &str = r#"# Does the lab work?
name = "small"
duration = "60s"

[[rotation]]
at = "10s"
style = "no-overlap"       # and this stays

[[fault]]
from = "40s"
for = "5s"
jwks = { status = 503 }

[fleet]
replicas = 4
policy = { ttl = "20s", limiter = "cooldown", limiter_interval = "15s" }

[traffic]
rate = "20/s"
"#;

/// A lab on a port of its own, for as long as the test's runtime lives.
struct Server {
    url: Url,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        Self::with_room_for(MAX_AT_WORK).await
    }

    async fn with_room_for(simulations: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let opened = Opened { name: "small.toml".to_owned(), text: SCENARIO.to_owned() };
        let guard = Guard::new(Ipv4Addr::LOCALHOST.into(), None).unwrap();
        let lab = Lab { opened, guard, at_work: Arc::new(Semaphore::new(simulations)) };
        tokio::spawn(async move { axum::serve(listener, router(lab)).await });
        Self { url, client: Client::builder().tls_certs_only([]).no_proxy().build().unwrap() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url.join(path).unwrap())
    }

    /// A request as the page sends it.
    fn post(&self, path: &str, body: impl ToString) -> RequestBuilder {
        let url = self.url.join(path).unwrap();
        self.client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string())
    }

    async fn simulate(&self, text: &str, settings: Value) -> Value {
        let (status, _, body) = heard(self.post("simulate", order(text, settings))).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn complaint(&self, settings: Value) -> String {
        let (status, _, body) = heard(self.post("simulate", order(SCENARIO, settings))).await;
        assert_eq!(status, 422, "{body}");
        body
    }
}

fn order(text: &str, settings: Value) -> Value {
    json!({ "name": "small.toml", "text": text, "settings": settings })
}

async fn heard(request: RequestBuilder) -> (u16, HeaderMap, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
}

/// What `keyquake simulate` makes of it.
fn record(text: &str, overrides: &[&str]) -> Record {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let source = Source::new("small.toml", text, &overrides).unwrap();
    let plan = Plan::check(&source, Engine::Simulated).unwrap();
    simulate::run(&plan, "").unwrap().record()
}

#[tokio::test]
async fn the_page_comes_with_a_strict_policy_and_its_scenario() {
    let server = Server::start().await;
    for (path, kind) in [("", "text/html"), ("lab.css", "text/css"), ("lab.js", "text/javascript")] {
        let (status, headers, body) = heard(server.get(path)).await;
        assert_eq!(status, 200);
        assert!(headers[CONTENT_TYPE].to_str().unwrap().starts_with(kind), "{path}");
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        assert!(!body.contains("<script>") && !body.contains("style="), "{path}");
    }
    let (_, _, opened) = heard(server.get("scenario")).await;
    let opened: Value = serde_json::from_str(&opened).unwrap();
    assert_eq!(opened, json!({ "name": "small.toml", "text": SCENARIO }));
}

#[tokio::test]
async fn other_pages_are_refused() {
    let server = Server::start().await;
    let simulate = || server.post("simulate", order(SCENARIO, json!({})));
    for (request, expected) in [
        (simulate().header(ORIGIN, "http://evil.example"), 403),
        (simulate().header(ORIGIN, "null"), 403),
        (simulate().header(HOST, "evil.example"), 403),
        (server.get("scenario").header(HOST, "evil.example"), 403),
        (server.get("").header(ORIGIN, "http://evil.example"), 403),
        (simulate().header(ORIGIN, server.url.as_str().trim_end_matches('/')), 200),
    ] {
        let (status, headers, body) = heard(request).await;
        assert_eq!(status, expected, "{body}");
        assert!(headers.contains_key(CONTENT_SECURITY_POLICY));
    }
}

#[tokio::test]
async fn what_is_no_order_is_refused() {
    let server = Server::start().await;
    let sound = order(SCENARIO, json!({})).to_string();
    let plain = server.client.post(server.url.join("simulate").unwrap()).body(sound.clone());
    let form = plain.try_clone().unwrap().header(CONTENT_TYPE, "text/plain");
    let many: serde_json::Map<String, Value> = (0..101).map(|n| (format!("k{n}"), json!("1"))).collect();
    for (request, expected) in [
        (plain, 415),
        (form, 415),
        (server.post("simulate", &sound[..9]), 400),
        (server.post("simulate", json!({ "text": SCENARIO })), 422),
        (server.post("simulate", json!({ "name": "x", "text": SCENARIO, "set": {} })), 422),
        (server.post("simulate", order(&"#".repeat(MAX_BODY), json!({}))), 413),
        (server.post("simulate", order(&"#".repeat(MAX_SCENARIO + 1), json!({}))), 422),
        (server.post("simulate", order(SCENARIO, Value::Object(many))), 422),
        (server.post("save", order("name = 1", json!({}))), 422),
        (server.get("simulate"), 405),
        (server.get("elsewhere"), 404),
    ] {
        let (status, _, body) = heard(request).await;
        assert_eq!(status, expected, "{body}");
    }
}

#[tokio::test]
async fn a_full_house_is_said() {
    let server = Server::with_room_for(0).await;
    let (status, headers, body) = heard(server.post("simulate", order(SCENARIO, json!({})))).await;
    assert_eq!((status, &headers[RETRY_AFTER]), (503, &HeaderValue::from_static("1")), "{body}");
}

#[tokio::test]
async fn a_mistake_is_answered_with_its_place() {
    let server = Server::start().await;
    let crossing = server.complaint(json!({ "fleet.policy.refresh_ahead": "30s" })).await;
    assert!(crossing.starts_with("error: `refresh_ahead` must be shorter than `ttl`"), "{crossing}");
    assert!(crossing.contains("--> small.toml:"), "{crossing}");
    let unknown = server.complaint(json!({ "fleet.policy.tll": "30s" })).await;
    assert!(unknown.contains("did you mean `ttl`?"), "{unknown}");
    let nowhere = server.complaint(json!({ "name.x": "30s" })).await;
    assert_eq!(nowhere, "error: the path `name.x` leads nowhere in this scenario");
    let crowd = server.complaint(json!({ "fleet.replicas": "1000", "fleet.workers": "5" })).await;
    assert!(crowd.starts_with("error: 5000 caches are more than the lab simulates"), "{crowd}");
    let endless = server.complaint(json!({ "duration": "366d", "fleet.replicas": "10" })).await;
    assert!(endless.contains(" hours of caches are more than the lab simulates"), "{endless}");
    let coupled = json!({ "traffic.rate": "50000/s", "traffic.balance": "sticky" });
    let coupled = server.complaint(coupled).await;
    assert!(
        coupled.starts_with("error: 3000000 requests are more than the lab plays one by one"),
        "{coupled}"
    );
}

#[tokio::test]
async fn an_answer_has_the_numbers_of_a_simulation() {
    let server = Server::start().await;
    let answer = server.simulate(SCENARIO, json!({ "fleet.policy.ttl": "9s", "fleet.replicas": "7" })).await;
    let record = record(SCENARIO, &["fleet.policy.ttl=9s", "fleet.replicas=7"]);
    let cell = &record.cells[0];
    for metric in [Metric::TimeToRecover, Metric::DeniedShare, Metric::JwksRequests, Metric::OutageSurvival] {
        let expected = worst(cell, metric).unwrap();
        let number = &answer["numbers"][metric.name()];
        assert_eq!(number, &json!({ "value": expected.value, "text": expected.to_string() }), "{metric:?}");
    }
    assert_eq!(answer["numbers"]["revocation_exposure"], Value::Null);
    let curve = answer["curves"]["jwks_requests"].as_array().unwrap();
    let total: u64 = curve.iter().filter_map(Value::as_u64).sum();
    assert_eq!(total, cell.metrics.jwks.jwks_requests);
    assert!(total > 10 && curve.len() <= 300, "{total}");
    assert_eq!(answer["faults"], json!([{ "from_s": 40.0, "to_s": 45.0, "what": "JWKS answers 503" }]));
    assert_eq!(
        (&answer["settings"]["fleet.policy.ttl"], &answer["settings"]["rotation[0].retention"]),
        (&json!("9s"), &json!("0s"))
    );
}

#[tokio::test]
async fn what_is_saved_opens_with_the_same_settings() {
    let server = Server::start().await;
    let settings = json!({
        "fleet.policy.ttl": "7s",
        "fleet.policy.limiter": "none",
        "fleet.policy.stale_for": "\"inf\"",
        "rotation[0].style": "overlap",
        "rotation[0].lead": "3s",
        "rotation[0].retention": null,
        "fault[0]": null,
        "traffic.rate": "12.5/s",
        "fleet.cache": "{ age = \"4s\" }",
    });
    let (status, headers, saved) = heard(server.post("save", order(SCENARIO, settings.clone()))).await;
    assert_eq!((status, &headers[CONTENT_TYPE]), (200, &HeaderValue::from_static("application/toml")));
    assert!(saved.starts_with("# Does the lab work?") && saved.contains("# and this stays"), "{saved}");
    let (moved, opened) =
        (server.simulate(SCENARIO, settings).await, server.simulate(&saved, json!({})).await);
    assert_eq!(moved, opened);
    assert_eq!(opened["settings"]["fleet.cache"], "{ age = \"4s\" }");
    assert_eq!(opened["settings"]["rotation[0].lead"], "3s");
    assert_eq!(opened["settings"].get("fault[0].for"), None);
    assert_eq!(record(&saved, &[]).scenario.name, "small");
}

#[tokio::test]
async fn settings_that_come_back_as_they_are_change_nothing() {
    let server = Server::start().await;
    for text in [SCENARIO, &Opened::default().text] {
        let answer = server.simulate(text, json!({})).await;
        let mut settings = answer["settings"].as_object().unwrap().clone();
        // Not every number of a plan was written as a string.
        settings.retain(|path, _| path.contains('[') || path == "fleet.cache" || path == "traffic.rate");
        assert_eq!(server.simulate(text, Value::Object(settings)).await, answer);
    }
}

#[tokio::test]
async fn every_scenario_of_the_repository_opens() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // A matrix is many scenarios.
        let is_one = !text.contains("\n[matrix]");
        let opened = Opened { name: String::new(), text };
        assert_eq!(opened.check().is_ok(), is_one, "{}: {:?}", path.display(), opened.check());
    }
}
