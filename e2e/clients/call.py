"""One call by a Python client.

Arguments: client, method, URL, and for a POST the file of the body. The
environment names the proxy, as these clients expect it. The first line of the
output is the status, what follows is the answer's body.
"""

import sys
import urllib.error
import urllib.request

client, method, url = sys.argv[1:4]
body = open(sys.argv[4], "rb").read() if len(sys.argv) > 4 else None
headers = {"Content-Type": "application/octet-stream"} if body is not None else {}


def by_urllib():
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def by_requests():
    import requests

    response = requests.request(method, url, data=body, headers=headers, timeout=30)
    return response.status_code, response.content


def by_httpx():
    import httpx

    response = httpx.request(method, url, content=body, headers=headers, timeout=30)
    return response.status_code, response.content


status, content = {"urllib": by_urllib, "requests": by_requests, "httpx": by_httpx}[client]()
sys.stdout.buffer.write(b"%d\n" % status + content)
