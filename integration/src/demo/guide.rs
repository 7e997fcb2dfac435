//! What to type against a running stack.

use anyhow::Context;

use crate::artifacts::{self, shown};
use crate::demo::Demo;

/// The variable of the chain key of `envoy/config/demo.yaml`.
const CHAIN_KEY: &str = "MLGATE_CHAIN_KEY_1";

/// The lines, with this run's addresses and keys.
pub fn lines(demo: &Demo) -> anyhow::Result<String> {
    let gate = format!("http://{}", demo.envoy.address());
    let admin = demo.envoy.admin();
    let (user_1, user_4) = (demo.keys.of("user_1")?, demo.keys.of("user_4")?);
    let token = demo.keys.bearer("token.right")?;
    let log = shown(demo.collector.log());
    let chain_key = demo.keys.environment().get(CHAIN_KEY).context("no chain key")?;
    let document = shown(&demo.stack.folder().join("mlgate.json"));
    let folder = shown(demo.stack.folder());
    let command = shown(&artifacts::command()?);
    Ok(format!(
        r#"
The gate is {gate}, with the document {document}.
In another terminal, from here:

  # a data scientist of acme: 200
  curl -i {gate}/predict -H 'x-api-key: {user_1}' -d '{{"inputs": [[0.5]]}}'
  # a caller with a token of the issuer, for eight hours: 200
  curl -i {gate}/predict -H 'authorization: {token}' -d '{{}}'
  # nobody: 401
  curl -i {gate}/predict -d '{{}}'
  # a viewer: 403
  curl -i {gate}/predict -H 'x-api-key: {user_4}' -d '{{}}'
  # a model of another organisation, named in the body: 403
  curl -i {gate}/v1/chat/completions -H 'authorization: Bearer {user_1}' \
    -H 'content-type: application/json' -d '{{"model": "widgets_chat", "messages": []}}'
  # what the gate counts
  curl -s http://{admin}/stats/prometheus | grep ^mlgate_

The unmodified `openai` Python client:

  from openai import OpenAI
  client = OpenAI(base_url="{gate}/v1", api_key="{user_1}")
  messages = [{{"role": "user", "content": "Where is my parcel?"}}]
  print(client.chat.completions.create(model="support_chat", messages=messages).choices[0].message.content)
  for chunk in client.chat.completions.create(model="support_chat", messages=messages, stream=True):
      print(chunk.choices[0].delta.content, end="")

The audit log is {log}; other logs are in {folder}. To verify it:

  {CHAIN_KEY}={chain_key} \
    {command} audit verify {log} --chain-key c1={CHAIN_KEY}

Ctrl-C stops everything."#
    ))
}
