"""A policy for `perrin sim`: it calls the cheapest node and the nearest one.

    perrin sim run price --command "python3 examples/policy/python/near.py" --out near

One JSON object a line on standard input, one on standard output for each.
docs/policies.md has the protocol. What is for people goes to standard error.
"""
import json
import random
import sys


def choose(question, draw):
    """Returns the nodes to call: numbers of question["nodes"], each once."""
    thread = question["shape"]["class"] == "thread"
    ask = "thread_ask" if thread else "core_ask"
    nodes = question["nodes"]
    low = min(node[ask] for node in nodes)
    cheapest = draw.choice([node for node in nodes if node[ask] == low])
    nearest = min(nodes, key=lambda node: node["rtt_us"])
    return sorted({cheapest["node"], nearest["node"]})


def main():
    hello = json.loads(sys.stdin.readline())
    if hello["perrin"] != "policy" or hello["version"] != 1:
        sys.exit("this policy speaks version 1 of the protocol")
    draw = random.Random(hello["seed"])  # the same seed, the same answers
    print(json.dumps({"version": 1}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        call = choose(question, draw)
        print(json.dumps({"id": question["id"], "call": call}), flush=True)


if __name__ == "__main__":
    main()
