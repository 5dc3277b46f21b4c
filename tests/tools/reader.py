#!/usr/bin/env python3
"""Reads flow logs from a bucket with flowlogs-reader: ENDPOINT ACCESS SECRET REGION BUCKET/PREFIX FIRST-DAY LAST-DAY.
Gives, as JSON, what it made of them: numbers, and packets and bytes of each 5-tuple and interface."""

import json
import sys
import warnings
from datetime import datetime, timedelta

import boto3
from botocore.config import Config

warnings.simplefilter("ignore")
from flowlogs_reader import S3FlowLogsReader  # noqa: E402

endpoint, access, secret, region, location, first, last = sys.argv[1:8]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name=region,
    aws_access_key_id=access,
    aws_secret_access_key=secret,
    config=Config(s3={"addressing_style": "path"}),
)
reader = S3FlowLogsReader(
    location,
    boto_client=client,
    start_time=datetime.strptime(first, "%Y-%m-%d"),
    end_time=datetime.strptime(last, "%Y-%m-%d") + timedelta(days=1),
    raise_on_error=True,
)
sums, statuses, records = {}, {}, 0
for record in reader:
    records += 1
    statuses[record.log_status] = statuses.get(record.log_status, 0) + 1
    if record.log_status != "OK":
        continue
    key = (record.interface_id, record.srcaddr, record.dstaddr, record.protocol, record.srcport, record.dstport)
    packets, octets = sums.get(key, (0, 0))
    sums[key] = (packets + record.packets, octets + record.bytes)
json.dump(
    {
        "records": records,
        "statuses": statuses,
        "flows": [[*key, *value] for key, value in sorted(sums.items(), key=str)],
    },
    sys.stdout,
)
