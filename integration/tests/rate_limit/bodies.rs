//! `peek: stream` with a global limit: the model is read from the body, so the service is asked when the headers are
//! already with the upstream; of the body it gets nothing before the answer.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use mlgate_integration::client::{self, Answer};
use mlgate_integration::gate::Gate;
use mlgate_integration::rate_limit_service::Answers;
use mlgate_integration::{Cluster, RateLimitService, Recorder};

use crate::scene;

const BODY: &str = r#"{"model": "chat-small", "messages": [{"role": "user", "content": "hello"}]}"#;

async fn complete(gate: &Gate, model: &str) -> anyhow::Result<Answer> {
    let request = Request::post("/v1/chat/completions").header("x-api-key", gate.key("caller00"));
    let request = request.header("content-type", "application/json").header("x-id", "answer");
    let body = Bytes::from(BODY.replace("chat-small", model));
    client::call(gate.envoy.address(), request.body(body)?).await
}

#[tokio::test]
async fn no_byte_of_a_body_passes_before_the_service_has_answered() -> anyhow::Result<()> {
    let limits = "
  - { name: fleet, key: [model], scope: global, rates: { default: [{ limit: 2, window: 1h }] } }";
    let document = scene::document(&[("caller00", "any")], limits, "timeout: 5s, failure_mode: deny");
    let service = RateLimitService::in_memory(&scene::limits(&document)?).await?;
    let upstream = Recorder::http2().await?;
    let secrets = scene::secrets(&document)?;
    let cluster = Cluster::http2("model", upstream.address());
    let gate = scene::gate("bodies", secrets, cluster, &service).await?;

    service.answer(Answers::Late(Duration::from_millis(150)));
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        upstream.body_bytes()
    };
    let (answer, early) = tokio::join!(complete(&gate, "chat-small"), early);
    assert_eq!((answer?.status, early), (200, 0));
    assert_eq!(upstream.body_bytes(), BODY.len(), "the whole body, once");

    service.answer(Answers::Full);
    assert_eq!(complete(&gate, "chat-small").await?.status, 200);
    assert_eq!(upstream.body_bytes(), 2 * BODY.len());
    for _ in 0..3 {
        let refused = complete(&gate, "chat-small").await?;
        assert_eq!((refused.status, scene::reason(&refused)?.as_str()), (429, "rate_limited"));
    }
    assert_eq!(upstream.body_bytes(), 2 * BODY.len(), "nothing of those that were refused");
    assert_eq!(complete(&gate, "chat-large").await?.status, 200, "another model is counted apart");
    let models: Vec<String> = service.asked().iter().map(|asked| asked.descriptors[0][1].1.clone()).collect();
    assert_eq!(models, ["chat-small"; 5].into_iter().chain(["chat-large"]).collect::<Vec<_>>());
    gate.check_one_life().await
}
