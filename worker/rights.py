"""What each process of ours sends to Redis, and whether its user may send it.

deploy/users.conf grants just this. Redis checks the commands of a script one by one against the
rights of the user who runs it, so they are listed like all others.
"""

from collections.abc import Sequence
from enum import StrEnum

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError, ResponseError

from worker.keys import Keys
from worker.values import Durability, Persistence


class Role(StrEnum):
    """Who speaks to Redis."""

    RECEIVER = "receiver"
    WORKER = "worker"
    MERCHANT = "merchant"  #: writes commands, and need not see anything

    def sends(self, keys: Keys, durability: Durability) -> list[list[str]]:
        """Every command with every kind of key, about a payment that there is not."""
        names = _names(keys)
        lines = _SENT[self].format_map(names).splitlines()
        if durability.persistence is Persistence.REPLICA:
            lines.append("WAIT 0 1")
        return [line.split() for line in lines if line and not line.startswith("#")]


_BESIDES = ("deliveries", "dead_deliveries", "canary", "stuck", "swept", "imports")


def _names(keys: Keys) -> dict[str, str]:
    id_ = "probe:probe"
    one_each = {
        name: getattr(keys, name)(id_) for name in ("payment", "timeline", "inbox", "heard")
    }
    lanes = {kind: keys.delivery(f"{kind}:{id_}") for kind in ("callback", "forward")}
    one_for_all = ("open", "parked", "brake", "commands", "dead", "outcomes", "quarantine", "queue")
    return {
        **one_each,
        **lanes,
        **{name: getattr(keys, name) for name in (*one_for_all, *_BESIDES)},
        "our_job": f"arq:job:{keys.job(id_)}",
        "our_retry": f"arq:retry:{keys.job(id_)}",
        "health": f"{keys.queue}:health:probe",
        **{name: getattr(keys, name)("probe") for name in ("limits", "waiting")},
        "sha": "0" * 40,
    }


#: As Redis gets it. `arq:job:any`: commands that come as arq jobs have ids that arq made up.
_SENT = {
    Role.MERCHANT: "",  # the one thing that it sends says for itself whether it may
    Role.RECEIVER: """
PING
INFO
TIME
GET {canary}
GET {swept}
SCRIPT LOAD x
# receive.lua, append.lua
EVALSHA {sha} 7 {payment} {inbox} {open} {parked} {heard} {queue} {quarantine}
EVALSHA {sha} 2 {deliveries} {forward}
ZADD {deliveries} NX 0 x
RPUSH {forward} x
SISMEMBER {heard} x
SADD {heard} x
PEXPIRE {heard} 1
XADD {quarantine} * reason x
EXISTS {payment}
RPUSH {inbox} x
ZSCORE {open} x
ZADD {open} 0 x
SET {our_job} x PX 1
DEL {our_retry}
ZADD {queue} 0 x
ZADD {parked} NX 0 x
EVALSHA {sha} 1 {quarantine}
""",
    Role.WORKER: """
PING
INFO
TIME
GET {canary}
SET {canary} x NX
GET {swept}
SCRIPT LOAD x
# arq
DBSIZE
EXEC
ZCARD {queue}
PSETEX {health} 1 x
DEL {health}
# take.lua, finish.lua
EVALSHA {sha} 2 {queue} {open}
EVALSHA {sha} 2 {queue} {dead}
ZRANGEBYSCORE {queue} 0 1
ZADD {queue} 0 x
ZSCORE {queue} x
ZREM {queue} x
EXISTS arq:in-progress:any
GET arq:job:any
GET arq:retry:any
SET arq:retry:any 1 PX 1
DEL arq:retry:any arq:job:any
XADD {dead} * type x
# claim.lua
EVALSHA {sha} 5 {payment} {inbox} {open} {brake} {queue}
ZSCORE {open} x
EXISTS {payment}
ZREM {open} x
ZADD {open} 0 x
HGET {payment} version
HSET {payment} version 1
HGETALL {payment}
LRANGE {inbox} 0 -1
HGET {brake} x
# save.lua
EVALSHA {sha} 8 {payment} {timeline} {inbox} {open} {outcomes} {brake} {parked} {queue}
EVALSHA {sha} 2 {deliveries} {callback}
ZCARD {deliveries}
LLEN {callback}
RPUSH {callback} x
ZADD {deliveries} NX 0 x
LLEN {inbox}
LLEN {timeline}
ZCARD {open}
XLEN {outcomes}
HLEN {brake}
ZCARD {parked}
LTRIM {inbox} 0 -1
DEL {payment}
PEXPIRE {payment} 1
ZREM {parked} x
LINDEX {timeline} -1
LSET {timeline} -1 x
RPUSH {timeline} x
LTRIM {timeline} 0 -1
PEXPIRE {timeline} 1
PERSIST {timeline}
XADD {outcomes} * id x
SET {our_job} x PX 1
DEL {our_retry}
ZADD {queue} 0 x
HDEL {brake} x
HINCRBY {brake} x 1
# erase.lua
EVALSHA {sha} 5 {payment} {timeline} {open} {inbox} {parked}
DEL {payment} {timeline}
EXISTS {inbox}
ZADD {parked} 0 x
# overdue.lua
EVALSHA {sha} 3 {open} {queue} {swept}
DEL arq:in-progress:any
SET {swept} 0
ZRANGEBYSCORE {open} 0 1
EXISTS arq:job:any
# pass.lua, release.lua, gate.lua
EVALSHA {sha} 6 {limits} {waiting} {payment} {inbox} {open} {queue}
HGET {limits} gate
HMGET {limits} tokens
HSET {limits} gate x
HINCRBY {limits} tokens 1
ZADD {waiting} 0 x
ZCOUNT {waiting} 0 1
ZRANGEBYSCORE {waiting} 0 1
ZREM {waiting} x
ZREMRANGEBYSCORE {waiting} 0 1
ZSCORE {waiting} x
# stuck.lua, told.lua
EVALSHA {sha} 2 {open} {stuck}
HMGET {payment} status
LRANGE {timeline} -1 -1
ZRANGE {open} 0 0
ZRANGE {stuck} 0 0
ZSCORE {stuck} x
ZADD {stuck} 0 x
ZREM {stuck} x
# census.lua
EVALSHA {sha} 1 {open}
ZSCAN {open} 0
# unpark.lua
EVALSHA {sha} 4 {parked} {inbox} {payment} {quarantine}
ZSCORE {parked} x
XADD {quarantine} * reason x
DEL {inbox}
# append.lua
EVALSHA {sha} 1 {outcomes}
# collect.lua, waiting.lua
EVALSHA {sha} 1 {deliveries}
ZRANGEBYSCORE {deliveries} 0 1
ZRANGE {deliveries} 0 0
ZREM {deliveries} x
LINDEX {callback} 0
LINDEX {forward} 0
# settle.lua
EVALSHA {sha} 3 {deliveries} {callback} {dead_deliveries}
EVALSHA {sha} 3 {deliveries} {forward} {dead_deliveries}
XLEN {dead_deliveries}
XADD {dead_deliveries} * lane x
LSET {callback} 0 x
LPOP {callback}
LRANGE {callback} 0 -1
DEL {callback}
EXISTS {callback}
LSET {forward} 0 x
LPOP {forward}
LRANGE {forward} 0 -1
DEL {forward}
EXISTS {forward}
# Commands
XGROUP CREATE {commands} x 0
XAUTOCLAIM {commands} x x 1 0
XREADGROUP GROUP x x STREAMS {commands} >
XPENDING {commands} x
XACK {commands} x 0-1
XADD {dead} * type x
# `reconciler track --file`
WATCH {imports}
HGET {imports} x
HSET {imports} x 0
XLEN {commands}
ZCOUNT {queue} 0 1
# The command API
XADD {commands} * type x
# Housekeeping
ZRANGEBYSCORE {parked} 0 1
EXISTS {commands}
XINFO GROUPS {commands}
XINFO CONSUMERS {commands} x
XGROUP DELCONSUMER {commands} x x
XTRIM {commands} MINID 0
XGROUP CREATE {outcomes} x 0
EXISTS {outcomes}
XINFO GROUPS {outcomes}
XPENDING {outcomes} x
XRANGE {outcomes} - + COUNT 1
XTRIM {outcomes} MINID 0
XTRIM {quarantine} MINID 0
MEMORY USAGE {quarantine}
XLEN {quarantine}
XTRIM {dead} MINID 0
MEMORY USAGE {dead}
XLEN {dead}
XTRIM {dead_deliveries} MINID 0
MEMORY USAGE {dead_deliveries}
""",
}


#: Not allowed after MULTI, and without consequence before it.
_OUTSIDE = ("EXEC", "WATCH")


async def lacking(redis: Redis, sent: Sequence[list[str]]) -> list[str]:
    """Those of the commands that Redis does not know or that our user may not send.

    Nothing is run: between MULTI and DISCARD Redis checks each command, keys and all, and waits.
    """
    if not sent:
        return []
    outside = [words for words in sent if words[0] in _OUTSIDE]
    inside = [words for words in sent if words[0] not in _OUTSIDE]
    connection = await redis.connection_pool.get_connection()
    try:
        denied = await _refused(connection, [*outside, ["MULTI"]])
        if "MULTI" in denied:  # what follows would be run
            return denied
        return denied + await _refused(connection, [*inside, ["DISCARD"]])
    finally:
        await connection.disconnect()  # whatever it was in the midst of
        await redis.connection_pool.release(connection)


async def _refused(connection: AbstractConnection, sent: list[list[str]]) -> list[str]:
    packed = connection.pack_commands(sent)
    await connection.send_packed_command(packed)
    return [" ".join(_shown(words)) for words in sent if await _is_refused(connection)]


async def _is_refused(connection: AbstractConnection) -> bool:
    try:
        await connection.read_response()
    except NoPermissionError:
        return True
    except ResponseError as fault:  # whatever else it says, a server that is full or busy knows it
        said = str(fault).lower()  # EXEC says NOPERM within a sentence of its own
        return "noperm" in said or said.startswith(("unknown command", "unknown subcommand"))
    return False


def _shown(words: list[str]) -> list[str]:
    """The command and its keys, without what else it needs to be well formed."""
    subcommand = words[1:2] if words[0] in ("SCRIPT", "XGROUP", "XINFO", "MEMORY") else []
    return [words[0], *subcommand, *(word for word in words[1:] if ":" in word)]
