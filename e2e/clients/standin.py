"""An app without any library: logs in by hand, reads users from Graph.

Prints the token and the number of users as JSON. The argument is what gets the
token; the environment names the proxy.
"""

import json
import os
import sys
import urllib.parse
import urllib.request

GRAPH = "https://graph.microsoft.com"


def by_secret():
    form = {
        "grant_type": "client_credentials",
        "client_id": "99999999-dddd-4444-8888-aaaaaaaaaaaa",
        "client_secret": "dummy",
        "scope": GRAPH + "/.default",
    }
    login = "https://login.microsoftonline.com/%s/oauth2/v2.0/token" % os.environ["TENANT"]
    return urllib.request.Request(login, data=urllib.parse.urlencode(form).encode())


def by_managed():
    query = urllib.parse.urlencode({"api-version": "2019-08-01", "resource": GRAPH})
    headers = {"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}
    return urllib.request.Request(os.environ["IDENTITY_ENDPOINT"] + "?" + query, headers=headers)


def fetch(request):
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


token = fetch({"secret": by_secret, "managed": by_managed}[sys.argv[1]]())["access_token"]
users = fetch(urllib.request.Request(GRAPH + "/v1.0/users", headers={"Authorization": "Bearer " + token}))
json.dump({"token": token, "users": len(users["value"])}, sys.stdout)
