#!/usr/bin/env python3
"""What the vendor's own SDK makes of an endpoint, with both of its signatures.

Lists all rows of a task over all pages, reads the task and the instances, and
tries a wrong secret. Prints one JSON object per signature; judges nothing.
"""
import argparse
import json

from alibabacloud_cr20181201 import models
from alibabacloud_cr20181201.client import Client
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.runtime import RuntimeOptions

# The SDK's names; None is its default, ACS3-HMAC-SHA256.
SIGNATURES = {"acs3-hmac-sha256": None, "hmac-sha1": "v2"}
PAGE_SIZE = 30


def client(args, secret, signature):
    return Client(Config(
        access_key_id=args.key_id, access_key_secret=secret, security_token=args.token,
        endpoint=args.endpoint, protocol="HTTPS" if args.ca else "HTTP", region_id="cn-hangzhou",
        signature_algorithm=signature))


def rows(client, args, runtime):
    found, page = [], 1
    while True:
        body = client.get_artifact_subscription_task_result_with_options(
            models.GetArtifactSubscriptionTaskResultRequest(
                instance_id=args.instance, task_id=args.task, page_no=page, page_size=PAGE_SIZE),
            runtime).body
        found += [row.to_map() for row in body.task_results or []]
        if not body.task_results or page * PAGE_SIZE >= body.total_count:
            return found
        page += 1


def check(args, signature):
    runtime = RuntimeOptions(read_timeout=10000, connect_timeout=5000, ca=args.ca)
    good = client(args, args.key_secret, signature)
    task = good.get_artifact_subscription_task_with_options(
        models.GetArtifactSubscriptionTaskRequest(instance_id=args.instance, task_id=args.task),
        runtime).body
    # The one operation that the SDK POSTs, with its inputs in the query.
    instances = good.list_instance_with_options(
        models.ListInstanceRequest(instance_name="名 a*b+c"), runtime).body
    try:
        rows(client(args, args.key_secret + "x", signature), args, runtime)
        refused = None
    except ClientException as e:
        refused = {"code": e.code, "status": e.status_code}
    return {
        "rows": rows(good, args, runtime),
        "task": task.to_map(),
        "instances": instances.to_map().get("Instances"),
        "wrong_secret": refused,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--endpoint", required=True, help="HOST:PORT, plain http without --ca")
    p.add_argument("--ca", metavar="FILE", help="https with whom this authority has signed")
    p.add_argument("--key-id", required=True)
    p.add_argument("--key-secret", required=True)
    p.add_argument("--token")
    p.add_argument("--instance", required=True)
    p.add_argument("--task", required=True)
    args = p.parse_args()
    print(json.dumps({name: check(args, sdk) for name, sdk in SIGNATURES.items()}))


if __name__ == "__main__":
    main()
