#!/usr/bin/env python3
"""Which credentials the vendor's own library picks in an environment.

Reads one environment per line from standard input and prints one line for each:

    {"env": {"ALIBABA_CLOUD_...": "..."}, "home": "/a/folder"}
    {"provider": "default/env", "access_key_id": "...", "access_key_secret": "...",
     "security_token": "..." or null, "error": null}

or, where the default chain finds none, everything null but `error`. Judges nothing.

The library finds the metadata service and STS at fixed places (100.100.100.200, and
https names of the vendor), which a test can neither listen on nor has certificates for.
So one function is replaced, the one that composes the URL of every request: an address
of these two kinds becomes the simulator's. What is asked, in which order, with what
headers and signatures, and what is made of the answer stays the library's. A
credentials URI is taken as it is: it is configuration already.

The library reads the variables when it is imported, so it is imported anew for each
line; that, and not a new process, is what makes 64 environments cheap.
"""
import argparse
import json
import logging
import os
import re
import sys

from apscheduler.schedulers.background import BackgroundScheduler
from Tea.core import TeaCore

FIXED = re.compile(r"^(?:http://100\.100\.100\.200|https://sts(?:-vpc)?(?:\.[a-z0-9-]+)?\.aliyuncs\.com)(?=[/?]|$)")
# What the library asks the environment for, and proxies, which know no loopback address.
READ = re.compile(r"^(ALIBABA_CLOUD_.*|HOME|HOMEPATH|https?_proxy)$", re.IGNORECASE)


def redirect(address):
    compose = TeaCore.compose_url

    def composed(request):
        return FIXED.sub(f"http://{address}", compose(request))

    TeaCore.compose_url = staticmethod(composed)


def library():
    """The library as a new process would import it."""
    for name in [n for n in sys.modules if n.split(".")[0] == "alibabacloud_credentials"]:
        del sys.modules[name]
    from alibabacloud_credentials.client import Client
    return Client


def chosen(env, home):
    for name in [n for n in os.environ if READ.match(n)]:
        del os.environ[name]
    os.environ.update(env, HOME=home)
    found = {"provider": None, "access_key_id": None, "access_key_secret": None,
             "security_token": None, "error": None}
    try:
        credential = library()().get_credential()
    except Exception as e:  # whatever it is, it is the library's answer
        found["error"] = f"{type(e).__name__}: {e}"
        return found
    found["provider"] = credential.provider_name
    found["access_key_id"] = credential.access_key_id
    found["access_key_secret"] = credential.access_key_secret
    # The library gives an absent token as None or as an empty string.
    found["security_token"] = credential.security_token or None
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--simulator", required=True, metavar="HOST:PORT", help="plain http")
    args = p.parse_args()

    redirect(args.simulator)
    # It logs each provider that has nothing with a stack trace.
    logging.disable(logging.CRITICAL)
    # A thread for each environment would go on refreshing; only the choice matters here.
    BackgroundScheduler.start = lambda self, *a, **k: None
    BackgroundScheduler.shutdown = lambda self, *a, **k: None

    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(chosen(asked["env"], asked["home"])), flush=True)


if __name__ == "__main__":
    main()
