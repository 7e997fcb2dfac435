//! The calls of the story, and what must come of each.

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http::request::Builder;
use serde_json::{Value, json};

use crate::Answer;
use crate::demo::setup::Keys;

/// Calls that belong together.
#[derive(Debug)]
pub struct Part {
    /// The question that they ask.
    pub title: &'static str,
    /// In the order in which they are sent.
    pub calls: Vec<Call>,
}

/// One call, or a burst of the same one.
#[derive(Debug)]
pub struct Call {
    /// The caller and what it shows.
    pub who: &'static str,
    /// The call, for people.
    pub shown: &'static str,
    /// What is sent.
    pub request: Request<Bytes>,
    /// What must come of it.
    pub expected: Expected,
    /// What else must be seen in the answer, and is worth telling.
    pub note: Option<Note>,
}

/// What must come of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The model server answers.
    Served,
    /// mlgate answers in its place.
    Refused {
        /// The status the caller reads.
        status: u16,
        /// The reason the caller reads.
        reason: &'static str,
        /// The reason in the audit event.
        because: &'static str,
    },
    /// mlgate answers a gRPC caller.
    RefusedGrpc {
        /// The gRPC status.
        status: u32,
        /// The reason in the audit event.
        because: &'static str,
    },
    /// The first `served` of `sent` calls are served, and the others are over the limit.
    Burst {
        /// How many are sent.
        sent: usize,
        /// How many the limit admits.
        served: usize,
    },
}

/// Reads something off an answer; an error is a failure of the story.
pub type Note = fn(&Answer) -> anyhow::Result<String>;

/// A burst that a thief sends.
pub const STOLEN: Expected = Expected::Burst { sent: 300, served: 100 };

/// What one call to a model costs, in cents: an assumption, fifty thousand dollars for a million requests.
pub const CENTS_PER_CALL: usize = 5;

/// What so many calls cost.
pub fn dollars(calls: usize) -> String {
    let cents = calls.saturating_mul(CENTS_PER_CALL);
    format!("{}.{:02} USD", cents.div_euclid(100), cents.rem_euclid(100))
}

/// Tokens of the story; the first is for those who type along as well.
pub fn tokens() -> Value {
    let token = |lifetime: &str, more: Value| {
        let mut claims =
            json!({"sub": "user_5", "org": "acme", "team": "data_science", "roles": ["data_scientist"]});
        if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
            claims.extend(more);
        }
        json!({"provider": "corp", "lifetime": lifetime, "claims": claims})
    };
    json!({
        "right": token("8h", json!({})),
        "expired": token("8h", json!({"iat": 1_700_000_000, "exp": 1_700_028_800})),
        "elsewhere": token("8h", json!({"aud": "payroll"})),
    })
}

/// The whole story.
pub fn parts(keys: &Keys) -> anyhow::Result<Vec<Part>> {
    Ok(vec![
        Part { title: "Who is calling?", calls: who(keys)? },
        Part { title: "What may they do?", calls: what(keys)? },
        Part { title: "Which model does the body name?", calls: body(keys)? },
        Part { title: "How much?", calls: how_much(keys)? },
    ])
}

/// What a gate in containers has beside it (`crate::composed`): an OpenID provider, and a limit that all Envoys share.
pub fn in_containers(keys: &Keys, token: &str) -> anyhow::Result<Vec<Part>> {
    let request = predict("/predict").header("authorization", format!("Bearer {token}")).header(ECHO, "1");
    let call = Call::new("nightly_scoring, provider's token", "POST /predict", request)?;
    let issued =
        Part { title: "Who, says an OpenID provider?", calls: vec![call.noting(service_seen_upstream)] };
    Ok(vec![issued, shared(keys)?])
}

fn shared(keys: &Keys) -> anyhow::Result<Part> {
    // One call of the same team has been served before.
    let left = crate::composed::FLEET.saturating_sub(1);
    let request = predict("/v1/models/fraud_detector_v2:predict").header(KEY, keys.of("batch_scoring")?);
    let burst = Expected::Burst { sent: left.saturating_add(3), served: left };
    let call = Call::new("batch_scoring, team risk", "POST …/fraud_detector_v2:predict", request)?;
    Ok(Part { title: "How much, over all Envoys?", calls: vec![call.expecting(burst)] })
}

fn who(keys: &Keys) -> anyhow::Result<Vec<Call>> {
    let user_1 = keys.of("user_1")?;
    let typo = keys.instead("typo", "user_1")?;
    let token = |who: &'static str, token: &str| {
        let request = predict("/predict").header("authorization", keys.bearer(token)?).header(ECHO, "1");
        Call::new(who, "POST /predict", request)
    };
    Ok(vec![
        Call::new("user_1", "POST /predict", predict("/predict").header(KEY, &user_1))?,
        Call::new("nobody", "POST /predict", predict("/predict"))?.refused(401, "credential_missing"),
        Call::new(
            "user_1's id, other secret",
            "POST /predict",
            predict("/predict").header(KEY, keys.instead("wrong", "user_1")?),
        )?
        .refused(401, "credential_invalid"),
        Call::new("user_1, key with a typo", "POST /predict", predict("/predict").header(KEY, typo))?
            .refused(401, "credential_invalid"),
        Call::new(
            "user_1, expired key",
            "POST /predict",
            predict("/predict").header(KEY, keys.nth("user_1", 1)?),
        )?
        .refused(401, "credential_expired"),
        Call::new(
            "user_1 and user_2 at once",
            "POST /predict",
            predict("/predict").header(KEY, &user_1).header(KEY, keys.of("user_2")?),
        )?
        .refused(400, "head_invalid"),
        token("user_5, a token of the issuer", "token.right")?.noting(token_seen_upstream),
        token("user_5, the token expired", "token.expired")?.refused(401, "credential_expired"),
        token("user_5, a token for the payroll", "token.elsewhere")?.refused(401, "credential_invalid"),
        token("a forger, signed by itself", "forged.right")?.refused(401, "credential_invalid"),
        token("a forger, alg: none", "unsigned.right")?.refused(401, "credential_invalid"),
        Call::new(
            "nobody, by gRPC",
            "ModelInfer",
            Request::post("/inference.GRPCInferenceService/ModelInfer")
                .header("content-type", "application/grpc"),
        )?
        .refused_grpc(16, "credential_missing"),
        Call::new("nobody", "GET /healthz", Request::get("/healthz"))?,
        Call::new(
            "user_1, x-mlgate-principal: ml_admin",
            "POST /predict",
            predict("/predict")
                .header(KEY, &user_1)
                .header("x-mlgate-principal", "ml_admin")
                .header(ECHO, "1"),
        )?
        .noting(seen_upstream),
    ])
}

fn what(keys: &Keys) -> anyhow::Result<Vec<Call>> {
    let predict_as = |caller: &str, path: &str| anyhow::Ok(predict(path).header(KEY, keys.of(caller)?));
    let delete = |path: &str| anyhow::Ok(Request::delete(path).header(KEY, keys.of("ml_admin")?));
    Ok(vec![
        Call::new(
            "user_4, a viewer",
            "GET …/fraud_detector_v2",
            Request::get("/v1/models/fraud_detector_v2").header(KEY, keys.of("user_4")?),
        )?,
        Call::new("user_4, a viewer", "POST /predict", predict_as("user_4", "/predict")?)?.denied("role"),
        Call::new("user_1", "POST /retrain", predict_as("user_1", "/retrain")?)?,
        Call::new("user_2 of widgets, acme's model", "POST /predict", predict_as("user_2", "/predict")?)?
            .denied("no_match"),
        Call::new(
            "partner_1, model shared with it",
            "POST …/demand_forecast:predict",
            predict_as("partner_1", "/v1/models/demand_forecast:predict")?,
        )?,
        Call::new(
            "partner_1, another model",
            "POST …/fraud_detector_v2:predict",
            predict_as("partner_1", "/v1/models/fraud_detector_v2:predict")?,
        )?
        .denied("no_match"),
        Call::new(
            "ml_admin, model in production",
            "DELETE …/fraud_detector_v2",
            delete("/v1/models/fraud_detector_v2")?,
        )?
        .denied("explicit_deny"),
        Call::new(
            "ml_admin, model in staging",
            "DELETE …/fraud_detector_v3",
            delete("/v1/models/fraud_detector_v3")?,
        )?,
        Call::new(
            "batch_scoring, key for fraud_*",
            "POST …/fraud_detector_v2:predict",
            predict_as("batch_scoring", "/v1/models/fraud_detector_v2:predict")?,
        )?,
        Call::new(
            "batch_scoring, key for fraud_*",
            "POST …/demand_forecast:predict",
            predict_as("batch_scoring", "/v1/models/demand_forecast:predict")?,
        )?
        .denied("scope"),
        Call::new(
            "user_1, path that no rule names",
            "GET /metrics",
            Request::get("/metrics").header(KEY, keys.of("user_1")?),
        )?
        .denied("resource_unknown"),
        Call::new(
            "user_1, path with two readings",
            "POST …/x%2Fy:predict",
            predict_as("user_1", "/v1/models/x%2Fy:predict")?,
        )?
        .refused(400, "path_ambiguous"),
    ])
}

fn body(keys: &Keys) -> anyhow::Result<Vec<Call>> {
    const PATH: &str = "/v1/chat/completions";
    const SHOWN: &str = "POST /v1/chat/completions";
    let chat = |body: String| {
        anyhow::Ok((
            Request::post(PATH)
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {}", keys.of("user_1")?)),
            body,
        ))
    };
    let naming = |model: &str, stream: bool| chat(conversation(model, stream).to_string());
    let twice = r#"{"model":"support_chat","model":"widgets_chat","messages":[]}"#.to_owned();
    Ok(vec![
        Call::with_body("user_1, model support_chat", SHOWN, naming("support_chat", false)?)?,
        Call::with_body("user_1, the same streamed", SHOWN, naming("support_chat", true)?)?.noting(events),
        Call::with_body("user_1, model of widgets", SHOWN, naming("widgets_chat", false)?)?
            .denied("no_match"),
        Call::with_body("user_1, two models", SHOWN, chat(twice)?)?.refused(400, "body_ambiguous"),
    ])
}

fn how_much(keys: &Keys) -> anyhow::Result<Vec<Call>> {
    let call = |who: &'static str, caller: &str| {
        Call::new(who, "POST /predict", predict("/predict").header(KEY, keys.of(caller)?))
    };
    let partner = |who: &'static str| {
        let path = "/v1/models/demand_forecast:predict";
        Call::new(who, "POST …/demand_forecast:predict", predict(path).header(KEY, keys.of("partner_1")?))
    };
    Ok(vec![
        call("user_1, tier pro", "user_1")?.noting(limit),
        Call::new(
            "user_2, default tier",
            "POST …/widgets_chat:predict",
            predict("/v1/models/widgets_chat:predict").header(KEY, keys.of("user_2")?),
        )?
        .noting(limit),
        partner("partner_1, trial, call 2")?.noting(quota),
        partner("partner_1, trial, call 3")?.noting(quota),
        partner("partner_1, trial, call 4")?.refused(429, "rate_limited").noting(retry),
        call("a thief, user_3's key, 300 calls", "user_3")?.expecting(STOLEN),
        call("user_1, meanwhile", "user_1")?,
    ])
}

// === impl Call ===

impl Call {
    fn new(who: &'static str, shown: &'static str, request: Builder) -> anyhow::Result<Self> {
        let body = match request.method_ref() {
            Some(method) if method == http::Method::POST => PREDICTION.to_owned(),
            _ => String::new(),
        };
        Self::with_body(who, shown, (request, body))
    }

    fn with_body(
        who: &'static str,
        shown: &'static str,
        (request, body): (Builder, String),
    ) -> anyhow::Result<Self> {
        let request = request.body(Bytes::from(body)).with_context(|| format!("the call of {who}"))?;
        Ok(Self { who, shown, request, expected: Expected::Served, note: None })
    }

    fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// The caller reads what the audit event holds.
    fn refused(self, status: u16, reason: &'static str) -> Self {
        self.expecting(Expected::Refused { status, reason, because: reason })
    }

    /// The caller learns no more than that.
    fn denied(self, because: &'static str) -> Self {
        self.expecting(Expected::Refused { status: 403, reason: "access_denied", because })
    }

    fn refused_grpc(self, status: u32, because: &'static str) -> Self {
        self.expecting(Expected::RefusedGrpc { status, because })
    }

    fn noting(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }
}

/// What is asked of `/predict`.
pub(crate) const PREDICTION: &str = r#"{"inputs":[[0.5,1.25]]}"#;
pub(crate) const KEY: &str = "x-api-key";
/// Asks the model server to answer with what it received.
const ECHO: &str = "x-sample-echo";

pub(crate) fn predict(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

fn conversation(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Where is my parcel?"}]})
}

// === notes ===

/// What the model server was told, and that it was not shown the key.
fn seen_upstream(answer: &Answer) -> anyhow::Result<String> {
    told_upstream(answer, "user_1")
}

fn token_seen_upstream(answer: &Answer) -> anyhow::Result<String> {
    told_upstream(answer, "jwt:corp:user_5")
}

fn service_seen_upstream(answer: &Answer) -> anyhow::Result<String> {
    told_upstream(answer, &format!("jwt:idp:{}", crate::composed::SERVICE))
}

fn told_upstream(answer: &Answer, principal: &str) -> anyhow::Result<String> {
    let content = answer.json()?;
    let header = |name: &str| content.pointer(&format!("/received/headers/{name}"));
    for credential in [KEY, "authorization"] {
        anyhow::ensure!(header(credential).is_none(), "{credential} reached the model server");
    }
    let told = header("x-mlgate-principal");
    anyhow::ensure!(told == Some(&json!([principal])), "the model server was told {told:?}");
    Ok(format!("upstream was told {principal}"))
}

fn events(answer: &Answer) -> anyhow::Result<String> {
    let text = answer.text();
    let count = text.lines().filter(|line| line.starts_with("data: ")).count();
    anyhow::ensure!(text.ends_with("data: [DONE]\n\n") && count > 1, "not a whole stream: {text}");
    Ok(format!("{count} events"))
}

fn quota(answer: &Answer) -> anyhow::Result<String> {
    let header = |name: &str| answer.header(name).with_context(|| format!("no {name}"));
    Ok(format!("{} of {} left", header("x-ratelimit-remaining")?, header("x-ratelimit-limit")?))
}

/// The limit alone: how much is left of a large one depends on how long the story takes.
fn limit(answer: &Answer) -> anyhow::Result<String> {
    quota(answer)?;
    Ok(format!("limit {}", answer.header("x-ratelimit-limit").unwrap_or_default()))
}

fn retry(answer: &Answer) -> anyhow::Result<String> {
    let seconds: u64 = answer.header("retry-after").context("no Retry-After")?.parse()?;
    // Three calls an hour: the next one is admitted 20 minutes after the first.
    anyhow::ensure!((1100..=1200).contains(&seconds), "Retry-After is {seconds}");
    Ok(format!("Retry-After about {} min", seconds.div_ceil(60)))
}
