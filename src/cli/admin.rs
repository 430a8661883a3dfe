//! What the admin port answers: `/metrics`, `/healthz`, `/readyz`.

use crate::metrics::endpoint::{Answer, Responder};
use crate::protocol::http::{self, HttpParsed, HttpStatus, Method};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Renders the metrics page; called on the admin thread. `None` when the cores did not answer in time.
pub type MetricsPage = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What the admin port needs to know of the daemon. The port opens before recovery, so that a supervisor sees a
/// daemon that is alive and not yet ready.
#[derive(Default)]
pub struct AdminState {
    ready: AtomicBool,
    metrics: OnceLock<MetricsPage>,
}

impl AdminState {
    /// The daemon serves from now on; `metrics` renders its page.
    pub fn serving(&self, metrics: MetricsPage) {
        let _ = self.metrics.set(metrics);
        self.ready.store(true, Ordering::Release);
    }
    /// The daemon is going down: load balancers should look elsewhere.
    pub fn stopping(&self) {
        self.ready.store(false, Ordering::Release);
    }
    /// The function that the endpoint calls.
    #[must_use]
    pub fn responder(self: &Arc<Self>) -> Responder {
        let state = Arc::clone(self);
        Box::new(move |head, _full| state.answer(head))
    }

    fn answer(&self, head: &[u8]) -> Answer {
        let mut reply = Vec::new();
        match http::parse_request(head) {
            HttpParsed::Incomplete => return Answer::Incomplete,
            HttpParsed::Bad(status) => http::put_status(&mut reply, Method::Get, status),
            HttpParsed::Request { method, path } => self.serve(method, path, &mut reply),
        }
        Answer::Reply(reply)
    }

    fn serve(&self, method: Method, path: &str, reply: &mut Vec<u8>) {
        let is_ready = self.ready.load(Ordering::Acquire);
        match path {
            "/healthz" => http::put_response(reply, method, HttpStatus::Ok, PLAIN_TEXT, b"alive\n"),
            "/readyz" if is_ready => {
                http::put_response(reply, method, HttpStatus::Ok, PLAIN_TEXT, b"ready\n")
            }
            "/readyz" => {
                http::put_response(reply, method, HttpStatus::Unavailable, PLAIN_TEXT, b"not ready\n")
            }
            "/metrics" => match self.metrics.get().and_then(|page| page()) {
                Some(page) => {
                    http::put_response(reply, method, HttpStatus::Ok, PROMETHEUS_TEXT, page.as_bytes());
                }
                None => http::put_status(reply, method, HttpStatus::Unavailable),
            },
            _ => http::put_status(reply, method, HttpStatus::NotFound),
        }
    }
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").field("ready", &self.ready).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &AdminState, request: &str) -> String {
        match state.answer(request.as_bytes()) {
            Answer::Reply(reply) => String::from_utf8(reply).unwrap(),
            Answer::Incomplete => "incomplete".to_owned(),
        }
    }
    fn get(state: &AdminState, path: &str) -> String {
        ask(state, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    #[test]
    fn readiness_follows_the_daemon() {
        // A balancer that is told "ready" during recovery sends requests to a closed door.
        let state = AdminState::default();
        assert!(get(&state, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(get(&state, "/readyz").starts_with("HTTP/1.1 503"));
        assert!(get(&state, "/metrics").starts_with("HTTP/1.1 503"));
        state.serving(Box::new(|| Some("tskv_put_total 1\n".to_owned())));
        assert!(get(&state, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(&state, "/metrics").ends_with("\r\n\r\ntskv_put_total 1\n"));
        state.stopping();
        assert!(get(&state, "/readyz").starts_with("HTTP/1.1 503"));
        assert!(get(&state, "/healthz").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        // The port is open without a password: it must do nothing but show.
        let state = AdminState::default();
        for path in ["/", "//metrics", "/../metrics", "/%6detrics", "/metrics/"] {
            assert!(get(&state, path).starts_with("HTTP/1.1 404"), "{path}");
        }
        assert!(ask(&state, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(ask(&state, "HEAD /healthz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert_eq!(ask(&state, "GET /metrics HTTP/1.1\r\n"), "incomplete");
    }
}
