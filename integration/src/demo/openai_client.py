"""The unmodified `openai` client against the gate: one whole answer, one stream, one refusal."""

import sys

import openai

base_url, api_key = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
messages = [{"role": "user", "content": "Where is my parcel?"}]

answer = client.chat.completions.create(model="support_chat", messages=messages)
print("whole:", answer.choices[0].message.content)

chunks = client.chat.completions.create(model="support_chat", messages=messages, stream=True)
print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in chunks))

print("models:", [model.id for model in client.models.list()])

try:
    client.chat.completions.create(model="widgets_chat", messages=messages)
except openai.PermissionDeniedError as refusal:
    print("refused:", refusal.status_code, refusal.body["reason"])
