"""Uses the tools of a server with fastmcp's client, and prints what was seen as one JSON object.

    python mcp_client.py http://127.0.0.1:8000/mcp KEY
"""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.exceptions import ToolError


async def use(url: str, key: str) -> dict:
    async with Client(url, auth=key) as client:
        tools = await client.list_tools()
        added = await client.call_tool("add_memory", {"memory_content": "My dog is called Max"})
        cube, memory = added.structured_content["cube_id"], added.structured_content["memory_ids"][0]
        named = {"cube_id": cube, "memory_id": memory}
        found = await client.call_tool("search_memories", {"query": "what is my dog called", "cube_ids": [cube]})
        await client.call_tool("update_memory", {**named, "memory_content": "My dog is called Moritz"})
        changed = await client.call_tool("get_memory", named)
        undone = await client.call_tool("undo_memory", named)
        await client.call_tool("delete_memory", named)
        try:
            await client.call_tool("get_memory", named)
            refused = None
        except ToolError as error:
            refused = str(error)
        return {
            "tools": sorted(tool.name for tool in tools),
            "added": added.content[0].text,
            "found": json.loads(found.content[0].text)["text_mem"][0]["memories"][0]["memory"],
            "changed": changed.structured_content["memory"],
            "undone": undone.structured_content["memory"],
            "refused": refused,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(use(*sys.argv[1:]))))
