"""python-libjuju, a client that shares nothing with us, against the controller peer.

Reads what it needs from standard input as JSON. It connects, reads the status, runs an action to its end, integrates
and separates; whatever it reads is held to the types that it was generated with from Juju's published schema, and so
are the requests that our own client sent. Prints what it saw as JSON.
"""

import asyncio
import inspect
import json
import sys

from juju.client import _client, client, connection, facade
from juju.client import _definitions as types

# What is wrong in the published schema, or missing there.
WRONG = {
    # Bytes travel as a text, or as null.
    "fingerprint",
}

# What libjuju's own method sends, which stands for the generated one because that does not fit.
ALSO = {"Resources.AddPendingResources": {"tag", "url", "macaroon"}}

# The types of what our requests hold, as far as libjuju names them.
REQUESTS = {
    "Action.Actions": {"entities": types.Entity},
    "Action.Operations": {"entities": types.Entity},
    "Action.EnqueueOperation": {"actions": types.Action},
    "Application.SetCharm": {"charm-origin": types.CharmOrigin},
    "Application.SetConfigs": {"Args": types.ConfigSet},
    "Charms.AddCharm": {"charm-origin": types.CharmOrigin},
    "Charms.ListCharmResources": {"entities": types.CharmURLAndOrigin},
    "Charms.ResolveCharms": {"resolve": types.ResolveCharmWithChannel},
    "Resources.ListResources": {"entities": types.Entity},
    "Resources.AddPendingResources": {"resources": types.CharmResource, "charm-origin": types.CharmOrigin},
}


def unknown(value, place):
    """Fields that the type does not have, anywhere below."""
    if isinstance(value, facade.Type):
        for name in getattr(value, "unknown_fields", {}) or {}:
            yield f"{place}.{name}"
        for name, inner in vars(value).items():
            if name not in ("unknown_fields", "connection"):
                yield from unknown(inner, f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from unknown(inner, place)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from unknown(inner, f"{place}.{name}")


def method_of(call, versions):
    name, request = call.split(".")
    return getattr(_client.lookup_facade(f"{name}Facade", versions[name]), request)


def check_request(call, params, versions):
    """What a request of ours has and the published schema has not."""
    known = set(inspect.signature(method_of(call, versions)).parameters) | ALSO.get(call, set())
    for key, value in params.items():
        if key.replace("-", "_") not in known and key.lower() not in known:
            yield f"{call}: {key}"
        kind = REQUESTS.get(call, {}).get(key)
        for one in value if isinstance(value, list) else [value]:
            if kind is not None:
                one = {name: inner for name, inner in one.items() if name not in WRONG}
                yield from unknown(kind.from_json(one), f"{call}.{key}")


async def ended(actions, tag):
    for _ in range(400):
        found = (await actions.Actions(entities=[client.Entity(tag=tag)])).results[0]
        if found.status not in ("pending", "running"):
            return found
        await asyncio.sleep(0.02)
    raise TimeoutError(f"{tag} is {found.status}")


async def main(told):
    peer = await connection.Connection.connect(
        endpoint=told["endpoint"],
        uuid=told["uuid"],
        username="migrator",
        password=told["password"],
        cacert=told["ca"],
        retries=0,
    )
    strange = []

    def read(value, place):
        strange.extend(unknown(value, place))
        return value

    status = read(await client.ClientFacade.from_connection(peer).FullStatus(patterns=[]), "FullStatus")
    application = client.ApplicationFacade.from_connection(peer)
    options = read(await application.Get(application="kratos", branch=""), "Get")
    origin = read(await application.GetCharmURLOrigin(application="kratos"), "GetCharmURLOrigin")
    read(await client.BlockFacade.from_connection(peer).List(), "Block.List")
    charms = client.CharmsFacade.from_connection(peer)
    info = read(await charms.CharmInfo(url=origin.url), "CharmInfo")
    resources = client.ResourcesFacade.from_connection(peer)
    entity = client.Entity(tag="application-kratos")
    read(await resources.ListResources(entities=[entity]), "ListResources")
    actions = client.ActionFacade.from_connection(peer)
    asked = client.Action(name="run-migration", parameters={"timeout": 30}, receiver="unit-kratos-0")
    enqueued = read(await actions.EnqueueOperation(actions=[asked]), "EnqueueOperation")
    task = read(await ended(actions, enqueued.actions[0].action.tag), "Actions")
    operation = client.Entity(tag=enqueued.operation)
    read(await actions.Operations(entities=[operation]), "Operations")
    related = read(await application.AddRelation(endpoints=["kratos:pg-database", "pg:database"]), "AddRelation")
    again = ""
    try:
        await application.AddRelation(endpoints=["kratos:pg-database", "pg:database"])
    except Exception as error:
        again = str(error)
    relations = (await client.ClientFacade.from_connection(peer).FullStatus(patterns=[])).relations
    await application.DestroyRelation(endpoints=["kratos:pg-database", "pg:database"])
    versions = dict(peer.facades)
    wrong_requests = []
    for call, params in told["requests"]:
        wrong_requests.extend(check_request(call, params, versions))
    await peer.close()
    print(
        json.dumps(
            {
                "again": again,
                "applications": sorted(status.applications),
                "charm": info.meta.name,
                "options": sorted(options.config),
                "output": task.output,
                "related": sorted(related.endpoints),
                "relations": len(relations),
                "saas": [
                    (name, found.offer_url, found.offer_name, end.name, end.role)
                    for name, found in status.remote_applications.items()
                    for end in found.endpoints
                ],
                "status": task.status,
                "strange-replies": sorted(set(strange)),
                "strange-requests": sorted(set(wrong_requests)),
                "versions": versions,
            }
        )
    )


asyncio.run(main(json.load(sys.stdin)))
