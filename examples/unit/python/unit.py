"""What a workload can ask the node it runs on, with Python's own library.

    perrin run -- python3 unit.py
"""

import http.client
import json
import os
import signal
import socket
import threading
from urllib.parse import urlencode


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over the Unix socket at path."""

    def __init__(self, path, timeout=None):
        super().__init__("unit", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def unit(method, path, body=None, /, **query):
    """Ask the node and return its answer; RuntimeError has its words."""
    if query:
        path += "?" + urlencode(query)
    conn = UnixConnection(os.environ["PERRIN_UNIT"])
    try:
        conn.request(method, "/v1/" + path, body)
        response = conn.getresponse()
        answer = json.load(response)
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer['error']} {answer.get('hint', '')}")
        return answer
    finally:
        conn.close()


def watch(stop):
    """Set stop when the node announces that it will end this attempt."""
    notice = unit("GET", "notice", wait="60s")
    while notice["kind"] == "none":
        notice = unit("GET", "notice", wait="60s", after=notice["seq"])
    print(f"{notice['kind']} in {notice['left_ms']} ms: {notice.get('reason', '')}", flush=True)
    stop.set()


def main():
    # A stop also comes as SIGTERM; the notice says the same, and how long is left.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop = threading.Event()
    threading.Thread(target=watch, args=(stop,), daemon=True).start()

    me = unit("GET", "whoami")
    print(f"task {me['task']} of {me['count']} on {me['node']} with {me['cpus']} {me['class']}s")
    for item in unit("GET", "inputs")["inputs"]:
        print(f"input {item['path']}: a {item['kind']} of {item['size']} bytes")

    step = 0
    while not stop.wait(0.01):  # the work
        step += 1
        if step == 3:
            unit("POST", "publish", json.dumps({"step": step}), path="progress.json")
            print("published progress.json", flush=True)

    # Stopped: save what there is, in time.
    with open(os.path.join(os.environ["PERRIN_OUT"], "model.bin"), "wb") as f:
        f.write(bytes(1000))
    saved = unit("POST", "publish", path="checkpoint/model.bin", **{"from": "model.bin"})
    print(f"saved {saved['size']} bytes as {saved['digest'][:19]}")
    print(f"cost so far: {unit('GET', 'cost')['micro_credits']} micro-credits")

    try:
        unit("GET", "dial")
    except RuntimeError as err:
        print(err)


main()
