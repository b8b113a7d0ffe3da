"""MemOS' side of the comparison of cubes: what the Python package reads and writes.

Run by `tests/it/python_golden.rs`, never by itself: `cubes.py COMMAND ... OUT`. Each command writes one JSON document
to OUT, because the package prints what it likes. Nothing here asks a model: vectors are given, servers are not called.

    version OUT                 the package's version; ends with 3 where it is not installed
    read CUBE OUT               the textual memory of a cube's directory, as the package sees it
    write WANTED CUBE OUT       a cube that the package makes of WANTED and dumps to CUBE
    activation FOLDER OUT       an activation memory that the package dumps to FOLDER; needs torch
"""

import importlib.metadata
import json
import os
import sys

# The exit code that says that nothing can be compared here.
NOT_INSTALLED = 3


def main(arguments):
    commands = {"version": version, "read": read, "write": write, "activation": activation}
    command, *places = arguments
    answer = commands[command](*places[:-1])
    with open(places[-1], "w", encoding="utf-8") as out:
        json.dump(answer, out)


def version():
    try:
        import memos.mem_cube.general  # noqa: F401  what is asked for is that this can be imported

        # For its local mode, which the cubes here use.
        import qdrant_client  # noqa: F401

        return {"version": importlib.metadata.version("MemoryOS")}
    except ImportError as error:
        print(f"{sys.executable}: {error}", file=sys.stderr)
        sys.exit(NOT_INSTALLED)


def read(folder):
    from memos.mem_cube.general import GeneralMemCube

    cube = GeneralMemCube.init_from_dir(folder, memory_types=["text_mem"])
    return seen(cube)


def write(wanted_file, folder):
    from memos.configs.mem_cube import GeneralMemCubeConfig
    from memos.mem_cube.general import GeneralMemCube
    from memos.memories.textual.item import TextualMemoryItem

    with open(wanted_file, encoding="utf-8") as file:
        wanted = json.load(file)
    cube = GeneralMemCube(GeneralMemCubeConfig.model_validate(wanted["config"]))
    if hasattr(cube.text_mem, "embedder"):
        cube.text_mem.embedder = Given({one["memory"]: one["vector"] for one in wanted["memories"]})
    items = [
        TextualMemoryItem(id=one["id"], memory=one["memory"], metadata=one["metadata"])
        for one in wanted["memories"]
    ]
    cube.text_mem.add(items)
    cube.dump(folder)
    return seen(cube)


class Given:
    """Stands for an encoder: the vectors of known texts."""

    def __init__(self, vectors):
        self.vectors = vectors

    def embed(self, texts):
        return [self.vectors[text] for text in texts]


def seen(cube):
    """What a cube's textual memory holds, in no particular order."""
    memory = cube.text_mem
    vectors = {}
    if hasattr(memory, "vector_db"):
        vectors = {str(one.id): one.vector for one in memory.vector_db.get_all()}
    items = [one if isinstance(one, dict) else one.model_dump(mode="json") for one in memory.get_all()]
    return {
        "config": json.loads(cube.config.model_dump_json()),
        "memories": [{**one, "vector": vectors.get(str(one["id"]))} for one in items],
    }


def activation(folder):
    try:
        import torch
    except ImportError:
        return {"skipped": "torch is not installed beside MemoryOS"}
    from transformers import DynamicCache

    from memos.memories.activation.item import KVCacheItem
    from memos.memories.activation.kv import KVCacheMemory

    # Its constructor loads a model; what is compared here is what it writes.
    memory = KVCacheMemory.__new__(KVCacheMemory)
    memory.config = type("Config", (), {"memory_filename": "activation_memory.pickle"})()
    memory.kv_cache_memories = {}
    told = []
    for number, text in enumerate(["The rocket is called Heron.", "The dog is called Max."]):
        cache, layers = DynamicCache(), []
        for layer in range(3):
            # Halves are exact in every type, so both sides must see the same numbers.
            keys = (torch.arange(2 * 5 * 4, dtype=torch.float32) / 2 + number + layer).reshape(1, 2, 5, 4)
            values = -keys
            cache.update(keys, values, layer)
            layers.append({"keys": keys.flatten().tolist(), "values": values.flatten().tolist()})
        item = KVCacheItem(memory=cache, metadata={"source_text": text, "extracted_at": "2026-01-31T00:00:00"})
        memory.add([item])
        told.append({"id": item.id, "text": text, "shape": [1, 2, 5, 4], "layers": layers})
    memory.dump(folder)
    # What it reads back itself is what it wrote.
    memory.load(folder)
    assert sorted(memory.kv_cache_memories) == sorted(one["id"] for one in told)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    return {"versions": versions, "items": told, "file": os.path.join(folder, memory.config.memory_filename)}


if __name__ == "__main__":
    main(sys.argv[1:])
