#!/usr/bin/env bash
# Calls through a running gateway with clients that are not ours, over both
# doors. Installs what is missing. Fails if any client fails.
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
for tool in curl wget python3 node java; do
  command -v "$tool" >/dev/null || need+=("$tool")
done
if [ ${#need[@]} -gt 0 ]; then
  packages=("${need[@]/#node/nodejs}")
  packages=("${packages[@]/#java/default-jdk-headless}")
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

dir=$(mktemp -d)
pid=
finish() { [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"; }
trap finish EXIT
go build -o "$dir/gateway" ./cmd/gateway
"$dir/gateway" sandbox --listen 127.0.0.1:0 --admin 127.0.0.1:0 </dev/null >"$dir/log" 2>"$dir/err" &
pid=$!
for _ in $(seq 100); do
  addr=$(grep -os "http://127.0.0.1:[0-9]*/graph" "$dir/err" | head -1 | sed 's#/graph##') && [ -n "$addr" ] && break
  sleep 0.1
done
[ -n "${addr:-}" ] || { cat "$dir/err"; echo "the sandbox did not start"; exit 1; }

query='$select=displayName&$filter=startswith(displayName,%27A%27)'
reverse="$addr/graph/v1.0/users?$query"
forward="http://graph.microsoft.com/v1.0/users?$query"
post="$addr/graph/v1.0/\$echo/clients"
head -c 300000 /dev/urandom | base64 -w0 >"$dir/body"
sum=$(sha256sum <"$dir/body" | cut -d' ' -f1)
count=0
expect() { # expect NAME WANT < output
  local out; out=$(cat)
  case "$out" in *"$2"*) echo "ok  $1"; count=$((count + 1)) ;; *) echo "NO  $1: ${out:0:500}"; exit 1 ;; esac
}

expect "curl, reverse" "Adele" < <(curl -sS "$reverse")
expect "curl, forward" "Adele" < <(http_proxy=$addr no_proxy= curl -sS "$forward")
expect "curl, 300 KB body" "$sum" < <(curl -sS --data-binary "@$dir/body" "$post")
ca=$(grep -o -- '--cacert [^ ]*' "$dir/err" | head -1 | cut -d' ' -f2)
expect "curl, tunnel" "Adele" < <(https_proxy=$addr no_proxy= curl -sS --cacert "$ca" "https://graph.microsoft.com/v1.0/users?$query")
expect "curl, tunnel to a host without a route" "403" < <(curl -sS -o /dev/null -w '%{http_connect}' -x "$addr" https://example.com/ 2>/dev/null || true)
expect "wget, reverse" "Adele" < <(wget -qO- "$reverse")
expect "wget, forward" "Adele" < <(http_proxy=$addr no_proxy= wget -qO- "$forward")

cat >"$dir/c.py" <<'PY'
import sys, urllib.request as u
addr, reverse, forward, post, body = sys.argv[1:]
direct = u.build_opener(u.ProxyHandler({}))
proxied = u.build_opener(u.ProxyHandler({"http": addr}))
print(direct.open(reverse).read().decode())
print(proxied.open(forward).read().decode())
print(direct.open(u.Request(post, data=open(body, "rb").read(), method="PUT")).read().decode())
PY
out=$(python3 "$dir/c.py" "$addr" "$reverse" "$forward" "$post" "$dir/body")
expect "python urllib, both doors" "Adele" <<<"$out"
expect "python urllib, 300 KB body" "$sum" <<<"$out"

cat >"$dir/c.mjs" <<'JS'
import http from 'node:http';
import fs from 'node:fs';
const [addr, reverse, forward, post, body] = process.argv.slice(2);
const get = (options) => new Promise((ok, no) => http.get(options, (r) => { let s = ''; r.on('data', (d) => s += d); r.on('end', () => ok(s)); }).on('error', no));
console.log(await (await fetch(reverse)).text());
const p = new URL(addr);
console.log(await get({ host: p.hostname, port: p.port, path: forward, headers: { host: 'graph.microsoft.com' } }));
console.log(await (await fetch(post, { method: 'PATCH', body: fs.createReadStream(body), duplex: 'half' })).text());
JS
out=$(node "$dir/c.mjs" "$addr" "$reverse" "$forward" "$post" "$dir/body")
expect "node fetch and http, both doors" "Adele" <<<"$out"
expect "node fetch, 300 KB streamed body" "$sum" <<<"$out"

cat >"$dir/C.java" <<'JAVA'
import java.net.*; import java.net.http.*; import java.nio.file.*;
class C { public static void main(String[] a) throws Exception {
  URI gw = URI.create(a[0]);
  HttpClient direct = HttpClient.newHttpClient();
  HttpClient proxied = HttpClient.newBuilder().proxy(ProxySelector.of(new InetSocketAddress(gw.getHost(), gw.getPort()))).build();
  System.out.println(direct.send(HttpRequest.newBuilder(URI.create(a[1])).build(), HttpResponse.BodyHandlers.ofString()).body());
  System.out.println(proxied.send(HttpRequest.newBuilder(URI.create(a[2])).build(), HttpResponse.BodyHandlers.ofString()).body());
  System.out.println(direct.send(HttpRequest.newBuilder(URI.create(a[3])).POST(HttpRequest.BodyPublishers.ofFile(Path.of(a[4]))).build(), HttpResponse.BodyHandlers.ofString()).body());
} }
JAVA
out=$(java "$dir/C.java" "$addr" "$reverse" "$forward" "$post" "$dir/body")
expect "Java HttpClient, both doors" "Adele" <<<"$out"
expect "Java HttpClient, 300 KB body" "$sum" <<<"$out"

if grep -q 'eyJ' "$dir/log" "$dir/err"; then echo "NO  a token is in the log"; exit 1; fi
echo "$count client checks passed"

# The end-to-end tests: SDKs, a foreign authorization server, a next hop.
need=()
for tool in squid openssl git slowhttptest; do command -v "$tool" >/dev/null || need+=("$tool"); done
/usr/bin/python3 -c 'import requests, httpx, aiohttp' 2>/dev/null || need+=(python3-requests python3-httpx python3-aiohttp)
# Drivers of SQL Server: FreeTDS and what is built on it, pytds, jTDS, and
# System.Data.SqlClient on Mono, which needs code page 1252.
for tool in tsql bsqldb freebcp; do command -v "$tool" >/dev/null || { need+=(freetds-bin); break; }; done
/usr/bin/python3 -c 'import pymssql, pytds, OpenSSL, pyodbc' 2>/dev/null || need+=(python3-pymssql python3-tds python3-openssl python3-pyodbc)
[ -f /usr/share/tdsodbc/odbcinst.ini ] && grep -qs '^\[FreeTDS\]' /etc/odbcinst.ini || need+=(tdsodbc unixodbc odbcinst)
[ -f /usr/share/java/jtds.jar ] || need+=(libjtds-java)
command -v mcs >/dev/null && command -v mono >/dev/null && [ -f /usr/lib/mono/4.5/System.Data.dll ] && [ -f /usr/lib/mono/4.5/I18N.West.dll ] ||
  need+=(mono-mcs mono-runtime libmono-system-data4.0-cil libmono-i18n-west4.0-cil)
# Looks at the live page.
[ -x /usr/bin/chromium ] || need+=(chromium)
# Judges the alerts on running gateways.
command -v prometheus >/dev/null && command -v promtool >/dev/null || need+=(prometheus)
command -v prlimit >/dev/null || need+=(util-linux)
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
  # Its package starts a server, which nobody wants here.
  case " ${need[*]} " in *" prometheus "*) ! command -v systemctl >/dev/null || systemctl disable -q --now prometheus 2>/dev/null || true ;; esac
fi
# doctor finds each of them, and none may be missing here.
CI=true go test -count=1 -run '^TestReal|^TestDoctor' ./cmd/gateway
cd e2e
npm ci --silent --no-progress
go vet ./...
go test -count=1 -timeout 30m ./...
# A short run: that the comparison works. make bench takes its time.
cd ../bench/tunnel
go vet ./...
go run . -rounds 1 -slice 300ms
