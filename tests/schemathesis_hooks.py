"""Lets generated heartbeats speak of the droplet whose token they carry; all others are refused before they are read."""

import os
import re

import schemathesis

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if "GENESIS_DROPLET" not in os.environ or not isinstance(body, dict):
        return
    droplet, workspace = body.get("droplet_id"), body.get("workspace_id")
    # What is meant to be wrong stays wrong.
    if isinstance(droplet, str) and NAME.fullmatch(droplet) and isinstance(workspace, str) and UUID.fullmatch(workspace):
        body["droplet_id"] = os.environ["GENESIS_DROPLET"]
        body["workspace_id"] = os.environ["GENESIS_WORKSPACE"]
