// A plain server on uWebSockets.js: every binary message of a vehicle goes to the dashboards that watch it, by the
// library's own publish and subscribe.
//
//   node server.cjs PORT
//
// The protocol is in bench/src/dialect/plain.rs.
"use strict";

// The native library itself: the package's entry falls back to a slower one in JavaScript where it does not load.
const { platform, arch, versions } = process;
const native = `uws_${platform}_${arch}_${versions.modules}.node`;
const uws = require(`@trufflesuite/uws-js-unofficial/binaries/${native}`);

const ALL = "all";
let watchingAll = 0;

const app = uws.App();

function hello(text, socket) {
  const { vehicle, watch } = JSON.parse(text);
  const data = socket.getUserData();
  data.topic = vehicle;
  if (watch === ALL) {
    data.all = true;
    watchingAll += 1;
    socket.subscribe(ALL);
  } else if (watch) {
    for (const id of watch) socket.subscribe(id);
  }
  socket.send("ready");
}

// Topics and messages in turn. While a message is handled, the library's buffer for corking is that socket's, and what is
// published to a dashboard with 32 messages before it goes out in a system call each. Outside of that they go out together.
let waiting = [];

function publish() {
  const now = waiting;
  waiting = [];
  for (let i = 0; i < now.length; i += 2) {
    app.publish(now[i], now[i + 1], true, false);
    if (watchingAll > 0) app.publish(ALL, now[i + 1], true, false);
  }
}

app.ws("/*", {
  compression: uws.DISABLED,
  idleTimeout: 0,
  sendPingsAutomatically: false,
  maxPayloadLength: 16 * 1024 * 1024,
  // Beyond this the library drops messages; its default is 64 KiB.
  maxBackpressure: 64 * 1024 * 1024,
  message(socket, message, isBinary) {
    if (!isBinary) return hello(Buffer.from(message).toString(), socket);
    if (waiting.length === 0) setImmediate(publish);
    // The library takes the message back when this returns.
    waiting.push(socket.getUserData().topic, message.slice(0));
  },
  close(socket) {
    if (socket.getUserData().all) watchingAll -= 1;
  },
});

app.listen("127.0.0.1", Number(process.argv[2]), (listening) => {
  if (!listening) {
    console.error(`port ${process.argv[2]} is taken`);
    process.exit(1);
  }
});
