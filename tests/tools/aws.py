#!/usr/bin/env python3
"""A client of AWS for tests: one JSON line in, one JSON line out, until standard input ends.

In:  {"service": "s3", "call": "put_object", "with": {"Bucket": "b", "Key": "k", "Body": {"hex": "6869"}}}
Out: {"ok": {...}} or {"error": {"code": "NoSuchBucket", "text": "..."}}

Calls are those of boto3. Bytes go both ways as {"hex": "..."}; times come as text. "all": true asks for every page.
"""

import datetime
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

endpoint, access_key, secret_key, region = sys.argv[1:5]
clients = {}


def client(service):
    if service not in clients:
        settings = Config(
            retries={"max_attempts": 1},
            connect_timeout=30,
            read_timeout=60,
            s3={"addressing_style": "path"},
        )
        clients[service] = boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=settings,
        )
    return clients[service]


def taken(value):
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {name: taken(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [taken(inner) for inner in value]
    return value


def given(value):
    if isinstance(value, dict):
        return {name: given(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [given(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return {"hex": value.hex()}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if hasattr(value, "read"):
        return {"hex": value.read().hex()}
    return value


def answer(request):
    of = client(request["service"])
    arguments = taken(request.get("with", {}))
    if request.get("all"):
        pages = of.get_paginator(request["call"]).paginate(**arguments)
        return given(pages.build_full_result())
    return given(getattr(of, request["call"])(**arguments))


for line in sys.stdin:
    try:
        reply = {"ok": answer(json.loads(line))}
    except ClientError as error:
        reply = {"error": {"code": error.response["Error"].get("Code", ""), "text": str(error)}}
    except (BotoCoreError, OSError) as error:
        reply = {"error": {"code": type(error).__name__, "text": str(error)}}
    print(json.dumps(reply), flush=True)
