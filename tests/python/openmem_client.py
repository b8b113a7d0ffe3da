"""What the SDK of MemOS' published package does with a server of ours.

Run by `crates/mos-server/tests/it/openmem.rs`, never by itself: `openmem_client.py BASE_URL KEY`. The server has a scripted model
that answers every chat with "It is Max" and finds one memory in every conversation that it reads. Ends with 3 where the package is not installed.
"""

import importlib.util
import sys
import time
import types

# The exit code that says that nothing can be tried here.
NOT_INSTALLED = 3


def without_models():
    """Lets the client be imported where the package is installed without PyTorch.

    The package's own first file imports everything that it can do; the client needs none of that but the name of one class.
    """
    if importlib.util.find_spec("torch") is not None:
        return
    found = importlib.util.find_spec("memos")
    if found is None:
        return
    package = types.ModuleType("memos")
    package.__path__ = list(found.submodule_search_locations)
    package.__spec__ = found
    sys.modules["memos"] = package
    models = types.ModuleType("transformers")
    models.DynamicCache = type("DynamicCache", (), {})
    sys.modules.setdefault("transformers", models)


try:
    without_models()
    import requests

    from memos.api.client import MemOSClient
except ImportError as error:
    print(f"{sys.executable}: {error}", file=sys.stderr)
    sys.exit(NOT_INSTALLED)

MESSAGES = [
    {"role": "user", "content": "My dog is called Max and he is three years old"},
    {"role": "assistant", "content": "What a nice name."},
]


def main(base_url, key):
    try:
        MemOSClient(api_key="krlk_" + "0" * 64, base_url=base_url).get_memory(user_id="ann")
        raise AssertionError("a key of nobody was let in")
    except requests.HTTPError as error:
        assert error.response.status_code == 401, error

    client = MemOSClient(api_key=key, base_url=base_url)
    added = client.add_message(messages=MESSAGES, user_id="ann", conversation_id="monday", tags=["pets"], app_id="test")
    assert added.data.success and added.data.task_id, added
    wait(client, added.data.task_id)

    found = client.search_memory(query="What is my dog called?", user_id="ann", relativity=0.0)
    texts = [memory.memory_value for memory in found.memories]
    assert any("called Max" in text for text in texts), texts
    assert found.message == "ok", found

    listed = client.get_memory(user_id="ann", size=50)
    assert len(listed.data.memory_detail_list) == listed.data.total > 0, listed
    memory = listed.data.memory_detail_list[0]
    assert client.get_memory_by_id(memory.id)["data"]["id"] == memory.id

    said = client.get_message(user_id="ann", conversation_id="monday", message_limit_number=2).messages
    assert [(one.role, one.content) for one in said] == [(one["role"], one["content"]) for one in MESSAGES], said

    told = client.add_feedback(user_id="ann", conversation_id="monday", feedback_content="My dog is four years old")
    assert told.data.success, told

    # A turn is remembered off the path of its answer, and what is deleted below should stay so.
    quiet = {"user_id": "ann", "conversation_id": "tuesday", "add_message_on_answer": False}
    answer = client.chat(query="What is my dog called?", relativity=0.0, **quiet)
    assert answer.response == "It is Max", answer
    pieces = list(client.chat(query="And again?", stream=True, **quiet))
    assert any("Max" in piece for piece in pieces), pieces

    changed = client.update_memory(memory.id, title="Pets", content="My dog is called Max")
    assert changed["data"]["memory_key"] == "Pets", changed

    drawn = client.extract_memory(messages=MESSAGES)["data"]["memory_detail_list"]
    assert "three years old" in drawn[0]["memory_value"], drawn

    documents = ["The weather is fine today", "My dog is called Max"]
    ranked = client.rerank(query="What is the dog called?", documents=documents, top_n=1)["data"]["results"]
    assert [one["index"] for one in ranked] == [1], ranked

    agents(client)
    profiles(client)
    knowledge(client)

    assert client.delete_memory(memory_ids=[memory.id]).success
    assert client.delete_memory(user_id="ann").success
    left = client.get_memory(user_id="ann", size=50).memories
    assert not any("three years old" in memory.memory_value for memory in left), left


def agents(client):
    said = {"helper": "The blue bicycle stands in the cellar", "broker": "The blue bicycle was sold in spring"}
    for agent, text in said.items():
        messages = [{"role": "user", "content": text}]
        added = client.add_message(messages=messages, user_id="ann", agent_id=agent, conversation_id="wednesday")
        wait(client, added.data.task_id)
    asked = {"query": "Where is the blue bicycle?", "user_id": "ann", "relativity": 0.0}
    # As plugins ask for what one of several agents was told.
    for agent, text in said.items():
        mine = {"user": {"and": [{"agent_id": agent}]}}
        found = [memory.memory_value for memory in client.search_memory(filter=mine, **asked).memories]
        others = [other for other in said.values() if other != text]
        assert any(text in one for one in found), found
        assert not any(other in one for other in others for one in found), found


def profiles(client):
    profile = {"user_id": "ann", "profile_template_id": "basic"}
    assert client.bind_profile_template(bind_list=[profile])["code"] == 200
    edited = client.edit_profile(metadata={"city": "Bonn", "pet": "dog"}, remove_fields=["pet"], **profile)
    assert edited["data"]["metadata"] == {"city": "Bonn"}, edited
    found = client.search_memory(query="city Bonn", user_id="ann", relativity=0.0).data.profile_detail_list
    assert [one.metadata for one in found] == [{"city": "Bonn"}], found
    assert client.delete_profile(**profile)["data"]["success"]


def knowledge(client):
    made = client.create_knowledgebase("Manuals", "What the machines need")
    base = made.knowledgebase_id
    added = client.add_knowledgebase_file_json(base, [{"name": "drill.txt", "content": "The drill hangs on the wall."}])
    assert added.memories[0]["status"] == "AVAILABLE", added
    with open("pump.md", "w", encoding="utf-8") as file:
        file.write("# Pump\n\nThe pump is oiled every Friday.\n")
    form = client.add_knowledgebase_file_form(base, ["pump.md"])
    assert form.memories[0]["name"] == "pump.md", form

    listed = client.get_knowledgebase_file(knowledgebase_id=base, page=1, page_size=1)
    assert (listed.data.total, listed.data.page_size, len(listed.files)) == (2, 1, 1), listed
    file_id = form.memories[0]["id"]
    assert [one.name for one in client.get_knowledgebase_file(file_ids=[file_id]).files] == ["pump.md"]

    asked = {"query": "When is the pump oiled?", "user_id": "ann", "relativity": 0.0}
    found = client.search_memory(knowledgebase_ids=[base], **asked).memories
    assert any("every Friday" in one.memory_value for one in found), found
    assert not any("every Friday" in one.memory_value for one in client.search_memory(**asked).memories)

    assert client.delete_knowledgebase_file([file_id]).success
    assert client.get_knowledgebase_file(knowledgebase_id=base).data.total == 1
    assert client.delete_knowledgebase(base).success


def wait(client, task_id):
    for _ in range(100):
        status = client.get_task_status(task_id).data.status
        if status == "completed":
            return
        time.sleep(0.05)
    raise AssertionError(f"the task is still {status}")


main(*sys.argv[1:])
