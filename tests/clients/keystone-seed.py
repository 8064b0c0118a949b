"""Fills a fresh Keystone with what the tests log in as: run once by keystone-install, inside Keystone's own process."""

import sys

from keystone.server.flask import core
from werkzeug.test import Client

PASSWORD = "secret"
API = "http://127.0.0.1:9876"
KEY_MANAGER = "http://127.0.0.1:9311"
ROLES = [
    "load-balancer_admin",
    "load-balancer_member",
    "load-balancer_observer",
    "load-balancer_global_observer",
    "load-balancer_quota_admin",
    "stranger",
]
# User, project, roles. Keystone itself implies reader by member.
USERS = [
    ("krater", "service", ["service"]),
    ("barbican", "service", ["service"]),
    ("nova", "service", ["service"]),
    ("alice", "alpha", ["member"]),
    ("rita", "alpha", ["reader"]),
    ("bob", "beta", ["member"]),
    ("lb-admin", "alpha", ["load-balancer_admin"]),
    ("lb-member", "alpha", ["load-balancer_member"]),
    ("lb-observer", "alpha", ["load-balancer_observer"]),
    ("lb-global-observer", "alpha", ["load-balancer_global_observer"]),
    ("lb-quota-admin", "alpha", ["load-balancer_quota_admin"]),
    ("stranger", "alpha", ["stranger"]),
]
# Users with a role on the whole deployment.
SYSTEM_USERS = [("system-admin", ["admin"]), ("system-reader", ["reader"])]


class Keystone:
    def __init__(self, config):
        self.client = Client(core.initialize_application(name="public", config_files=[config]))
        self.token = None

    def call(self, method, path, body=None):
        headers = {"X-Auth-Token": self.token} if self.token else {}
        answer = self.client.open(path, base_url="http://127.0.0.1:5000", method=method, json=body, headers=headers)
        if answer.status_code >= 300:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def create(self, path, root, **fields):
        return self.call("POST", f"/v3/{path}", {root: fields}).json[root]["id"]

    def named(self, path):
        found = self.call("GET", f"/v3/{path}").json[path]
        return {entry["name"]: entry["id"] for entry in found}

    def log_in(self):
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
            }
        }
        self.token = self.call("POST", "/v3/auth/tokens", body).headers["X-Subject-Token"]


def main():
    config = sys.argv.pop()
    keystone = Keystone(config)
    keystone.log_in()
    for role in ROLES:
        keystone.create("roles", "role", name=role)
    roles = keystone.named("roles")
    projects = {}
    for project in sorted({project for _, project, _ in USERS}):
        projects[project] = keystone.create("projects", "project", name=project, domain_id="default")
    for user, project, granted in USERS:
        id = keystone.create("users", "user", name=user, domain_id="default", password=PASSWORD)
        for role in granted:
            keystone.call("PUT", f"/v3/projects/{projects[project]}/users/{id}/roles/{roles[role]}")
    for user, granted in SYSTEM_USERS:
        id = keystone.create("users", "user", name=user, domain_id="default", password=PASSWORD)
        for role in granted:
            keystone.call("PUT", f"/v3/system/users/{id}/roles/{roles[role]}")
    for kind, url in [("load-balancer", API), ("network", API), ("key-manager", KEY_MANAGER)]:
        service = keystone.create("services", "service", type=kind, name=kind)
        keystone.create("endpoints", "endpoint", service_id=service, interface="public", region_id="RegionOne", url=url)


main()
