// A plain server on the Node.js package `ws`: every binary message of a vehicle goes to the dashboards that watch it.
//
//   node server.cjs PORT
//
// The protocol is in bench/src/dialect/plain.rs.
"use strict";

const { WebSocketServer } = require("ws");

const watchers = new Map(); // vehicle id -> Set of sockets
const everything = new Set(); // sockets that watch all

function watchersOf(vehicle) {
  let set = watchers.get(vehicle);
  if (!set) watchers.set(vehicle, (set = new Set()));
  return set;
}

function watch(socket, wanted) {
  const sets = wanted === "all" ? [everything] : wanted.map(watchersOf);
  for (const set of sets) set.add(socket);
  socket.on("close", () => sets.forEach((set) => set.delete(socket)));
}

const BINARY = { binary: true, compress: false };

function hello(text, socket) {
  const { vehicle, watch: wanted } = JSON.parse(text);
  if (wanted) watch(socket, wanted);
  socket.mine = vehicle && watchersOf(vehicle);
  socket.send("ready");
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 4096,
  perMessageDeflate: false,
  skipUTF8Validation: true,
  clientTracking: false,
});

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (message, isBinary) => {
    if (!isBinary) return hello(message.toString(), socket);
    for (const dashboard of socket.mine) dashboard.send(message, BINARY);
    for (const dashboard of everything) dashboard.send(message, BINARY);
  });
});
