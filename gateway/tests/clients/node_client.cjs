// A Longhaul client on the Node.js package `ws`, speaking longhaul.v1.json.
//
//   NODE_PATH=.tools/node/node_modules node node_client.cjs URL TOKEN
//
// Commands come on standard input, one JSON object a line, and what the gateway says goes to standard output in the same
// manner; see ../common/foreign.rs. At the end of the input the connection is closed. The token travels as a browser
// would send it: as a subprotocol entry.
"use strict";

const readline = require("node:readline");
const { WebSocket } = require("ws");

const [url, token] = process.argv.slice(2);
const names = new Map();
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let requests = 0;
function message(command) {
  const request = ++requests;
  if (command.fix) return { type: "Position", ...command };
  if (command.subscribe) return { type: "Subscribe", request, vehicles: command.subscribe };
  if (command.unsubscribe) return { type: "Unsubscribe", request, vehicles: command.unsubscribe };
  return { type: "Subscribe", request, whole_fleet: command.whole_fleet };
}

const reports = {
  Welcome: ({ role, fleet, subject }) => say({ welcome: { role, fleet, subject } }),
  Names: ({ vehicles, ids }) => vehicles.forEach((vehicle, i) => names.set(vehicle, ids[i])),
  Ack: ({ kind, watching }) => say({ ack: { kind, watching } }),
  Positions: ({ fixes }) => fixes.forEach((fix) => say({ fix: { ...fix, vehicle: names.get(fix.vehicle) } })),
  Error: ({ code }) => say({ error: code }),
};

const socket = new WebSocket(url, ["longhaul.v1.json", `longhaul.token.${token}`]);
socket.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.on("message", (data, isBinary) => {
  if (isBinary) throw new Error("a binary message on longhaul.v1.json");
  const received = JSON.parse(data);
  reports[received.type]?.(received);
});
socket.on("close", (code) => {
  say({ closed: code });
  input.close();
  process.stdin.destroy();
});

// Lines wait here until the connection is open.
const input = readline.createInterface({ input: process.stdin });
input.pause();
input.on("line", (line) => socket.send(JSON.stringify(message(JSON.parse(line)))));
input.on("close", () => socket.close(1000));
socket.on("open", () => input.resume());
