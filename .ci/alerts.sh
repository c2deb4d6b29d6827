#!/usr/bin/env bash
# What promtool says of the alerts, of their tests, and of the metrics that a
# gateway really has. Installs promtool. Fails if it has anything to say.
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
command -v curl >/dev/null || need+=(curl)
command -v promtool >/dev/null || need+=(prometheus)
if [ ${#need[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
  # The package starts a server, which nobody wants here.
  case " ${need[*]} " in *" prometheus "*) ! command -v systemctl >/dev/null || systemctl disable -q --now prometheus 2>/dev/null || true ;; esac
fi

promtool check rules --lint=all --lint-fatal deploy/prometheus/alerts.yml
(cd deploy/prometheus && promtool test rules alerts_test.yml)
grep -oP '^ *- alert: \K\w+' deploy/prometheus/alerts.yml | while read -r alert; do
  grep -qF "alertname=\"$alert\"" deploy/prometheus/alerts_test.yml || { echo "no test has $alert fire"; exit 1; }
done

dir=$(mktemp -d)
pid=
finish() { [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"; }
trap finish EXIT
go build -o "$dir/gateway" ./cmd/gateway
"$dir/gateway" sandbox --listen 127.0.0.1:0 --admin 127.0.0.1:0 </dev/null >"$dir/log" 2>"$dir/err" &
pid=$!
for _ in $(seq 100); do
  addr=$(grep -os "http://127.0.0.1:[0-9]*/graph" "$dir/err" | head -1) && admin=$(grep -os 'http://127.0.0.1:[0-9]*/readyz' "$dir/err") && [ -n "$addr" ] && break
  sleep 0.1
done
[ -n "${admin:-}" ] || { cat "$dir/err"; echo "the sandbox did not start"; exit 1; }
curl -sS "$addr/v1.0/users" | grep -q Adele          # an answer,
curl -sS "${addr%/graph}/nowhere/" | grep -q route_unknown # and a refusal are counted
curl -sS "${admin%/readyz}/metrics" >"$dir/metrics"
for want in gateway_requests_total gateway_refusals_total gateway_token_expiry_timestamp_seconds gateway_sql_logins_total; do
  grep -q "^$want" "$dir/metrics" || { echo "/metrics lacks $want"; exit 1; }
done
said=$(promtool check metrics <"$dir/metrics" 2>&1) || { echo "$said"; exit 1; }
[ -z "$said" ] || { echo "$said"; exit 1; }
echo "the alerts fire by their causes, and $(grep -c '^# TYPE gateway_' "$dir/metrics") metrics of the gateway are well-formed"
