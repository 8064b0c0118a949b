//! Requests to the API: method, path and query in a line, then a body. Every one is answered, never by a failure of ours.

use std::{cell::RefCell, sync::Arc};

use axum::{Router, body::Body};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use krater_controller_api::{Settings, router};
use memory::Memory;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

#[path = "../../property/wire/memory.rs"]
#[expect(dead_code, reason = "more of it is used by the property tests")]
mod memory;

pub(super) fn take(bytes: &[u8]) {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let body = bytes.get(line.len() + 1..).unwrap_or_default();
    let words = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.split_once(' '));
    let Some((method, path)) = words else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_vec()));
    let Ok(request) = request else { return };
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let router: Router = router(Arc::new(Memory::furnished()), Settings::default());
            let answer = router.oneshot(request).await.expect("infallible");
            let status = answer.status();
            let text = answer
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes();
            assert!(
                !status.is_server_error() || [501, 503].contains(&status.as_u16()),
                "{status}: {}",
                String::from_utf8_lossy(&text)
            );
        });
    });
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime"),
    );
}
