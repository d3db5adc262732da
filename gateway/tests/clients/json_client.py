"""A Longhaul client on the Python package `websockets`, speaking longhaul.v1.json.

    json_client.py URL TOKEN

Commands come on standard input, one JSON object a line, and what the gateway says goes to standard output in the same
manner; see ../common/foreign.rs. At the end of the input the connection is closed.
"""

import json
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

names = {}


def say(**line):
    print(json.dumps(line), flush=True)


def obey(websocket):
    request = 0
    for line in sys.stdin:
        command = json.loads(line)
        request += 1
        if "fix" in command:
            message = {"type": "Position", **command}
        elif "subscribe" in command:
            message = {"type": "Subscribe", "request": request, "vehicles": command["subscribe"]}
        elif "unsubscribe" in command:
            message = {"type": "Unsubscribe", "request": request, "vehicles": command["unsubscribe"]}
        else:
            message = {"type": "Subscribe", "request": request, "whole_fleet": command["whole_fleet"]}
        websocket.send(json.dumps(message))
    websocket.close()


def report(message):
    match message["type"]:
        case "Welcome":
            say(welcome={"role": message["role"], "fleet": message["fleet"], "subject": message["subject"]})
        case "Names":
            names.update(zip(message["vehicles"], message["ids"], strict=True))
        case "Ack":
            say(ack={"kind": message["kind"], "watching": message["watching"]})
        case "Positions":
            for fix in message["fixes"]:
                say(fix={**fix, "vehicle": names[fix["vehicle"]]})
        case "Error":
            say(error=message["code"])


def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    with connect(url, subprotocols=["longhaul.v1.json"], additional_headers=headers) as websocket:
        threading.Thread(target=obey, args=(websocket,), daemon=True).start()
        try:
            while True:
                report(json.loads(websocket.recv(decode=True)))
        except ConnectionClosed as closed:
            say(closed=closed.rcvd.code if closed.rcvd else None)


main(*sys.argv[1:])
