# One call of gateway doctor: ping.py LIBRARY URL. The proxy is in the environment.
import sys

library, url = sys.argv[1], sys.argv[2]


def main():
    if library == "requests":
        import requests
        r = requests.get(url, allow_redirects=False, timeout=60)
        return r.status_code, r.headers
    if library == "httpx":
        import httpx
        r = httpx.get(url, timeout=60)
        return r.status_code, r.headers
    if library == "aiohttp":
        import aiohttp
        import asyncio

        async def call():
            async with aiohttp.ClientSession(trust_env=True) as s:
                async with s.get(url, allow_redirects=False) as r:
                    return r.status, r.headers
        return asyncio.run(call())
    import urllib.request
    with urllib.request.urlopen(url, timeout=60) as r:
        return r.status, r.headers


try:
    status, headers = main()
except Exception as e:
    print("failed", type(e).__name__, e)
    sys.exit(1)
print("answer", status, headers.get("Gateway-Request-Id", ""))
