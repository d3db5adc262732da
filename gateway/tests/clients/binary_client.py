"""A Longhaul client on the Python packages `websockets` and `flatbuffers`, speaking longhaul.v1.

    PYTHONPATH=DIR binary_client.py URL TOKEN

DIR holds the code that `scripts/generate-schema --python DIR` makes of the schema. Commands come on standard input, one
JSON object a line, and what the gateway says goes to standard output in the same manner; see ../common/foreign.rs. At
the end of the input the connection is closed.
"""

import json
import sys
import threading

import flatbuffers
from longhaul.v1 import Ack, AckKind, Envelope, Error, ErrorCode, Fix, Message, Names, Position, Positions, Role
from longhaul.v1 import Subscribe, Unsubscribe, Welcome
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

names = {}


def say(**line):
    print(json.dumps(line), flush=True)


def name_of(enumeration, number):
    """The name of an enumeration's value: the generated classes have them as attributes."""
    return next(name for name, value in vars(enumeration).items() if value == number and not name.startswith("_"))


def enveloped(builder, kind, table):
    Envelope.EnvelopeStart(builder)
    Envelope.EnvelopeAddMessageType(builder, kind)
    Envelope.EnvelopeAddMessage(builder, table)
    builder.Finish(Envelope.EnvelopeEnd(builder))
    return bytes(builder.Output())


def position(fix, vehicle_id=None):
    builder = flatbuffers.Builder()
    own_id = builder.CreateString(vehicle_id) if vehicle_id else None
    Position.PositionStart(builder)
    if own_id:
        Position.PositionAddVehicleId(builder, own_id)
    Position.PositionAddFix(
        builder,
        Fix.CreateFix(
            builder,
            fix["time_ms"],
            fix.get("vehicle", 0),
            fix["lat_e7"],
            fix["lon_e7"],
            fix["speed_cm_s"],
            fix["heading_cdeg"],
        ),
    )
    return enveloped(builder, Message.Message.Position, Position.PositionEnd(builder))


def strings(builder, start_vector, texts):
    offsets = [builder.CreateString(text) for text in texts]
    start_vector(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def subscribe(request, vehicles=(), whole_fleet=False):
    builder = flatbuffers.Builder()
    ids = strings(builder, Subscribe.SubscribeStartVehiclesVector, vehicles)
    Subscribe.SubscribeStart(builder)
    Subscribe.SubscribeAddRequest(builder, request)
    Subscribe.SubscribeAddVehicles(builder, ids)
    Subscribe.SubscribeAddWholeFleet(builder, whole_fleet)
    return enveloped(builder, Message.Message.Subscribe, Subscribe.SubscribeEnd(builder))


def unsubscribe(request, vehicles):
    builder = flatbuffers.Builder()
    ids = strings(builder, Unsubscribe.UnsubscribeStartVehiclesVector, vehicles)
    Unsubscribe.UnsubscribeStart(builder)
    Unsubscribe.UnsubscribeAddRequest(builder, request)
    Unsubscribe.UnsubscribeAddVehicles(builder, ids)
    return enveloped(builder, Message.Message.Unsubscribe, Unsubscribe.UnsubscribeEnd(builder))


def obey(websocket):
    request = 0
    for line in sys.stdin:
        command = json.loads(line)
        request += 1
        if "fix" in command:
            websocket.send(position(**command))
        elif "subscribe" in command:
            websocket.send(subscribe(request, command["subscribe"]))
        elif "unsubscribe" in command:
            websocket.send(unsubscribe(request, command["unsubscribe"]))
        else:
            websocket.send(subscribe(request, whole_fleet=command["whole_fleet"]))
    websocket.close()


def table_of(envelope, kind):
    table = kind()
    union = envelope.Message()
    table.Init(union.Bytes, union.Pos)
    return table


def report(data):
    envelope = Envelope.Envelope.GetRootAs(data, 0)
    kind = envelope.MessageType()
    if kind == Message.Message.Welcome:
        welcome = table_of(envelope, Welcome.Welcome)
        role = name_of(Role.Role, welcome.Role())
        say(welcome={"role": role, "fleet": welcome.Fleet().decode(), "subject": welcome.Subject().decode()})
    elif kind == Message.Message.Names:
        table = table_of(envelope, Names.Names)
        for i in range(table.VehiclesLength()):
            names[table.Vehicles(i)] = table.Ids(i).decode()
    elif kind == Message.Message.Ack:
        ack = table_of(envelope, Ack.Ack)
        say(ack={"kind": name_of(AckKind.AckKind, ack.Kind()), "watching": ack.Watching()})
    elif kind == Message.Message.Positions:
        table = table_of(envelope, Positions.Positions)
        for i in range(table.FixesLength()):
            fix = table.Fixes(i)
            say(
                fix={
                    "time_ms": fix.TimeMs(),
                    "vehicle": names[fix.Vehicle()],
                    "lat_e7": fix.LatE7(),
                    "lon_e7": fix.LonE7(),
                    "speed_cm_s": fix.SpeedCmS(),
                    "heading_cdeg": fix.HeadingCdeg(),
                }
            )
    elif kind == Message.Message.Error:
        error = table_of(envelope, Error.Error)
        say(error=name_of(ErrorCode.ErrorCode, error.Code()))


def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    with connect(url, subprotocols=["longhaul.v1"], additional_headers=headers) as websocket:
        threading.Thread(target=obey, args=(websocket,), daemon=True).start()
        try:
            while True:
                report(websocket.recv(decode=False))
        except ConnectionClosed as closed:
            say(closed=closed.rcvd.code if closed.rcvd else None)


main(*sys.argv[1:])
